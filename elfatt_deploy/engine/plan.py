"""The manifest beside a plan, and the check that a plan belongs here before it is loaded.

A plan is code for one GPU and one TensorRT: loading a stranger fails late or, at worst, runs what
somebody else compiled. The facts are those of `plan.json`, tied to the plan by its digest; the
bytes of a plan have no documented layout, so nothing is read from them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
from pathlib import Path

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import MANIFEST_FILE, MODEL_FILE, Bundle, from_document, to_document
from elfatt_deploy.engine.config import BatchProfile, BuildDevice
from elfatt_deploy.engine.proof import PrecisionProof
from elfatt_deploy.errors import EngineError, InputFileError, PlanMismatch, SchemaError

PLAN_SCHEMA = "elfatt-deploy/plan"
PLAN_VERSION = 1
PLAN_MANIFEST_FILE = "plan.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PlanManifest:
    """What a plan is, where it came from and where it may run.

    Args:
        schema: `PLAN_SCHEMA`.
        version: `PLAN_VERSION`.
        created: when, UTC.
        model: name of the model.
        target: target of the bundle.
        batch: the bundle's batch, or `dynamic`.
        model_sha256: digest of the ONNX file.
        bundle_sha256: digest of the bundle's manifest.
        tensorrt: version that built it, and alone can load it.
        device: the GPU.
        simulated: whether an emulated board built it: no real one can run it.
        precision: what was asked for.
        proof: what the layer information shows: a word of `proof.Verdict`.
        evidence: what that word rests on.
        typed: whether the network was strongly typed.
        islands: ONNX nodes kept in FP32 by constraints.
        profile: batches of a dynamic graph.
        workspace_bytes: the limit in force.
        attempts: builds tried, one more for each halving of the workspace.
        build_seconds: wall-clock time of the last one.
        method: `tensorrt` or `trtexec`.
        command: the command line of trtexec.
        warnings: what the builder warned of.
        versions: of this program and the packages it used.
        files: digest of each file beside the manifest.
    """

    schema: str = PLAN_SCHEMA
    version: int = PLAN_VERSION
    created: str
    model: str
    target: str
    batch: int | str
    model_sha256: str
    bundle_sha256: str
    tensorrt: str
    device: BuildDevice
    simulated: bool = False
    precision: str
    proof: str
    evidence: PrecisionProof | None = None
    typed: bool
    islands: tuple[str, ...] = ()
    profile: BatchProfile | None = None
    workspace_bytes: int
    attempts: int
    build_seconds: float
    method: str
    command: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    files: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan on disk whose digests hold: the file and its manifest."""

    path: Path
    manifest: PlanManifest


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it: whole or not there at all.

    Raises:
        EngineError: the folder cannot be written, or is full.
    """
    work: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        work = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        work.chmod(0o644)  # mkstemp makes it for the owner alone
        os.replace(work, path)
    except OSError as error:
        raise EngineError(
            f"cannot write {path}: {error.strerror or error}",
            hint="make room or choose another folder with -o DIR",
        ) from error
    finally:
        if work is not None:
            work.unlink(missing_ok=True)


def folder_name(
    tensorrt: str, device: BuildDevice, precision: str, profile: BatchProfile | None
) -> str:
    """Return the name of a plan's folder, such as `engine-10.3.0-sm87-fp16`."""
    name = f"engine-{tensorrt}-sm{device.sm}-{precision}"
    return name if profile is None else f"{name}-b{profile}"


def timing_cache_name(tensorrt: str, device: BuildDevice, typed: bool) -> str:
    """Return the file name of the timings that builds of one kind share.

    Timings hold for one TensorRT and one GPU; a typed network asks for other tactics.
    """
    gpu = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    return f"timing-{tensorrt}-sm{device.sm}-{gpu}-{'typed' if typed else 'flags'}.cache"


def write_manifest(folder: Path, manifest: PlanManifest) -> None:
    """Write the manifest, the last file of a plan's folder: without it a plan is not loaded.

    Raises:
        EngineError: the folder cannot be written.
    """
    text = json.dumps(to_document(manifest), indent=1) + "\n"
    write_atomic(folder / PLAN_MANIFEST_FILE, text.encode())


