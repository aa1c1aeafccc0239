"""ConvNeXt: depthwise 7x7 convolutions where a transformer has attention.

Source: A ConvNet for the 2020s (arXiv 2201.03545); the state_dict keys are those of its repository
(`downsample_layers.{i}`, `stages.{s}.{i}`) or of timm. Maps are [B, H, W, C] between the blocks and
tokens [B*N, C] between the two linear layers: the permutes stand right at the convolutions, where
runtimes merge them into their layout conversions, and each linear layer exports as one Gemm.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models.config import ConvNeXtConfig
from elfatt_deploy.models.keys import Rename, use_keys

_EPS = 1e-6

#: official keys to those of timm
_TIMM_KEYS: tuple[Rename, ...] = (
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
    (r"^norm\.", "head.norm."),
    (r"^stages\.(\d+)\.", r"stages.\1.blocks."),
    (r"^downsample_layers\.0\.", "stem."),
    (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv([12])\.", r".mlp.fc\1."),
)


class WrittenNorm(nn.LayerNorm):
    """LayerNorm in elementary operations.

    The official code writes the norms of its stem and mergings so, and the mean over the map as a
    mean; the paper's count of 4.47G sees neither. timm calls both by name, and its count has them.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [..., C] over the channels."""
        centred = input - input.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias

    def exported(self) -> nn.LayerNorm:
        """Return the form to export: the norm by its name."""
        norm = nn.LayerNorm(self.normalized_shape, eps=self.eps)
        norm.weight, norm.bias = self.weight, self.bias
        return norm.eval()


class MapMean(nn.Module):
    """Mean over the map: [B, rows, cols, C] to [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, rows, cols, C] to [B, C]."""
        return x.mean((1, 2))


class NamedMean(MapMean):
    """The same mean as a pooling, which a counter of operations sees."""

    def __init__(self, rows: int, cols: int) -> None:
        """Make the pooling of a map of rows x cols."""
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, rows, cols, C] to [B, C]."""
        return functional.avg_pool2d(x.permute(0, 3, 1, 2), (self.rows, self.cols)).flatten(1)

    def exported(self) -> MapMean:
        """Return the form to export: the mean, which moves no data."""
        return MapMean()


class Stem(nn.Sequential):
    """Conv 4x4 stride 4, LayerNorm: [B, 3, H, W] to [B, rows, cols, C]; a rest is cut off."""

    def __init__(self, dim: int, norm: type[nn.LayerNorm]) -> None:
        """Make the stem of `dim` channels."""
        super().__init__(nn.Conv2d(3, dim, 4, stride=4), norm(dim, eps=_EPS))

    def forward(self, input: Tensor) -> Tensor:
        """Map images [B, 3, H, W] to [B, rows, cols, C]."""
        return cast(Tensor, self[1](self[0](input).permute(0, 2, 3, 1)))


class Merge(nn.Sequential):
    """LayerNorm, Conv 2x2 stride 2: [B, rows, cols, C] to half the map and `outer` channels."""

    def __init__(self, inner: int, outer: int, norm: type[nn.LayerNorm]) -> None:
        """Make the merging; a last odd row or column is cut off."""
        super().__init__(norm(inner, eps=_EPS), nn.Conv2d(inner, outer, 2, stride=2))

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, rows, cols, C] to [B, rows // 2, cols // 2, outer]."""
        return cast(Tensor, self[1](self[0](input).permute(0, 3, 1, 2)).permute(0, 2, 3, 1))

    def exported(self) -> Merge:
        """Fold the weight and bias of the norm into the convolution, in place; returns itself.

        The convolution has no padding, so that the bias of the norm reaches every output alike.
        """
        norm, conv = cast(nn.LayerNorm, self[0]), cast(nn.Conv2d, self[1])
        weight = conv.weight.detach().double()
        gain, shift = norm.weight.detach().double(), norm.bias.detach().double()
        bias = cast(Tensor, conv.bias).detach().double() + weight.sum((2, 3)) @ shift
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
        conv.weight = nn.Parameter((weight * gain[:, None, None]).to(conv.weight.dtype))
        self[0] = nn.LayerNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=False)
        return self.eval()


class Block(nn.Module):
    """X + gamma * pwconv2(GELU(pwconv1(LN(DW7x7(X))))); GELU is exact (erf).

    Args:
        dim: channels C.
        rows: rows of the map.
        cols: columns of the map.
    """

    gamma: nn.Parameter | None

    def __init__(self, dim: int, rows: int, cols: int) -> None:
        """Make the block."""
        super().__init__()
        self.rows, self.cols = rows, cols
        self.gamma = nn.Parameter(torch.ones(dim))
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, rows, cols, C] to [B, rows, cols, C]."""
        dim = x.shape[-1]
        tokens = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).reshape(-1, dim)
        tokens = self.pwconv2(functional.gelu(self.pwconv1(self.norm(tokens))))
        if self.gamma is not None:
            tokens = tokens * self.gamma
        return x + cast(Tensor, tokens).reshape(-1, self.rows, self.cols, dim)

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("norm", "pwconv1"),)

    def exported(self) -> Block:
        """Fold gamma into pwconv2, in place; returns itself."""
        if self.gamma is not None:
            linear, gamma = self.pwconv2, self.gamma.detach().double()
            dtype = linear.weight.dtype
            linear.weight = nn.Parameter((linear.weight.double() * gamma[:, None]).to(dtype))
            linear.bias = nn.Parameter((linear.bias.double() * gamma).to(dtype))
            self.gamma = None
        return self


class ConvNeXt(nn.Module):
    """The whole network, for one input size.

    Args:
        config: the variant.
        height: input rows in pixels.
        width: input columns in pixels.
    """

    def __init__(self, config: ConvNeXtConfig, height: int, width: int) -> None:
        """Build all blocks; the input size fixes every map size."""
        super().__init__()
        sizes, dims = config.map_sizes(height, width), config.dims
        named = config.keys == "timm"
        norm: type[nn.LayerNorm] = nn.LayerNorm if named else WrittenNorm
        self.downsample_layers = nn.ModuleList([Stem(dims[0], norm)])
        for inner, outer in zip(dims[:-1], dims[1:], strict=True):
            self.downsample_layers.append(Merge(inner, outer, norm))
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(dim, *size) for _ in range(depth))
            for dim, depth, size in zip(dims, config.depths, sizes, strict=True)
        )
        self.pool = NamedMean(*sizes[-1]) if named else MapMean()
        self.norm = nn.LayerNorm(dims[-1], eps=_EPS)
        self.head = nn.Linear(dims[-1], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images [B, 3, H, W]; returns logits [B, classes]."""
        x = images
        for downsample, blocks in zip(self.downsample_layers, self.stages, strict=True):
            x = downsample(x)
            for block in cast(nn.ModuleList, blocks):
                x = block(x)
        return cast(Tensor, self.head(self.norm(self.pool(x))))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return the final norm and the head, for folding at export."""
        return (("norm", "head"),)


def build(config: ConvNeXtConfig, height: int, width: int) -> ConvNeXt:
    """Build the network of `config` for inputs of height x width pixels, in eval mode.

    Raises:
        ModelError: the input is too small.
    """
    model = ConvNeXt(config, height, width).eval()
    if config.keys == "timm":
        use_keys(model, _TIMM_KEYS)
    return model
