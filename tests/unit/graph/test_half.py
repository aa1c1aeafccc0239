"""FP32 graphs become typed FP16 graphs: one type an op, casts where types meet, FP32 outside."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from elfatt_deploy import recipes
from elfatt_deploy.errors import ExportError
from elfatt_deploy.graph import half, lint
from elfatt_deploy.runners.ort_runner import OrtRunner

ONE = numpy_helper.from_array(np.array([1.5, 2.5, 3.5, 4.5], np.float32), "w")
CHAIN = [
    ("Mul", ["x", "w"], ["a"], "scale", {}),
    ("Exp", ["a"], ["b"], "exp", {}),
    ("Add", ["b", "w"], ["c"], "shift", {}),
    ("Relu", ["c"], ["y"], "relu", {}),
]


def _run(model, x):
    names = [i.name for i in model.graph.input]
    with OrtRunner(model.SerializeToString(), optimised=False) as runner:
        return runner.infer({names[0]: x})


def _typed(model):
    onnx.checker.check_model(model, full_check=True)
    assert {o.type.tensor_type.elem_type for o in model.graph.output} == {TensorProto.FLOAT}
    return [f for f in lint.findings(model, recipes.target("jp6")) if "type" in f]


def _casts(model):
    return [node.output[0] for node in model.graph.node if node.op_type == "Cast"]


@pytest.mark.parametrize(
    ("islands", "casts"),
    [
        ((), ["x/half", "y"]),
        (("exp",), ["x/half", "a/single", "b/half", "y"]),
        (("scale", "exp"), ["b/half", "y"]),
        (("relu",), ["x/half", "c/single"]),
        (("scale", "exp", "shift", "relu"), []),
    ],
)
def test_casts_stand_where_types_meet_and_nowhere_else(islands, casts, onnx_model):
    model = onnx_model(CHAIN, weights=[ONE])
    mixed = half.mixed(model, islands)
    assert _typed(mixed) == []
    assert _casts(mixed) == casts
    assert [o.type.tensor_type.elem_type for o in mixed.graph.output] == [TensorProto.FLOAT]
    assert [i.type.tensor_type.elem_type for i in mixed.graph.input] == [TensorProto.FLOAT]


@pytest.mark.parametrize("islands", [(), ("exp",), ("shift", "exp")])
def test_values_are_those_of_fp32_to_the_rounding_of_fp16(islands, onnx_model):
    model = onnx_model(CHAIN, weights=[ONE])
    x = np.array([[0.1, -0.7, 0.3, 1.1]], np.float32)
    found, expected = _run(half.mixed(model, islands), x)["y"], _run(model, x)["y"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_a_tensor_is_cast_once_for_all_its_readers(onnx_model):
    nodes = [
        ("Exp", ["x"], ["a"], "exp", {}),
        ("Add", ["a", "w"], ["b"], "one", {}),
        ("Mul", ["a", "w"], ["c"], "two", {}),
        ("Sub", ["b", "c"], ["y"], "out", {}),
    ]
    mixed = half.mixed(onnx_model(nodes, weights=[ONE]), ("one", "two"))
    assert _casts(mixed).count("a/single") == 1
    assert sorted(t.name for t in mixed.graph.initializer) == ["w"]


def test_a_weight_is_stored_in_every_type_that_is_read(onnx_model):
    mixed = half.mixed(onnx_model(CHAIN, weights=[ONE]), ("shift",))
    kinds = {t.name: t.data_type for t in mixed.graph.initializer}
    assert kinds == {"w": TensorProto.FLOAT, "w/half": TensorProto.FLOAT16}


def test_an_output_that_is_read_inside_too_is_one_tensor_in_fp16_and_one_in_fp32(onnx_model):
    nodes = [("Exp", ["x"], ["y"], "exp", {}), ("Relu", ["y"], ["z"], "relu", {})]
    mixed = half.mixed(onnx_model(nodes, outputs=("y", "z")), ())
    assert _typed(mixed) == []
    outputs = _run(mixed, np.ones((1, 4), np.float32))
    np.testing.assert_allclose(outputs["y"], np.e, rtol=1e-3)
    np.testing.assert_allclose(outputs["z"], np.e, rtol=1e-3)


def test_shapes_and_indices_stay_whole_numbers(onnx_model):
    shape = numpy_helper.from_array(np.array([2, 2], np.int64), "shape")
    nodes = [
        ("Reshape", ["x", "shape"], ["a"], "reshape", {}),
        ("ReduceMean", ["a"], ["y"], "mean", {"axes": [0, 1]}),
    ]
    mixed = half.mixed(onnx_model(nodes, weights=[shape], made=(1, 1)), ())
    assert _typed(mixed) == []
    assert {t.name: t.data_type for t in mixed.graph.initializer} == {"shape": TensorProto.INT64}


def test_constants_and_fills_are_turned_too(onnx_model):
    nodes = [
        ("Constant", [], ["k"], "constant", {"value": ONE}),
        ("Constant", [], ["n"], "size", {"value": numpy_helper.from_array(np.array([4]))}),
        ("ConstantOfShape", ["n"], ["zeros"], "zeros", {}),
        ("Mul", ["x", "k"], ["a"], "scale", {}),
        ("Add", ["a", "zeros"], ["y"], "add", {}),
    ]
    mixed = half.mixed(onnx_model(nodes), ())
    assert _typed(mixed) == []
    x = np.ones((1, 4), np.float32)
    np.testing.assert_array_equal(_run(mixed, x)["y"][0], [1.5, 2.5, 3.5, 4.5])


def test_the_scales_of_resize_stay_fp32(onnx_model):
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [("Resize", ["x", "", "scales"], ["y"], "resize", {"mode": "nearest"})]
    mixed = half.mixed(onnx_model(nodes, (1, 1, 2, 2), weights=[scales], made=(1, 1, 4, 4)), ())
    onnx.checker.check_model(mixed, full_check=True)
    assert {t.name: t.data_type for t in mixed.graph.initializer} == {"scales": TensorProto.FLOAT}


def test_a_weight_beyond_fp16_is_an_error_that_names_it_unless_it_is_read_in_fp32(onnx_model):
    large = numpy_helper.from_array(np.array([1e5, 1, 1, 1], np.float32), "w")
    model = onnx_model(CHAIN, weights=[large])
    with pytest.raises(ExportError, match="weight 'w' holds 100000"):
        half.mixed(model, ("scale",))
    assert _typed(half.mixed(model, ("scale", "shift"))) == []


def test_an_unknown_island_and_a_loop_are_errors(onnx_model):
    model = onnx_model(CHAIN, weights=[ONE])
    with pytest.raises(ExportError, match="no node named missing"):
        half.mixed(model, ("missing",))
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))
    with pytest.raises(ExportError, match="'scale' .* holds a graph of its own"):
        half.mixed(model, ())


def test_the_model_itself_is_left_as_it_is(onnx_model):
    model = onnx_model(CHAIN, weights=[ONE])
    before = model.SerializeToString()
    half.mixed(model, ("exp",))
    assert model.SerializeToString() == before


def test_mixed_operands_are_found_by_the_lint(onnx_model):
    model = half.mixed(onnx_model(CHAIN, weights=[ONE]), ())
    model.graph.node[1].input[1] = "x"
    found = lint.findings(model, recipes.target("jp6"))
    assert found == ("op Mul with operands of several types, FLOAT and FLOAT16: scale",)
