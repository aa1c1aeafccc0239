"""Blocks whose attention is the one node of the plugin `elfatt`.

A rewrite like those of `rewrites.py`: on a copy, same weights, same function. In torch it computes
the equations from the packed weights, so that a test can hold it against the block that it
replaced; exported, it is one node.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast

import torch
from torch import Tensor, nn

from elfatt_deploy.errors import ExportError
from elfatt_deploy.models import plugin_node
from elfatt_deploy.models.attention.layers import LinearAttention, WindowAttention, Windows
from elfatt_deploy.models.backbones.layers import Block, reordered
from elfatt_deploy.models.plugin_node import PluginNode

#: name of the rewrite in a manifest
REWRITE = f"plugin-{plugin_node.DOMAIN}"

_Covered = LinearAttention | WindowAttention


class PluginAttention(nn.Module):
    """Linear part and block part of a block's attention from packed Q, K and V, LePE included.

    Args:
        node: what the node is told.
        branches: the branches that it replaces, in the order of their channels.
    """

    lepe_weight: Tensor | None
    lepe_bias: Tensor | None

    def __init__(self, node: PluginNode, branches: tuple[_Covered, ...]) -> None:
        """Pack the weights of the branches' LePE: [C, 9], taps row by row, and [C]."""
        super().__init__()
        self.node, self.channels = node, sum(branch.channels for branch in branches)
        convolutions = [branch.get_v for branch in branches if branch.get_v is not None]
        weight = torch.cat([c.weight.detach().flatten(1) for c in convolutions] or [torch.empty(0)])
        bias = torch.cat([c.bias.detach() for c in convolutions] or [torch.empty(0)])
        self.register_buffer("lepe_weight", weight if node.lepe else None)
        self.register_buffer("lepe_bias", bias if node.lepe else None)
        self.parts = nn.ModuleList(self._parts())

    def _parts(self) -> list[_Covered]:
        """Return branches made anew of the node and the packed weights."""
        node, lepe, parts = self.node, bool(self.node.lepe), list[_Covered]()
        local, first = self.channels - node.global_channels, node.global_channels
        if first:
            size = (node.rows, node.cols)
            parts.append(LinearAttention(first, node.global_heads, *size, lepe=lepe))
        if local:
            blocks = Windows(node.rows, node.cols, node.block_rows, node.block_cols)
            parts.append(WindowAttention(local, node.local_heads, blocks, lepe=lepe))
        for part, mine in zip(parts, self._slices(parts), strict=True):
            if part.get_v is not None and self.lepe_weight is not None:
                taps = self.lepe_weight[mine].reshape(-1, 1, 3, 3)
                part.get_v.weight = nn.Parameter(taps, requires_grad=False)
                part.get_v.bias = nn.Parameter(cast(Tensor, self.lepe_bias)[mine], False)
        return parts

    def _slices(self, parts: list[_Covered]) -> list[slice]:
        first = parts[0].channels
        return [slice(0, first), slice(first, self.channels)][: len(parts)]

    def forward(self, qkv: Tensor) -> Tensor:
        """Attend: qkv [B, N, 3C], Q not scaled, to [B, N, C]."""
        if torch.onnx.is_in_onnx_export():
            weights = () if self.lepe_weight is None else (self.lepe_weight, self.lepe_bias)
            return cast(Tensor, _Exported.apply(qkv, *weights, self))  # type: ignore[no-untyped-call]
        return self.computed(qkv)

    def computed(self, qkv: Tensor) -> Tensor:
        """Do the same by torch's own operators."""
        parts = [cast(_Covered, part) for part in self.parts]
        outs = []
        for part, mine in zip(parts, self._slices(parts), strict=True):
            q, k, v = (tensor[..., mine] for tensor in qkv.chunk(3, -1))
            outs.append(cast(Tensor, part(q * part.q_scale, k, v)))
        return torch.cat(outs, -1).reshape(-1, self.node.tokens, self.channels)


