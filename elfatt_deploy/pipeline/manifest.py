"""The manifest of a bundle that was just proved."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import elfatt_deploy
from elfatt_deploy import __version__, artifacts, bundles, units
from elfatt_deploy.artifacts import (
    BundleManifest,
    GraphSummary,
    PluginUse,
    PrecisionMap,
    Unavailable,
)
from elfatt_deploy.errors import CommandError
from elfatt_deploy.models import plugin_node
from elfatt_deploy.pipeline.records import ExportPlan, Outcome
from elfatt_deploy.results.parts import GitState
from elfatt_deploy.transport.local import Local

_GIT_TIMEOUT_S = 10.0
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
    plugin: PluginUse | None = None,
) -> BundleManifest:
    """Return the manifest of the files in `folder`."""
    return BundleManifest(
        schema=artifacts.MANIFEST_SCHEMA,
        version=artifacts.MANIFEST_VERSION,
        created=units.now(),
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
        plugin=plugin,
        versions=versions(),
        files={
            name: bundles.sha256_of(folder / name)
            for name in (artifacts.MODEL_FILE, artifacts.GOLDEN_FILE)
        },
    )


def plugin_use(nodes: int, blocks: int) -> PluginUse:
    """Return what a bundle says of the plugin that `nodes` of its attention blocks use."""
    return PluginUse(
        name=plugin_node.DOMAIN,
        op=plugin_node.OP,
        version=plugin_node.PLUGIN_VERSION,
        namespace=plugin_node.PLUGIN_NAMESPACE,
        library=plugin_node.LIBRARY,
        nodes=nodes,
        blocks=blocks,
        verified="ONNX Runtime ran the node's body in plain ops, not the plugin's kernels",
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


def git_state() -> GitState | Unavailable:
    """Return the checkout that this program was started from."""
    root = Path(elfatt_deploy.__file__).parents[1]
    absent = Unavailable(reason="not a git checkout")
    if not (root / ".git").exists():
        return absent
    git = ("git", "-C", str(root))
    try:
        commit = Local().run((*git, "rev-parse", "HEAD"), timeout_s=_GIT_TIMEOUT_S)
        changed = Local().run((*git, "status", "--porcelain"), timeout_s=_GIT_TIMEOUT_S)
    except CommandError as error:
        return Unavailable(reason=error.message)
    if commit.status or changed.status:
        return absent
    return GitState(commit=commit.stdout.strip(), dirty=bool(changed.stdout.strip()))
