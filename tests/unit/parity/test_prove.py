"""A graph against its golden file, and a file against itself without optimisations."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elfatt_deploy import artifacts, golden
from elfatt_deploy.errors import InputFileError, RunnerError
from elfatt_deploy.golden import GoldenInputs, TapSample
from elfatt_deploy.parity import prove

WEIGHT = np.random.default_rng(0).standard_normal((48, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).standard_normal((5, 3, 4, 4)).astype(np.float32)
INPUTS = GoldenInputs(
    images=IMAGES, names=("a", "b", "c", "n0", "n1"), sets=("photos",) * 3 + ("noise",) * 2
)
LOGITS = (IMAGES.reshape(5, -1) @ WEIGHT).astype(np.float32)


def _model(batch="batch", weight=WEIGHT):
    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "w"], ["logits"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (batch, 3, 4, 4))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (batch, 5))],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes a model and its golden file, with or without a tap."""

    def write(model, taps):
        onnx.save(model, str(tmp_path / artifacts.MODEL_FILE))
        golden.write_golden(tmp_path / artifacts.GOLDEN_FILE, INPUTS, LOGITS, taps)
        return tmp_path

    return write


TAPS = {"flat": TapSample(positions=np.arange(48), values=IMAGES[0].reshape(-1))}


@pytest.mark.parametrize("layers", [False, True])
def test_a_graph_that_agrees_passes_and_shows_its_layers_where_asked(layers, folder):
    report, errors = prove.prove(
        folder(_model(), TAPS), "dynamic", "fp32", provider="cpu", layers=layers
    )
    assert report.passed
    assert [(row.inputs, row.batch) for row in report.rows] == [
        ("photos", 1), ("photos", 3), ("noise", 1), ("noise", 3),
    ]  # fmt: skip
    assert (report.reference, report.first_divergence) == ("torch float32", None)
    assert [error.name for error in errors] == (["flat"] if layers else [])


@pytest.mark.parametrize(
    ("taps", "told"),
    [(TAPS, "after flat, the last named tensor"), ({}, "no named inner tensors")],
    ids=["taps", "no taps"],
)
def test_a_graph_that_differs_fails_and_names_the_place(taps, told, folder):
    report, _ = prove.prove(folder(_model(weight=WEIGHT + 0.01), taps), 1, "fp32", provider="cpu")
    assert not report.passed
    assert told in report.first_divergence


def test_a_missing_golden_file_is_an_input_error(tmp_path):
    onnx.save(_model(), str(tmp_path / artifacts.MODEL_FILE))
    with pytest.raises(InputFileError, match="is not a whole golden file"):
        prove.prove(tmp_path, 1, "fp32", provider="cpu")


@pytest.mark.parametrize(
    ("batch", "sizes"), [(1, [1] * 5), (2, [2] * 3), (8, [8]), ("dynamic", [1] * 5)]
)
def test_reference_logits_are_one_row_an_image_at_any_batch(batch, sizes, runner_of, logits_of):
    runner = runner_of(lambda images: {"logits": logits_of(np.resize(images, (len(images), 48)))})
    found = prove.reference_logits(runner, IMAGES, batch)
    np.testing.assert_array_equal(found, logits_of(IMAGES.reshape(5, 48)))
    assert [len(images) for images in runner.batches] == sizes
    assert all(images.flags.c_contiguous for images in runner.batches)


@pytest.mark.parametrize(
    "shape", [(2, 5, 1, 1), (2,), (1, 5), (3, 5)], ids=["map", "one number", "fewer", "more"]
)
def test_an_output_that_is_no_row_an_image_is_refused(shape, runner_of):
    runner = runner_of(lambda images: {"logits": np.zeros(shape, np.float32)})
    with pytest.raises(RunnerError, match="gives an output of shape .* for 2 images") as caught:
        prove.reference_logits(runner, IMAGES, 2)
    assert "[B, classes]" in caught.value.hint
    assert "frozen" in caught.value.hint


@pytest.mark.parametrize(("batch", "rows"), [(2, 2), ("dynamic", 4)])
def test_a_file_is_held_against_itself_without_optimisations(batch, rows):
    model = _model("batch" if batch == "dynamic" else batch).SerializeToString()
    report = prove.against_plain(model, INPUTS, batch, provider="cpu")
    assert report.passed
    assert len(report.rows) == rows
    assert report.reference == "ort (CPUExecutionProvider, not optimised)"
    assert report.candidate == "ort (CPUExecutionProvider)"
    assert {row.max_abs < 1e-5 for row in report.rows} == {True}


def test_nan_of_the_users_own_file_is_never_a_pass():
    model = _model(weight=np.full_like(WEIGHT, np.nan)).SerializeToString()
    report = prove.against_plain(model, INPUTS, 1, provider="cpu")
    assert not report.passed
    assert all(row.nonfinite for row in report.rows)


def test_a_graph_that_does_not_load_is_refused():
    with pytest.raises(RunnerError, match="ONNX Runtime refuses the graph"):
        prove.against_plain(b"no graph", INPUTS, 1, provider="cpu")


def test_the_reference_of_a_report_is_the_one_of_the_golden_file(folder, tmp_path):
    path = folder(_model(), {}) / artifacts.GOLDEN_FILE
    golden.write_golden(path, INPUTS, LOGITS, {}, reference="another")
    report, _ = prove.prove(tmp_path, 1, "fp32", provider="cpu")
    assert report.reference == "another"
