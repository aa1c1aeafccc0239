"""A simulated build, driven by the code that drives real boards, and by hand."""

import json
import re

import pytest

from elfatt_deploy.device.sim.trtexec_options import known_options
from elfatt_deploy.engine import dialects, layers, proof, trtexec
from elfatt_deploy.engine.config import BatchProfile, BuildConfig
from elfatt_deploy.errors import EngineError

#: a board of each TensorRT version
BOARDS = {
    "nano": "8.2.1", "tx2": "8.2.1", "xavier-nx": "8.5.2", "agx-orin-64gb": "10.3.0",
    "agx-thor": "10.13.3",
}  # fmt: skip


def _build(board, model, folder, precision, typed, **settings):
    config = BuildConfig(precision=precision, typed=typed, **settings)
    said = []
    with board.open() as transport:
        plan = trtexec.build(model, config, folder, transport=transport, progress=said.append)
    return plan, said


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_our_builder_gets_a_plan_whose_precision_is_proved(
    name, precision, make_board, onnx_file, tmp_path
):
    board = make_board(name)
    typed = board.machine.facts.version >= (9,)
    model = onnx_file(half=precision == "fp16" and typed)
    cache = tmp_path / "timing.cache"
    plan, said = _build(board, model, tmp_path / "out", precision, typed, timing_cache=cache)
    assert plan.tensorrt == BOARDS[name]
    assert (plan.device.sm, plan.attempts, plan.warnings) == (board.machine.facts.sm, 1, ())
    assert plan.device.name.endswith("(simulated)")
    assert said[0] == "parsing the ONNX file"
    assert said[-1] == "saving the engine"
    proved = proof.prove(layers.read_layers(plan.layers), precision)
    assert (proved.verdict, proved.proved, proved.deciding) == (precision, True, 2)
    assert cache.read_text().startswith("elfatt-deploy simulated timing cache")
    assert b"simulated plan" in plan.plan.read_bytes()[:40]


@pytest.mark.parametrize("name", ["xavier-nx", "agx-orin-64gb"])
def test_islands_of_an_fp16_build_stay_fp32(name, make_board, onnx_file, tmp_path):
    plan, _ = _build(
        make_board(name), onnx_file(), tmp_path / "o", "fp16", False, islands=("head",)
    )
    found = {layer.nodes[0]: layer.precision for layer in layers.read_layers(plan.layers)}
    assert (found["conv"], found["head"]) == ("fp16", "fp32")


def test_tf32_is_used_where_it_is_allowed_and_the_gpu_has_it(make_board, onnx_file, tmp_path):
    for name, verdict in (("agx-orin-64gb", "tf32"), ("xavier-nx", "fp32")):
        plan, _ = _build(make_board(name), onnx_file(), tmp_path / name, "tf32", False)
        assert proof.prove(layers.read_layers(plan.layers), "tf32").verdict == verdict


def test_a_dynamic_batch_needs_its_profile(make_board, onnx_file, tmp_path, trtexec):
    model, board = onnx_file(batch="N"), make_board("agx-orin-64gb")
    _, _, stderr = trtexec(board, f"--onnx={model}", "--skipInference")
    assert any("no shapes were provided" in line for line in stderr)
    profile = BatchProfile(smallest=1, best=2, largest=4)
    config = BuildConfig(precision="fp32", typed=False, profile=profile)
    from elfatt_deploy.engine import trtexec as builder

    with board.open() as transport:
        plan = builder.build(
            model, config, tmp_path / "out", transport=transport, image=(3, 16, 16)
        )
    status, stdout, _ = trtexec(board, f"--loadEngine={plan.plan}", "--shapes=images:4x3x16x16")
    assert status == 0
    assert any("dimensions 4x3x16x16" in line for line in stdout)
    status, _, stderr = trtexec(board, f"--loadEngine={plan.plan}", "--shapes=images:5x3x16x16")
    assert status == 1
    assert "does not satisfy the optimization profile" in stderr[0]


