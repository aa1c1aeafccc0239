"""VMamba (s1l8): blocks that mix tokens by a selective scan in four directions.

Source: VMamba: Visual State Space Model (arXiv 2401.10166), the variant of state size 1 without a
gate; the state_dict keys are those of its repository. Tokens flow as [B*N, C], and are a map only
around the convolutions.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models.attention.scan import DIRECTIONS, FourScans, ScanWeights
from elfatt_deploy.models.backbones.convnext import NamedMean
from elfatt_deploy.models.backbones.layers import MLP, tokens_from_map
from elfatt_deploy.models.config import VMambaConfig

_CHANNELS_PER_RANK = 16
#: time steps at the beginning of a training lie between these, as in Mamba
_FIRST_STEPS = (1e-3, 1e-1)


class ToTokens(nn.Module):
    """Turn a map [B, C, rows, cols] into tokens [B*N, C]."""

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, C, rows, cols] to [B*N, C]."""
        return tokens_from_map(image)


class ToMap(nn.Module):
    """Turn tokens [B*N, C] into a map [B, C, rows, cols]."""

    def __init__(self, rows: int, cols: int) -> None:
        """Keep the size of the map."""
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, tokens: Tensor) -> Tensor:
        """Map [B*N, C] to [B, C, rows, cols]."""
        return tokens.reshape(-1, self.rows, self.cols, tokens.shape[-1]).permute(0, 3, 1, 2)


class Stem(nn.Sequential):
    """Conv 3x3 stride 2, LayerNorm, GELU, Conv 3x3 stride 2, LayerNorm.

    [B, 3, H, W] to [B*N, C]; keys `0`, `2`, `5` and `7`.

    Args:
        dim: channels C.
        rows: rows of the map between the convolutions.
        cols: columns of the map between the convolutions.
    """

    def __init__(self, dim: int, rows: int, cols: int) -> None:
        """Make the stem."""
        half = dim // 2
        super().__init__(
            nn.Conv2d(3, half, 3, stride=2, padding=1), ToTokens(), nn.LayerNorm(half),
            nn.GELU(), ToMap(rows, cols),
            nn.Conv2d(half, dim, 3, stride=2, padding=1), ToTokens(), nn.LayerNorm(dim),
        )  # fmt: skip


class Merge(nn.Sequential):
    """Conv 3x3 stride 2, LayerNorm: [B*N, C] to [B*N', outer]; keys `1` and `3`.

    Args:
        dim: channels C.
        outer: channels of the next level.
        rows: rows of the map.
        cols: columns of the map.
    """

    def __init__(self, dim: int, outer: int, rows: int, cols: int) -> None:
        """Make the merging."""
        conv = nn.Conv2d(dim, outer, 3, stride=2, padding=1)
        super().__init__(ToMap(rows, cols), conv, ToTokens(), nn.LayerNorm(outer))


class MixerForm(nn.Module):
    """W_out LN(scans(SiLU(DW3x3(W_in X)))) without any bias, the token mixer of a block.

    The base of what is trained and of what is exported, which differ in `scan_weights`.
    """

    in_proj: nn.Linear
    conv2d: nn.Conv2d
    out_norm: nn.LayerNorm
    out_proj: nn.Linear
    to_map: ToMap
    scans: FourScans

    def scan_weights(self) -> ScanWeights:
        """Return what the scans need."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens [B*N, C]; returns [B*N, C]."""
        image = self.conv2d(self.to_map(self.in_proj(x)))
        u = functional.silu(tokens_from_map(image))
        return cast(
            Tensor, self.out_proj(self.out_norm(self.scans.scanned(u, self.scan_weights())))
        )

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("out_norm", "out_proj"),)


class Mixer(MixerForm):
    """The mixer with its parameters.

    Args:
        dim: channels C; r_t of the scans has C / 16 numbers, rounded up.
        rows: rows of the map.
        cols: columns of the map.
    """

    def __init__(self, dim: int, rows: int, cols: int) -> None:
        """Make the mixer; A and D begin at 1, as in Mamba."""
        super().__init__()
        rank = math.ceil(dim / _CHANNELS_PER_RANK)
        low, high = map(math.log, _FIRST_STEPS)
        steps = torch.exp(low + (high - low) * torch.rand(DIRECTIONS, dim))
        self.x_proj_weight = _noise(DIRECTIONS, rank + 2, dim)
        self.A_logs = nn.Parameter(torch.zeros(DIRECTIONS * dim, 1))
        self.Ds = nn.Parameter(torch.ones(DIRECTIONS * dim))
        self.dt_projs_weight = _noise(DIRECTIONS, dim, rank)
        # softplus of this bias is the time step
        self.dt_projs_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        self.out_norm = nn.LayerNorm(dim)
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)
        self.to_map, self.scans = ToMap(rows, cols), FourScans(dim, rows, cols)

    def scan_weights(self) -> ScanWeights:
        """Return what the scans need, from the parameters as they are now."""
        _, rows, dim = self.x_proj_weight.shape
        return ScanWeights(
            rank=rows - 2,
            project=self.x_proj_weight.reshape(-1, dim),
            steps=self.dt_projs_weight.transpose(1, 2),
            steps_bias=self.dt_projs_bias.unsqueeze(1),
            rates=-torch.exp(self.A_logs).reshape(DIRECTIONS, 1, dim),
            skip=self.Ds.reshape(DIRECTIONS, dim).sum(0),
        )

    def exported(self) -> MixerForm:
        """Return the form to export: the weights of the scans are worked out once."""
        return _ExportedMixer(self).eval()


