"""`build`, as a user runs it: with a TensorRT of the tests, and with none."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from elfatt_deploy.engine import plan
from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.pipeline import building

ORIN = BuildDevice(name="Orin", sm=87, memory_bytes=7620 * 2**20)


@pytest.fixture
def bundle(fake, tmp_path):
    """Return a function that writes a bundle without a real model."""
    return lambda **changes: fake("bundle").write(tmp_path / "tiny-64x96", **changes)


@pytest.fixture
def world(fake, tensorrt_surface, monkeypatch):
    """Return a function that installs a fake TensorRT and an Orin."""
    scene = fake("tensorrt_builder")
    monkeypatch.setattr(building.gpu, "present", lambda: ORIN)

    def make(version, **given):
        made = scene.World(**given)
        made.trt = tensorrt_surface(version, scene.behaviours(made))
        return made

    return make


@pytest.fixture
def nothing(monkeypatch):
    """Make the package and the command absent."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(building.shutil, "which", lambda name: None)


def _engine(datatype):
    tensor = {"Name": "x", "Dimensions": [1, 8], "Format/Datatype": datatype}
    layer = {"LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor], "TacticName": ""}
    return json.dumps({"Layers": [{"Name": "/head/MatMul", **layer}]})


def test_a_plan_is_built_shown_and_named(cli, world, bundle):
    world("10.3.0", information=_engine("Half"))
    result = cli("build", bundle(precision="fp16"))
    assert (result.code, result.err) == (0, "")
    row = next(line for line in result.out.splitlines() if "Orin" in line)
    assert row.split() == ["10.3.0", "Orin", "87", "fp16", "fp16", "tensorrt", "1024.0", "0.0"]
    assert "1 of 1 layers hold products" in result.out
    assert "engine-10.3.0-sm87-fp16/model.plan" in result.out.replace("\n", "")


def test_the_document_holds_the_manifest(cli, world, bundle):
    world("8.2.1", information="")
    folder = bundle(target="jp4")
    result = cli("build", folder, "--json", "--workspace", "256", "--precision", "fp16")
    assert result.code == 0
    document = json.loads(result.out)
    assert document["schema"] == "elfatt-deploy/build"
    assert document["plan"] == str(folder / "engine-8.2.1-sm87-fp16" / "model.plan")
    manifest = document["manifest"]
    assert manifest == json.loads(
        (folder / "engine-8.2.1-sm87-fp16" / "plan.json").read_text(encoding="utf-8")
    )
    assert manifest["workspace_bytes"] == 256 * 2**20
    assert (manifest["proof"], manifest["typed"]) == ("fp16-unproven", False)
    assert "no precision map" in result.err
    assert "fp16 was asked for and the layers show fp16-unproven" in result.err


def test_an_fp16_engine_that_is_fp32_is_exit_code_1(cli, world, bundle):
    world("10.3.0", information=_engine("Float"))
    result = cli("build", bundle(precision="fp16"))
    assert result.code == 1
    assert "fp16 was asked for and the layers show fp32" in result.err


def test_quiet_silences_the_warnings_and_not_their_record(cli, world, bundle):
    def build(world, attempt):
        for number in range(7):
            world.log("WARNING", f"warning {number}")
        return b"plan"

    world("10.3.0", information=_engine("Float"), build=build)
    folder = bundle()
    loud = cli("build", folder)
    assert loud.err.count("warning: ") == 5
    assert "2 more warnings stand in plan.json" in loud.err
    quiet = cli("build", folder, "--quiet")
    assert quiet.err == ""
    kept = json.loads((folder / "engine-10.3.0-sm87-fp32" / "plan.json").read_text())
    assert kept["warnings"] == [f"warning {number}" for number in range(7)]


def test_batches_of_a_dynamic_bundle_reach_the_profile(cli, world, bundle):
    here = world("10.3.0", information="", shape=(-1, 3, 64, 96))
    assert cli("build", bundle(batch="dynamic"), "--batch", "1-4-8").code == 0
    (profile,) = here.last("IBuilderConfig")._profiles
    assert profile._shapes == {"images": ((1, 3, 64, 96), (4, 3, 64, 96), (8, 3, 64, 96))}


def test_without_tensorrt_one_error_names_both_builders_and_doctor(cli, nothing, bundle):
    result = cli("build", bundle())
    assert (result.code, result.out) == (3, "")
    assert result.err.count("error:") == 1
    for told in ("the package 'tensorrt' is not installed", "'trtexec'", "doctor"):
        assert told in result.err


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--builder", "nvcc"), 2, "unknown builder 'nvcc'"),
        (("--precision", "int8"), 2, "unknown precision 'int8'"),
        (("--device", "board"), 2, "--device board is no device"),
        (("--device", "sim:nano", "--builder", "tensorrt"), 2, "leave --builder away"),
        (("--batch", "1-2"), 2, "--batch 1-2 is not a batch"),
        (("--batch", "4-2-1"), 2, "an optimization profile of batches 4, 2 and 1"),
        (("--batch", "2"), 2, "has batch 1 and no other"),
        (("--workspace", "0"), 2, "--workspace"),
        (("--builder", "trtexec"), 3, "'trtexec' is neither on PATH"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_built_has_its_exit_code(options, code, told, cli, nothing, bundle):
    result = cli("build", bundle(), *options)
    assert (result.code, result.out) == (code, "")
    assert told in result.err


def test_what_is_no_bundle_is_exit_code_3(cli, tmp_path):
    result = cli("build", tmp_path)
    assert (result.code, result.out) == (3, "")
    assert "is not a bundle" in result.err


@pytest.mark.parametrize(
    ("version", "target", "sm"), [("8.2.1", "jp4", 53), ("10.3.0", "jp6", 87)], ids=["jp4", "jp6"]
)
def test_trtexec_on_path_builds_the_same_kind_of_plan(
    version, target, sm, cli, bundle, tmp_path, monkeypatch
):
    tests = Path(__file__).parents[1]
    settings = {
        "version": version,
        "column": version,
        "scenario": "success",
        "data": str(tests / "data" / "trtexec"),
        "runs": str(tmp_path / "runs.jsonl"),
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "trtexec"
    script = (sys.executable, tests / "fakes" / "trtexec_replay.py", tmp_path / "settings.json")
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, script))} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    result = cli("build", bundle(target=target), "--json")
    document = json.loads(result.out)
    manifest = document["manifest"]
    assert manifest["method"] == "trtexec"
    assert manifest["command"][0] == str(program)
    assert (manifest["tensorrt"], manifest["device"]["sm"]) == (version, sm)
    assert set(manifest["files"]) == {"model.plan", "layers.json"}
    # The replay gives the layers of an FP16 engine whatever is asked for.
    assert (manifest["precision"], manifest["proof"], result.code) == ("fp32", "fp16", 1)
    assert plan.read_plan(Path(document["plan"])).manifest.tensorrt == version
