"""The manifest of a bundle that was just proved."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from pathlib import Path

from elfatt_deploy import __version__, artifacts, bundles
from elfatt_deploy.artifacts import BundleManifest, GraphSummary, PrecisionMap
from elfatt_deploy.pipeline.records import ExportPlan, Outcome

_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxslim", "numpy", "timm")


def manifest_of(
    plan: ExportPlan,
    folder: Path,
    graph: GraphSummary,
    taps: tuple[str, ...],
    outcome: Outcome,
    exporter: str,
    rewrites: tuple[str, ...],
    precision_map: PrecisionMap | None,
) -> BundleManifest:
    """Return the manifest of the files in `folder`."""
    return BundleManifest(
        schema=artifacts.MANIFEST_SCHEMA,
        version=artifacts.MANIFEST_VERSION,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=plan.identity,
        weights=plan.weights,
        precision=plan.precision,
        target=plan.target.name,
        batch=plan.batch,
        preprocessing=plan.preprocessing,
        counts=plan.counts,
        graph=graph,
        rewrites=rewrites,
        exporter=exporter,
        image_source=plan.image_source,
        taps=taps,
        parity=outcome.parity,
        precision_map=precision_map,
        emulation=outcome.emulation,
        versions=versions(),
        files={
            name: bundles.sha256_of(folder / name)
            for name in (artifacts.MODEL_FILE, artifacts.GOLDEN_FILE)
        },
    )


def versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str]:
    """Return the versions of this program, of Python and of the packages that are installed."""
    found = {"elfatt-deploy": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
