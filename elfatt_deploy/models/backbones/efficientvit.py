"""EfficientViT, the classification B series: MBConv blocks and ReLU linear attention at two scales.

Source: EfficientViT (arXiv 2205.14756); the state_dict keys are those of its repository
(`backbone.stages.{s}.op_list.{i}`, `head.op_list.{i}`) or of timm. Maps stay [B, C, H, W]: nine
tenths of the time on a CPU are convolutions, and the exporter folds their BatchNorm in. Forms of
the attention that reorder, split or regroup its channels were measured: none is faster in ONNX
Runtime, and most cost kernels in the TensorRT-for-RTX builder.
"""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models.config import EfficientViTConfig
from elfatt_deploy.models.keys import Rename, use_keys


def _residual_name(match: re.Match[str]) -> str:
    return f"stem.res{int(match[1]) - 1}."


#: official keys to those of timm
_TIMM_KEYS: tuple[Rename, ...] = (
    (r"^backbone\.input_stem\.op_list\.0\.", "stem.in_conv."),
    (r"^backbone\.input_stem\.op_list\.(\d+)\.", _residual_name),
    (r"^backbone\.stages\.(\d+)\.op_list\.", r"stages.\1.blocks."),
    (r"^head\.op_list\.0\.", "head.in_conv."),
    (r"^head\.op_list\.2\.linear\.", "head.classifier.0."),
    (r"^head\.op_list\.2\.norm\.", "head.classifier.1."),
    (r"^head\.op_list\.3\.linear\.", "head.classifier.4."),
)


class ConvUnit(nn.Module):
    """Convolution, BatchNorm, hard swish: [B, inner, H, W] to [B, outer, H', W'].

    Args:
        inner: input channels.
        outer: output channels.
        kernel: side of the kernel; the padding is half of it.
        stride: step of the kernel.
        groups: groups of channels.
        norm: whether there is a BatchNorm; without one the convolution has a bias if `bias`.
        bias: whether the convolution has a bias.
        act: whether there is an activation.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        bias: bool = False,
        act: bool = True,
    ) -> None:
        """Make the unit."""
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(outer) if norm else None
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inner, H, W] to [B, outer, H', W']."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return functional.hardswish(x) if self.act else x


class DSConv(nn.Module):
    """Depthwise 3x3 unit, then a 1x1 unit without activation: [B, C, H, W] to the same."""

    def __init__(self, dim: int) -> None:
        """Make the two units of `dim` channels."""
        super().__init__()
        self.depth_conv = ConvUnit(dim, dim, 3, groups=dim)
        self.point_conv = ConvUnit(dim, dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        return cast(Tensor, self.point_conv(self.depth_conv(x)))


class MBConv(nn.Module):
    """1x1 to more channels, depthwise 3x3, 1x1 back without activation.

    Args:
        inner: input channels.
        outer: output channels.
        expansion: channels in between over `inner`.
        stride: step of the depthwise convolution.
        fewer_norm: whether the first two convolutions have a bias in place of a BatchNorm.
    """

    def __init__(
        self, inner: int, outer: int, expansion: int, *, stride: int = 1, fewer_norm: bool = False
    ) -> None:
        """Make the three units."""
        super().__init__()
        mid, norm = inner * expansion, not fewer_norm
        self.inverted_conv = ConvUnit(inner, mid, norm=norm, bias=fewer_norm)
        self.depth_conv = ConvUnit(
            mid, mid, 3, stride=stride, groups=mid, norm=norm, bias=fewer_norm
        )
        self.point_conv = ConvUnit(mid, outer, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inner, H, W] to [B, outer, H', W']."""
        return cast(Tensor, self.point_conv(self.depth_conv(self.inverted_conv(x))))


