"""A plan is held against the golden outputs like every other back end; the GPU is a fake."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from elfatt_deploy import artifacts, bundles
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.errors import PlanMismatch
from elfatt_deploy.golden import GoldenInputs, write_golden
from elfatt_deploy.parity import prove


@pytest.fixture
def bundle(fake, tmp_path):
    """Return a function that makes a bundle with the golden logits of the fake, plus some."""

    def make(added=0.0):
        path = fake("bundle").write(tmp_path / "bundle", precision="fp16", batch="dynamic")
        images = np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32)
        logits = fake("tensorrt_runtime").logits(images).astype(np.float32) + np.float32(added)
        names = ("a", "b", "c", "d")
        inputs = GoldenInputs(images=images, names=names, sets=("photos",) * 4)
        write_golden(path / artifacts.GOLDEN_FILE, inputs, logits, {})
        manifest = artifacts.from_document(
            artifacts.BundleManifest, bundles.read_document(path / "manifest.json"), "here"
        )
        files = {name: bundles.sha256_of(path / name) for name in manifest.files}
        bundles.write_manifest(path, dataclasses.replace(manifest, files=files))
        return bundles.read_bundle(path)

    return make


@pytest.fixture
def plan(fake, tensorrt_surface, monkeypatch):
    """Return a function that writes the plan of a bundle, on a machine with a fake GPU."""

    def make(bundle, version="10.3.0"):
        machine = fake("cuda_machine").Machine()
        modules = {"pycuda": None, **fake("cuda_python").modules(machine)}
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        behaviours, _ = fake("tensorrt_runtime").behaviours(machine)
        trt = tensorrt_surface(version, behaviours)
        folder = bundle.path / "engine"
        folder.mkdir()
        data = fake("tensorrt_runtime").PLAN
        (folder / "model.plan").write_bytes(data)
        model_digest, bundle_digest = plans.bundle_digests(bundle)
        manifest = plans.PlanManifest(
            created="2026-01-01T00:00:00+00:00",
            model="tiny",
            target="jp6",
            batch="dynamic",
            model_sha256=model_digest,
            bundle_sha256=bundle_digest,
            tensorrt=trt.__version__,
            device=plans.BuildDevice(name="NVIDIA Fake", sm=87, memory_bytes=8 << 30),
            precision="fp16",
            proof="fp16",
            typed=True,
            profile=plans.BatchProfile(smallest=1, best=2, largest=4),
            workspace_bytes=1 << 30,
            attempts=1,
            build_seconds=1.0,
            method="tensorrt",
            versions={},
            files={"model.plan": bundles.sha256_of(folder / "model.plan")},
        )
        plans.write_manifest(folder, manifest)
        return folder

    return make


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1", "10.3.0", "11.4"])
def test_a_plan_that_gives_the_golden_logits_passes_at_both_batches(version, bundle, plan):
    whole = bundle()
    report = prove.prove_plan(whole, plan(whole, version))
    assert report.passed
    assert report.candidate.startswith("trt (TensorRT ")
    assert [row.batch for row in report.rows] == [1, 3]
    assert report.tolerance.relative_l2 == 5e-3


def test_a_plan_that_is_off_fails(bundle, plan):
    whole = bundle(added=0.5)
    assert not prove.prove_plan(whole, plan(whole)).passed


def test_a_plan_of_another_bundle_is_refused(bundle, plan):
    whole = bundle()
    folder = plan(whole)
    manifest = bundles.read_document(Path(folder) / "plan.json")
    manifest["model_sha256"] = "1" * 64
    (folder / "plan.json").write_text(json.dumps(manifest))
    with pytest.raises(PlanMismatch):
        prove.prove_plan(whole, folder)
