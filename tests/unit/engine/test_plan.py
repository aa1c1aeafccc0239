"""A plan's manifest: read back whole, and a stranger refused before it is loaded."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from elfatt_deploy.engine import plan, proof
from elfatt_deploy.engine.config import BatchProfile, BuildConfig, BuildDevice
from elfatt_deploy.errors import (
    EngineError,
    InputFileError,
    PlanMismatch,
    SchemaError,
    UsageError,
)

ORIN = BuildDevice(name="Orin", sm=87, memory_bytes=7620 * 2**20)


def _sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def manifest():
    return plan.PlanManifest(
        created="2026-01-01T00:00:00+00:00",
        model="cswin_t_elfatt",
        target="jp6",
        batch="dynamic",
        model_sha256="a" * 64,
        bundle_sha256="b" * 64,
        tensorrt="10.3.0",
        device=ORIN,
        precision="fp16",
        proof="fp16-unproven",
        evidence=proof.prove((), "fp16"),
        typed=True,
        profile=BatchProfile(smallest=1, best=8, largest=16),
        workspace_bytes=2**30,
        attempts=2,
        build_seconds=12.5,
        method="trtexec",
        command=("trtexec", "--onnx=model.onnx"),
        warnings=("one",),
        versions={"python": "3.11"},
        files={"model.plan": _sha256(b"plan"), "layers.json": _sha256(b"{}")},
    )


@pytest.fixture
def folder(tmp_path, manifest):
    (tmp_path / "model.plan").write_bytes(b"plan")
    (tmp_path / "layers.json").write_bytes(b"{}")
    plan.write_manifest(tmp_path, manifest)
    return tmp_path


def test_a_manifest_reads_back_as_it_was_written(folder, manifest):
    for path in (folder, folder / "model.plan"):
        found = plan.read_plan(path)
        assert found.path == folder / "model.plan"
        assert found.manifest == manifest


def _changed(folder, **changes):
    path = folder / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"schema": "elfatt-deploy/bundle"}, "has schema 'elfatt-deploy/bundle'"),
        ({"version": 2}, "schema version 2; this program reads version 1"),
        ({"typed": "perhaps"}, "typed"),
        ({"colour": "red"}, "colour"),
        ({"files": {}}, "does not describe the plan"),
    ],
)
def test_a_manifest_of_another_schema_is_refused(changes, told, folder):
    _changed(folder, **changes)
    with pytest.raises(SchemaError, match=told):
        plan.read_plan(folder)


def test_a_torn_manifest_is_refused(folder):
    (folder / "plan.json").write_text('{"schema": "elfatt')
    with pytest.raises(SchemaError, match="not a JSON document") as caught:
        plan.read_plan(folder)
    assert "build the plan again" in caught.value.hint


def test_a_plan_without_a_manifest_or_of_another_name_is_refused(folder, tmp_path):
    (folder / "other.plan").write_bytes(b"plan")
    with pytest.raises(SchemaError, match=r"does not describe the plan .*other\.plan"):
        plan.read_plan(folder / "other.plan")
    (folder / "plan.json").unlink()
    with pytest.raises(InputFileError, match=r"there is no .*plan\.json"):
        plan.read_plan(folder / "model.plan")


@pytest.mark.parametrize("name", ["model.plan", "layers.json"])
def test_a_changed_or_missing_file_is_refused(name, folder):
    (folder / name).write_bytes(b"changed")
    with pytest.raises(PlanMismatch, match=f"{name} was changed since the build"):
        plan.read_plan(folder)
    (folder / name).unlink()
    with pytest.raises(InputFileError, match=f"lacks {name}"):
        plan.read_plan(folder)


@pytest.mark.parametrize(
    ("tensorrt", "sm", "told"),
    [
        ("10.7.0", 87, "built by TensorRT 10.3.0, here is 10.7.0"),
        ("10.3.1", 87, "here is 10.3.1"),
        ("10.3.0", 110, r"built for Orin \(SM 87\), here is Orin \(SM 110\)"),
    ],
)
def test_a_plan_of_another_tensorrt_or_gpu_is_refused(tensorrt, sm, told, folder):
    device = dataclasses.replace(ORIN, sm=sm)
    with pytest.raises(PlanMismatch, match=told) as caught:
        plan.check_identity(plan.read_plan(folder), tensorrt=tensorrt, device=device)
    assert "elfatt-deploy build" in caught.value.hint


def test_a_plan_of_this_place_passes_and_another_module_of_its_sm_is_noted(folder):
    found = plan.read_plan(folder)
    assert plan.check_identity(found, tensorrt="10.3.0.26", device=ORIN) == ()
    other = dataclasses.replace(ORIN, name="Orin NX")
    (note,) = plan.check_identity(found, tensorrt="10.3.0", device=other)
    assert "tuned on Orin and runs on Orin NX" in note


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(EngineError, match="No such file"):
        plan.write_atomic(tmp_path / "none" / "model.plan", b"plan")
    (tmp_path / "taken").mkdir()
    with pytest.raises(EngineError, match="cannot write .*taken"):
        plan.write_atomic(tmp_path / "taken", b"plan")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_names_tell_plans_and_timings_apart():
    profile = BatchProfile(smallest=1, best=8, largest=16)
    assert plan.folder_name("10.3.0", ORIN, "fp16", None) == "engine-10.3.0-sm87-fp16"
    assert plan.folder_name("10.3.0", ORIN, "fp16", profile) == "engine-10.3.0-sm87-fp16-b1-8-16"
    nano = BuildDevice(name="NVIDIA Tegra X1 (nvgpu)", sm=53, memory_bytes=1)
    assert plan.timing_cache_name("8.2.1", nano, False) == (
        "timing-8.2.1-sm53-nvidia-tegra-x1-nvgpu-flags.cache"
    )
    assert plan.timing_cache_name("8.2.1", nano, True) != plan.timing_cache_name(
        "8.2.1", nano, False
    )


@pytest.mark.parametrize("sizes", [(0, 1, 1), (2, 1, 4), (1, 8, 4)])
def test_a_profile_out_of_order_is_refused(sizes):
    smallest, best, largest = sizes
    with pytest.raises(UsageError, match="optimization profile of batches"):
        BatchProfile(smallest=smallest, best=best, largest=largest)


def test_a_typed_network_takes_no_islands():
    with pytest.raises(UsageError, match="takes its precisions from the file"):
        BuildConfig(precision="fp16", typed=True, islands=("/norm/Pow",))
