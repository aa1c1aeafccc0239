"""The plugin's node in plain ops, for runtimes that do not have the plugin.

A file never holds this body: TensorRT 10 and newer inline a function of the file in place of the
plugin of its name. ONNX Runtime and shape inference are given the expanded graph.

The body is written from the equations of ELFATT (arXiv 2501.06098, Section III), not from the
export of the torch modules, so that one proves the other. In FP16 it computes in FP32 and rounds
its result. The kernels add up in FP32 too; what their tensor cores multiply is rounded besides.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.graph.plugin_nodes import (
    attributes_of,
    channels_of,
    is_plugin_node,
    plugin_nodes,
)
from elfatt_deploy.graph.summary import opset_of
from elfatt_deploy.models.plugin_node import DOMAIN, PluginNode

if TYPE_CHECKING:
    import onnx

#: ends a slice at the last element
_END = 2**62
#: the first opset with CastLike; a file with FP16 types has a newer one
_CAST_LIKE = 15


def expanded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph in which plain ops stand for the plugin's nodes, whose outputs keep names.

    A graph without such a node comes back as it is.

    Raises:
        SchemaError: a node is not as it must be.
    """
    if not plugin_nodes(model):
        return model
    result = copy.deepcopy(model)
    graph = result.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    constants: dict[str, onnx.TensorProto] = {}
    opset = opset_of(model)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if is_plugin_node(node):
            channels = channels_of(node, weights)
            nodes += _Body(node, attributes_of(node), channels, opset, constants).nodes
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.values())
    kept = [entry for entry in result.opset_import if entry.domain != DOMAIN]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    return result


