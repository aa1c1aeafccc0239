"""Cleaning a graph changes neither its outputs nor their names."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import onnxslim
import pytest
from onnx import numpy_helper

from elfatt_deploy.errors import ExportError
from elfatt_deploy.graph import simplify

IMAGE = np.arange(8, dtype=np.float32).reshape(2, 4) - 3


@pytest.fixture
def branched(onnx_model):
    """Return a graph of two outputs with a dead node, Reshapes in a row and constants to fold."""
    weights = [
        numpy_helper.from_array(np.float32([1, 2, 3, 4]), "w"),
        numpy_helper.from_array(np.float32([2, 2, 2, 2]), "v"),
        numpy_helper.from_array(np.array([4, 2]), "tall"),
        numpy_helper.from_array(np.array([2, 4]), "wide"),
    ]
    nodes = [
        ("Mul", ["w", "v"], ["wv"], "fold", {}),
        ("Add", ["x", "wv"], ["stem"], "add", {}),
        ("Reshape", ["stem", "tall"], ["r1"], "reshape1", {}),
        ("Reshape", ["r1", "wide"], ["r2"], "reshape2", {}),
        ("Identity", ["r2"], ["r3"], "identity", {}),
        ("Relu", ["r3"], ["y"], "relu", {}),
        ("Neg", ["x"], ["unused"], "dead", {}),
    ]
    return onnx_model(nodes, (2, 4), weights=weights, outputs=("y", "stem"))


def _run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": IMAGE}), strict=True))


def test_a_simplified_graph_is_smaller_and_gives_the_same(branched):
    before = _run(branched)
    slim = simplify.simplified(branched)
    after = _run(slim)
    assert list(after) == ["y", "stem"]
    assert len(slim.graph.node) < 7
    assert "Neg" not in {node.op_type for node in slim.graph.node}
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_a_simplifier_that_fails_is_an_export_error(branched, monkeypatch):
    def fail(*_, **__):
        raise KeyError("onnxslim's own")

    monkeypatch.setattr(onnxslim, "slim", fail)
    with pytest.raises(ExportError, match="the graph cannot be simplified: .*onnxslim's own"):
        simplify.simplified(branched)


def test_dropped_outputs_become_inner_tensors(branched):
    assert simplify.drop_outputs(branched, "y") == ("stem",)
    assert list(_run(branched)) == ["y"]


def test_dropped_outputs_can_be_added_again(branched):
    before = _run(branched)
    dropped = simplify.drop_outputs(branched, "y")
    simplify.add_outputs(branched, dropped)
    after = _run(branched)
    assert list(after) == ["y", "stem"]
    np.testing.assert_array_equal(after["stem"], before["stem"])


def test_an_output_is_added_once(branched):
    simplify.add_outputs(branched, ("y", "stem", "r1"))
    assert [output.name for output in branched.graph.output] == ["y", "stem", "r1"]


def test_a_tensor_that_the_graph_lacks_cannot_be_an_output(branched):
    with pytest.raises(ExportError, match="the graph has no tensor named 'stage9'"):
        simplify.add_outputs(branched, ("stage9",))


def test_stripping_leaves_no_trace_of_the_exporting_machine(branched):
    branched.doc_string = branched.graph.doc_string = "/home/me"
    onnx.helper.set_model_props(branched, {"path": "/home/me"})
    for node in branched.graph.node:
        node.doc_string = "/home/me/model.py(12): forward"
        node.metadata_props.add(key="namespace", value="/home/me")
    simplify.strip_metadata(branched)
    assert b"/home/me" not in branched.SerializeToString()
    assert set(_run(branched)) == {"y", "stem"}


def _constant(name, values):
    value = numpy_helper.from_array(np.asarray(values, np.float32))
    return ("Constant", [], [name], f"make-{name}", {"value": value})


def test_equal_constants_become_one_weight(onnx_model):
    nodes = [
        _constant("a", [1, 2, 3, 4]),
        _constant("b", [1, 2, 3, 4]),
        _constant("c", [[1, 2, 3, 4]]),
        ("Add", ["x", "a"], ["m"], "add", {}),
        ("Mul", ["m", "b"], ["n"], "mul", {}),
        ("Sub", ["n", "c"], ["y"], "sub", {}),
    ]
    model = onnx_model(nodes, (2, 4))
    before = _run(model)
    simplify.share_constants(model)
    assert [node.op_type for node in model.graph.node] == ["Add", "Mul", "Sub"]
    assert [tensor.name for tensor in model.graph.initializer] == ["a", "c"]
    np.testing.assert_array_equal(_run(model)["y"], before["y"])


def test_constants_that_an_inner_graph_may_read_keep_their_names(onnx_model):
    nodes = [_constant("a", 1), _constant("b", 1), ("Add", ["x", "a"], ["y"], "add", {})]
    model = onnx_model(nodes, (2, 4))
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node[2].attribute.append(onnx.helper.make_attribute("body", inner))
    simplify.share_constants(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["a", "b"]
