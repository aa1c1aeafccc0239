"""The CSWin backbone: overlapping convolutional stem, four levels, 3x3 stride-2 mergings.

Source: CSWin Transformer (arXiv 2107.00652); state_dict keys are those of its repository
(`stage1_conv_embed.0`, `stage{s}.{i}`, `merge{s}`, `norm`, `head`).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.backbones.layers import Block, tokens_from_map, wanted_order
from elfatt_deploy.models.config import CSWinConfig


class Stem(nn.Sequential):
    """Conv 7x7 stride 4, tokens, LayerNorm: [B, 3, H, W] to [B*N, C]; keys `0` and `2`."""

    def __init__(self, dim: int) -> None:
        """Make the stem of `dim` channels."""
        super().__init__(nn.Conv2d(3, dim, 7, stride=4, padding=2), _ToTokens(), nn.LayerNorm(dim))


class _ToTokens(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return tokens_from_map(image)


class Merge(nn.Module):
    """Conv 3x3 stride 2 to twice the channels, LayerNorm: tokens to tokens of half the map."""

    def __init__(self, dim: int, rows: int, cols: int) -> None:
        """Make the merging of a map of rows x cols tokens."""
        super().__init__()
        self.conv = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(2 * dim)
        self.rows, self.cols = rows, cols

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B*rows*cols, C] to [B*N', 2C]."""
        image = tokens.reshape(-1, self.rows, self.cols, tokens.shape[-1]).permute(0, 3, 1, 2)
        return cast(Tensor, self.norm(tokens_from_map(self.conv(image))))


class CSWin(nn.Module):
    """The whole network, for one input size.

    Args:
        config: the variant and its ablations.
        height: input rows in pixels.
        width: input columns in pixels.
    """

    def __init__(self, config: CSWinConfig, height: int, width: int) -> None:
        """Build all blocks; the input size fixes every map size."""
        super().__init__()
        sizes = config.map_sizes(height, width)
        sides, stripes = config.block_sides(height, width), config.stripe_widths(height, width)
        dim = config.embed_dim
        self.stage1_conv_embed = Stem(dim)
        for level, (rows, cols) in enumerate(sizes, start=1):
            blocks = nn.ModuleList()
            for index in range(config.depths[level - 1]):
                context = AttentionContext(
                    dim=dim,
                    heads=config.heads[level - 1],
                    rows=rows,
                    cols=cols,
                    level=level,
                    index=index,
                    block=sides[level - 1],
                    stripe=stripes[level - 1],
                    agents=config.agents[level - 1],
                    lepe=config.lepe,
                    global_ratio=config.global_ratio,
                )
                branches = registry.attention_branches(config.mechanism(level, index), context)
                if wanted_order(branches) is not None:
                    raise ModelError(
                        f"attention '{config.mechanism(level, index)}' asks for an order of the "
                        "tokens, which the CSWin backbone does not keep",
                        hint="use it on a Swin model",
                    )
                blocks.append(Block(dim, rows * cols, branches))
            self.add_module(f"stage{level}", blocks)
            if level < len(sizes):
                self.add_module(f"merge{level}", Merge(dim, rows, cols))
                dim *= 2
        self.tokens = sizes[-1][0] * sizes[-1][1]
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images [B, 3, H, W]; returns logits [B, classes]."""
        x = self.stage1_conv_embed(images)
        for level in range(1, 5):
            for block in cast(nn.ModuleList, self.get_submodule(f"stage{level}")):
                x = block(x)
            if level < 4:
                x = self.get_submodule(f"merge{level}")(x)
        x = self.norm(x)
        return cast(Tensor, self.head(x.reshape(-1, self.tokens, x.shape[-1]).mean(1)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return the final norm and the head; the mean over tokens between them is linear."""
        return (("norm", "head"),)


def build(config: CSWinConfig, height: int, width: int) -> CSWin:
    """Build the network of `config` for inputs of height x width pixels, in eval mode."""
    return CSWin(config, height, width).eval()