class MultiScaleAttention(nn.Module):
    """ReLU linear attention over all tokens, on Q, K, V and on their 5x5 neighbourhoods.

    Per head, with tokens in columns: O = V relu(K)^T relu(Q) / (sum_tokens(relu(K))^T relu(Q)).
    The row of ones below V makes the denominator the last row of the same two products. For maps
    of `head_dim` tokens or fewer the official code forms relu(K)^T relu(Q) first: the same
    function, which is computed here in one order at every size. Source: Section 3.1 of the paper.

    Args:
        dim: channels C; heads have `head_dim` of them.
        head_dim: channels of a head.
        rows: rows of the map.
        cols: columns of the map.
        eps: added to the denominator.
        float32: whether Q, K and V are turned to float32 before the products, as timm does at any
            precision of the model; without effect in a float32 model.
    """

    def __init__(
        self, dim: int, head_dim: int, rows: int, cols: int, *, eps: float, float32: bool
    ) -> None:
        """Make the projections and the convolutions of the second scale."""
        super().__init__()
        self.head_dim, self.rows, self.cols = head_dim, rows, cols
        self.eps, self.float32 = eps, float32
        self.qkv = ConvUnit(dim, 3 * dim, norm=False, act=False)
        around = nn.Conv2d(3 * dim, 3 * dim, 5, padding=2, groups=3 * dim, bias=False)
        mix = nn.Conv2d(3 * dim, 3 * dim, 1, groups=3 * dim // head_dim, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(around, mix)])
        self.proj = ConvUnit(2 * dim, dim, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        qkv = self.qkv(x)
        scales = torch.cat((qkv, self.aggreg[0](qkv)), 1)
        # [B, heads of both scales, 3d, N]: a head has its Q, K and V side by side
        channels, d = scales.shape[1], self.head_dim
        heads = scales.reshape(-1, channels // (3 * d), 3 * d, self.rows * self.cols)
        if self.float32:
            heads = heads.float()
        q, k, v = torch.split(heads, d, 2)
        v = functional.pad(v, (0, 0, 0, 1), value=1.0)
        out = v @ k.relu().transpose(-1, -2) @ q.relu()
        out = (out[:, :, :d] / (out[:, :, d:] + self.eps)).to(scales.dtype)
        return cast(Tensor, self.proj(out.reshape(-1, channels // 3, self.rows, self.cols)))


class Residual(nn.Module):
    """main(x), plus x where the shapes allow it; the parameters are under `main`."""

    def __init__(self, main: nn.Module, *, skip: bool = True) -> None:
        """Keep the inner module."""
        super().__init__()
        self.main, self.skip = main, skip

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to what `main` gives."""
        out = cast(Tensor, self.main(x))
        return x + out if self.skip else out


class ContextBlock(nn.Module):
    """Attention, then MBConv, both with a skip connection: [B, C, H, W] to the same."""

    def __init__(self, context: MultiScaleAttention, local: MBConv) -> None:
        """Keep both."""
        super().__init__()
        self.context_module, self.local_module = Residual(context), Residual(local)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        return cast(Tensor, self.local_module(self.context_module(x)))


class GlobalPool(nn.Module):
    """Mean over the map: [B, C, H, W] to [B, C]."""

    def __init__(self, rows: int, cols: int) -> None:
        """Make the pooling of a map of rows x cols."""
        super().__init__()
        self.rows, self.cols = rows, cols

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, rows, cols] to [B, C]."""
        # not adaptive pooling, which torch turns into a mean that no counter sees as a pooling
        return functional.avg_pool2d(x, (self.rows, self.cols)).flatten(1)

    def exported(self) -> nn.Module:
        """Return the form to export: one GlobalAveragePool, which no kernel size limits."""
        return _AnyMapPool(1)


class _AnyMapPool(nn.AdaptiveAvgPool2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flatten(1)


class HeadLayer(nn.Module):
    """Linear layer; with `norm`, without bias and followed by LayerNorm and hard swish."""

    def __init__(self, inner: int, outer: int, *, norm: bool) -> None:
        """Make the layer."""
        super().__init__()
        self.linear = nn.Linear(inner, outer, bias=not norm)
        self.norm = nn.LayerNorm(outer) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inner] to [B, outer]."""
        x = self.linear(x)
        return x if self.norm is None else functional.hardswish(self.norm(x))


class OpList(nn.Module):
    """Holds modules that run one after the other, under the official name `op_list`."""

    def __init__(self, *ops: nn.Module) -> None:
        """Keep them."""
        super().__init__()
        self.op_list = nn.ModuleList(ops)


class Backbone(nn.Module):
    """Holds stem and stages, under the official names."""

    def __init__(self, config: EfficientViTConfig, sizes: tuple[tuple[int, int], ...]) -> None:
        """Build the stem and the four stages of maps of `sizes`."""
        super().__init__()
        dim = config.widths[0]
        self.input_stem = OpList(
            ConvUnit(3, dim, 3, stride=2),
            *(Residual(DSConv(dim)) for _ in range(config.depths[0])),
        )
        self.stages = nn.ModuleList(_stage(config, i, *size) for i, size in enumerate(sizes))


def _stage(config: EfficientViTConfig, index: int, rows: int, cols: int) -> OpList:
    inner, dim = config.widths[index : index + 2]
    depth, expansion = config.depths[index + 1], config.expansion
    context = index >= 2  # attention is in the last two of the four stages
    first = MBConv(inner, dim, expansion, stride=2, fewer_norm=context)
    ops: list[nn.Module] = [Residual(first, skip=False)]
    if not context:
        ops += [Residual(MBConv(dim, dim, expansion)) for _ in range(depth - 1)]
    for _ in range(depth if context else 0):
        attention = MultiScaleAttention(
            dim,
            config.head_dim,
            rows,
            cols,
            eps=config.division_eps,
            float32=config.keys == "timm",
        )
        ops.append(ContextBlock(attention, MBConv(dim, dim, expansion, fewer_norm=True)))
    return OpList(*ops)


class EfficientViT(nn.Module):
    """The whole network, for one input size.

    Args:
        config: the variant.
        height: input rows in pixels.
        width: input columns in pixels.
    """

    def __init__(self, config: EfficientViTConfig, height: int, width: int) -> None:
        """Build all blocks; the input size fixes every map size."""
        super().__init__()
        sizes = config.map_sizes(height, width)
        first, second = config.head_widths
        self.backbone = Backbone(config, sizes)
        self.head = OpList(
            ConvUnit(config.widths[-1], first),
            GlobalPool(*sizes[-1]),
            HeadLayer(first, second, norm=True),
            HeadLayer(second, config.classes, norm=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Classify images [B, 3, H, W]; returns logits [B, classes]."""
        x = images
        for part in (self.backbone.input_stem, *self.backbone.stages, self.head):
            for op in cast(OpList, part).op_list:
                x = op(x)
        return x


def build(config: EfficientViTConfig, height: int, width: int) -> EfficientViT:
    """Build the network of `config` for inputs of height x width pixels, in eval mode.

    Raises:
        ModelError: the input is too small.
    """
    model = EfficientViT(config, height, width).eval()
    if config.keys == "timm":
        use_keys(model, _TIMM_KEYS)
    return model
