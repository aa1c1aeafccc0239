"""An ONNX file is a classifier whose every assumption is told, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from elfatt_deploy.artifacts import GraphSummary, Preprocessing, TensorInfo
from elfatt_deploy.errors import InputFileError, UnknownNameError, UsageError
from elfatt_deploy.evaluation.records import EvalRequest
from elfatt_deploy.evaluation.subject import graph_subject, read, with_settings

IMAGES = TensorInfo(name="x", dtype="float32", shape=("batch", 3, 224, 192))
LOGITS = TensorInfo(name="y", dtype="float32", shape=("batch", 1000))


def _tensor(name, *shape, dtype="float32"):
    return TensorInfo(name=name, dtype=dtype, shape=shape)


def _graph(inputs=(IMAGES,), outputs=(LOGITS,)):
    return GraphSummary(
        opset=17,
        ir_version=8,
        nodes=1,
        op_counts={},
        initializer_bytes=0,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def _subject(graph, **changes):
    return graph_subject(Path("somewhere/net.onnx"), "ab", graph, **changes)


def test_a_file_is_taken_at_its_word_and_the_rest_is_assumed():
    found = _subject(_graph())
    assert (found.name, found.input_name, found.output_name) == ("net.onnx", "x", "y")
    assert (found.classes, found.batch) == (1000, None)
    assert found.preprocessing == Preprocessing(height=224, width=192, crop_share=0.875)
    assert found.preprocessing_source == "assumed: the file says nothing"


def test_what_the_user_says_of_the_preprocessing_is_told():
    settings = ("crop=1", "interpolation=bilinear", "mean=0.5-0.5-0.25", "std=0.5-0.25-1")
    found = _subject(_graph(), settings=settings)
    assert found.preprocessing == Preprocessing(
        height=224,
        width=192,
        crop_share=1.0,
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.25),
        std=(0.5, 0.25, 1.0),
    )
    assert all(text in found.preprocessing_source for text in settings)


@pytest.mark.parametrize("shape", [("b", 3, "h", "w"), (1, 3, 0, 0), (0, "c", "h", "w")])
def test_an_open_size_has_to_be_said(shape):
    graph = _graph([_tensor("x", *shape)])
    with pytest.raises(UsageError, match="images of any number of rows") as caught:
        _subject(graph)
    assert "--resolution" in caught.value.hint
    found = _subject(graph, height=64, width=96)
    assert (found.preprocessing.height, found.preprocessing.width) == (64, 96)


def test_a_size_that_is_not_the_graphs_is_refused():
    assert _subject(_graph(), height=224, width=192).preprocessing.width == 192
    with pytest.raises(UsageError, match="takes 192 columns, not 224"):
        _subject(_graph(), height=224, width=224)


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        ((IMAGES, LOGITS), (LOGITS,), "has 2 inputs"),
        ((), (LOGITS,), "has 0 inputs"),
        ((_tensor("x", 1, 224, 224, 3),), (LOGITS,), r"takes x \[1, 224, 224, 3\], not images"),
        ((_tensor("x", 1, 150528),), (LOGITS,), "not images"),
        ((_tensor("x", 1, 3, 8, 8, dtype="float16"),), (LOGITS,), "is float16, not float32"),
        ((IMAGES,), (_tensor("y", 1, 9, 7, 7),), "not one output"),
        ((IMAGES,), (LOGITS, _tensor("z", 1, 10)), "not one output"),
        ((IMAGES,), (), "not one output"),
        ((IMAGES,), (_tensor("y", 1, "n"),), "does not say how many classes"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(inputs, outputs, told):
    with pytest.raises(InputFileError, match=told):
        _subject(_graph(inputs, outputs))


def test_of_several_outputs_the_logits_are_taken():
    found = _subject(_graph(outputs=(_tensor("z", 1, 10), _tensor("logits", 1, 7))))
    assert (found.output_name, found.classes) == ("logits", 7)
    maps = _tensor("maps", 1, 64, 7, 7)
    assert _subject(_graph(outputs=(maps, LOGITS))).output_name == "y"


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("crop", UsageError, "--preprocess crop cannot be read"),
        ("crop=x", UsageError, "cannot be read"),
        ("crop=0", UsageError, "a crop of 0"),
        ("crop=1.1", UsageError, "a crop of 1.1"),
        ("mean=0.5", UsageError, "mean=0.5 cannot be read"),
        ("std=1-1-0", UsageError, "above 0"),
        ("interpolation=bicubik", UnknownNameError, "did you mean bicubic"),
        ("crp=0.9", UnknownNameError, "did you mean crop"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(text, error, told):
    with pytest.raises(error, match=told):
        with_settings(Preprocessing(height=8, width=8, crop_share=0.9), (text,))


def test_the_batch_is_the_graphs_or_the_users():
    dynamic, fixed = _subject(_graph()), _subject(_graph([_tensor("x", 4, 3, 8, 8)]))
    assert (dynamic.batch_size(None), dynamic.batch_size(3)) == (8, 3)
    assert (fixed.batch_size(None), fixed.batch_size(4)) == (4, 4)
    with pytest.raises(UsageError, match="fixed at 4: --batch 8"):
        fixed.batch_size(8)
    with pytest.raises(UsageError, match="a batch of 0"):
        dynamic.batch_size(0)


@pytest.mark.parametrize("changes", [{"height": 64}, {"width": 64}], ids=str)
def test_a_bundle_keeps_its_own_size(changes, tmp_path):
    with pytest.raises(UsageError, match="a bundle has one input size"):
        read(EvalRequest(model=tmp_path, data=tmp_path, **changes))


def test_torch_needs_a_bundle(tmp_path):
    (tmp_path / "net.onnx").touch()
    with pytest.raises(UsageError, match="--runner torch needs a bundle"):
        read(EvalRequest(model=tmp_path / "net.onnx", data=tmp_path, runner="torch"))


@pytest.mark.parametrize(
    ("name", "told"), [("nowhere", "is not a bundle"), ("x.onnx", "x.onnx is not")]
)
def test_what_is_neither_a_bundle_nor_an_onnx_file_is_refused(name, told, tmp_path):
    (tmp_path / "x.onnx").write_text("no graph")
    with pytest.raises(InputFileError, match=told):
        read(EvalRequest(model=tmp_path / name, data=tmp_path))


def test_interpolations_are_those_of_pillow():
    from PIL import Image

    from elfatt_deploy.evaluation.subject import INTERPOLATIONS

    assert set(INTERPOLATIONS) <= {method.name.lower() for method in Image.Resampling}
