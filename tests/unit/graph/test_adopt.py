"""ONNX files from elsewhere: what can be taken, what is renamed, what is refused and why."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elfatt_deploy.errors import ExportError, InputFileError, UsageError
from elfatt_deploy.graph import adopt
from elfatt_deploy.runners.ort_runner import OrtRunner

WEIGHT = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).standard_normal((1, 3, 8, 6)).astype(np.float32)


def _value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    shape=(1, 3, 8, 6), kind=TensorProto.FLOAT, names=("x", "mid", "w", "y"), inputs=(), outputs=()
):
    """Return a classifier: the mean over the map times a weight."""
    x, mid, w, y = names
    nodes = [
        helper.make_node("GlobalAveragePool", [x], [mid], name="pool"),
        helper.make_node("Flatten", [mid], [f"{mid}.flat"], name="flatten"),
        helper.make_node("MatMul", [f"{mid}.flat", w], [y], name="head"),
    ]
    batch = shape[0] if shape else None
    graph = helper.make_graph(
        nodes,
        "foreign",
        [_value(x, shape, kind), *inputs],
        [_value(y, (batch, 5)), *outputs],
        [numpy_helper.from_array(WEIGHT, w)],
        value_info=[_value(mid, (batch, 3, 1, 1))],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def adopted(tmp_path):
    """Return a function that saves a model and adopts the file."""

    def save(model, **options):
        onnx.save(model, str(tmp_path / "foreign.onnx"), **options)
        return adopt.adopt(tmp_path / "foreign.onnx")

    return save


def _logits(model, name):
    with OrtRunner(model.SerializeToString(), threads=1) as runner:
        return next(iter(runner.infer({name: IMAGES}).values()))


def test_input_and_output_are_renamed_wherever_they_stand(adopted):
    model = _model()
    found = adopted(model)
    assert found.renamed == ("x to images", "y to logits")
    graph = found.model.graph
    assert ([v.name for v in graph.input], [v.name for v in graph.output]) == (
        ["images"],
        ["logits"],
    )
    assert graph.node[0].input == ["images"]
    assert graph.node[2].output == ["logits"]
    onnx.checker.check_model(found.model)
    np.testing.assert_array_equal(_logits(found.model, "images"), _logits(model, "x"))


def test_a_file_with_our_names_is_taken_as_it_is(adopted):
    model = _model(names=("images", "mid", "w", "logits"))
    found = adopted(model)
    assert found.renamed == ()
    assert found.model.SerializeToString() == model.SerializeToString()


def test_a_tensor_that_is_read_twice_and_described_is_renamed_everywhere(adopted):
    model = _model()
    model.graph.node.append(helper.make_node("Identity", ["y"], ["z"], name="again"))
    model.graph.node.append(helper.make_node("Shape", ["x"], ["s"], name="shape"))
    model.graph.value_info.append(_value("y", (1, 5)))
    graph = adopted(model).model.graph
    assert (graph.node[3].input, graph.node[4].input) == (["logits"], ["images"])
    assert [value.name for value in graph.value_info] == ["mid", "logits"]


@pytest.mark.parametrize(
    ("shape", "batch", "height", "width"),
    [
        ((1, 3, 8, 6), 1, 8, 6),
        ((4, 3, 224, 320), 4, 224, 320),
        (("N", 3, 8, 6), "dynamic", 8, 6),
        (("N", 3, "H", "W"), "dynamic", None, None),
        ((2, 3, "H", 6), 2, None, 6),
        ((None, None, 8, None), "dynamic", 8, None),
        ((0, 3, 8, 6), "dynamic", 8, 6),
        ((-1, 3, -1, -1), "dynamic", None, None),
    ],
)
def test_open_dimensions_are_told_from_fixed_ones(shape, batch, height, width, adopted):
    found = adopted(_model(shape))
    assert (found.batch, found.height, found.width) == (batch, height, width)


@pytest.mark.parametrize(
    ("fixed", "asked", "size"),
    [
        ((8, 6), (None, None), (8, 6)),
        ((8, 6), (8, 6), (8, 6)),
        ((None, None), (None, None), (224, 224)),
        ((None, None), (64, 96), (64, 96)),
        ((None, 6), (64, None), (64, 6)),
        ((None, 6), (None, 6), (224, 6)),
    ],
)
def test_the_size_is_the_files_where_it_fixes_one(fixed, asked, size, adopted):
    found = adopted(_model(("N", 3, *(side or "open" for side in fixed))))
    assert adopt.asked_size(found, *asked, 224) == size


@pytest.mark.parametrize("asked", [(8, 8), (6, 6), (9, None), (None, 7)])
def test_another_size_than_the_file_takes_is_refused(asked, adopted):
    with pytest.raises(UsageError, match="the file takes images of 8x6, not ") as caught:
        adopt.asked_size(adopted(_model()), *asked, 224)
    assert "--resolution" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (_model(inputs=[_value("z", (1, 3))]), "2 inputs and 1 outputs: x, z, y"),
        (_model(outputs=[_value("mid", (1, 3, 1, 1))]), "1 inputs and 2 outputs: x, y, mid"),
        (_model((1, 3, 8)), r"takes 'x' of shape \(1, 3, 8\)"),
        (_model((1, 3, 2, 8, 6)), r"takes 'x' of shape \(1, 3, 2, 8, 6\)"),
        (_model((1, 1, 8, 6)), r"takes 'x' of shape \(1, 1, 8, 6\)"),
        (_model((1, 8, 6, 3)), r"takes 'x' of shape \(1, 8, 6, 3\)"),
        (_model(None), r"takes 'x' of shape \(\)"),
        (_model(kind=TensorProto.FLOAT16), r"in and out \[1, 10\]"),
        (_model(kind=TensorProto.UINT8), r"in and out \[1, 2\]"),
    ],
    ids=["two inputs", "two outputs", "rank 3", "rank 5", "grey", "channels last", "no shape",
         "float16", "uint8"],
)  # fmt: skip
def test_what_is_no_classifier_of_float32_images_is_refused(model, told, adopted):
    with pytest.raises(ExportError, match=rf"foreign\.onnx .*{told}") as caught:
        adopted(model)
    assert "[B, 3, H, W]" in caught.value.hint


def test_an_output_of_another_type_is_refused(adopted):
    model = _model()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(ExportError, match=r"in and out \[1, 7\]"):
        adopted(model)


def test_weights_that_are_listed_as_inputs_are_none(adopted):
    """Files of IR version 3 list every initializer among the inputs."""
    found = adopted(_model(inputs=[_value("w", (3, 5))]))
    assert found.renamed == ("x to images", "y to logits")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("x", "images", "w", "y"), "'x' cannot be renamed to 'images'"),
        (("x", "mid", "images", "y"), "'x' cannot be renamed to 'images'"),
        (("x", "logits", "w", "y"), "'y' cannot be renamed to 'logits'"),
        (("logits", "mid", "w", "images"), "'logits' cannot be renamed to 'images'"),
    ],
    ids=["an inner tensor", "a weight", "an inner tensor, output", "exchanged"],
)
def test_a_name_that_another_tensor_has_is_refused(names, told, adopted):
    with pytest.raises(ExportError, match=f"{told}: another tensor of the file has that name"):
        adopted(_model(names=names))


def _conditional(inner):
    """Return a model with an If whose branches compute `inner` (a node on `x` or on `mid`)."""
    model = _model()
    branch = helper.make_graph([inner], "branch", [], [_value("b", None)])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "flag"))
    node = helper.make_node(
        "If", ["flag"], ["chosen"], name="choice", then_branch=branch, else_branch=branch
    )
    model.graph.node.append(node)
    return model


def test_an_input_that_a_subgraph_reads_is_refused(adopted):
    with pytest.raises(ExportError, match="'x' is read inside a subgraph of node 'choice'"):
        adopted(_conditional(helper.make_node("Neg", ["x"], ["b"])))


def test_an_input_that_a_subgraph_of_a_subgraph_reads_is_refused(adopted):
    inner = _conditional(helper.make_node("Neg", ["x"], ["b"])).graph.node[-1]
    with pytest.raises(ExportError, match="'x' is read inside a subgraph of node 'choice'"):
        adopted(_conditional(inner))


def test_a_subgraph_that_reads_other_tensors_is_no_harm(adopted):
    found = adopted(_conditional(helper.make_node("Neg", ["mid"], ["b"])))
    assert found.model.graph.node[-1].op_type == "If"


def test_weights_in_a_file_beside_it_are_taken_in(adopted, tmp_path):
    model = _model()
    expected = _logits(model, "x")
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    found = adopted(model, **options)
    (tmp_path / "weights.bin").unlink()
    np.testing.assert_array_equal(_logits(found.model, "images"), expected)


def test_a_missing_file_of_weights_is_named(adopted, tmp_path):
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    adopted(_model(), **options)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputFileError, match=r"foreign\.onnx is not complete: .*weights\.bin"):
        adopt.adopt(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_an_input_error(share, adopted, tmp_path):
    adopted(_model())
    path = tmp_path / "foreign.onnx"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputFileError, match=r"foreign\.onnx is not "):
        adopt.adopt(path)


@pytest.mark.parametrize("content", [b"<html></html>", b"PK\x03\x04", b"\x00" * 64])
def test_a_file_of_another_kind_is_an_input_error(content, tmp_path):
    (tmp_path / "page.onnx").write_bytes(content)
    with pytest.raises(InputFileError, match=r"page\.onnx is not "):
        adopt.adopt(tmp_path / "page.onnx")


def test_a_missing_file_and_a_folder_are_input_errors(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    for name, told in (("none.onnx", "No such file"), ("folder.onnx", "Is a directory")):
        with pytest.raises(InputFileError, match=f"cannot read .*{name}: {told}"):
            adopt.adopt(tmp_path / name)
