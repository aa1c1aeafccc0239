"""Which bundle or plan a cell of `bench` is, what it runs in, what is refused, what is proved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from elfatt_deploy import bundles, recipes
from elfatt_deploy.artifacts import MANIFEST_FILE, MODEL_FILE, Bundle, Unavailable
from elfatt_deploy.bench import contracts
from elfatt_deploy.bench.cells import BenchCell, BenchRequest
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.errors import InputFileError, UnknownNameError, UsageError
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.results.parts import Cell, GitState

PRECISIONS = ("fp32", "tf32", "fp16")
VARIANTS = ("compile",)


def check_request(request: BenchRequest) -> None:
    """Refuse what does not go together, before anything is read or made.

    Raises:
        UsageError: options that exclude each other.
        UnknownNameError: there is no such precision or variant.
    """
    if request.precision not in PRECISIONS:
        raise UnknownNameError("precision", request.precision, PRECISIONS)
    if request.variant and request.variant not in VARIANTS:
        raise UnknownNameError("variant", request.variant, VARIANTS)
    if request.variant and request.runner != "torch":
        raise UsageError(f"--variant {request.variant} goes with --runner torch")
    if (request.runner in contracts.PLAN_RUNNERS) != bool(request.plans):
        words = "runs plans" if not request.plans else "does not run plans"
        raise UsageError(
            f"--runner {request.runner} {words}",
            hint="'elfatt-deploy build BUNDLE' makes one; --plan DIR goes with --runner "
            + " or ".join(contracts.PLAN_RUNNERS),
        )
    if request.plans and request.models:
        raise UsageError("--plan and --model exclude each other: a plan is of one model")
    if request.precision == "tf32" and not request.plans and request.provider != "cuda":
        raise UsageError(
            f"TF32 is a way of an NVIDIA GPU: {request.runner} on {request.provider} has no "
            "switch for it",
            hint="use --provider cuda, or build a plan with --precision tf32",
        )


def in_turns(request: BenchRequest) -> bool:
    """Return whether the cells of a repetition take turns.

    On a GPU they do not: its memory would have to hold all of them at once.
    """
    contract = request.contract
    return request.provider == "cpu" and contract.in_flight == 1 and contract.runs is None


def stored_precision(request: BenchRequest) -> str:
    """Return the precision of the bundles that a request takes."""
    from_fp32 = request.runner == "torch" or request.precision == "tf32"
    return "fp32" if from_fp32 else request.precision


def cell_of(request: BenchRequest, name: str, bundle: Bundle, plan: Plan | None) -> BenchCell:
    """Return a cell, or refuse what would run as something else than it is called.

    Raises:
        UsageError: the bundle or plan does not go with the request.
    """
    if plan is None:
        _check_bundle(request, bundle)
        own = request.runner == "torch" or request.precision == "tf32"
        precision = request.precision if own else bundle.manifest.precision
        batch = _batch_of_bundle(request, bundle)
    else:
        precision, batch = plan.manifest.precision, _batch_of_plan(request, plan)
    return BenchCell(name=name, bundle=bundle, batch=batch, precision=precision, plan=plan)


def _batch_of_bundle(request: BenchRequest, bundle: Bundle) -> int:
    stored = bundle.manifest.batch
    if isinstance(stored, str):
        return request.batch or 1
    if request.batch not in (None, stored) and request.runner != "torch":
        raise UsageError(
            f"{bundle.path} has the fixed batch {stored}: --batch {request.batch} cannot be used",
            hint="leave --batch out, or export with --batch dynamic",
        )
    return request.batch or stored


def _batch_of_plan(request: BenchRequest, plan: Plan) -> int:
    stored, profile = plan.manifest.batch, plan.manifest.profile
    if profile is None:
        if isinstance(stored, str) or request.batch not in (None, stored):
            raise UsageError(
                f"{plan.path} has the fixed batch {stored}: --batch {request.batch} cannot be used",
                hint="leave --batch out, or build a plan of another batch",
            )
        return stored
    batch = request.batch or profile.best
    if not profile.smallest <= batch <= profile.largest:
        raise UsageError(
            f"{plan.path} takes batches {profile.smallest} to {profile.largest}, not {batch}",
            hint="build it with another range: build --batch MIN-BEST-MAX",
        )
    return batch


def _check_bundle(request: BenchRequest, bundle: Bundle) -> None:
    manifest = bundle.manifest
    own = request.runner == "torch" or request.precision == "tf32"
    if own and manifest.precision != "fp32":
        asked = "--runner torch" if request.runner == "torch" else "--precision tf32"
        raise UsageError(
            f"{asked} runs the weights of an FP32 bundle, and {bundle.path} is "
            f"{manifest.precision}",
            hint="use --runner ort, or name the bundle of --precision fp32",
        )
    if request.runner == "torch":
        if not manifest.model.builder:
            raise UsageError(f"--runner torch: {bundle.path} was made from an ONNX file")
        if manifest.weights.seed is None:
            raise UsageError(
                f"--runner torch: {bundle.path} holds no torch weights, only their names",
                hint="use --runner ort",
            )
    if manifest.precision == "fp16" and recipes.target(manifest.target).fp16 == "flags":
        raise UsageError(
            f"{bundle.path} is an FP32 file that TensorRT builds in FP16: {request.runner} would "
            "run it in FP32",
            hint="export with --precision fp16 --target ort, or measure a plan: --plan DIR",
        )


def with_bundle(request: BenchRequest, path: Path) -> tuple[Bundle, Plan]:
    """Return a plan and the bundle that it was built from.

    That bundle is one of those that were named, the folder around the plan's (where `build` leaves
    it), or one below the folder of the bundles.

    Raises:
        InputFileError: the plan is missing or torn, or the bundle is not found.
        PlanMismatch: the plan was changed since the build.
        UsageError: an emulated board built the plan.
    """
    plan = plans.read_plan(path)
    if plan.manifest.simulated:
        raise UsageError(
            f"an emulated board built {plan.path}: no real machine runs it",
            hint="measure it on that board: --device sim:BOARD",
        )
    around = [folder for folder in plan.path.resolve().parents[1:3]]
    below = [found.parent for found in sorted(request.folder.glob(f"*/{MANIFEST_FILE}"))]
    for folder in (*request.bundles, *around, *below):
        if _digest(folder) == plan.manifest.model_sha256:
            return bundles.read_bundle(folder), plan
    raise InputFileError(
        f"{plan.path} was built from a bundle that is not here (ONNX file with SHA-256 "
        f"{plan.manifest.model_sha256[:12]}...): its golden outputs are needed",
        hint="name it: --bundle DIR",
    )


def _digest(folder: Path) -> str:
    """Return the digest of a bundle's ONNX file as its manifest has it; empty without one."""
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return ""
    files = bundles.read_document(path).get("files")
    return str(files.get(MODEL_FILE)) if isinstance(files, dict) else ""


