"""Each node is judged by itself, on exact inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from onnx import numpy_helper

from elfatt_deploy.parity.compare import DYNAMIC_BATCHES
from elfatt_deploy.precision.local_error import local_errors, with_fixed_batch


def _images(*rows):
    return np.array(rows, np.float32)


def _by_name(model, images, batch=1):
    return {error.node: error for error in local_errors(model, images, batch)}


def _weight(*values, name="w"):
    return numpy_helper.from_array(np.array(values, np.float32), name)


def test_an_error_is_that_of_rounding_inputs_and_result(onnx_model):
    model = onnx_model([("Mul", ["x", "w"], ["y"], "scale", {})], weights=[_weight(0.1, 0.3, 3, 7)])
    x = _images([0.123, 0.77, -1.9, 2.81])
    exact = x * np.array([0.1, 0.3, 3, 7], np.float32)
    halves = x.astype(np.float16).astype(np.float32) * np.array([0.1, 0.3, 3, 7], np.float16)
    rounded = halves.astype(np.float16).astype(np.float32)
    expected = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    found = _by_name(model, x)["scale"]
    assert found.relative == pytest.approx(expected, rel=1e-3)
    assert found.peak == pytest.approx(np.abs(exact).max())
    assert (found.op, found.movement, found.fatal) == ("Mul", False, False)


def test_the_error_of_one_node_is_not_the_error_of_the_next(onnx_model):
    nodes = [
        ("Pow", ["x", "two"], ["a"], "square", {}),
        ("Sqrt", ["a"], ["b"], "root", {}),
        ("Mul", ["b", "two"], ["y"], "double", {}),
    ]
    found = _by_name(onnx_model(nodes, weights=[_weight(2, name="two")]), _images([1, 2, 3, 300]))
    assert found["square"].fatal
    assert found["root"].fatal  # it reads what FP16 does not hold
    assert found["double"].relative < 1e-3
    assert found["square"].peak == found["root"].peak == 90000


def test_a_divisor_that_rounds_to_zero_is_fatal(onnx_model):
    small = _weight(1e-9, 1, 1, 1)
    model = onnx_model([("Div", ["x", "w"], ["y"], "divide", {})], weights=[small])
    found = _by_name(model, _images([1e-9, 1, 1, 1]))["divide"]
    assert math.isinf(found.relative)
    assert found.peak < 2


def test_values_below_fp16_are_lost_in_part(onnx_model):
    model = onnx_model([("Exp", ["x"], ["y"], "exp", {})])
    errors = [
        _by_name(model, _images([start] * 4))["exp"].relative for start in (-1.1, -14.1, -17.5)
    ]
    assert errors[0] < 1e-3 < errors[1] < errors[2]
    assert errors[2] == pytest.approx(1)


def test_all_images_count(onnx_model):
    model = onnx_model([("Exp", ["x"], ["y"], "exp", {})])
    calm, wild = [0.5, 0.1, 0.2, 0.3], [12, 0, 0, 0]
    assert not _by_name(model, _images(calm))["exp"].fatal
    assert _by_name(model, _images(calm, wild))["exp"].fatal
    assert _by_name(model, _images(calm, wild, calm))["exp"].peak == pytest.approx(np.exp(12))


def test_a_fixed_batch_is_filled(onnx_model):
    model = onnx_model([("Exp", ["x"], ["y"], "exp", {})], (2, 4))
    assert _by_name(model, _images([0.5] * 4, [0.1] * 4, [0.2] * 4), batch=2)["exp"].relative < 1e-3


def test_a_node_without_floating_point_values_is_not_judged(onnx_model):
    nodes = [("Shape", ["x"], ["s"], "shape", {}), ("Expand", ["x", "s"], ["y"], "expand", {})]
    found = _by_name(onnx_model(nodes), _images([1, 2, 3, 4]))
    assert set(found) == {"expand"}
    assert found["expand"].movement


def test_a_node_whose_result_is_zero_everywhere_has_no_error(onnx_model):
    model = onnx_model([("Relu", ["x"], ["y"], "relu", {})])
    assert _by_name(model, _images([-1, -2, -3, -4]))["relu"].relative == 0


def test_a_dynamic_graph_is_measured_at_one_batch_size_and_is_left_as_it_was(onnx_model):
    model = onnx_model([("Mul", ["x", "w"], ["y"], "scale", {})], weights=[_weight(0.1, 0.3, 3, 7)])
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    before = model.SerializeToString()
    fixed = with_fixed_batch(model, "dynamic")
    assert model.SerializeToString() == before
    size = DYNAMIC_BATCHES[0]
    for tensor in (*fixed.graph.input, *fixed.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_value == size
    x = _images(*np.random.default_rng(0).normal(size=(size, 4)))
    assert _by_name(fixed, x, "dynamic") == _by_name(model, x, "dynamic")
    assert with_fixed_batch(fixed, size) is fixed
