"""The emulation holds, after every op, exactly what FP16 would hold."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from elfatt_deploy.graph import half, rounding
from elfatt_deploy.runners.emulation import EmulationRunner
from elfatt_deploy.runners.ort_runner import OrtRunner

STEPS = [
    ("Mul", ["x", "w"], ["a"], "scale", {}),
    ("Transpose", ["a"], ["b"], "move", {"perm": [1, 0]}),
    ("Exp", ["b"], ["c"], "exp", {}),
    ("Transpose", ["c"], ["d"], "back", {"perm": [1, 0]}),
    ("Sub", ["d", "w"], ["y"], "shift", {}),
]
WEIGHT = np.array([0.1, 1.7, -2.3, 3.9], np.float32)
X = np.array([[0.123, 0.77, -1.9, 2.81]], np.float32)


def _half(values):
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).astype(np.float16).astype(np.float32)


def _infer(model, x, **options):
    with EmulationRunner(model.SerializeToString(), **options) as runner:
        assert runner.name == "fp16-emulation"
        return runner.infer({"x": x})["y"]


@pytest.fixture
def model(onnx_model):
    return onnx_model(STEPS, weights=[numpy_helper.from_array(WEIGHT, "w")])


def _by_hand(x):
    weight = _half(WEIGHT)
    return _half(_half(np.exp(_half(_half(x) * weight))) - weight)


def test_each_op_is_rounded_and_nothing_else(model):
    np.testing.assert_array_equal(_infer(model, X), _by_hand(X))


def test_a_typed_file_and_its_fp32_original_are_emulated_alike(model):
    islands = ("exp", "back", "shift")
    typed = half.mixed(model, islands)
    np.testing.assert_array_equal(_infer(typed, X), _infer(model, X, islands=islands))
    assert (_infer(typed, X) != _infer(model, X)).any()


def test_everything_an_island_is_fp32(model):
    names = [node.name for node in model.graph.node]
    with OrtRunner(model.SerializeToString(), optimised=False) as runner:
        expected = runner.infer({"x": X})["y"]
    np.testing.assert_array_equal(_infer(model, X, islands=names), expected)


def test_what_overflows_is_infinite_and_what_vanishes_is_zero(onnx_model):
    model = onnx_model([("Exp", ["x"], ["y"], "exp", {})])
    found = _infer(model, np.array([[12, 11, -16, -18]], np.float32))
    assert np.isinf(found[0, 0])
    np.testing.assert_array_equal(found[0, 1:], _half(np.exp([11, -16, -18]))[:])
    assert found[0, 2] > 0
    assert found[0, 3] == 0


def test_sums_of_products_are_fp32(onnx_model):
    ones = numpy_helper.from_array(np.full((4096, 1), 1, np.float32), "w")
    model = onnx_model(
        [("MatMul", ["x", "w"], ["y"], "sum", {})], (1, 4096), weights=[ones], made=(1, 1)
    )
    x = np.full((1, 4096), 1, np.float32)
    x[0, 0] = 4096
    assert _infer(model, x)[0, 0] == _half(8191)  # FP16 sums would stop at 4096


def test_the_emulated_graph_has_no_fp16_but_between_two_casts(model):
    graph = rounding.emulated(half.mixed(model, ())).graph
    assert {t.data_type for t in graph.initializer} == {TensorProto.FLOAT}
    to_half = {
        node.output[0]
        for node in graph.node
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16
    }
    readers = [n for n in graph.node for name in n.input if name in to_half]
    assert len(to_half) == len(readers) == 4  # the input and three ops that compute
    assert {n.op_type for n in readers} == {"Cast"}


def test_an_fp32_graph_is_left_as_it_is(model):
    assert rounding.emulated(model).graph.node == model.graph.node
    assert not rounding.is_typed_half(model)
    assert rounding.is_typed_half(half.mixed(model, ()))


def test_bytes_that_are_no_model_are_an_input_error():
    from elfatt_deploy.errors import InputFileError

    with pytest.raises(InputFileError, match="not a whole ONNX file"):
        EmulationRunner(b"\xff\xff nothing")
