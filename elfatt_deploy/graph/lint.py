"""Holds a finished file against its target: opset, ops, ranks, dtypes, names.

Reads the file, not the exporter's intention.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.errors import TargetError
from elfatt_deploy.graph.summary import opset_of
from elfatt_deploy.recipes import Target

if TYPE_CHECKING:
    import onnx

#: TensorRT writes layer names into JSON without escaping (all versions up to 11.1)
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./:\-]*")


def findings(model: onnx.ModelProto, target: Target) -> tuple[str, ...]:
    """Return what does not fit the target, a line each; nothing where all fits.

    Raises:
        TargetError: the ONNX checker refuses the file.
    """
    onnx_module = optional.load("onnx")
    try:
        onnx_module.checker.check_model(model)
    except onnx_module.checker.ValidationError as error:
        raise TargetError(f"the ONNX checker refuses the file: {error}") from error
    found = []
    opset = opset_of(model)
    if not target.opset_min <= opset <= target.opset_max:
        found.append(
            f"opset {opset}: target {target.name} takes {target.opset_min} to {target.opset_max}"
        )
    foreign = sorted({n.domain for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    if foreign:
        found.append(f"ops of other domains: {', '.join(foreign)}")
    if target.ops is not None:
        unknown = sorted({n.op_type for n in model.graph.node if not n.domain} - set(target.ops))
        for op in unknown:
            users = [n.name or n.output[0] for n in model.graph.node if n.op_type == op]
            found.append(
                f"op {op}: not on the list of target {target.name} "
                f"({len(users)} nodes, first {users[0]})"
            )
    found.extend(_rank_findings(model, target))
    odd = [n.name for n in model.graph.node if not _SAFE_NAME.fullmatch(n.name)]
    if odd:
        found.append(f"{len(odd)} node names that TensorRT's JSON cannot hold, first {odd[0]!r}")
    return tuple(found)


def check(model: onnx.ModelProto, target: Target) -> None:
    """Raise where the file does not fit its target.

    Raises:
        TargetError: with all findings.
    """
    found = findings(model, target)
    if found:
        raise TargetError(
            f"the file does not fit target {target.name}:\n  " + "\n  ".join(found),
            hint="choose another --target, or write the model in ops that this one takes",
        )


def _rank_findings(model: onnx.ModelProto, target: Target) -> list[str]:
    if target.max_rank is None:
        return []
    onnx_module = optional.load("onnx")
    inferred = onnx_module.shape_inference.infer_shapes(model)
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    high = [name for name, rank in ranks.items() if rank > target.max_rank]
    if not high:
        return []
    return [f"rank above {target.max_rank}: {len(high)} tensors, first {high[0]}"]