def infer_shapes(model: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
    """Return the graph with the types and shapes of all its tensors, those of the plugin too.

    Args:
        model: the graph.
        options: of `onnx.shape_inference.infer_shapes`, such as `strict_mode`.

    Raises:
        SchemaError: a node of the plugin is not as it must be.
    """
    infer = optional.load("onnx").shape_inference.infer_shapes
    typed: onnx.ModelProto = infer(expanded(model), **options)
    if not plugin_nodes(model):
        return typed
    result = copy.deepcopy(model)
    own = {name for node in model.graph.node for name in node.output}
    for field in ("value_info", "output"):
        values = [value for value in getattr(typed.graph, field) if value.name in own]
        del getattr(result.graph, field)[:]
        getattr(result.graph, field).extend(values)
    return result


class _Body:
    """The ops of one node.

    Args:
        node: the node.
        told: its attributes.
        channels: C, where LePE tells it.
        opset: of the file.
        constants: shapes and indices, shared by all nodes of the file.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        told: PluginNode,
        channels: int | None,
        opset: int,
        constants: dict[str, onnx.TensorProto],
    ) -> None:
        self.node, self.told, self.constants = node, told, constants
        self.channels = channels or 0
        self.half = opset >= _CAST_LIKE
        self.nodes: list[onnx.NodeProto] = []
        wide = [self._wide(name) for name in node.input]
        self.weights = wide[1:]
        packed = self._op("Reshape", wide[0], self._ints(0, 0, 3, -1))
        q, k, v = (self._op("Gather", packed, self._int(i), axis=2) for i in range(3))
        first, parts = told.global_channels, []
        if told.global_heads:
            parts.append(self._linear(*(self._channels(t, 0, first) for t in (q, k, v))))
        if told.local_heads:
            parts.append(self._local(*(self._channels(t, first, _END) for t in (q, k, v))))
        out = parts[0] if len(parts) == 1 else self._op("Concat", *parts, axis=-1)
        last = ("CastLike", out, node.input[0]) if self.half else ("Identity", out)
        self._op(*last)
        self.nodes[-1].output[0] = node.output[0]

    def _linear(self, q: str, k: str, v: str) -> str:
        """softmax_channels(Q) (softmax_tokens(K)^T V) per head; [B, N, c] to the same."""
        heads = self.told.global_heads
        queries = self._op("Softmax", self._heads(q, heads, (0, 2, 1, 3)), axis=-1)
        keys = self._op("Softmax", self._heads(k, heads, (0, 2, 3, 1)), axis=-1)
        context = self._op("MatMul", keys, self._heads(v, heads, (0, 2, 1, 3)))
        out = self._op("MatMul", queries, context)
        out = self._op("Transpose", out, perm=(0, 2, 1, 3))
        out = self._op("Reshape", out, self._ints(0, 0, -1))
        if not self.told.lepe:
            return out
        width = self.told.global_channels
        lepe = self._lepe(v, (self.told.rows, self.told.cols), 0, width)
        lepe = self._op("Reshape", lepe, self._ints(-1, self.told.tokens, width))
        return self._op("Add", out, lepe)

    def _local(self, q: str, k: str, v: str) -> str:
        """softmax(Q K^T d^-0.5) V per head and block; [B, N, c] to the same."""
        told = self.told
        q, k, v = (self._cut(t) for t in (q, k, v))  # [B, blocks, n, c]
        queries = self._heads(q, told.local_heads, (0, 1, 3, 2, 4))
        width = self._op("Gather", self._op("Shape", queries), self._int(-1), axis=0)
        root = self._op("Sqrt", self._op("Cast", width, to=1))
        keys = self._heads(k, told.local_heads, (0, 1, 3, 4, 2))
        scores = self._op("MatMul", self._op("Div", queries, root), keys)
        values = self._heads(v, told.local_heads, (0, 1, 3, 2, 4))
        out = self._op("MatMul", self._op("Softmax", scores, axis=-1), values)
        out = self._op("Transpose", out, perm=(0, 1, 3, 2, 4))
        out = self._op("Reshape", out, self._ints(0, 0, 0, -1))
        if told.lepe:
            (down, across), sides = told.blocks, (told.block_rows, told.block_cols)
            lepe = self._lepe(v, sides, told.global_channels, self.channels)
            shape = (-1, down * across, sides[0] * sides[1], self.channels - told.global_channels)
            out = self._op("Add", out, self._op("Reshape", lepe, self._ints(*shape)))
        return self._join(out)

    def _cut(self, tokens: str) -> str:
        """Turn [B, N, c] into blocks [B, blocks, n, c], the map padded below and at the right."""
        told = self.told
        (down, across), (height, width) = told.blocks, (told.block_rows, told.block_cols)
        image = self._op("Reshape", tokens, self._ints(0, told.rows, told.cols, -1))
        extra = (down * height - told.rows, across * width - told.cols)
        if any(extra):
            image = self._op("Pad", image, self._ints(0, 0, 0, 0, 0, *extra, 0))
        grid = self._op("Reshape", image, self._ints(0, down, height, across, width, -1))
        grid = self._op("Transpose", grid, perm=(0, 1, 3, 2, 4, 5))
        return self._op("Reshape", grid, self._ints(0, down * across, height * width, -1))

    def _join(self, blocks: str) -> str:
        """Turn [B, blocks, n, c] back into [B, N, c]."""
        told = self.told
        (down, across), (height, width) = told.blocks, (told.block_rows, told.block_cols)
        grid = self._op("Reshape", blocks, self._ints(0, down, across, height, width, -1))
        # a Reshape may copy a side of its own place alone, so the grid keeps B first
        grid = self._op("Transpose", grid, perm=(0, 1, 3, 2, 4, 5))
        image = self._op("Reshape", grid, self._ints(0, down * height, across * width, -1))
        limits = (self._ints(0, 0), self._ints(told.rows, told.cols), self._ints(1, 2))
        image = self._op("Slice", image, *limits)
        return self._op("Reshape", image, self._ints(0, told.tokens, -1))

    def _lepe(self, tokens: str, size: tuple[int, int], start: int, end: int) -> str:
        """Convolve maps of that size, each channel of `start` to `end` by its own 3x3 taps."""
        taps, bias = (
            self._op("Slice", t, self._ints(start), self._ints(end), self._ints(0))
            for t in self.weights
        )
        taps = self._op("Reshape", taps, self._ints(-1, 1, 3, 3))
        image = self._op("Reshape", tokens, self._ints(-1, *size, end - start))
        image = self._op("Transpose", image, perm=(0, 3, 1, 2))
        group = {"group": end - start, "kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
        image = self._op("Conv", image, taps, bias, **group)
        return self._op("Transpose", image, perm=(0, 2, 3, 1))

    def _heads(self, tokens: str, heads: int, perm: tuple[int, ...]) -> str:
        """Turn [..., N, c] into heads [..., N, h, d], then into the order `perm`."""
        shape = (*[0] * (len(perm) - 2), heads, -1)
        return self._op("Transpose", self._op("Reshape", tokens, self._ints(*shape)), perm=perm)

    def _channels(self, tokens: str, start: int, end: int) -> str:
        places = (self._ints(start), self._ints(end), self._ints(-1))
        return self._op("Slice", tokens, *places)

    def _wide(self, name: str) -> str:
        return self._op("Cast", name, to=1) if self.half else name

    def _op(self, op: str, *inputs: str, **attributes: Any) -> str:
        number = len(self.nodes)
        made = f"{self.node.output[0]}/body/{number}"
        make = optional.load("onnx").helper.make_node
        name = f"{self.node.name or self.node.output[0]}/body/{op}_{number}"
        self.nodes.append(make(op, list(inputs), [made], name=name, **attributes))
        return made

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _int(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))

    def _constant(self, values: np.ndarray[Any, Any]) -> str:
        kind = "x".join(map(str, values.reshape(-1))) + ("" if values.ndim else "/number")
        name = f"{DOMAIN}/body/{kind}"
        if name not in self.constants:
            self.constants[name] = optional.load("onnx").numpy_helper.from_array(values, name)
        return name
