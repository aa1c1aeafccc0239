"""Simulated boards in a temporary folder, and a graph small enough for each of them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from elfatt_deploy.device.sim.board import SimulatedBoard


@pytest.fixture
def make_board(tmp_path, monkeypatch):
    """Return a function from a name and faults to a board that reboots at once."""
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_REBOOT_S", "0")
    monkeypatch.delenv("ELFATT_DEPLOY_SIM_FAULTS", raising=False)

    def make(name, *faults, **settings):
        return SimulatedBoard(name, tmp_path / "boards" / name, faults, **settings)

    return make


@pytest.fixture
def say():
    """Return a function that runs a program on a board and gives what it said, line by line."""

    def run(board, *command, **settings):
        with board.open() as transport:
            result = transport.run(command, timeout_s=60, **settings)
        return result.status, result.stdout.splitlines(), result.stderr.splitlines()

    return run


@pytest.fixture
def onnx_file(tmp_path):
    """Return a function that writes a classifier: a convolution, a ReLU, a product."""

    def write(name="model.onnx", half=False, batch=2, extra=None):
        chance = np.random.default_rng(0)
        dtype, type_ = (
            (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
        )
        kernel = (chance.standard_normal((4, 3, 3, 3)) / 5).astype(dtype)
        weight = (chance.standard_normal((4 * 16 * 16, 10)) / 30).astype(dtype)
        nodes = [
            helper.make_node("Cast", ["images"], ["x"], name="cast_in", to=type_),
            helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node(extra or "Relu", ["c"], ["r"], name="middle"),
            helper.make_node("Flatten", ["r"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "weight"], ["y"], name="head"),
            helper.make_node("Cast", ["y"], ["logits"], name="cast_out", to=TensorProto.FLOAT),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, 16, 16])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])],
            [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def trtexec(say):
    """Return a function that runs trtexec with short times and gives status and both streams."""

    def run(board, *options, quick=True):
        short = ("--duration=0.1", "--warmUp=20") if quick else ()
        return say(board, "trtexec", *options, *short)

    return run


@pytest.fixture
def build(trtexec, onnx_file, tmp_path):
    """Return a function that builds the plan of the classifier on a board."""

    def make(board, *options, model=None):
        plan = tmp_path / f"{board.name}.plan"
        only = "--buildOnly" if board.machine.facts.version < (8, 6) else "--skipInference"
        model = model or onnx_file()
        status, _, stderr = trtexec(
            board, f"--onnx={model}", f"--saveEngine={plan}", only, *options, quick=False
        )
        assert (status, stderr) == (0, [])
        return plan

    return make
