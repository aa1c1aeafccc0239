"""An ONNX classifier from elsewhere, with its input and output named as ours.

The graph stays as it is: what it computes is the user's, and the reference is what ONNX Runtime
gives without its optimisations.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.errors import ExportError, UsageError
from elfatt_deploy.graph import summary

if TYPE_CHECKING:
    import onnx

INPUT, OUTPUT = "images", "logits"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """A file read from elsewhere.

    Args:
        model: the graph, its input and output renamed.
        height: input rows in pixels; None where the file leaves them open.
        width: input columns in pixels; None where the file leaves them open.
        batch: the batch size, or `dynamic`.
        renamed: what was renamed, a text each.
    """

    model: onnx.ModelProto
    height: int | None
    width: int | None
    batch: int | str
    renamed: tuple[str, ...]


def adopt(path: Path) -> Adopted:
    """Read an ONNX classifier: one input of images [B, 3, H, W], one output of logits [B, classes].

    Raises:
        InputFileError: the file is missing, truncated or of another kind.
        ExportError: it has other inputs or outputs.
    """
    model = summary.load(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs: "
            f"{', '.join(v.name for v in (*inputs, *graph.output))}",
            hint="only a classifier can be used: one input [B, 3, H, W], one output [B, classes]",
        )
    image, logits = inputs[0], graph.output[0]
    shape = _shape(image)
    float32 = optional.load("onnx").TensorProto.FLOAT
    kinds = {value.type.tensor_type.elem_type for value in (image, logits)}
    if len(shape) != 4 or shape[1] not in (3, None) or kinds != {float32}:
        raise ExportError(
            f"{path} takes '{image.name}' of shape {shape}, in and out {sorted(kinds)} by ONNX's "
            "numbers of types",
            hint="the input must be float32 images [B, 3, H, W], the output float32",
        )
    renamed = []
    for value, name in ((image, INPUT), (logits, OUTPUT)):
        if value.name != name:
            renamed.append(f"{value.name} to {name}")
            _rename(model, value.name, name)
    return Adopted(
        model=model,
        height=shape[2],
        width=shape[3],
        batch=shape[0] if shape[0] is not None else "dynamic",
        renamed=tuple(renamed),
    )


def asked_size(
    adopted: Adopted, height: int | None, width: int | None, default: int
) -> tuple[int, int]:
    """Return the input size: the file's where it fixes one, else what was asked for.

    Raises:
        UsageError: another size was asked for than the file takes.
    """
    for given, fixed in ((height, adopted.height), (width, adopted.width)):
        if given is not None and fixed is not None and given != fixed:
            raise UsageError(
                f"the file takes images of {adopted.height}x{adopted.width}, not {height}x{width}",
                hint="leave --resolution away",
            )
    return adopted.height or height or default, adopted.width or width or default


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the dimensions, None where one is open."""
    return tuple(
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in value.type.tensor_type.shape.dim
    )


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor wherever it stands in the main graph, in place.

    Raises:
        ExportError: another tensor has the new name, or a subgraph reads the old one.
    """
    graph = model.graph
    used = {name for node in graph.node for name in (*node.input, *node.output)}
    if new in used:
        raise ExportError(
            f"'{old}' cannot be renamed to '{new}': another tensor of the file has that name",
            hint="rename that tensor first",
        )
    for node in graph.node:
        if any(a.HasField("g") and _reads(a.g, old) for a in node.attribute):
            raise ExportError(
                f"'{old}' is read inside a subgraph of node '{node.name}'",
                hint="export the model without control flow on its input",
            )
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new


def _reads(graph: onnx.GraphProto, name: str) -> bool:
    return any(
        name in node.input or any(a.HasField("g") and _reads(a.g, name) for a in node.attribute)
        for node in graph.node
    )
