"""Weight-side rewrites, done on a copy of the model before it is exported.

Each keeps the function and changes the graph; each has an equality test in float64. They hold for
every opset: none of them chooses an operator. Which are done depends on how the target wants a
depthwise convolution of tokens (`recipes.Target.local`): `REWRITES` is the one place that says so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from elfatt_deploy.models.attention.layers import Branch, LinearAttention
from elfatt_deploy.models.backbones.layers import Block, PackedQKV, Projected


class SplitQKV(nn.Module):
    """The projection of `PackedQKV` as one small Linear for each of q, k and v of each branch.

    One packed projection must be cut apart afterwards, which copies every token; separate ones put
    their results where they are needed. The scale of q is folded into its weights.
    """

    def __init__(self, packed: PackedQKV) -> None:
        """Cut the rows of the packed weights apart."""
        super().__init__()
        weight, bias = packed.weight.detach(), packed.bias.detach()
        dim = packed.in_features
        self.branches = nn.ModuleList()
        start = 0
        for channels, scale in zip(packed.channels, packed.q_scales, strict=True):
            triple = nn.ModuleList()
            for part, gain in enumerate((scale, 1.0, 1.0)):
                rows = slice(part * dim + start, part * dim + start + channels)
                triple.append(_linear(weight[rows].double() * gain, bias[rows].double() * gain))
            self.branches.append(triple.to(weight.dtype))
            start += channels

    def forward(self, tokens: Tensor) -> tuple[Projected, ...]:
        """Project tokens [B*N, C]; returns q (scaled), k and v of every branch."""
        return tuple(
            cast(Projected, tuple(linear(tokens) for linear in cast(nn.ModuleList, triple)))
            for triple in self.branches
        )


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


class WholeQKV(nn.Module):
    """The projection of `PackedQKV` as one Linear, the scale of q folded in.

    The result is reshaped before it is cut into q, k and v of each branch: TensorRT would take a
    cut of the product itself for several products, and run their biases as kernels of their own.

    Args:
        packed: the projection.
        tokens: tokens N of one image.
    """

    def __init__(self, packed: PackedQKV, tokens: int) -> None:
        """Take the packed weights, those of q multiplied by its scale."""
        super().__init__()
        weight, bias = packed.weight.detach().double(), packed.bias.detach().double()
        gains = torch.ones_like(bias)
        sizes = torch.tensor(packed.channels, device=bias.device)
        scales = torch.tensor(packed.q_scales, dtype=bias.dtype, device=bias.device)
        gains[: packed.in_features] = scales.repeat_interleave(sizes)
        self.linear = _linear(weight * gains[:, None], bias * gains).to(packed.weight.dtype)
        self.tokens, self.channels = tokens, packed.channels
        self.width = math.gcd(*packed.channels)

    def forward(self, tokens: Tensor) -> tuple[Projected, ...]:
        """Project tokens [B*N, C]; returns q (scaled), k and v [B, N, channels] of every branch."""
        rows = self.linear.out_features // self.width
        packed = self.linear(tokens).reshape(-1, self.tokens, rows, self.width)
        sizes = [channels // self.width for channels in self.channels]
        parts = [
            part.reshape(-1, self.tokens, size * self.width)
            for part, size in zip(torch.split(packed, sizes * 3, 2), sizes * 3, strict=True)
        ]
        branches = len(sizes)
        return tuple(cast(Projected, tuple(parts[i::branches])) for i in range(branches))


def export_forms(model: nn.Module) -> None:
    """Replace every module that has a form of its own for export, `exported()`, by that form.

    There, what does not depend on the input is a constant: biases resized or gathered from tables,
    masks, softplus of a scale, two convolutions of one tensor as one. What a branch of attention
    multiplies Q and K by (`gains`) goes into the projection.
    """
    for block in model.modules():
        if isinstance(block, Block):
            _fold_gains(block)
    _replace_by_forms(model, "exported")
    model.eval()


def _replace_by_forms(parent: nn.Module, method: str) -> None:
    """Replace every module below `parent` that has `method` by what it returns."""
    for name, child in list(parent.named_children()):
        form = getattr(child, method, None)
        if form is not None:
            child = form()
            setattr(parent, name, child)
        _replace_by_forms(child, method)


def _fold_gains(block: Block) -> None:
    packed, start = block.qkv, 0
    for branch in block.attns:
        channels, gains = cast(Branch, branch).channels, cast(Branch, branch).gains()
        for part, gain in enumerate(gains or ()):  # Q, then K
            rows = slice(part * packed.in_features + start, None)
            for tensor in (packed.weight, packed.bias):
                mine = tensor.data[rows][:channels]
                factor = gain.reshape(-1, *[1] * (mine.ndim - 1))
                mine.copy_((mine.double() * factor).to(mine.dtype))
        start += channels


def norm_followers(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Return (LayerNorm, the only Linear that reads it) as the module declares them."""
    declared = getattr(module, "norm_followers", None)
    return tuple(declared()) if declared else ()


