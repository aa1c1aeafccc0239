"""Nodes of the plugin in a file: found without onnx, judged, cut out."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from elfatt_deploy.graph import lint, plugin_body, plugin_nodes
from elfatt_deploy.recipes import target


def test_a_file_with_a_node_is_told_by_its_bytes(node_graph, onnx_model, tmp_path):
    data = node_graph().SerializeToString()
    # a tensor named after it is no node
    other = onnx_model(
        [("Relu", ["x"], ["ElfattAttention"], "ElfattAttention", {})], outputs=("ElfattAttention",)
    ).SerializeToString()
    for content, expected in ((data, True), (other, False), (b"", False)):
        assert plugin_nodes.holds_nodes(content) is expected
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        assert plugin_nodes.holds_nodes(str(path)) is expected
    assert plugin_nodes.holds_nodes(str(tmp_path / "none.onnx")) is False


@pytest.mark.parametrize("name", ["jp4", "jp5", "jp6", "jp7", "desktop"])
def test_a_node_fits_a_target_of_a_bundle_with_the_plugin(name, node_graph):
    graph = node_graph(opset=target(name).opset)
    assert lint.findings(graph, target(name), "elfatt") == ()


def test_a_node_is_named_where_the_bundle_has_no_plugin(node_graph):
    (found,) = lint.findings(node_graph(), target("jp6"))
    assert found.startswith("op ElfattAttention: needs TensorRT's plugin elfatt")
    assert "(1 nodes, first attend)" in found


def test_a_node_does_not_fit_a_target_without_tensorrt(node_graph):
    (found,) = lint.findings(node_graph(), target("ort"), "elfatt")
    assert "target ort is no TensorRT" in found


def test_another_op_of_the_domain_is_found(onnx_model):
    nodes = [("Elfatt", ["x"], ["y"], "n", {"domain": "elfatt"})]
    found = lint.findings(onnx_model(nodes, domains=["elfatt"]), target("jp6"), "elfatt")
    assert found == ("op Elfatt: the plugin elfatt has no such op (1 nodes, first n)",)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rows": None}, "no whole number as rows"),
        ({"plugin_version": "3"}, "plugin version '3'"),
        ({"weights": [np.zeros((32, 8)), np.zeros(32)]}, r"shapes \[\(32, 8\), \(32,\)\]"),
        ({"weights": [np.zeros((32, 9))]}, r"shapes \[\(32, 9\)\]"),
        ({"lepe": 0}, "lepe 0 and 3 inputs"),
        ({"global_heads": 4}, "16 channels in 4 heads"),
    ],
)
def test_a_node_that_no_kernel_takes_is_a_finding(changes, word, node_graph):
    (found,) = lint.findings(node_graph(**changes), target("jp6"), "elfatt")
    assert "'attend'" in found
    assert re.search(word, found)


def test_a_graph_is_cut_into_the_pieces_between_its_nodes(node_graph):
    graph = node_graph(half=True)
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    make = onnx.helper.make_node
    graph.graph.node.insert(0, make("Relu", ["images"], ["qkv"], name="before"))
    graph.graph.node.insert(1, make("Slice", ["images", "s", "e", "a"], ["x"], name="residual"))
    graph.graph.node.append(make("Add", ["x", "out"], ["y"], name="after"))
    places = {"s": 0, "e": 32, "a": 2}
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array([value]), name) for name, value in places.items()
    )
    graph.graph.input[0].name, graph.graph.output[0].name = "images", "y"
    typed = plugin_body.infer_shapes(graph, strict_mode=True)
    before, after = plugin_nodes.pieces(typed)
    for piece, reads, makes, names in (
        (before, ["images"], ["qkv", "x"], ["before", "residual"]),
        (after, ["x", "out"], ["y"], ["after"]),
    ):
        onnx.checker.check_model(piece)
        assert [value.name for value in piece.graph.input] == reads
        assert [value.name for value in piece.graph.output] == makes
        assert [node.name for node in piece.graph.node] == names
        assert [entry.domain for entry in piece.opset_import] == [""]
        assert not plugin_nodes.holds_nodes(piece.SerializeToString())
    assert {tensor.name for tensor in before.graph.initializer} == set(places)
    assert not after.graph.initializer