def record_cell(request: BenchRequest, cell: BenchCell) -> Cell:
    """Return a cell as the results know it."""
    manifest = cell.bundle.manifest
    _, _, number = cell.name.partition("#")
    again = f"again {number}" if number else ""
    return Cell(
        model=manifest.model.name,
        settings=tuple(sorted(f"{k}={v}" for k, v in manifest.model.settings.items())),
        height=manifest.preprocessing.height,
        width=manifest.preprocessing.width,
        batch=cell.batch,
        precision=cell.precision,
        target=manifest.target,
        runner=request.runner,
        provider=request.provider,
        contract=request.contract.name,
        device=request.device,
        power=request.power,
        threads=request.threads,
        variant=" ".join(filter(None, (request.variant, again))),
    )


def call_of(
    request: BenchRequest,
    cells: tuple[BenchCell, ...],
    machine: Machine,
    git: GitState | Unavailable,
) -> dict[str, Any]:
    """Return all that makes a call what it is: only the same one may be continued."""
    return {
        "cells": [record_cell(request, cell).key for cell in cells],
        "bundles": [bundles.sha256_of(cell.bundle.path / MANIFEST_FILE) for cell in cells],
        "plans": [cell.plan.manifest.files if cell.plan else None for cell in cells],
        "plan": dataclasses.asdict(request.plan),
        "seed": request.seed,
        "versions": versions(),
        "machine": (machine.cpu, machine.cores, machine.system),
        "git": dataclasses.asdict(git),
    }


def proof(request: BenchRequest, cell: BenchCell) -> str:
    """Return what is proved of the precision: only a plan shows which kernels were chosen."""
    if cell.plan is not None:
        return cell.plan.manifest.proof
    free = cell.precision != "fp32" or request.provider == "tensorrt"
    # torch in half runs in half: its weights, and all that comes of them, have no other type
    if request.runner == "torch" and cell.precision == "fp16":
        return "fp16"
    return f"{cell.precision}-unproven" if free else cell.precision


def evidence(cell: BenchCell) -> str:
    """Return what the proof of a cell rests on."""
    parity = "parity of one batch before every repetition"
    if cell.plan is None:
        return f"types in the file; {parity}"
    found = cell.plan.manifest.evidence
    if found is None:
        return f"no layer information of the plan; {parity}"
    return f"layer information of the plan, {found.deciding} layers with products; {parity}"
