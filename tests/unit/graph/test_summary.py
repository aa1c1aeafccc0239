"""What a file holds is read back from the file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from elfatt_deploy.artifacts import TensorInfo
from elfatt_deploy.errors import InputFileError
from elfatt_deploy.graph import summary

RELU = ("Relu", ["x"], ["y"], "relu", {})


@pytest.fixture
def two_layers(onnx_model):
    """Return MatMul, Relu, MatMul on a batch of any size; one weight raw, the other not."""
    raw = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    plain = onnx.helper.make_tensor("v", onnx.TensorProto.FLOAT, [4, 4], [1.0] * 16)
    nodes = [
        ("MatMul", ["x", "w"], ["a"], "first", {}),
        ("Relu", ["a"], ["b"], "relu", {}),
        ("MatMul", ["b", "v"], ["y"], "second", {}),
    ]
    return onnx_model(nodes, ("batch", 4), opset=16, weights=[raw, plain])


def test_a_summary_reads_opset_ops_and_tensors(two_layers):
    found = summary.summarize(two_layers)
    assert (found.opset, found.ir_version, found.nodes) == (16, 8, 3)
    assert found.op_counts == {"MatMul": 2, "Relu": 1}
    assert found.inputs == (TensorInfo(name="x", dtype="float32", shape=("batch", 4)),)
    assert found.outputs == (TensorInfo(name="y", dtype="float32", shape=("batch", 4)),)


def test_weights_count_in_bytes_however_they_are_stored(two_layers):
    assert summary.summarize(two_layers).initializer_bytes == 2 * 4 * 4 * 4


def test_a_weight_that_is_also_an_input_is_no_input(two_layers):
    two_layers.graph.input.append(
        onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, (4, 4))
    )
    assert [tensor.name for tensor in summary.summarize(two_layers).inputs] == ["x"]


@pytest.mark.parametrize("opset", [13, 17])
def test_the_opset_is_that_of_the_default_domain(opset, onnx_model):
    model = onnx_model([RELU], opset=opset)
    model.opset_import.add(domain="com.microsoft", version=99)
    assert summary.opset_of(model) == opset


def test_a_file_that_states_no_opset_has_opset_0(onnx_model):
    model = onnx_model([RELU])
    del model.opset_import[:]
    assert summary.opset_of(model) == 0


def test_a_saved_model_loads(two_layers, tmp_path):
    onnx.save(two_layers, tmp_path / "model.onnx")
    assert summary.load(tmp_path / "model.onnx") == two_layers


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputFileError, match=r"cannot read .*none\.onnx: No such file"):
        summary.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_a_truncated_file_is_named(share, two_layers, tmp_path):
    content, path = two_layers.SerializeToString(), tmp_path / "model.onnx"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputFileError, match=r"model\.onnx is not a"):
        summary.load(path)


@pytest.mark.parametrize("content", [b"hello world", b"<html>404</html>", b"\x00" * 64, b"\n\n"])
def test_a_file_of_another_kind_is_named(content, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"model\.onnx is not a"):
        summary.load(path)


def test_weights_in_a_file_beside_the_model_that_is_gone_are_an_input_error(two_layers, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(two_layers, path, save_as_external_data=True, location="model.data", size_threshold=0)
    (tmp_path / "model.data").unlink()
    with pytest.raises(InputFileError, match=r"model\.data"):
        summary.load(path)
