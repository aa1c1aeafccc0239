"""Turns an FP32 graph into a typed FP16 one, some nodes kept in FP32.

The result is what a strongly typed network wants: both operands of every op have one type, casts
are explicit, and the graph's inputs and outputs stay FP32. A tensor is cast once for all that read
it; a weight is stored in each type that is read.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.errors import ExportError
from elfatt_deploy.graph import plugin_body, simplify

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

#: inputs that the ONNX standard wants in FP32 whatever the type of the data
_ALWAYS_SINGLE = {"Resize": (1, 2), "QuantizeLinear": (1,), "DequantizeLinear": (1,)}
_HALF, _SINGLE = "FLOAT16", "FLOAT"


def mixed(model: onnx.ModelProto, islands: Collection[str]) -> onnx.ModelProto:
    """Return the graph in FP16 with `islands` in FP32; the model itself is left as it is.

    Args:
        model: a graph whose floating-point tensors are FP32, without subgraphs.
        islands: names of nodes that stay FP32.

    Raises:
        ExportError: an island is no node, a node holds a subgraph, or a weight outside the islands
            does not fit FP16.
    """
    return _Conversion(model, islands).result


def float_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of all FP32 tensors of a graph: inputs, weights and what nodes make.

    Raises:
        ExportError: the types of the graph cannot be worked out.
    """
    onnx_module = optional.load("onnx")
    try:
        typed = plugin_body.infer_shapes(model, strict_mode=True, data_prop=True)
    except Exception as error:  # its error is no public class
        raise ExportError(f"the types of the graph cannot be worked out: {error}") from error
    values = (*typed.graph.input, *typed.graph.value_info, *typed.graph.output)
    single = onnx_module.TensorProto.FLOAT
    found = {value.name for value in values if value.type.tensor_type.elem_type == single}
    found |= {tensor.name for tensor in model.graph.initializer if tensor.data_type == single}
    return frozenset(found)


def reads_as_data(node: onnx.NodeProto, floats: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield (place, name) of the floating-point inputs whose type follows that of the node."""
    fixed = _ALWAYS_SINGLE.get(node.op_type, ())
    for place, name in enumerate(node.input):
        if name in floats and place not in fixed:
            yield place, name


class _Conversion:
    def __init__(self, model: onnx.ModelProto, islands: Collection[str]) -> None:
        self.onnx = optional.load("onnx")
        self.result = copy.deepcopy(model)
        graph = self.result.graph
        simplify.share_constants(self.result)
        self._check(graph, islands)
        self.floats = float_tensors(self.result)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {output.name for output in graph.output}
        #: type in which each floating-point tensor is made
        self.types: dict[str, str] = {value.name: _SINGLE for value in graph.input}
        self.casts: dict[tuple[str, str], str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, onnx.TensorProto] = {}
        for node in graph.node:
            self._convert(node, _SINGLE if node.name in islands else _HALF)
        for name in sorted(self.outputs & self.floats):
            self._make_output_single(name)
        unread = [tensor for name, tensor in self.weights.items() if name not in self.floats]
        for field, values in (
            ("node", self.nodes),
            ("initializer", [*unread, *self.stored.values()]),
        ):
            del getattr(graph, field)[:]
            getattr(graph, field).extend(values)
        del graph.value_info[:]

    def _check(self, graph: onnx.GraphProto, islands: Collection[str]) -> None:
        unknown = sorted(set(islands) - {node.name for node in graph.node})
        if unknown:
            raise ExportError(f"the graph has no node named {', '.join(unknown[:3])}")
        for node in graph.node:
            if any(attribute.HasField("g") for attribute in node.attribute):
                raise ExportError(
                    f"node '{node.name}' ({node.op_type}) holds a graph of its own, which is not "
                    "converted to FP16",
                    hint="export it with --precision fp32",
                )

    def _convert(self, node: onnx.NodeProto, kind: str) -> None:
        if node.op_type == "Cast":
            self._convert_cast(node)
            return
        for place, name in reads_as_data(node, self.floats):
            node.input[place] = self._as(name, kind)
        for place in _ALWAYS_SINGLE.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in self.floats:
                node.input[place] = self._as(node.input[place], _SINGLE)
        if kind == _HALF and node.op_type == "ConstantOfShape":
            _halve_value(node)
        self.types |= {name: kind for name in node.output if name in self.floats}
        self.nodes.append(node)

    def _convert_cast(self, node: onnx.NodeProto) -> None:
        """A cast of the user's to FP32 makes FP16 here; one from FP32 takes what there is."""
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == self.onnx.TensorProto.FLOAT:
                attribute.i = self.onnx.TensorProto.FLOAT16
                self.types[node.output[0]] = _HALF
        self.nodes.append(node)

    def _as(self, name: str, kind: str) -> str:
        """Return the name under which a tensor can be read in that type."""
        if name in self.weights:
            return self._weight(name, kind)
        if self.types[name] == kind:
            return name
        if (name, kind) not in self.casts:
            made = f"{name}/{'half' if kind == _HALF else 'single'}"
            self.nodes.append(self._cast(name, made, kind))
            self.casts[name, kind] = made
        return self.casts[name, kind]

    def _weight(self, name: str, kind: str) -> str:
        stored = name if kind == _SINGLE else f"{name}/half"
        if stored not in self.stored:
            tensor = self.weights[name]
            if kind == _HALF:
                values = self.onnx.numpy_helper.to_array(tensor)
                tensor = self.onnx.numpy_helper.from_array(_half(name, values), stored)
            self.stored[stored] = tensor
        return stored

    def _cast(self, source: str, made: str, kind: str) -> onnx.NodeProto:
        to = getattr(self.onnx.TensorProto, kind)
        node: onnx.NodeProto = self.onnx.helper.make_node(
            "Cast", [source], [made], name=f"cast/{made}", to=to
        )
        return node

    def _make_output_single(self, name: str) -> None:
        """Let an output of the graph be FP32 under its own name."""
        if self.types.get(name) != _HALF:
            return
        half = f"{name}/half"
        for node in self.nodes:
            for names in (node.input, node.output):
                for place, other in enumerate(names):
                    if other == name:
                        names[place] = half
        self.nodes.append(self._cast(half, name, _SINGLE))


def _half(name: str, values: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    lost = np.isfinite(values) & ~np.isfinite(half)
    if lost.any():
        raise ExportError(
            f"weight '{name}' holds {values[lost][0]:g}, which FP16 does not: its largest number "
            "is 65504",
            hint="keep the nodes that read it in FP32",
        )
    return half


def _halve_value(node: onnx.NodeProto) -> None:
    """Let a ConstantOfShape make FP16."""
    helper = optional.load("onnx").numpy_helper
    for attribute in node.attribute:
        if attribute.name == "value":
            values = helper.to_array(attribute.t)
            if values.dtype == np.float32:
                attribute.t.CopyFrom(helper.from_array(_half(node.name, values)))
            return
    zero = helper.from_array(np.zeros(1, np.float16))
    node.attribute.append(optional.load("onnx").helper.make_attribute("value", zero))
