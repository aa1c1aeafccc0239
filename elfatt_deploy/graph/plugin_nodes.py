"""The nodes of the plugin in an ONNX file: which there are, and what is wrong with them."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.models import plugin_node
from elfatt_deploy.models.plugin_node import OP, PluginNode

if TYPE_CHECKING:
    import onnx


def holds_nodes(model: str | bytes) -> bool:
    """Whether the bytes of an ONNX file hold a node of the plugin, without onnx and at little cost.

    Args:
        model: a path, or the bytes themselves. A file that cannot be read holds none.
    """
    # field 4 of a NodeProto, a text: its tag, its length, the op. A tensor's name has another tag
    word = bytes((4 << 3 | 2, len(OP))) + OP.encode()
    if isinstance(model, bytes):
        return word in model
    try:
        with (
            Path(model).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            return data.find(word) >= 0
    except (OSError, ValueError):  # an empty file cannot be mapped
        return False


def plugin_nodes(model: onnx.ModelProto) -> tuple[onnx.NodeProto, ...]:
    """Return the nodes of the plugin, in the order of the graph."""
    return tuple(filter(is_plugin_node, model.graph.node))


def is_plugin_node(node: onnx.NodeProto) -> bool:
    """Whether a node is one of the plugin's."""
    return bool((node.domain, node.op_type) == (plugin_node.DOMAIN, OP))


def attributes_of(node: onnx.NodeProto) -> PluginNode:
    """Return what a node is told.

    Raises:
        SchemaError: an attribute is missing, of another type, or of another version.
    """
    helper = optional.load("onnx").helper
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    texts = {name: v.decode() for name, v in values.items() if isinstance(v, bytes)}
    return plugin_node.node_from_attributes({**values, **texts}, node.name)


def channels_of(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> int | None:
    """Return the channels C that a node's LePE tells; None where it has none.

    Args:
        node: the node.
        weights: the initializers of the graph, by name.

    Raises:
        SchemaError: the weights of its LePE are missing, computed, or of another shape.
    """
    if not attributes_of(node).lepe:
        if len(node.input) != 1:
            raise SchemaError(f"node '{node.name}' ({OP}) has lepe 0 and {len(node.input)} inputs")
        return None
    found = [weights[name] for name in node.input[1:] if name in weights]
    shapes = [tuple(tensor.dims) for tensor in found]
    if len(node.input) != 3 or len(shapes) != 2 or shapes[0] != (*shapes[1], 9):
        raise SchemaError(
            f"node '{node.name}' ({OP}) has LePE weights of shapes {shapes}, not [C, 9] and [C] "
            "among the weights of the file"
        )
    return int(found[1].dims[0])


def findings(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return what is wrong with the nodes, a line each: attributes, weights, sizes."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = []
    for node in plugin_nodes(model):
        try:
            channels = channels_of(node, weights)
        except SchemaError as error:
            found.append(error.message)
            continue
        problem = "" if channels is None else attributes_of(node).problem(channels)
        if problem:
            found.append(f"node '{node.name}' ({OP}): the plugin does not take {problem}")
    return tuple(found)


def pieces(typed: onnx.ModelProto) -> tuple[onnx.ModelProto, ...]:
    """Cut a graph at its plugin nodes, so that a builder without the plugin takes the rest.

    A piece is what stands between two of them; in its place in a network none of it can begin
    before the first or wait for the second. What it reads of others are its inputs, what others
    read of it its outputs.

    Args:
        typed: a graph with the types and shapes of all its tensors, of a fixed batch, in which each
            plugin node stands behind the one before it.
    """
    graph, make = typed.graph, optional.load("onnx").helper
    piece_of: dict[str, int] = {}
    members: list[list[onnx.NodeProto]] = [[]]
    for node in graph.node:
        piece = max((piece_of.get(name, 0) for name in node.input), default=0)
        if is_plugin_node(node):
            piece += 1
            members.append([])
        else:
            members[piece].append(node)
        piece_of |= dict.fromkeys(node.output, piece)
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    ends = {value.name for value in graph.output}
    domains = [entry for entry in typed.opset_import if entry.domain != plugin_node.DOMAIN]
    found = []
    for nodes in filter(None, members):
        made = {name for node in nodes for name in node.output}
        read = dict.fromkeys(name for node in nodes for name in node.input if name)
        others = {
            name for node in graph.node if not made & {*node.output} for name in node.input
        } | ends
        part = make.make_graph(
            nodes,
            graph.name,
            [values[name] for name in read if name not in made and name not in weights],
            [values[name] for node in nodes for name in node.output if name in others],
            [weights[name] for name in read if name in weights],
        )
        found.append(make.make_model(part, opset_imports=domains, ir_version=typed.ir_version))
    return tuple(found)
