"""What a graph asks of a board, counted by hand; and what starting a program costs."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elfatt_deploy.device.sim import graph, layer_info
from elfatt_deploy.device.sim.layer_info import Precisions


def _model(node, shapes, output, dtype=TensorProto.FLOAT):
    """Return a graph of one node whose operands after the first are weights."""
    names = [f"in{n}" for n in range(len(shapes))]
    made = helper.make_graph(
        [helper.make_node(node[0], names, ["out"], name="node", **node[1])],
        "one",
        [helper.make_tensor_value_info("in0", dtype, shapes[0])],
        [helper.make_tensor_value_info("out", dtype, output)],
        [
            numpy_helper.from_array(np.zeros(shape, np.float32), name)
            for name, shape in zip(names[1:], shapes[1:], strict=True)
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    ("node", "shapes", "output", "macs"),
    [
        (("MatMul", {}), [(2, 5, 7), (7, 3)], (2, 5, 3), 2 * 5 * 3 * 7),
        (("Gemm", {"transB": 1}), [(4, 6), (8, 6)], (4, 8), 4 * 8 * 6),
        (("Gemm", {"transA": 1}), [(6, 4), (6, 8)], (4, 8), 4 * 8 * 6),
        (("Conv", {"pads": [1, 1, 1, 1]}), [(1, 4, 8, 8), (6, 4, 3, 3)], (1, 6, 8, 8), 6 * 64 * 36),
        (("Conv", {"group": 4}), [(1, 4, 8, 8), (4, 1, 1, 1)], (1, 4, 8, 8), 4 * 64),
        (("ConvTranspose", {}), [(1, 4, 8, 8), (4, 6, 1, 1)], (1, 6, 8, 8), 4 * 64 * 6),
        (("Add", {}), [(2, 3), (2, 3)], (2, 3), 0),
    ],
)
def test_products_are_counted(node, shapes, output, macs):
    (found,) = graph.read_graph(_model(node, shapes, output), {}).nodes
    assert found.macs == macs
    assert found.weight_elements == np.prod(shapes[1])
    assert [tensor.name for tensor in found.inputs] == ["in0"]


def test_bytes_and_products_follow_the_precision():
    made = graph.read_graph(_model(("MatMul", {}), [(2, 8), (8, 4)], (2, 4)), {})
    full = Precisions(fp16=False, tf32=False, islands=(), sm=87)
    half = Precisions(fp16=True, tf32=False, islands=(), sm=87)
    first, second = layer_info.work_of(made, full), layer_info.work_of(made, half)
    assert (first.macs_fp32, first.macs_fp16, first.moved_bytes) == (64, 0, 4 * (32 + 16 + 8))
    assert (second.macs_fp32, second.macs_fp16, second.moved_bytes) == (0, 64, 2 * (32 + 16 + 8))
    assert (first.input_bytes, first.output_bytes) == (64, 32)


def test_an_open_shape_must_be_given():
    model = _model(("MatMul", {}), [("N", 8), (8, 4)], ("N", 4))
    with pytest.raises(ValueError, match="shape of in0"):
        graph.read_graph(model, {})
    made = graph.read_graph(model, {"in0": (3, 8)})
    assert (made.dynamic, made.nodes[0].macs, made.outputs[0].shape) == (("in0",), 96, (3, 4))


@pytest.mark.parametrize("data", [b"", b"\x08\x07garbage"])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(ValueError, match="graph|ONNX"):
        graph.parse_model(data)


def test_layer_information_of_version_11_has_its_own_form():
    made = graph.read_graph(_model(("MatMul", {}), [(2, 8), (8, 4)], (2, 4)), {})
    precisions = Precisions(fp16=False, tf32=False, islands=(), sm=87)
    document = layer_info.document(made, precisions, (11, 4, 0), detailed=True)
    assert document["Layers"][0]["Inputs"][0]["Datatype"] == "Float"
    assert [edge["IOMode"] for edge in document["I/O Tensors"]] == ["Input", "Output"]


def test_a_node_of_a_foreign_op_is_found():
    model = _model(("MatMul", {}), [(2, 8), (8, 4)], (2, 4))
    assert graph.foreign_node(model, None) is None
    assert graph.foreign_node(model, ["MatMul"]) is None
    assert graph.foreign_node(model, ["Add"]).op == "MatMul"
    assert onnx.checker.check_model(model) is None


def test_the_small_programs_start_without_numpy_and_pydantic():
    modules = ("programs", "nvpmodel", "jetson_clocks", "tegrastats", "reboot")
    code = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module("elfatt_deploy.device.sim." + name)
print(sorted({{"numpy", "pydantic", "typer", "onnx", "onnxruntime"}} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (result.stdout.strip(), result.stderr) == ("[]", "")