def bundle_digests(bundle: Bundle) -> tuple[str, str]:
    """Return the SHA-256 of a bundle's ONNX file, and that of its manifest."""
    return bundle.manifest.files[MODEL_FILE], bundles.sha256_of(bundle.path / MANIFEST_FILE)


def read_plan(path: Path) -> Plan:
    """Read a plan's manifest and verify the digests of the files beside it.

    Args:
        path: the plan, or its folder.

    Raises:
        InputFileError: there is no plan, or none with a manifest.
        SchemaError: the manifest is torn, of another schema, or of a newer version.
        PlanMismatch: a file was changed since the build.
    """
    folder = path if path.is_dir() else path.parent
    manifest_path = folder / PLAN_MANIFEST_FILE
    if not manifest_path.is_file():
        raise InputFileError(
            f"{path} is no plan of this program: there is no {manifest_path}",
            hint="name a folder that 'elfatt-deploy build' wrote",
        )
    manifest = _read_manifest(manifest_path)
    name = next((n for n in manifest.files if n.endswith(".plan")), None)
    if name is None or (path.is_file() and path.name != name):
        raise SchemaError(f"{manifest_path} does not describe the plan {path}", hint=_AGAIN)
    for file, digest in manifest.files.items():
        if not (folder / file).is_file():
            raise InputFileError(f"{folder} lacks {file}", hint=_AGAIN)
        if bundles.sha256_of(folder / file) != digest:
            raise PlanMismatch(
                f"{folder / file} was changed since the build: its SHA-256 is not the manifest's"
            )
    return Plan(path=folder / name, manifest=manifest)


_AGAIN = "build the plan again: 'elfatt-deploy build BUNDLE'"


def _read_manifest(path: Path) -> PlanManifest:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path} is not a JSON document: {error}", hint=_AGAIN) from error
    found = document.get("schema") if isinstance(document, dict) else None
    if found != PLAN_SCHEMA:
        raise SchemaError(f"{path} has schema {found!r}, not {PLAN_SCHEMA!r}", hint=_AGAIN)
    if document.get("version") != PLAN_VERSION:
        raise SchemaError(
            f"{path} has schema version {document.get('version')}; this program reads version "
            f"{PLAN_VERSION}",
            hint=_AGAIN,
        )
    return from_document(PlanManifest, document, str(path))


def check_identity(
    plan: Plan, *, tensorrt: str, device: BuildDevice, bundle: Bundle | None = None
) -> tuple[str, ...]:
    """Refuse a plan that was not built for this place, before it is loaded.

    Args:
        plan: what `read_plan` gave.
        tensorrt: version that will load it.
        device: GPU that will run it.
        bundle: the bundle it must come from; None where only the plan is at hand.

    Returns:
        What differs and does not forbid loading, a line each.

    Raises:
        PlanMismatch: another TensorRT, another compute capability, or another ONNX file.
    """
    manifest, wrong = plan.manifest, []
    if _release(manifest.tensorrt) != _release(tensorrt):
        wrong.append(f"it was built by TensorRT {manifest.tensorrt}, here is {tensorrt}")
    if manifest.device.sm != device.sm:
        wrong.append(
            f"it was built for {manifest.device.name} (SM {manifest.device.sm}), here is "
            f"{device.name} (SM {device.sm})"
        )
    if bundle is not None and manifest.model_sha256 != bundle.manifest.files[MODEL_FILE]:
        wrong.append(f"its ONNX file is not that of {bundle.path}")
    if wrong:
        raise PlanMismatch(f"{plan.path} does not belong here: {'; '.join(wrong)}")
    notes = []
    if manifest.device.name != device.name:
        notes.append(
            f"the plan was tuned on {manifest.device.name} and runs on {device.name}: same SM, but "
            "its tactics may not be the fastest here"
        )
    if bundle is not None and manifest.bundle_sha256 != bundle_digests(bundle)[1]:
        notes.append(f"the manifest of {bundle.path} was written again since the build")
    return tuple(notes)


def _release(version: str) -> tuple[str, ...]:
    """Return major, minor and patch: the fourth number is a build of the same release."""
    return tuple(version.split(".")[:3])
