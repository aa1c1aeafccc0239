"""Weight-side rewrites, done on a copy of the model before it is exported.

Each keeps the function and changes the graph; each has an equality test in float64. They hold for
every opset: none of them chooses an operator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from elfatt_deploy.models.attention.layers import Branch
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


def export_forms(model: nn.Module) -> None:
    """Replace every module that has a form of its own for export, `exported()`, by that form.

    There, what does not depend on the input is a constant: biases resized or gathered from tables,
    masks, softplus of a scale, two convolutions of one tensor as one. What a branch of attention
    multiplies Q and K by (`gains`) goes into the projection.
    """
    for block in model.modules():
        if isinstance(block, Block):
            _fold_gains(block)
    _replace_by_export_forms(model)
    model.eval()


def _replace_by_export_forms(parent: nn.Module) -> None:
    for name, child in list(parent.named_children()):
        exported = getattr(child, "exported", None)
        if exported is not None:
            child = exported()
            setattr(parent, name, child)
        _replace_by_export_forms(child)


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


#: all rewrites in the order in which they are done
REWRITES: dict[str, Callable[[nn.Module], None]] = {
    "export-forms": export_forms,
    "fold-norms": fold_norms,
    "split-qkv": split_qkv,
}


def rewritten(model: nn.Module) -> nn.Module:
    """Return a copy of the model with every rewrite done; the model itself is left as it is."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for rewrite in REWRITES.values():
            rewrite(model)
    return model
