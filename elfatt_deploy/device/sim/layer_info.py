"""The layer information of a simulated plan, in the shape of its TensorRT version.

Each layer says what it computes in, as the file's types or the flags decide. Tactics begin with
`simulated`, so that nobody takes them for kernels.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping
from typing import Any, Literal

from elfatt_deploy.device.sim.graph import Graph, Node, Tensor
from elfatt_deploy.device.sim.physics import Work
from elfatt_deploy.models import plugin_node

Type = Literal["f16", "f32", "tf32"]

_BYTES = {
    "FLOAT": 4, "FLOAT16": 2, "BFLOAT16": 2, "DOUBLE": 8, "INT64": 8, "INT32": 4, "INT8": 1,
    "UINT8": 1, "BOOL": 1,
}  # fmt: skip
_OLD_TYPES = {"matmul": "MatrixMultiply", "convolution": "CaskConvolution", "move": "Shuffle"}
_PLUGIN = "PluginV2"
_OLD_OPS = {
    "Softmax": "SoftMax", "Cast": "Reformat", "Slice": "Slice", "Concat": "Concat",
    plugin_node.OP: _PLUGIN,
}  # fmt: skip
_NEW_TYPES = {"matmul": "gemm", "convolution": "correlation"}
#: first version with TF32 units: compute capability 8.0
_TF32_SM = 80


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Precisions:
    """How the precision of a layer is decided.

    Args:
        fp16: whether FP32 layers may become FP16.
        tf32: whether FP32 products may become TF32.
        islands: names of layers that stay FP32; a star stands for any text.
        sm: compute capability.
    """

    fp16: bool
    tf32: bool
    islands: tuple[str, ...]
    sm: int

    def of(self, node: Node) -> Type:
        """Return what a node computes in."""
        if any(t.dtype == "FLOAT16" for t in node.inputs or node.outputs):
            return "f16"
        island = any(fnmatch.fnmatchcase(node.name, pattern) for pattern in self.islands)
        if self.fp16 and not island:
            return "f16"
        product = node.kind in ("matmul", "convolution")
        return "tf32" if self.tf32 and product and self.sm >= _TF32_SM and not island else "f32"


def work_of(graph: Graph, precisions: Precisions) -> Work:
    """Return what one query of the graph asks of the board."""
    macs = {"f16": 0, "f32": 0, "tf32": 0}
    moved = 0
    for node in graph.nodes:
        type_ = precisions.of(node)
        macs[type_] += node.macs
        size = 2 if type_ == "f16" else 4
        moved += size * (
            node.weight_elements + sum(t.elements for t in (*node.inputs, *node.outputs))
        )
    return Work(
        macs_fp32=macs["f32"],
        macs_fp16=macs["f16"] + macs["tf32"],
        moved_bytes=moved,
        layers=len(graph.nodes),
        input_bytes=sum(size_of(tensor) for tensor in graph.inputs),
        output_bytes=sum(size_of(tensor) for tensor in graph.outputs),
    )


def size_of(tensor: Tensor) -> int:
    """Return the bytes of a tensor at the edge of the graph."""
    return tensor.elements * _BYTES.get(tensor.dtype, 4)


def layer_bytes(document: Mapping[str, Any]) -> dict[str, int]:
    """Return name of each layer -> bytes of its tensors; 0 where the document has names alone.

    Args:
        document: as `document` makes it.
    """
    found = {}
    for layer in document["Layers"]:
        if isinstance(layer, str):
            found[layer] = 0
            continue
        tensors = (*layer["Inputs"], *layer["Outputs"])
        found[layer["Name"]] = sum(
            math.prod(tensor["Dimensions"]) * (2 if _is_half(tensor) else 4) for tensor in tensors
        )
    return found


def _is_half(tensor: Mapping[str, Any]) -> bool:
    """Whether `_tensor` wrote it as FP16, by the words of any version."""
    type_ = tensor.get("Datatype") or tensor["Format/Datatype"]
    return type_ == "Half" or "FP16" in type_


def document(
    graph: Graph, precisions: Precisions, version: tuple[int, ...], *, detailed: bool
) -> dict[str, Any]:
    """Return what `--exportLayerInfo` writes.

    Args:
        graph: the layers.
        precisions: how theirs is decided.
        version: of TensorRT.
        detailed: whether the build asked for more than names.
    """
    layers: list[Any] = [
        _layer(node, precisions.of(node), version, n) for n, node in enumerate(graph.nodes)
    ]
    if not detailed:
        layers = [layer["Name"] for layer in layers]
    if version >= (11,):
        edges = [(t, "Input") for t in graph.inputs] + [(t, "Output") for t in graph.outputs]
        return {"Layers": layers, "I/O Tensors": [_edge(t, mode) for t, mode in edges]}
    return {"Layers": layers, "Bindings": [t.name for t in (*graph.inputs, *graph.outputs)]}


def _edge(tensor: Tensor, mode: str) -> dict[str, Any]:
    type_ = "Half" if tensor.dtype == "FLOAT16" else "Float"
    shape = {"Dimensions": list(tensor.shape), "Location": "Device", "IsShapeInferenceIO": False}
    return {"Name": tensor.name, "IOMode": mode, "DataType": type_, **shape}


def _layer(node: Node, type_: Type, version: tuple[int, ...], number: int) -> Mapping[str, Any]:
    old = version < (9,)
    if old:
        name, kind = node.name, _OLD_OPS.get(node.op) or _OLD_TYPES.get(node.kind, "PointWiseV2")
    elif node.op == plugin_node.OP:
        name, kind = node.name, _PLUGIN
    elif node.kind in _NEW_TYPES:
        name, kind = f"{node.name}_myl0_{number}", _NEW_TYPES[node.kind]
    else:
        name, kind = f"__myl_{node.op[:4]}_myl0_{number}", "kgen"
    layer: dict[str, Any] = {
        "Name": name,
        "LayerType": kind,
        "Inputs": [_tensor(tensor, type_, version) for tensor in node.inputs],
        "Outputs": [_tensor(tensor, type_, version) for tensor in node.outputs],
        "TacticName": _tactic(node, type_),
    }
    if old:
        return {**layer, "ParameterType": kind, "TacticValue": f"0x{number:016x}"}
    return {**layer, "StreamId": 0, "Metadata": f"[ONNX Layer: {node.name}]"}


def _tactic(node: Node, type_: Type) -> str:
    if node.kind in _NEW_TYPES:
        last = "f32" if type_ == "tf32" else type_
        return f"simulated_{_NEW_TYPES[node.kind]}_{type_}{last}_{type_}{last}_{last}"
    return f"simulated_{node.op.lower()}"


def _tensor(tensor: Tensor, type_: Type, version: tuple[int, ...]) -> dict[str, Any]:
    half = type_ == "f16" or tensor.dtype == "FLOAT16"
    entry: dict[str, Any] = {
        "Name": tensor.name,
        "Location": "Device",
        "Dimensions": list(tensor.shape),
    }
    if version >= (11,):
        return {**entry, "Datatype": "Half" if half else "Float", "Format": "Row major linear"}
    if version >= (9,):
        return {**entry, "Format/Datatype": "Half" if half else "Float"}
    return {**entry, "Format/Datatype": f"Row major linear {'FP16 format' if half else 'FP32'}"}
