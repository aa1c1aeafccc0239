"""bench_models: bundles (looked up, or exported) -> interleaved processes -> run records."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from elfatt_deploy import bundles, optional, recipes
from elfatt_deploy.artifacts import MANIFEST_FILE, Bundle
from elfatt_deploy.bench import contracts, machine, machine_state, processes, session
from elfatt_deploy.bench.cells import BenchCell, BenchRequest, Failed, Measured
from elfatt_deploy.bench.worker import Task
from elfatt_deploy.errors import (
    InputFileError,
    MissingDependency,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.models import registry
from elfatt_deploy.pipeline import run_records
from elfatt_deploy.pipeline.exporting import export_bundle
from elfatt_deploy.pipeline.records import ExportRequest, Progress, silent
from elfatt_deploy.pipeline.run_records import BenchReport
from elfatt_deploy.runners.ort_runner import check_provider

#: end of a repetition whose number of runs is fixed
_EXACT_MOST_S = 3600.0
_PACKAGES = {"ort": "onnxruntime", "torch": "torch"}
Worker = Callable[[Task, processes.Tell], Measured | Failed]


def bench_models(
    request: BenchRequest,
    progress: Progress = silent,
    *,
    command: tuple[str, ...] = (),
    worker: Worker = processes.run_worker,
) -> BenchReport:
    """Measure models by a timing contract, interleaved, each repetition in a fresh process.

    A cell whose logits are wrong, or whose process dies, stands in the report with the reason.
    Ctrl-C ends the measurement; whole repetitions are reported.

    Args:
        request: what to measure.
        progress: called with each stage, and with the running median.
        command: the command line, for the records.
        worker: measures one repetition.

    Raises:
        UsageError: an option does not go with the models, the runner or the contract.
        MissingDependency: the runner's package is absent, or torch where a bundle must be made.
        InputFileError: a bundle is missing or was changed since the export.
        ExportError: a bundle that was missing cannot be made.
    """
    check_provider(request.provider)
    differences = contracts.differences(request.contract, request.runner, request.provider)
    if request.runner == "torch" and request.precision != "fp32":
        raise UsageError(
            f"--runner torch runs fp32, not {request.precision}", hint="use --runner ort"
        )
    optional.load(_PACKAGES[request.runner])
    notes: list[str] = []
    cells = _cells(request, progress, notes)
    baseline = _baseline(request, cells)
    started, before = session.now(), machine_state.read_state()
    ran = session.measure(
        cells,
        functools.partial(_launch, request, progress, worker),
        repetitions=request.plan.repetitions,
        seed=request.seed,
        sentinel=(baseline or cells[0]) if request.plan.sentinel else None,
    )
    return run_records.report(
        request,
        ran,
        baseline,
        machine=machine.read_machine(),
        before=before,
        after=machine_state.read_state(),
        differences=differences,
        notes=tuple(dict.fromkeys(notes)),
        started=started,
        command=command,
    )


def _launch(
    request: BenchRequest, progress: Progress, worker: Worker, cell: BenchCell, words: str
) -> Measured | Failed:
    progress(words)
    limits = request.plan.limits
    if request.contract.runs is not None:
        exact = dataclasses.replace(limits.enough, rounds=request.contract.runs, seconds=0.0)
        limits = dataclasses.replace(limits, enough=exact, most_seconds=_EXACT_MOST_S)
    task = Task(
        bundle=str(cell.bundle.path.resolve()),
        runner=request.runner,
        provider=request.provider,
        precision=cell.bundle.manifest.precision,
        batch=cell.batch,
        threads=request.threads,
        in_flight=request.contract.in_flight,
        limits=limits,
        steady=request.plan.steady,
    )
    return worker(task, lambda runs, ms: progress(run_records.running(words, runs, ms)))


def _cells(request: BenchRequest, progress: Progress, notes: list[str]) -> tuple[BenchCell, ...]:
    found = [bundles.read_bundle(path) for path in request.bundles]
    found += [_bundle_of(request, name, progress, notes) for name in request.models]
    taken: dict[str, int] = {}
    cells = []
    for bundle in found:
        name = bundle.manifest.model.name
        taken[name] = taken.get(name, 0) + 1
        unique = name if taken[name] == 1 else f"{name}#{taken[name]}"
        cells.append(BenchCell(name=unique, bundle=bundle, batch=_batch(request, bundle)))
    for cell in cells:
        _check(request, cell.bundle)
    sizes = {cell.batch for cell in cells}
    if len(sizes) > 1:
        raise UsageError(
            f"the bundles have different batches: {', '.join(map(str, sorted(sizes)))}",
            hint="measure those of one batch in one call",
        )
    return tuple(cells)


def _batch(request: BenchRequest, bundle: Bundle) -> int:
    stored = bundle.manifest.batch
    if isinstance(stored, str):
        return request.batch or 1
    if request.batch not in (None, stored) and request.runner != "torch":
        raise UsageError(
            f"{bundle.path} has the fixed batch {stored}: --batch {request.batch} cannot be used",
            hint="leave --batch out, or export with --batch dynamic",
        )
    return request.batch or stored


def _check(request: BenchRequest, bundle: Bundle) -> None:
    """Refuse a bundle that the runner would run as something else than it is called."""
    manifest = bundle.manifest
    if request.runner == "torch":
        if manifest.precision != "fp32":
            raise UsageError(
                f"--runner torch runs fp32, and {bundle.path} is {manifest.precision}",
                hint="use --runner ort",
            )
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
            hint="export with --precision fp16 --target ort, or measure a plan",
        )


def _bundle_of(request: BenchRequest, name: str, progress: Progress, notes: list[str]) -> Bundle:
    """Return the newest bundle of a model, or export one."""
    if name.endswith(".onnx"):
        raise UsageError(
            f"--model {name} is a file",
            hint=f"elfatt-deploy export --model {name}, then bench --bundle DIR",
        )
    height, width = registry.get(name).size(request.height, request.width)
    found = find_bundle(
        request.folder,
        name,
        height=height,
        width=width,
        precision=request.precision,
        batch=request.batch,
        any_batch=request.runner == "torch",
    )
    if found is not None:
        notes.append(f"{name}: {found} (exported earlier)")
        return bundles.read_bundle(found)
    asked = ExportRequest(
        model=name,
        height=height,
        width=width,
        batch=request.batch,
        precision=request.precision,
        target="ort",
        output=request.folder,
    )
    try:
        outcome = export_bundle(asked, lambda stage: progress(f"exporting {name}: {stage}"))
    except MissingDependency as error:
        raise MissingDependency(
            f"there is no bundle of {name} below {request.folder}, and to export one: "
            f"{error.message}",
            hint=f"export it where torch is and copy it here, or {error.hint}",
        ) from error
    if outcome.bundle is None:
        raise InputFileError(
            f"there is no bundle of {name}, and its export failed parity",
            hint=f"elfatt-deploy export --model {name}",
        )
    notes.append(f"{name}: {outcome.bundle.path} (exported now)")
    return outcome.bundle


def find_bundle(
    folder: Path,
    name: str,
    *,
    height: int,
    width: int,
    precision: str,
    batch: int | None,
    any_batch: bool = False,
) -> Path | None:
    """Return the newest bundle of a model as it is published; None where there is none.

    Args:
        folder: where to look, one level deep.
        name: of the model.
        height: input rows.
        width: input columns.
        precision: `fp32` or `fp16`.
        batch: images in a run; None means 1.
        any_batch: whether the batch of the graph does not matter.
    """
    newest: tuple[str, Path] | None = None
    for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
        manifest = bundles.read_document(path)
        model = manifest.get("model")
        if not isinstance(model, dict) or model.get("settings"):
            continue
        wanted = (name, height, width, precision)
        found = (model.get("name"), model.get("height"), model.get("width"),
                 manifest.get("precision"))  # fmt: skip
        created = str(manifest.get("created"))
        fits = any_batch or manifest.get("batch") in (batch or 1, "dynamic")
        if wanted == found and fits and (newest is None or created > newest[0]):
            newest = (created, path.parent)
    return newest[1] if newest else None


def _baseline(request: BenchRequest, cells: tuple[BenchCell, ...]) -> BenchCell | None:
    if request.baseline is None:
        return None
    for cell in cells:
        if cell.name == request.baseline:
            return cell
    raise UnknownNameError("baseline", request.baseline, [cell.name for cell in cells])