def test_shapes_for_a_fixed_graph_are_refused(make_board, onnx_file, trtexec):
    status, _, stderr = trtexec(
        make_board("agx-orin-64gb"), f"--onnx={onnx_file()}", "--optShapes=images:2x3x16x16"
    )
    assert status == 1
    assert "Static model does not take explicit shapes" in stderr[0]


def test_an_op_that_the_version_lacks_is_named_by_our_parser(make_board, onnx_file, tmp_path):
    model = onnx_file(extra="HardSwish")
    with pytest.raises(EngineError, match="node 2, middle, op HardSwish: .*Plugin not found"):
        _build(make_board("nano"), model, tmp_path / "out", "fp32", False)
    _build(make_board("xavier-nx"), model, tmp_path / "out", "fp32", False)


def test_a_file_that_is_no_onnx_is_refused(make_board, tmp_path):
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x07garbage")
    with pytest.raises(EngineError, match="Failed to parse"):
        _build(make_board("nano"), tmp_path / "torn.onnx", tmp_path / "out", "fp32", False)


@pytest.mark.parametrize("name", BOARDS)
def test_options_of_other_versions_are_unknown(name, make_board, trtexec):
    board = make_board(name)
    status, stdout, stderr = trtexec(board, "--onnx=x", "--nonsense=3", "--cpuOnly", quick=False)
    assert status == 1
    assert [re.sub(r"^\[.*?\] ", "", line) for line in stderr] == [
        "[E] Unknown option: --nonsense 3", "[E] Unknown option: --cpuOnly ",
    ]  # fmt: skip
    assert stdout[-1].startswith("&&&& FAILED TensorRT.trtexec")
    assert any("Model Options" in line for line in stdout)


def test_the_options_follow_the_table_of_versions():
    assert "--workspace" in known_options((8, 2, 1))
    assert "--memPoolSize" not in known_options((8, 2, 1))
    assert "--workspace" not in known_options((10, 3, 0))
    assert "--buildOnly" in known_options((8, 5, 2))
    assert "--builderOptimizationLevel" not in known_options((8, 5, 2))
    assert known_options((10, 13, 3)) == known_options((10, 13, 0))


def test_a_real_option_that_is_not_emulated_is_refused_and_not_passed_over(make_board, trtexec):
    status, _, stderr = trtexec(make_board("nano"), "--onnx=x", "--int8", quick=False)
    assert status == 1
    assert "does not emulate the option --int8" in stderr[0]


@pytest.mark.parametrize("name", BOARDS)
def test_the_help_begins_with_the_banner_of_the_version(name, make_board, say):
    status, stdout, _ = say(make_board(name), "trtexec", "--help")
    assert status == 0
    assert dialects.version_from_banner(stdout[0]) == BOARDS[name]


def test_names_only_without_detailed_verbosity(make_board, build, tmp_path):
    build(make_board("nano"), f"--exportLayerInfo={tmp_path / 'l.json'}")
    found = json.loads((tmp_path / "l.json").read_text())
    assert found["Layers"] == ["cast_in", "conv", "middle", "head", "cast_out"]
    assert found["Bindings"] == ["images", "logits"]


def test_a_timing_cache_of_another_board_is_not_used(make_board, onnx_file, tmp_path, trtexec):
    cache = tmp_path / "cache"
    options = (f"--onnx={onnx_file()}", f"--timingCacheFile={cache}")
    trtexec(make_board("nano"), *options, "--buildOnly", quick=False)
    _, stdout, _ = trtexec(make_board("nano"), *options, "--buildOnly", quick=False)
    assert any("Loaded" in line and "timing cache" in line for line in stdout)
    _, _, stderr = trtexec(make_board("agx-orin-64gb"), *options, "--skipInference", quick=False)
    assert "of another device or version" in stderr[0]


def test_nothing_to_do_is_a_failure(make_board, trtexec):
    status, _, stderr = trtexec(make_board("nano"))
    assert status == 1
    assert "Model missing" in stderr[0]
