"""Cleans an exported graph without changing what it computes.

onnxslim folds constants, removes dead nodes and merges chains of Reshape. One of its passes is left
out: turning a Transpose into a Reshape cost 61 kernels in the TensorRT-for-RTX builder on a CSWin
graph. Another one is left out where there are nodes of the plugin: it writes the projection before
one as a Gemm and a Reshape, between which that builder cannot keep the bias in FP16, and makes it a
kernel of its own (docs/plugin.md).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.errors import ExportError
from elfatt_deploy.graph import plugin_body, plugin_nodes

if TYPE_CHECKING:
    import onnx

_LEFT_OUT = ["EliminationTransposeAsReshape"]
_LEFT_OUT_WITH_PLUGIN = ["FusionGemm"]


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the simplified graph; every graph output keeps its name.

    Raises:
        ExportError: the simplifier fails on this graph.
    """
    onnxslim = optional.load("onnxslim")
    shared = copy.deepcopy(model)
    share_constants(shared)  # a tracer writes one for each use, and onnxslim's time grows with them
    left_out = _LEFT_OUT + (_LEFT_OUT_WITH_PLUGIN if plugin_nodes.plugin_nodes(model) else [])
    try:
        slim: onnx.ModelProto = onnxslim.slim(shared, skip_fusion_patterns=left_out)
    except Exception as error:
        raise ExportError(f"the graph cannot be simplified: {error}") from error
    return slim


def share_constants(model: onnx.ModelProto) -> None:
    """Turn nodes that make a constant into weights, in place, equal ones into one."""
    helper = optional.load("onnx").numpy_helper
    graph = model.graph
    kept: list[onnx.NodeProto] = []
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    same: dict[str, str] = {}
    outputs = {output.name for output in graph.output}
    # a graph inside a node may read them by their own names
    nested = any(a.HasField("g") for node in graph.node for a in node.attribute)
    for node in graph.node:
        values = [a.t for a in node.attribute if a.name == "value" and a.HasField("t")]
        if node.op_type != "Constant" or not values:
            kept.append(node)
            continue
        array, name = helper.to_array(values[0]), node.output[0]
        key = (values[0].data_type, array.shape, array.tobytes())
        if key in first and name not in outputs and not nested:
            same[name] = first[key]
        else:
            first.setdefault(key, name)
            graph.initializer.append(helper.from_array(array, name))
    for node in kept:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def drop_outputs(model: onnx.ModelProto, keep: str) -> tuple[str, ...]:
    """Turn all graph outputs but one into inner tensors, in place; returns their names in order."""
    dropped = tuple(output.name for output in model.graph.output if output.name != keep)
    kept = [output for output in model.graph.output if output.name == keep]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return dropped


def strip_metadata(model: onnx.ModelProto) -> None:
    """Remove, in place, what names the exporting machine's files: doc strings and properties."""
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]


def float_outputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of all FP32 and FP16 tensors that nodes make, in the order of the graph."""
    onnx_module = optional.load("onnx")
    graph = plugin_body.infer_shapes(model).graph
    floats = {onnx_module.TensorProto.FLOAT, onnx_module.TensorProto.FLOAT16}
    found = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type in floats
    }
    return tuple(name for node in graph.node for name in node.output if name in found)


def add_outputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Make inner tensors graph outputs as well, in place; the runtime finds their shapes.

    Raises:
        ExportError: the graph has no tensor of that name.
    """
    onnx_module = optional.load("onnx")
    made = {output for node in model.graph.node for output in node.output}
    present = {output.name for output in model.graph.output}
    typed = plugin_body.infer_shapes(model).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in typed.value_info}
    for name in names:
        if name not in made:
            raise ExportError(f"the graph has no tensor named '{name}'")
        if name not in present:
            model.graph.output.append(
                onnx_module.helper.make_tensor_value_info(
                    name, kinds.get(name, onnx_module.TensorProto.FLOAT), None
                )
            )