class _Exported(torch.autograd.Function):
    """What the exporter turns into the node, without looking inside."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, *others: Any) -> Tensor:
        # A trace keeps shapes alone, and one inside this function cannot read a module's weights.
        return qkv.new_zeros(*qkv.shape[:-1], qkv.shape[-1] // 3)

    @staticmethod
    def symbolic(g: Any, qkv: Any, *others: Any) -> Any:
        *weights, attention = others
        texts = {
            "plugin_version": plugin_node.PLUGIN_VERSION,
            "plugin_namespace": plugin_node.PLUGIN_NAMESPACE,
        }
        numbers = dataclasses.asdict(attention.node)
        made = g.op(
            f"{plugin_node.DOMAIN}::{plugin_node.OP}",
            qkv,
            *weights,
            **{f"{name}_s": text for name, text in texts.items()},
            **{f"{name}_i": number for name, number in numbers.items()},
        )
        shape = [None, attention.node.tokens, attention.channels]
        made.setType(qkv.type().with_sizes(shape))  # or the exporter knows no shape behind it
        return made


class PluginBlock(nn.Module):
    """A `Block` whose attention is one node between its projections.

    Args:
        block: the block; its modules are used as they are.
        node: what the node is told.
    """

    entry: Tensor | None

    def __init__(self, block: Block, node: PluginNode) -> None:
        """Take the modules of the block, its projection without cut and scale."""
        super().__init__()
        self.register_buffer("entry", block.entry, persistent=False)
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.proj, self.mlp = block.proj, block.mlp
        packed = block.qkv
        self.qkv = nn.Linear(packed.in_features, packed.out_features, device="meta")
        self.qkv.weight, self.qkv.bias = packed.weight, packed.bias
        branches = tuple(cast(_Covered, branch) for branch in block.attns)
        self.attention = PluginAttention(node, branches)
        self.tokens = block.tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B*N, C] to [B*N, C]."""
        if self.entry is not None:
            x = reordered(x, self.tokens, self.entry)
        # Reshaped before the projection: behind it, TensorRT for RTX 1.7 makes a kernel of its own
        # of the bias in FP16.
        out = self.attention(self.qkv(self.norm1(x).reshape(-1, self.tokens, x.shape[-1])))
        x = x + self.proj(out.reshape(-1, self.proj.in_features))
        return x + cast(Tensor, self.mlp(self.norm2(x)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("norm1", "qkv"), ("norm2", "mlp.fc1"))


def node_of(block: Block) -> PluginNode | None:
    """Return what the node of a block would be told; None where it does not cover the block.

    It covers ELFATT, EFFATT and softmax attention in blocks or over the whole map, each with LePE
    or without, in the sizes that its kernels take. Not: any other mechanism, two parts of the same
    kind (CSWin's stripes), tokens in another order than row by row.
    """
    branches = tuple(block.attns)
    kinds = tuple(type(branch) for branch in branches)  # a subclass computes something else
    linear = cast(LinearAttention, branches[0]) if kinds[0] is LinearAttention else None
    local = cast(WindowAttention, branches[-1]) if kinds[-1] is WindowAttention else None
    found = [branch for branch in (linear, local) if branch is not None]
    lepes = {branch.get_v is not None for branch in found}
    if len(found) != len(branches) or len(lepes) != 1:
        return None
    size = (linear.rows, linear.cols) if linear else (0, 0)
    if local:
        size = (local.windows.rows, local.windows.cols)
    node = PluginNode(
        rows=size[0],
        cols=size[1],
        global_channels=linear.channels if linear else 0,
        global_heads=linear.heads if linear else 0,
        local_heads=local.heads if local else 0,
        block_rows=local.windows.height if local else 0,
        block_cols=local.windows.width if local else 0,
        lepe=int(lepes == {True}),
    )
    return None if node.problem(sum(branch.channels for branch in found)) else node


def with_nodes(model: nn.Module) -> nn.Module:
    """Return a copy of a model with the node in every block that it covers.

    Raises:
        ExportError: it covers none.
    """
    model = copy.deepcopy(model)
    covered = total = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Block):
                total += 1
                node = node_of(child)
                if node is not None:
                    setattr(parent, name, PluginBlock(child, node).eval())
                    covered += 1
    if not covered:
        raise ExportError(
            f"the plugin '{plugin_node.DOMAIN}' covers none of the model's attention blocks "
            f"({total} that it knows)",
            hint="export without --plugin, or use a model with ELFATT, EFFATT or GLOBAL attention",
        )
    return model


def blocks_of(model: nn.Module) -> tuple[int, int]:
    """Return how many attention blocks use the node, and how many there are."""
    used = sum(isinstance(module, PluginBlock) for module in model.modules())
    return used, used + sum(isinstance(module, Block) for module in model.modules())
