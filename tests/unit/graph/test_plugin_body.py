"""The plain ops that stand for the plugin's node, against the loop-based float64 oracle."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from elfatt_deploy.errors import RunnerError, SchemaError
from elfatt_deploy.graph import half, lint, plugin_body, plugin_nodes, rounding
from elfatt_deploy.models import seeded
from elfatt_deploy.models.plugin_node import PluginNode
from elfatt_deploy.recipes import target
from elfatt_deploy.runners.ort_runner import OrtRunner


@pytest.fixture(scope="module")
def cases(golden_folder):
    return json.loads((golden_folder / "attention_cases.json").read_text())


def _noise(case, tensor, shape, gain):
    values = seeded.unit_noise(f"attn:{case['name']}:{tensor}", shape) * gain
    return values.astype(np.float32)


def _node(case):
    vanilla, local = case["kind"] == "vanilla", case["c2"] > 0
    block = (case["H"], case["W"]) if vanilla else case["block"]
    return PluginNode(
        rows=case["H"],
        cols=case["W"],
        global_channels=case["c1"],
        global_heads=case["global_heads"],
        local_heads=case["local_heads"],
        block_rows=block[0] if local else 0,
        block_cols=block[1] if local else 0,
        lepe=int(case["lepe"]),
    )


def _weights(case):
    if not case["lepe"]:
        return None
    parts = [("lepe_global", case["c1"]), ("lepe_local", case["c2"])]
    parts = [(name, channels) for name, channels in parts if channels]
    taps = [_noise(case, f"{name}.weight", (c, 1, 3, 3), 1 / 3) for name, c in parts]
    return [
        np.concatenate(taps).reshape(-1, 9),
        np.concatenate([_noise(case, f"{name}.bias", (c,), 0.05) for name, c in parts]),
    ]


def _qkv(case):
    shape = (case["B"], case["H"] * case["W"], case["C"])
    gains = (("q", case["q_scale"]), ("k", case["k_scale"]), ("v", 1.0))
    return np.concatenate([_noise(case, name, shape, gain) for name, gain in gains], -1)


def _run(model, qkv, **settings):
    with OrtRunner(model.SerializeToString(), **settings) as runner:
        return runner.infer({"qkv": qkv})["out"]


def _names():
    from pathlib import Path

    folder = Path(__file__).parents[2] / "data" / "golden"
    return [case["name"] for case in json.loads((folder / "attention_cases.json").read_text())]


@pytest.mark.parametrize("name", _names())
def test_the_body_equals_the_oracle(name, cases, node_graph, golden_folder, golden_positions):
    case = next(case for case in cases if case["name"] == name)
    with np.load(golden_folder / case["npz"]) as vectors:
        expected = vectors["out/sample"]
    scale = np.abs(expected).max()
    qkv = _qkv(case)
    assert _node(case).problem(case["C"]) == ""
    for opset, single in ((13, True), (17, True), (17, False)):
        graph = node_graph(
            _node(case), case["C"], weights=_weights(case), half=not single, opset=opset
        )
        found = _run(graph, qkv if single else qkv.astype(np.float16)).reshape(-1)
        assert found.dtype == (np.float32 if single else np.float16)
        error = found[golden_positions(found.size, len(expected))] - expected
        # inputs of 40 times the usual size lose 40 times as much to their rounding
        limit = 1e-5 if single else 2e-3 * max(1, case["q_scale"] / 8)
        assert np.abs(error).max() <= limit * scale


def test_the_body_of_an_fp16_node_adds_up_in_fp32(node_graph):
    """1000 tokens of one key and value 60: a sum in FP16 would be 65504 at most."""
    node = PluginNode(
        rows=40, cols=25, global_channels=16, global_heads=1, local_heads=0,
        block_rows=0, block_cols=0, lepe=0,
    )  # fmt: skip
    qkv = np.full((1, 1000, 48), 60.0, np.float16)
    found = _run(node_graph(node, 16, half=True), qkv)
    np.testing.assert_allclose(found, 60.0, rtol=1e-3)


def test_the_batch_stays_open(node_graph):
    graph = node_graph()
    chance = np.random.default_rng(1)
    qkv = chance.standard_normal((3, 30, 96)).astype(np.float32)
    together = _run(graph, qkv)
    each = [_run(graph, qkv[index : index + 1]) for index in range(3)]
    np.testing.assert_allclose(together, np.concatenate(each), rtol=1e-5, atol=1e-6)


def test_a_graph_without_a_node_comes_back_as_it_is(onnx_model):
    model = onnx_model([("Relu", ["x"], ["y"], "relu", {})])
    assert plugin_body.expanded(model) is model


def test_the_expanded_graph_needs_no_other_domain_and_leaves_the_model_alone(node_graph):
    graph = node_graph()
    before = graph.SerializeToString()
    expanded = plugin_body.expanded(graph)
    onnx.checker.check_model(expanded)
    assert {node.domain for node in expanded.graph.node} == {""}
    assert [entry.domain for entry in expanded.opset_import] == [""]
    assert [value.name for value in expanded.graph.output] == ["out"]
    names = [node.name for node in expanded.graph.node]
    assert len(set(names)) == len(names)
    assert graph.SerializeToString() == before


def test_types_and_shapes_behind_a_node_are_worked_out(node_graph):
    graph = node_graph(half=True)
    tail = onnx.helper.make_node("Relu", ["out"], ["y"], name="relu")
    graph.graph.node.append(tail)
    graph.graph.output[0].name = "y"
    typed = plugin_body.infer_shapes(graph, strict_mode=True)
    (value,) = typed.graph.value_info
    assert value.name == "out"
    assert value.type.tensor_type.elem_type == TensorProto.FLOAT16
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [0, 30, 32]  # 0: open
    assert [node.op_type for node in typed.graph.node] == ["ElfattAttention", "Relu"]


def test_a_node_becomes_fp16_and_is_rounded_once(node_graph):
    graph = node_graph()
    typed = half.mixed(graph, ())
    (node,) = plugin_nodes.plugin_nodes(typed)
    assert list(node.input) == ["qkv/half", "taps/half", "bias/half"]
    assert lint.findings(typed, target("jp6"), "elfatt") == ()
    emulated = rounding.emulated(typed)
    assert {t.data_type for t in emulated.graph.initializer} == {TensorProto.FLOAT}
    chance = np.random.default_rng(2)
    qkv = chance.standard_normal((1, 30, 96)).astype(np.float32)
    exact, rounded, run = (_run(g, qkv) for g in (graph, emulated, typed))
    np.testing.assert_array_equal(rounded, rounded.astype(np.float16))
    np.testing.assert_allclose(rounded, run, rtol=2e-3, atol=1e-4)
    assert 0 < np.abs(rounded - exact).max() < 5e-3
    island = half.mixed(graph, ["attend"])
    np.testing.assert_allclose(_run(island, qkv), exact, rtol=1e-5, atol=1e-6)


def test_the_runner_says_that_it_runs_plain_ops(node_graph, tmp_path):
    data = node_graph().SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for model in (data, str(path)):
        runner = OrtRunner(model)
        assert runner.name == "ort (CPUExecutionProvider), ElfattAttention in plain ops"
        with runner:
            assert runner.infer({"qkv": np.zeros((2, 30, 96), np.float32)})["out"].shape == (
                2, 30, 32,
            )  # fmt: skip


def test_the_runner_tells_a_broken_node(node_graph):
    data = node_graph(rows=None).SerializeToString()
    with pytest.raises(SchemaError, match="no whole number as rows"), OrtRunner(data):
        pass


def test_a_map_of_another_size_than_the_node_says_fails(node_graph):
    graph = node_graph(dataclasses.replace(_small(), rows=7))
    with pytest.raises(RunnerError), OrtRunner(graph.SerializeToString()) as runner:
        runner.infer({"qkv": np.zeros((1, 30, 96), np.float32)})


def _small():
    return PluginNode(
        rows=6, cols=5, global_channels=16, global_heads=1, local_heads=1,
        block_rows=4, block_cols=3, lepe=1,
    )  # fmt: skip
