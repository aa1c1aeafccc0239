"""Holds a finished file against its target: opset, ops, ranks, types, names.

Reads the file, not the exporter's intention.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.errors import TargetError
from elfatt_deploy.graph import plugin_body, plugin_nodes
from elfatt_deploy.graph.summary import opset_of
from elfatt_deploy.models import plugin_node
from elfatt_deploy.recipes import Target

if TYPE_CHECKING:
    import onnx

#: TensorRT writes layer names into JSON without escaping (all versions up to 11.1)
_SAFE_NAME = re.compile(r"[A-Za-z0-9_./:\-]*")


def findings(model: onnx.ModelProto, target: Target, plugin: str | None = None) -> tuple[str, ...]:
    """Return what does not fit the target, a line each; nothing where all fits.

    Args:
        model: the file.
        target: what it is for.
        plugin: the plugin that it was exported with, whose nodes it may hold.

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
    found.extend(_plugin_findings(model, target, plugin))
    known = ("", "ai.onnx", plugin_node.DOMAIN)
    foreign = sorted({n.domain for n in model.graph.node if n.domain not in known})
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
    if plugin_nodes.findings(model):  # nothing behind such a node has a type
        return tuple(found)
    inferred = plugin_body.infer_shapes(model)
    found.extend(_rank_findings(inferred, target))
    found.extend(_dtype_findings(inferred, target, opset))
    odd = [n.name for n in model.graph.node if not _SAFE_NAME.fullmatch(n.name)]
    if odd:
        found.append(f"{len(odd)} node names that TensorRT's JSON cannot hold, first {odd[0]!r}")
    return tuple(found)


def check(model: onnx.ModelProto, target: Target, plugin: str | None = None) -> None:
    """Raise where the file does not fit its target; see `findings`.

    Raises:
        TargetError: with all findings.
    """
    found = findings(model, target, plugin)
    if found:
        raise TargetError(
            f"the file does not fit target {target.name}:\n  " + "\n  ".join(found),
            hint="choose another --target, or write the model in ops that this one takes",
        )


def _plugin_findings(model: onnx.ModelProto, target: Target, plugin: str | None) -> list[str]:
    """Say where nodes of the plugin stand that may not, or that it does not take."""
    mine = [node for node in model.graph.node if node.domain == plugin_node.DOMAIN]
    if not mine:
        return []
    where = f"({len(mine)} nodes, first {mine[0].name or mine[0].output[0]})"
    other = sorted({node.op_type for node in mine} - {plugin_node.OP})
    if other:
        return [f"op {', '.join(other)}: the plugin {plugin_node.DOMAIN} has no such op {where}"]
    if plugin != plugin_node.DOMAIN:
        return [
            f"op {plugin_node.OP}: needs TensorRT's plugin {plugin_node.DOMAIN}, and the file is "
            f"of no bundle exported with --plugin {plugin_node.DOMAIN} {where}"
        ]
    if not target.trtexec:
        return [f"op {plugin_node.OP}: target {target.name} is no TensorRT {where}"]
    return list(plugin_nodes.findings(model))


def _rank_findings(inferred: onnx.ModelProto, target: Target) -> list[str]:
    if target.max_rank is None:
        return []
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    high = [name for name, rank in ranks.items() if rank > target.max_rank]
    if not high:
        return []
    return [f"rank above {target.max_rank}: {len(high)} tensors, first {high[0]}"]


def _dtype_findings(inferred: onnx.ModelProto, target: Target, opset: int) -> list[str]:
    """Say which ops have operands of several types, and which types the target does not take."""
    types = _types(inferred)
    found = []
    for node in inferred.graph.node:
        for names in _operands_of_one_type(node, opset):
            kinds = sorted({types[name] for name in names if name in types})
            if len(kinds) > 1:
                found.append(
                    f"op {node.op_type} with operands of several types, {' and '.join(kinds)}: "
                    f"{node.name or node.output[0]}"
                )
    refused = {"DOUBLE", "FLOAT16"} if target.fp16 == "flags" else {"DOUBLE"}
    for kind in sorted(refused) if target.ops is not None else ():
        holders = [name for name, other in types.items() if other == kind]
        if holders:
            found.append(
                f"type {kind}: target {target.name} does not take it ({len(holders)} tensors, "
                f"first {holders[0]})"
            )
    return found


def _types(inferred: onnx.ModelProto) -> dict[str, str]:
    name_of = optional.load("onnx").TensorProto.DataType.Name
    graph = inferred.graph
    types = {
        value.name: name_of(value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return types | {tensor.name: name_of(tensor.data_type) for tensor in graph.initializer}


def _operands_of_one_type(node: onnx.NodeProto, opset: int) -> list[list[str]]:
    """Return the inputs of a node in groups that the ONNX standard wants to be of one type."""
    defs = optional.load("onnx").defs
    if node.domain not in ("", "ai.onnx") or not defs.has(node.op_type):
        return []
    formal = defs.get_schema(node.op_type, opset).inputs
    groups: dict[str, list[str]] = {}
    for place, name in enumerate(node.input):
        if name and formal:
            groups.setdefault(formal[min(place, len(formal) - 1)].type_str, []).append(name)
    return list(groups.values())
