"""ONNX Runtime runs a graph on the provider that was asked for, or says why not."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest

from elfatt_deploy.errors import RunnerError, UnknownNameError
from elfatt_deploy.runners.ort_runner import PROVIDERS, OrtRunner


@pytest.fixture(scope="module")
def graph(onnx_model):
    nodes = [("Neg", ["x"], ["y"], "neg", {}), ("Relu", ["x"], ["z"], "relu", {})]
    return onnx_model(nodes, ("batch", 4), outputs=("z", "y")).SerializeToString()


def test_outputs_come_by_name_at_any_batch(graph):
    with OrtRunner(graph, threads=1) as runner:
        for batch in (1, 3):
            x = np.linspace(-1, 1, 4 * batch, dtype=np.float32).reshape(batch, 4)
            found = runner.infer({"x": x})
            assert list(found) == ["z", "y"]
            np.testing.assert_array_equal(found["y"], -x)
            np.testing.assert_array_equal(found["z"], x.clip(0))
    assert runner.name == "ort (CPUExecutionProvider)"


def test_a_graph_is_read_from_a_file_as_well(graph, tmp_path):
    (tmp_path / "model.onnx").write_bytes(graph)
    with OrtRunner(str(tmp_path / "model.onnx")) as runner:
        assert runner.infer({"x": np.zeros((1, 4), np.float32)})["y"].shape == (1, 4)


def test_an_unknown_provider_lists_the_nearest(graph):
    with pytest.raises(UnknownNameError, match="unknown provider 'cud': did you mean cuda"):
        OrtRunner(graph, provider="cud")


def test_without_the_gpu_build_the_message_says_what_to_install(graph, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    runner = OrtRunner(graph, provider="cuda")
    with pytest.raises(RunnerError, match="has no CUDAExecutionProvider") as caught, runner:
        pass
    assert '[ort-gpu]"' in caught.value.hint
    assert "pip uninstall onnxruntime" in caught.value.hint


class _Session:
    """A session that falls back to the CPU, and notes what it was asked for."""

    asked = None

    def __init__(self, model, options, providers):
        _Session.asked = providers

    def get_providers(self):
        return ["CPUExecutionProvider"]


@pytest.fixture
def falls_back(monkeypatch):
    available = [provider for provider, _ in PROVIDERS.values()]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Session)


@pytest.mark.parametrize(
    ("provider", "told"), [("cuda", "no usable device$"), ("tensorrt", "or no TensorRT of its ver")]
)
def test_a_silent_fallback_to_the_cpu_is_refused(graph, falls_back, provider, told):
    runner = OrtRunner(graph, provider=provider)
    with (
        pytest.raises(RunnerError, match="fell back to CPUExecutionProvider") as caught,
        runner,
    ):
        pass
    assert re.search(told, caught.value.message)
    assert "nvidia-smi" in caught.value.hint


@pytest.mark.parametrize(
    ("provider", "tf32", "asked"),
    [
        ("cuda", False, [("CUDAExecutionProvider", {"use_tf32": "0"})]),
        ("cuda", True, [("CUDAExecutionProvider", {"use_tf32": "1"})]),
        (
            "tensorrt",
            False,
            [("TensorrtExecutionProvider", {}), ("CUDAExecutionProvider", {"use_tf32": "0"})],
        ),
    ],
)
def test_what_a_provider_leaves_goes_to_the_next_and_tf32_is_off_unless_asked_for(
    graph, falls_back, provider, tf32, asked
):
    with (
        pytest.raises(RunnerError, match="fell back"),
        OrtRunner(graph, provider=provider, tf32=tf32),
    ):
        pass
    assert _Session.asked == [*asked, ("CPUExecutionProvider", {})]
    assert PROVIDERS["cuda"][1] == {"use_tf32": "0"}


@pytest.mark.parametrize("model", [b"", b"no graph", "/nowhere/model.onnx"])
def test_a_graph_that_does_not_load_is_refused(model):
    with pytest.raises(RunnerError, match="ONNX Runtime refuses the graph"), OrtRunner(model):
        pass


@pytest.mark.parametrize(
    ("feeds", "told"),
    [
        ({"x": np.zeros((1, 3), np.float32)}, r"on x \(1, 3\): .*Expected: 4"),
        ({"x": np.zeros((1, 4, 1), np.float32)}, r"on x \(1, 4, 1\)"),
        ({"x": np.zeros((1, 4), np.float64)}, r"on x \(1, 4\): .*double"),
        ({"images": np.zeros((1, 4), np.float32)}, r"on images \(1, 4\): .*\['x'\]"),
        ({}, r"\['x'\]"),
    ],
    ids=["shape", "rank", "dtype", "name", "nothing"],
)
def test_inputs_that_the_graph_does_not_take_are_shown(feeds, told, graph):
    with (
        OrtRunner(graph) as runner,
        pytest.raises(RunnerError, match=f"(?s)cannot run the graph .*{told}"),
    ):
        runner.infer(feeds)


def test_a_runner_works_only_while_it_is_open(graph):
    runner, x = OrtRunner(graph), np.zeros((1, 4), np.float32)
    with pytest.raises(RunnerError, match="is not open"):
        runner.infer({"x": x})
    with runner:
        runner.infer({"x": x})
    with pytest.raises(RunnerError, match="is not open"):
        runner.infer({"x": x})
    with runner:  # and again after it was closed
        runner.infer({"x": x})
