"""A bundle whose golden logits are those of the fake engines, and a plan of it inside.

`images` are [B, 3, 4, 4], `logits` [B, 2] the sum of an image and its negative; see
`tensorrt_runtime.py` and `trtexec_runs.py`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from elfatt_deploy import artifacts, bundles
from elfatt_deploy import golden as golden_files
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine.config import BatchProfile, BuildDevice

_SPEC = importlib.util.spec_from_file_location("fake_bundle", Path(__file__).parent / "bundle.py")
_BUNDLE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_BUNDLE)


def write(folder, *, wrong=False, precision="fp32"):
    """Write the bundle and return its folder; `wrong` puts the logits in the other order."""
    _BUNDLE.write(folder, precision=precision, batch="dynamic")
    images = np.random.default_rng(0).standard_normal((4, 3, 4, 4)).astype(np.float32)
    sums = images.reshape(4, -1).sum(1)
    logits = np.stack([-sums, sums] if wrong else [sums, -sums], 1)
    names = tuple(f"image {n}" for n in range(4))
    inputs = golden_files.GoldenInputs(images=images, names=names, sets=("noise",) * 4)
    golden_files.write_golden(folder / artifacts.GOLDEN_FILE, inputs, logits, {})
    manifest = bundles.read_document(folder / artifacts.MANIFEST_FILE)
    digest = bundles.sha256_of(folder / artifacts.GOLDEN_FILE)
    files = {**manifest["files"], artifacts.GOLDEN_FILE: digest}
    known = artifacts.from_document(artifacts.BundleManifest, manifest, "the test")
    bundles.write_manifest(folder, dataclasses.replace(known, files=files))
    return folder


def write_plan(bundle, *, tensorrt, sm=87, data=b"ftrt plan", simulated=False, name="plan"):
    """Write a plan of the bundle into it, as `build` would, and return its folder."""
    folder = bundle / name
    folder.mkdir()
    (folder / "model.plan").write_bytes(data)
    found = bundles.read_bundle(bundle)
    model, manifest = plans.bundle_digests(found)
    plans.write_manifest(
        folder,
        plans.PlanManifest(
            created="2026-01-01T00:00:00+00:00",
            model="tiny",
            target="jp6",
            batch="dynamic",
            model_sha256=model,
            bundle_sha256=manifest,
            tensorrt=tensorrt,
            device=BuildDevice(name="NVIDIA Fake", sm=sm, memory_bytes=8 << 30),
            simulated=simulated,
            precision="fp16",
            proof="fp16",
            typed=True,
            profile=BatchProfile(smallest=1, best=2, largest=4),
            workspace_bytes=1 << 30,
            attempts=1,
            build_seconds=1.0,
            method="trtexec",
            versions={},
            files={"model.plan": hashlib.sha256(data).hexdigest()},
        ),
    )
    return folder
