"""A finished file is held against its target by what it holds."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

from elfatt_deploy import recipes
from elfatt_deploy.errors import TargetError
from elfatt_deploy.graph import lint

RELU = ("Relu", ["x"], ["y"], "relu", {})
NINE = (1,) * 9


def _norm(onnx_model):
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4], [1.0] * 4)
    return onnx_model(
        [("LayerNormalization", ["x", "w"], ["y"], "stage1.0/norm1", {})], weights=[weight]
    )


@pytest.mark.parametrize("target", recipes.targets())
def test_a_plain_graph_fits_every_target_at_its_own_opset(target, onnx_model):
    entry = recipes.target(target)
    assert lint.findings(onnx_model([RELU], opset=entry.opset), entry) == ()
    lint.check(onnx_model([RELU], opset=entry.opset), entry)


@pytest.mark.parametrize(
    ("target", "opset", "told"),
    [("jp4", 17, "takes 7 to 13"), ("jp6", 8, "takes 9 to 20"), ("jp6", 21, "takes 9 to 20")],
)
def test_an_opset_outside_the_targets_range_is_found(target, opset, told, onnx_model):
    found = lint.findings(onnx_model([RELU], opset=opset), recipes.target(target))
    assert found == (f"opset {opset}: target {target} {told}",)


@pytest.mark.parametrize(("target", "fits"), [("jp5", False), ("jp6", True), ("ort", True)])
def test_layer_norm_is_found_where_tensorrt_lacks_it(target, fits, onnx_model):
    entry = dataclasses.replace(recipes.target(target), opset_max=17)
    found = lint.findings(_norm(onnx_model), entry)
    expected = (
        f"op LayerNormalization: not on the list of target {target} (1 nodes, first stage1.0/norm1)"
    )
    assert found == (() if fits else (expected,))


def test_an_op_is_counted_and_its_first_node_named(onnx_model):
    nodes = [("Round", ["x"], ["m"], "a", {}), ("Round", ["m"], ["y"], "b", {})]
    assert lint.findings(onnx_model(nodes), recipes.target("jp6")) == (
        "op Round: not on the list of target jp6 (2 nodes, first a)",
    )


def test_a_foreign_domain_is_found(onnx_model):
    nodes = [("BiasGelu", ["x", "x"], ["y"], "gelu", {"domain": "com.microsoft"})]
    found = lint.findings(onnx_model(nodes, domains=["com.microsoft"]), recipes.target("jp6"))
    assert found == ("ops of other domains: com.microsoft",)


@pytest.mark.parametrize(
    ("target", "fits"), [("jp6", False), ("ort", True)], ids=["rank limit", "no limit"]
)
def test_an_inner_tensor_of_rank_nine_is_found(target, fits, onnx_model):
    nodes = [("Relu", ["x"], ["m"], "a", {}), ("ReduceSum", ["m"], ["y"], "b", {"keepdims": 0})]
    model = onnx_model(nodes, NINE)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1
    found = lint.findings(model, recipes.target(target))
    assert any("rank above 8" in line for line in found) is not fits


def test_an_input_and_an_output_of_rank_nine_are_found(onnx_model):
    found = lint.findings(onnx_model([RELU], NINE), recipes.target("jp6"))
    assert any("rank above 8" in line for line in found)


def test_rank_eight_fits(onnx_model):
    nodes = [("Relu", ["x"], ["m"], "a", {}), ("Relu", ["m"], ["y"], "b", {})]
    assert lint.findings(onnx_model(nodes, (1,) * 8), recipes.target("jp6")) == ()


@pytest.mark.parametrize(
    ("name", "fits"),
    [("/stage1.0/attn-0/MatMul_2:0", True), ('a"b', False), ("a\\b", False), ("ä", False)],
)
def test_node_names_that_break_tensorrts_json_are_found(name, fits, onnx_model):
    found = lint.findings(onnx_model([("Relu", ["x"], ["y"], name, {})]), recipes.target("jp6"))
    assert (found == ()) is fits
    assert fits or repr(name) in found[0]


@pytest.mark.parametrize(
    "nodes",
    [
        [("Relu", ["nowhere"], ["y"], "relu", {})],
        [("NoSuchOp", ["x"], ["y"], "odd", {})],
        [("Relu", ["x"], ["y"], "a", {}), ("Relu", ["x"], ["y"], "b", {})],
    ],
    ids=["no producer", "unknown op", "two producers"],
)
def test_a_file_that_the_onnx_checker_refuses_is_a_target_error(nodes, onnx_model):
    with pytest.raises(TargetError, match="the ONNX checker refuses the file"):
        lint.findings(onnx_model(nodes), recipes.target("jp6"))


def test_an_empty_model_is_a_target_error():
    with pytest.raises(TargetError, match="the ONNX checker refuses the file"):
        lint.findings(onnx.ModelProto(), recipes.target("ort"))


def test_check_raises_with_all_findings_at_once(onnx_model):
    model = onnx_model([("Round", ["x"], ["y"], 'a"b', {})], opset=21)
    with pytest.raises(TargetError, match="the file does not fit target jp4") as caught:
        lint.check(model, recipes.target("jp4"))
    for told in ("opset 21", "op Round", "1 node names"):
        assert told in caught.value.message
    assert "--target" in caught.value.hint