def split_qkv(model: nn.Module) -> None:
    """Replace every packed projection by separate ones, the scale of q folded in."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, PackedQKV):
                setattr(parent, name, SplitQKV(child))


def whole_qkv(model: nn.Module) -> None:
    """Replace every packed projection by one that is cut after a reshape, the scale folded in."""
    for block in list(model.modules()):
        if isinstance(block, Block):
            block.qkv = WholeQKV(block.qkv, block.tokens)  # type: ignore[assignment]


def shifts(model: nn.Module) -> None:
    """Replace every module that has a form without depthwise convolution, `shifted()`, by it."""
    _replace_by_forms(model, "shifted")


def fold_norms(model: nn.Module) -> None:
    """Fold the weight and bias of each LayerNorm into the Linear layer that alone reads it.

    W (g * n + b) + c = (W diag(g)) n + (W b + c). A module says which norms these are in
    `norm_followers`.
    """
    for owner in list(model.modules()):
        for norm_name, linear_name in norm_followers(owner):
            norm = cast(nn.LayerNorm, owner.get_submodule(norm_name))
            linear = cast(nn.Linear, owner.get_submodule(linear_name))
            dtype = linear.weight.dtype
            weight = linear.weight.detach().double()
            bias = weight @ norm.bias.detach().double()
            if linear.bias is not None:
                bias += linear.bias.detach().double()
            linear.weight.data = (weight * norm.weight.detach().double()).to(dtype)
            linear.bias = nn.Parameter(bias.to(dtype), requires_grad=False)
            plain = nn.LayerNorm(norm.normalized_shape, eps=norm.eps, elementwise_affine=False)
            setattr(owner, norm_name, plain.eval())


def scale_token_softmax(model: nn.Module) -> None:
    """Scale the softmax of linear attention up where it runs over very many tokens.

    Half precision keeps 3 to 4 digits down to 6e-5 = 1 / 16384. Above that many tokens an even
    softmax lies below; times sqrt(N), undone behind the product with V, it does not, and no peak
    overflows (docs/precision.md).
    """
    for module in model.modules():
        if isinstance(module, LinearAttention) and module.rows * module.cols > _MOST_TOKENS:
            module.scale_tokens()


#: most tokens of a softmax whose even value, 1/N, is a normal number of FP16
_MOST_TOKENS = 16384

Local = Literal["convolution", "shifts"]

_ALWAYS: dict[str, Callable[[nn.Module], None]] = {
    "export-forms": export_forms,
    "fold-norms": fold_norms,
}
#: all rewrites for each way to write a depthwise convolution of tokens, in their order. Which
#: projection goes with which is by measurement: milliseconds of ONNX Runtime for the convolution,
#: kernels of TensorRT for the shifts (docs/kernels.md)
REWRITES: dict[Local, dict[str, Callable[[nn.Module], None]]] = {
    "convolution": {**_ALWAYS, "split-qkv": split_qkv},
    "shifts": {**_ALWAYS, "whole-qkv": whole_qkv, "shifts": shifts},
}


def rewrites_for(local: Local, precision: str) -> dict[str, Callable[[nn.Module], None]]:
    """Return the rewrites for a way to write local ops and a precision, in their order."""
    half = {"scale-token-softmax": scale_token_softmax} if precision == "fp16" else {}
    return {**half, **REWRITES[local]}


def rewritten(model: nn.Module, local: Local = "convolution", precision: str = "fp32") -> nn.Module:
    """Return a copy of the model with every rewrite done; the model itself is left as it is.

    Args:
        model: the module.
        local: how a depthwise convolution of tokens is written, a property of the target.
        precision: precision of the graph that will be made.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        for rewrite in rewrites_for(local, precision).values():
            rewrite(model)
    return model
