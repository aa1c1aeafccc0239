"""What an ONNX graph asks of a board: its layers, their shapes, products and bytes.

One layer for each node that computes or moves data; nodes that only handle shapes, and those that
cost nothing (a reshape), are left out. TensorRT fuses far more than that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from elfatt_deploy import optional
from elfatt_deploy.graph import plugin_body, plugin_nodes
from elfatt_deploy.models import plugin_node

if TYPE_CHECKING:
    import onnx

Kind = Literal["matmul", "convolution", "pointwise", "move"]

_MATMULS = ("MatMul", "Gemm", "Einsum", "Attention", plugin_node.OP)
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MOVES = (
    "Transpose", "Slice", "Split", "Concat", "Cast", "Gather", "Expand", "Pad", "Tile", "Resize",
    "DepthToSpace", "SpaceToDepth",
)  # fmt: skip
_FREE = ("Constant", "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Shape", "Dropout")

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor: `dtype` is ONNX's name of its type, `FLOAT`, `FLOAT16`."""

    name: str
    shape: Shape
    dtype: str

    @property
    def elements(self) -> int:
        """Number of its elements."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that becomes a layer; `weight_elements` are those of its constant operands."""

    name: str
    op: str
    kind: Kind
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    weight_elements: int
    macs: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A graph at one set of input shapes.

    Args:
        inputs: what is fed.
        outputs: what comes out.
        dynamic: inputs whose shape the file leaves open.
        nodes: those that become layers.
        opset: of the default domain.
        producer: what wrote the file.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    dynamic: tuple[str, ...]
    nodes: tuple[Node, ...]
    opset: int
    producer: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ForeignNode:
    """A node whose op the board's TensorRT does not import."""

    number: int
    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def parse_model(data: bytes) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        MissingDependency: there is no onnx.
        ValueError: it is none.
    """
    onnx_module = optional.load("onnx")
    from google.protobuf.message import DecodeError

    try:
        model: onnx.ModelProto = onnx_module.load_model_from_string(data)
    except DecodeError as error:
        raise ValueError("not an ONNX file") from error
    if not model.graph.node:
        raise ValueError("no graph")
    return model


def foreign_node(model: onnx.ModelProto, ops: Iterable[str] | None) -> ForeignNode | None:
    """Return the first node that no importer takes; None where all are taken.

    Args:
        model: the file.
        ops: those of the default domain that are imported; None for all.
    """
    known = None if ops is None else set(ops)
    for number, node in enumerate(model.graph.node):
        named = known is not None and node.op_type not in known
        if named or node.domain not in ("", "ai.onnx"):
            return ForeignNode(
                number=number,
                op=node.op_type,
                name=node.name,
                inputs=tuple(node.input),
                outputs=tuple(node.output),
            )
    return None


def read_graph(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> Graph:
    """Return what a graph computes.

    Args:
        model: the file.
        shapes: of inputs that the file leaves open.

    Raises:
        ValueError: the shape of an input is not known.
    """
    onnx_module = optional.load("onnx")
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    fed = [value for value in model.graph.input if value.name not in weights]
    dynamic = tuple(value.name for value in fed if -1 in _dims(value))
    fixed = onnx_module.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        if value.name in shapes:
            _fix(value, shapes[value.name])
    inferred = plugin_body.infer_shapes(fixed, data_prop=True)
    known = _known(onnx_module, inferred.graph, weights)
    for value in inferred.graph.input:
        if value.name in dynamic and -1 in _dims(value):
            raise ValueError(f"the shape of {value.name} is not known")
    constants = {node.output[0] for node in inferred.graph.node if node.op_type == "Constant"}
    nodes = (
        _node(node, n, known, {*weights, *constants}) for n, node in enumerate(inferred.graph.node)
    )
    return Graph(
        inputs=tuple(known[value.name] for value in fed),
        outputs=tuple(known[value.name] for value in inferred.graph.output),
        dynamic=dynamic,
        nodes=tuple(node for node in nodes if node is not None),
        opset=max(
            (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0
        ),
        producer=model.producer_name,
    )


def _dims(value: Any) -> Shape:
    """Return the sides of a value, -1 for one that is open."""
    return tuple(
        int(d.dim_value) if d.HasField("dim_value") else -1
        for d in value.type.tensor_type.shape.dim
    )


def _fix(value: Any, shape: Shape) -> None:
    for dim, side in zip(value.type.tensor_type.shape.dim, shape, strict=False):
        dim.dim_value = side


def _known(onnx_module: Any, graph: Any, weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return all tensors whose type is known; an open side counts as one element."""
    type_name = onnx_module.TensorProto.DataType.Name
    found = {
        name: Tensor(name=name, shape=tuple(tensor.dims), dtype=type_name(tensor.data_type))
        for name, tensor in weights.items()
    }
    for value in (*graph.value_info, *graph.input, *graph.output):
        found[value.name] = Tensor(
            name=value.name,
            shape=tuple(max(1, side) for side in _dims(value)),
            dtype=type_name(value.type.tensor_type.elem_type),
        )
    return found


def _node(node: Any, number: int, known: dict[str, Tensor], constants: set[str]) -> Node | None:
    """Return the layer of a node; None where it makes none."""
    outputs = tuple(known[name] for name in node.output if name in known)
    if node.op_type in _FREE or not any(_floating(tensor) for tensor in outputs):
        return None
    operands = [known[name] for name in node.input if name in known]
    kind: Kind = "pointwise"
    if node.op_type in _MATMULS:
        kind = "matmul"
    elif node.op_type in _CONVOLUTIONS:
        kind = "convolution"
    elif node.op_type in _MOVES:
        kind = "move"
    return Node(
        name=node.name or f"{node.op_type}_{number}",
        op=node.op_type,
        kind=kind,
        inputs=tuple(t for t in operands if _floating(t) and t.name not in constants),
        outputs=outputs,
        weight_elements=sum(t.elements for t in operands if t.name in constants and _floating(t)),
        macs=_macs(node, operands, outputs),
    )


def _floating(tensor: Tensor) -> bool:
    return tensor.dtype in ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")


def _macs(node: Any, operands: list[Tensor], outputs: tuple[Tensor, ...]) -> int:
    """Return the multiply-accumulates of a product; 0 for all else."""
    if not outputs or (len(operands) < 2 and not plugin_nodes.is_plugin_node(node)):
        return 0
    made = outputs[0].elements
    if node.op_type in ("MatMul", "Einsum"):
        return made * (operands[0].shape[-1] if operands[0].shape else 1)
    if node.op_type == "Gemm":
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        return made * operands[0].shape[0 if attributes.get("transA") else -1]
    if node.op_type == "Conv":
        return made * math.prod(operands[1].shape[1:])
    if plugin_nodes.is_plugin_node(node):
        batch, _, channels = outputs[0].shape
        return batch * plugin_nodes.attributes_of(node).macs(channels)
    if node.op_type == "ConvTranspose":
        return operands[0].elements * math.prod(operands[1].shape[1:])
    return 0