class _ExportedMixer(MixerForm):
    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.in_proj, self.conv2d, self.to_map = mixer.in_proj, mixer.conv2d, mixer.to_map
        self.scans, self.out_norm, self.out_proj = mixer.scans, mixer.out_norm, mixer.out_proj
        weights = mixer.scan_weights()
        self.rank = weights.rank
        for name, value in zip(weights._fields[1:], weights[1:], strict=True):
            self.register_buffer(name, value.detach().contiguous())

    def scan_weights(self) -> ScanWeights:
        """Return what the scans need, all of it constant."""
        return ScanWeights(self.rank, *(self.get_buffer(n) for n in ScanWeights._fields[1:]))


class Block(nn.Module):
    """X1 = X + mixer(LN(X)), X2 = X1 + MLP(LN(X1)).

    Args:
        dim: channels C.
        rows: rows of the map.
        cols: columns of the map.
    """

    def __init__(self, dim: int, rows: int, cols: int) -> None:
        """Make the block."""
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.op = Mixer(dim, rows, cols)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B*N, C] to [B*N, C]."""
        x = x + self.op(self.norm(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("norm", "op.in_proj"), ("norm2", "mlp.fc1"))


class Level(nn.Module):
    """Holds the blocks of a level, and the merging behind them; without a forward of its own.

    Args:
        blocks: the blocks.
        merge: the merging; none behind the last level.
    """

    def __init__(self, blocks: list[Block], merge: Merge | None) -> None:
        """Register them under the keys of the official repository."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if merge is not None:
            self.downsample = merge


class Classifier(nn.Module):
    """LayerNorm, mean over the map, linear layer.

    Args:
        dim: channels C.
        rows: rows of the map.
        cols: columns of the map.
        classes: number of logits.
    """

    def __init__(self, dim: int, rows: int, cols: int, classes: int) -> None:
        """Make the classifier."""
        super().__init__()
        self.rows, self.cols = rows, cols
        self.norm = nn.LayerNorm(dim)
        self.mean = NamedMean(rows, cols)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B*N, C] to logits [B, classes]."""
        x = self.norm(x)
        image = x.reshape(-1, self.rows, self.cols, x.shape[-1])
        return cast(Tensor, self.head(self.mean(image)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return the norm and the head; the mean between them is linear."""
        return (("norm", "head"),)


class VMamba(nn.Module):
    """The whole network, for one input size.

    Args:
        config: depths, channels and classes.
        height: input rows in pixels.
        width: input columns in pixels.
    """

    def __init__(self, config: VMambaConfig, height: int, width: int) -> None:
        """Build all blocks; the input size fixes every map size."""
        super().__init__()
        sizes, dims = config.map_sizes(height, width), config.dims
        # The first convolution halves the image, rounding up; map sizes begin after the second.
        self.patch_embed = Stem(dims[0], -(-height // 2), -(-width // 2))
        self.layers = nn.ModuleList()
        for i, (dim, (rows, cols)) in enumerate(zip(dims, sizes, strict=True)):
            merge = Merge(dim, dims[i + 1], rows, cols) if i + 1 < len(dims) else None
            blocks = [Block(dim, rows, cols) for _ in range(config.depths[i])]
            self.layers.append(Level(blocks, merge))
        self.classifier = Classifier(dims[-1], *sizes[-1], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images [B, 3, H, W]; returns logits [B, classes]."""
        x = self.patch_embed(images)
        for level in cast("list[Level]", self.layers):
            for block in level.blocks:
                x = block(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return cast(Tensor, self.classifier(x))


def build(config: VMambaConfig, height: int, width: int) -> VMamba:
    """Build the network of `config` for inputs of height x width pixels, in eval mode."""
    return VMamba(config, height, width).eval()


def _noise(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * shape[-1] ** -0.5)
