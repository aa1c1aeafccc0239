"""The build in process on TensorRT for RTX: real bindings, parser and builder, without a GPU.

Its Python surface is that of TensorRT 11. What it builds cannot be loaded without a GPU, so the
layer information, which needs the loaded engine, is left out.
"""

from __future__ import annotations

import sys

import pytest

from elfatt_deploy.engine import builder, messages, network
from elfatt_deploy.engine.config import BatchProfile, BuildConfig, BuildDevice
from elfatt_deploy.errors import EngineError

rtx = pytest.importorskip("tensorrt_rtx", reason="needs the rtx extra")

DEVICE = BuildDevice(name="RTX", sm=86, memory_bytes=8 << 30)


@pytest.fixture
def build(monkeypatch, onnx_model, tmp_path):
    """Return a function that builds a tiny graph into a folder of its own."""
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr(builder, "_layer_information", lambda trt, plan, log: "")

    def run(nodes=(("Softmax", ["x"], ["y"], "/soft", {}),), shape=(1, 4, 64), **changes):
        path = tmp_path / "model.onnx"
        path.write_bytes(onnx_model(nodes, shape).SerializeToString())
        progress = changes.pop("progress", lambda stage: None)
        config = BuildConfig(**{"precision": "fp32", "typed": True, **changes})
        return builder.build(path, config, tmp_path, progress, device=DEVICE)

    return run


def test_a_plan_is_built_and_its_progress_told(build):
    stages = []
    built = build(progress=stages.append)
    assert built.plan.stat().st_size > 1000
    assert (built.tensorrt, built.typed, built.attempts) == (rtx.__version__, True, 1)
    assert any(" of " in stage for stage in stages)


def test_a_dynamic_batch_takes_its_profile(build):
    profile = BatchProfile(smallest=1, best=2, largest=4)
    assert build(shape=("batch", 4, 64), profile=profile).plan.is_file()
    with pytest.raises(EngineError, match="the batch of the graph is dynamic"):
        build(shape=("batch", 4, 64))


def test_a_parser_error_names_its_node_once(build, tmp_path):
    with pytest.raises(EngineError) as caught:
        build(nodes=(("Nonsense", ["x"], ["y"], "/odd", {}),))
    (line,) = caught.value.message.splitlines()[1:]
    assert line.startswith("  node 0, /odd, op Nonsense: ")
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_timing_cache_that_is_torn_is_replaced(build, tmp_path):
    cache = tmp_path / "timing.cache"
    cache.write_bytes(b"no cache at all")
    built = build(timing_cache=cache)
    assert "The timing cache will not be used!" in built.warnings
    assert cache.read_bytes().startswith(b"ptrt")


def test_ctrl_c_in_the_progress_ends_the_build(build, tmp_path):
    def progress(stage):
        if " of " in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(progress=progress)
    assert not (tmp_path / "model.plan").exists()


@pytest.mark.parametrize("opset", [13, 17])
def test_the_parser_names_a_layer_after_every_node(opset, small_net, tmp_path):
    """Islands are matched by these names, on the versions that have precision constraints."""
    torch = pytest.importorskip("torch")
    from elfatt_deploy.export import exporter, rewrites
    from elfatt_deploy.graph import simplify

    traced = exporter.onnx_from_torch(
        rewrites.rewritten(small_net()),
        torch.zeros(1, 3, 64, 64),
        opset=opset,
        dynamic_batch=False,
    )
    proto = simplify.simplified(traced)
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    log = messages.Log(rtx)
    net = rtx.Builder(log.logger).create_network(0)
    network.parse(rtx, net, path, log)
    layers = {net.get_layer(index).name for index in range(net.num_layers)}
    assert len(proto.graph.node) > 200
    assert {node.name for node in proto.graph.node} <= layers
