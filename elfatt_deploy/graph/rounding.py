"""Turns a typed FP16 graph into an FP32 graph that rounds every tensor as FP16 would.

ONNX Runtime computes many FP16 ops in FP32 on a CPU, and fuses roundings away; it proves a graph,
not its numerics. Here each op is computed in FP32 from FP16 values, sums of products included, and
what it makes is rounded to FP16, overflow to infinity and all.

What that is not: a GPU rounds nothing between ops that it fuses, so this is the harsher of the two
there; it may sum products in FP16 (Maxwell and Pascal, which a Jetson Nano and TX2 have), and then
this is the milder one.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.graph import plugin_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

#: ops that hand values on as they are: there is nothing to round
MOVEMENTS = frozenset({
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND",
    "Identity", "Pad", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})  # fmt: skip


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP32 graph with the FP16 roundings of `model` as casts there and back.

    It must be run without optimisations, which may take the casts away. A graph without FP16 comes
    back as it is.
    """
    onnx_module = optional.load("onnx")
    half, single = onnx_module.TensorProto.FLOAT16, onnx_module.TensorProto.FLOAT
    typed = plugin_body.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*typed.input, *typed.value_info, *typed.output)
    halves = {v.name for v in values if v.type.tensor_type.elem_type == half}
    result = copy.deepcopy(model)
    graph = result.graph
    for tensor in graph.initializer:
        if tensor.data_type == half:
            halves.add(tensor.name)
            _widen(tensor)
    nodes = [made for node in graph.node for made in _rounded(node, halves)]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    return result


def is_typed_half(model: onnx.ModelProto) -> bool:
    """Whether the graph holds FP16 weights or casts to FP16, so that its types decide."""
    half = optional.load("onnx").TensorProto.FLOAT16
    return any(tensor.data_type == half for tensor in model.graph.initializer) or any(
        attribute.name == "to" and attribute.i == half
        for node in model.graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
    )


def round_trip(source: str, made: str) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Return the two casts that make `made` of `source` with the values that FP16 holds."""
    onnx_module = optional.load("onnx")
    make, types = onnx_module.helper.make_node, onnx_module.TensorProto
    between = f"{made}/as-half"
    return (
        make("Cast", [source], [between], name=f"to-half/{made}", to=types.FLOAT16),
        make("Cast", [between], [made], name=f"from-half/{made}", to=types.FLOAT),
    )


def _rounded(node: onnx.NodeProto, halves: set[str]) -> Iterator[onnx.NodeProto]:
    onnx_module = optional.load("onnx")
    types = onnx_module.TensorProto
    node = copy.deepcopy(node)
    made = [name for name in node.output if name in halves]
    if node.op_type == "Cast":
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == types.FLOAT16:
                attribute.i = types.FLOAT
    for attribute in node.attribute:
        if attribute.HasField("t") and attribute.t.data_type == types.FLOAT16:
            _widen(attribute.t)
    if not made or node.op_type in MOVEMENTS:
        yield node
        return
    for place, name in enumerate(node.output):
        if name in halves:
            node.output[place] = f"{name}/exact"
    yield node
    for name in made:
        yield from round_trip(f"{name}/exact", name)


def _widen(tensor: onnx.TensorProto) -> None:
    helper = optional.load("onnx").numpy_helper
    tensor.CopyFrom(helper.from_array(helper.to_array(tensor).astype("float32"), tensor.name))
