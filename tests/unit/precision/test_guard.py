"""One planted case for each known danger of FP16: the guard finds it, and the rest stays FP16."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from elfatt_deploy.errors import ExportError
from elfatt_deploy.graph import half
from elfatt_deploy.precision import guard
from elfatt_deploy.runners.emulation import EmulationRunner
from elfatt_deploy.runners.ort_runner import OrtRunner

CLASSES = 5


def _noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _weights(**arrays):
    return [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in arrays.items()
    ]


def _logits(runner, images):
    with runner:
        return np.concatenate([runner.infer({"images": x[None]})["logits"] for x in images])


def _model(onnx_model, nodes, shape, weights):
    """Return a graph from `images` to `logits` of the tuples of a test."""
    model = onnx_model(nodes, shape, weights=weights, made=(1, CLASSES))
    for node in model.graph.node:
        node.input[:] = ["images" if name == "x" else name for name in node.input]
        node.output[:] = ["logits" if name == "y" else name for name in node.output]
    model.graph.input[0].name, model.graph.output[0].name = "images", "logits"
    return model


def _guarded(model, images):
    """Return the map, its error without islands and with them, and what was told."""
    expected = _logits(OrtRunner(model.SerializeToString(), optimised=False), images)
    told = []
    found = guard.precision_map(model, images, expected, 1, told.append)
    islands = [island.node for island in found.islands]
    after = _logits(EmulationRunner(model.SerializeToString(), islands=islands), images)
    error = np.linalg.norm(after - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert error.max() == pytest.approx(found.relative_l2, rel=1e-3)
    assert found.relative_l2 <= found.limit
    half.mixed(model, islands)
    return found, islands, told


HEAD = ("MatMul", ["n", "head"], ["y"], "head", {})


def test_a_harmless_graph_has_no_island(onnx_model):
    nodes = [("Tanh", ["x"], ["n"], "tanh", {}), HEAD]
    model = _model(onnx_model, nodes, (1, 16), _weights(head=_noise(0, 16, CLASSES)))
    found, islands, _ = _guarded(model, _noise(1, 3, 16))
    assert islands == []
    assert (found.all_half, found.images, found.tries) == (found.relative_l2, 3, 1)


def test_the_variance_of_a_layer_norm_overflows(onnx_model):
    """LayerNorm in parts, as TensorRT 8 reads it: 400 squared is more than FP16 holds."""
    axis = {"axes": [-1]}
    nodes = [
        ("Mul", ["x", "gain"], ["t"], "before", {}),
        ("ReduceMean", ["t"], ["m"], "norm/mean", axis),
        ("Sub", ["t", "m"], ["c"], "norm/centre", {}),
        ("Pow", ["c", "two"], ["p"], "norm/square", {}),
        ("ReduceMean", ["p"], ["v"], "norm/variance", axis),
        ("Add", ["v", "eps"], ["e"], "norm/eps", {}),
        ("Sqrt", ["e"], ["s"], "norm/root", {}),
        ("Div", ["c", "s"], ["n"], "norm/divide", {}),
        HEAD,
    ]
    weights = _weights(gain=[400], two=[2], eps=[1e-5], head=_noise(0, 32, CLASSES))
    found, islands, _ = _guarded(_model(onnx_model, nodes, (1, 32), weights), _noise(1, 3, 32))
    assert islands == ["norm/square", "norm/variance", "norm/eps", "norm/root"]
    assert all("FP16 ends at 65504" in island.reason for island in found.islands)
    assert found.all_half is None or found.all_half > 0.1


def test_huge_activations_stay_fp32_through_what_only_moves_them(onnx_model):
    nodes = [
        ("Mul", ["x", "large"], ["a"], "up", {}),
        ("Reshape", ["a", "shape"], ["b"], "move", {}),
        ("Mul", ["b", "small"], ["n"], "down", {}),
        HEAD,
    ]
    weights = [
        *_weights(large=[1e6], small=[1e-6], head=_noise(0, 16, CLASSES)),
        numpy_helper.from_array(np.array([1, 16]), "shape"),
    ]
    found, islands, _ = _guarded(_model(onnx_model, nodes, (1, 4, 4), weights), _noise(1, 2, 4, 4))
    assert islands == ["up", "move", "down"]
    assert found.islands[0].local_error is None


def test_a_softmax_over_very_many_tokens_loses_its_tail(onnx_model):
    """262,144 tokens at 3.8e-6 each, 64 steps of FP16; V is centred, its sum all cancellation."""
    count = 1 << 18
    nodes = [
        ("Softmax", ["x"], ["p"], "softmax", {"axis": -1}),
        ("MatMul", ["p", "v"], ["n"], "product", {}),
        HEAD,
    ]
    weights = _weights(v=_noise(0, count, 8), head=_noise(2, 8, CLASSES))
    images = 0.1 * _noise(1, 1, 1, count)
    found, islands, _ = _guarded(_model(onnx_model, nodes, (1, count), weights), images[0])
    assert found.all_half > found.limit
    assert islands == ["softmax", "product"]


def test_a_softmax_that_is_scaled_up_keeps_its_small_values_and_its_product_is_fp16(onnx_model):
    """The form of the linear head for very many tokens, on the case above."""
    count = 1 << 18
    nodes = [
        ("Softmax", ["x"], ["p"], "softmax", {"axis": -1}),
        ("Mul", ["p", "up"], ["s"], "up", {}),
        ("MatMul", ["s", "v"], ["m"], "product", {}),
        ("Mul", ["m", "down"], ["n"], "down", {}),
        HEAD,
    ]
    weights = _weights(
        v=_noise(0, count, 8), head=_noise(2, 8, CLASSES), up=count**0.5, down=count**-0.5
    )
    images = 0.1 * _noise(1, 1, 1, count)
    found, islands, _ = _guarded(_model(onnx_model, nodes, (1, count), weights), images[0])
    assert islands == ["softmax", "up"]
    assert "scaled up" in found.islands[0].reason
    assert found.relative_l2 < 1e-3


def test_a_division_by_what_rounds_to_zero(onnx_model):
    nodes = [
        ("Mul", ["x", "tiny"], ["k"], "shrink", {}),
        ("Abs", ["k"], ["a"], "abs", {}),
        ("Div", ["k", "a"], ["n"], "divide", {}),
        HEAD,
    ]
    weights = _weights(tiny=[1e-7], head=_noise(0, 16, CLASSES))
    found, islands, _ = _guarded(_model(onnx_model, nodes, (1, 16), weights), _noise(1, 2, 16))
    assert islands == ["shrink", "abs", "divide"]
    assert "below the normal numbers" in found.islands[0].reason
    assert "divisor" in found.islands[2].reason


def test_a_weight_that_fp16_does_not_hold(onnx_model):
    nodes = [("Mul", ["x", "w"], ["n"], "scale", {}), HEAD]
    weights = _weights(w=[1e5] + [1e-3] * 15, head=1e-4 * _noise(0, 16, CLASSES))
    _, islands, _ = _guarded(_model(onnx_model, nodes, (1, 16), weights), 0.1 * _noise(1, 2, 16))
    assert "scale" in islands


def test_the_same_graph_and_images_give_the_same_map(onnx_model):
    nodes = [
        ("Mul", ["x", "large"], ["a"], "up", {}),
        ("Mul", ["a", "small"], ["n"], "down", {}),
        HEAD,
    ]
    weights = _weights(large=[1e6], small=[1e-6], head=_noise(0, 16, CLASSES))
    model = _model(onnx_model, nodes, (1, 16), weights)
    assert _guarded(model, _noise(1, 2, 16))[0] == _guarded(model, _noise(1, 2, 16))[0]


def test_a_saved_map_is_measured_and_not_searched(onnx_model):
    nodes = [("Tanh", ["x"], ["n"], "tanh", {}), HEAD]
    model = _model(onnx_model, nodes, (1, 16), _weights(head=_noise(0, 16, CLASSES)))
    images = _noise(1, 3, 16)
    expected = _logits(OrtRunner(model.SerializeToString(), optimised=False), images)
    found = guard.precision_map(model, images, expected, 1, lambda _: None)
    again = guard.measured(found, model, images[:2], expected[:2], 1, lambda _: None)
    assert (again.images, again.tries, again.islands) == (2, 1, found.islands)
    model.graph.node[0].name = "renamed"
    island = guard.Island(node="tanh", op="Tanh", reason="", local_error=0.0)
    stale = guard.dataclasses.replace(found, islands=(island,))
    with pytest.raises(ExportError, match="names nodes that this graph does not have: tanh"):
        guard.measured(stale, model, images, expected, 1, lambda _: None)


def test_logits_that_no_island_can_mend_are_an_error(onnx_model):
    nodes = [("Tanh", ["x"], ["n"], "tanh", {}), HEAD]
    model = _model(onnx_model, nodes, (1, 16), _weights(head=_noise(0, 16, CLASSES)))
    images = _noise(1, 2, 16)
    with pytest.raises(ExportError, match=r"off by 1\.0e\+00 whatever stays FP32"):
        guard.precision_map(model, images, 1e6 * _noise(3, 2, CLASSES), 1, lambda _: None)
