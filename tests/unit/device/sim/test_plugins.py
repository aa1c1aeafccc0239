"""A simulated trtexec and a graph with a node of the plugin."""

from __future__ import annotations

import json

import numpy as np
import pytest

from elfatt_deploy.models.plugin_node import LIBRARY
from elfatt_deploy.runners.ort_runner import OrtRunner

#: options that load a library, by board
OPTION = {"nano": "--plugins", "agx-orin-64gb": "--staticPlugins"}
ONLY_BUILD = {"nano": "--buildOnly", "agx-orin-64gb": "--skipInference"}


@pytest.fixture
def graph(fake, tmp_path):
    """Return a file with one node, of a batch of 2."""
    model = fake("plugin_graph").model(opset=13)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def library(tmp_path):
    path = tmp_path / f"0-{LIBRARY}"
    path.write_bytes(b"nothing loads it")
    return path


@pytest.mark.parametrize("name", OPTION)
def test_without_the_library_no_importer_takes_the_node(name, make_board, say, graph, tmp_path):
    other = tmp_path / "libother.so"
    other.touch()
    for more in ((), (f"{OPTION[name]}={other}",)):
        status, stdout, stderr = say(make_board(name), "trtexec", f"--onnx={graph}", *more)
        said = "\n".join((*stdout, *stderr))
        assert status == 1
        assert 'op_type: "ElfattAttention"' in said
        assert "Plugin not found, are the plugin name, version, and namespace correct?" in said


@pytest.mark.parametrize("name", OPTION)
def test_a_library_that_is_not_there_fails(name, make_board, say, graph, tmp_path):
    option = f"{OPTION[name]}={tmp_path / LIBRARY}"
    status, stdout, stderr = say(make_board(name), "trtexec", f"--onnx={graph}", option)
    assert status == 1
    assert f"Could not load library {tmp_path / LIBRARY}" in "\n".join((*stdout, *stderr))


@pytest.mark.parametrize("name", OPTION)
def test_with_the_library_the_plain_ops_run_and_the_node_stays_a_layer(
    name, make_board, say, graph, library, tmp_path
):
    board, option = make_board(name), f"{OPTION[name]}={library}"
    plan, layers = tmp_path / "model.plan", tmp_path / "layers.json"
    built = say(
        board, "trtexec", f"--onnx={graph}", f"--saveEngine={plan}", option, ONLY_BUILD[name],
        "--profilingVerbosity=detailed", f"--exportLayerInfo={layers}",
    )  # fmt: skip
    assert built[0] == 0, built
    (layer,) = json.loads(layers.read_text())["Layers"]
    assert (layer["Name"], layer["LayerType"]) == ("attend", "PluginV2")
    qkv = np.random.default_rng(1).standard_normal((2, 30, 96)).astype(np.float32)
    (tmp_path / "qkv.bin").write_bytes(qkv.tobytes())
    out = tmp_path / "out.json"
    run = ("trtexec", f"--loadEngine={plan}", f"--loadInputs='qkv':{tmp_path / 'qkv.bin'}",
           f"--exportOutput={out}", "--duration=0", "--iterations=1", "--warmUp=0")  # fmt: skip
    status, stdout, stderr = say(board, *run)
    assert status == 1
    assert "could not find plugin: ElfattAttention version: 1" in "\n".join((*stdout, *stderr))
    assert say(board, *run, option)[0] == 0
    with OrtRunner(str(graph)) as runner:
        expected = runner.infer({"qkv": qkv})["out"].reshape(-1)
    found = json.loads(out.read_text())[0]["values"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
