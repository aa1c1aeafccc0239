"""The Swin backbone: 4x4 patches, four levels, mergings of 2x2 cells by a linear layer.

Source: Swin Transformer (arXiv 2103.14030). The state_dict keys are those of its repository
(`layers.{l}.blocks.{i}.attn.*`) or of timm. Tokens stay in the order of the windows from one block
to the next: shifting is one gather between two blocks, not a roll, a cut and their reversal.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.backbones.layers import (
    Block,
    reordered,
    tokens_from_map,
    wanted_order,
)
from elfatt_deploy.models.config import SwinConfig
from elfatt_deploy.models.keys import use_keys

#: from our attribute names to those of the official repository
_OFFICIAL = (
    (r"^(layers\.\d+\.blocks\.\d+)\.(qkv|proj)\.", r"\1.attn.\2."),
    (r"^(layers\.\d+\.blocks\.\d+)\.attns\.0\.", r"\1.attn."),
    (r"^(layers\.\d+\.blocks\.\d+)\.attns\.", r"\1.attn.attns."),
)
#: what timm names in another way still: a merging belongs to the level behind it
_TIMM = (
    *_OFFICIAL,
    *((rf"^layers\.{n}\.downsample\.", f"layers.{n + 1}.downsample.") for n in (2, 1, 0)),
    (r"^head\.", "head.fc."),
)


class PatchEmbed(nn.Module):
    """Conv 4x4 stride 4, tokens, LayerNorm: [B, 3, H, W] to [B*N, C]."""

    def __init__(self, dim: int, height: int, width: int) -> None:
        """Make the stem for inputs of height x width pixels; a rest is filled with zeros."""
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)
        self.rest = (-height % 4, -width % 4)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images [B, 3, H, W] into tokens [B*N, C]."""
        if any(self.rest):
            images = functional.pad(images, (0, self.rest[1], 0, self.rest[0]))
        return cast(Tensor, self.norm(tokens_from_map(self.proj(images))))


class PatchMerging(nn.Module):
    """The four tokens of each 2x2 cell side by side, LayerNorm, Linear 4C to 2C without bias.

    Args:
        dim: channels C.
        rows: rows of the map.
        cols: columns of the map; an odd side is extended by zeros.
        order: position in the map of each token as it comes; None means row by row.
    """

    gather: Tensor

    def __init__(self, dim: int, rows: int, cols: int, order: Tensor | None) -> None:
        """Make the merging."""
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.tokens = rows * cols
        place = torch.full((rows + rows % 2, cols + cols % 2), self.tokens)
        place[:rows, :cols] = _places(order, self.tokens).reshape(rows, cols)
        cells = place.reshape(place.shape[0] // 2, 2, place.shape[1] // 2, 2)
        # in a cell: (row 0, col 0), (row 1, col 0), (row 0, col 1), (row 1, col 1)
        self.register_buffer("gather", cells.permute(0, 2, 3, 1).reshape(-1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B*N, C] to [B*N', 2C], row by row."""
        cells = reordered(tokens, self.tokens, self.gather)
        return cast(Tensor, self.reduction(self.norm(cells.reshape(-1, 4 * tokens.shape[-1]))))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("norm", "reduction"),)


class Level(nn.Module):
    """Holds the blocks of a level and the merging behind it, under the official names."""

    downsample: PatchMerging | None

    def __init__(self, blocks: nn.ModuleList, downsample: PatchMerging | None) -> None:
        """Keep both."""
        super().__init__()
        self.blocks = blocks
        self.downsample = downsample


class Swin(nn.Module):
    """The whole network, for one input size.

    Args:
        config: the variant and its ablations.
        height: input rows in pixels.
        width: input columns in pixels.
    """

    def __init__(self, config: SwinConfig, height: int, width: int) -> None:
        """Build all blocks; the input size fixes every map size."""
        super().__init__()
        sizes, sides = config.map_sizes(height, width), config.block_sides(height, width)
        dim = config.embed_dim
        self.patch_embed = PatchEmbed(dim, height, width)
        self.layers = nn.ModuleList()
        for level, (rows, cols) in enumerate(sizes, start=1):
            blocks = nn.ModuleList()
            order: Tensor | None = None
            for index in range(config.depths[level - 1]):
                context = AttentionContext(
                    dim=dim,
                    heads=config.heads[level - 1],
                    rows=rows,
                    cols=cols,
                    level=level,
                    index=index,
                    block=sides[level - 1],
                    window=config.window_side(height, width),
                    agents=config.agents[level - 1],
                    lepe=config.lepe,
                    global_ratio=config.global_ratio,
                    backbone="swin",
                )
                branches = registry.attention_branches(config.mechanism(level, index), context)
                wanted = wanted_order(branches)
                blocks.append(Block(dim, rows * cols, branches, _entry(order, wanted, rows * cols)))
                order = wanted
            last = level == len(sizes)
            self.layers.append(
                Level(blocks, None if last else PatchMerging(dim, rows, cols, order))
            )
            dim *= 1 if last else 2
        self.tokens = sizes[-1][0] * sizes[-1][1]
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images [B, 3, H, W]; returns logits [B, classes]."""
        x = self.patch_embed(images)
        for level in self.layers:
            for block in cast(Level, level).blocks:
                x = block(x)
            downsample = cast(Level, level).downsample
            if downsample is not None:
                x = downsample(x)
        x = self.norm(x)
        return cast(Tensor, self.head(x.reshape(-1, self.tokens, x.shape[-1]).mean(1)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return the final norm and the head; the mean over tokens between them is linear."""
        return (("norm", "head"),)


def _places(order: Tensor | None, tokens: int) -> Tensor:
    """Return where each token of the map stands in an order."""
    return torch.arange(tokens) if order is None else torch.argsort(order)


def _entry(before: Tensor | None, after: Tensor | None, tokens: int) -> Tensor | None:
    """Return the gather from one order to another; None where nothing moves."""
    if before is after:
        return None
    return _places(before, tokens)[torch.arange(tokens) if after is None else after]


def build(config: SwinConfig, height: int, width: int) -> Swin:
    """Build the network of `config` for inputs of height x width pixels, in eval mode."""
    model = Swin(config, height, width).eval()
    use_keys(model, _TIMM if config.keys == "timm" else _OFFICIAL)
    return model
