"""bench_models: bundles (looked up, or exported) -> interleaved processes -> run records."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from elfatt_deploy import bundles, optional, units
from elfatt_deploy.artifacts import Bundle
from elfatt_deploy.bench import contracts, machine, machine_state, partial, processes, session
from elfatt_deploy.bench.cells import BenchCell, BenchRequest, Ran
from elfatt_deploy.bench.partial import Partial, Visit
from elfatt_deploy.bench.worker import Task
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.errors import (
    InputFileError,
    MissingDependency,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.models import registry
from elfatt_deploy.pipeline import measured_cells, run_records
from elfatt_deploy.pipeline.exporting import export_bundle
from elfatt_deploy.pipeline.lookup import find_bundle
from elfatt_deploy.pipeline.manifest import git_state
from elfatt_deploy.pipeline.records import ExportRequest, Progress, silent
from elfatt_deploy.pipeline.run_records import BenchReport
from elfatt_deploy.results import store
from elfatt_deploy.runners.ort_runner import check_provider

#: end of a repetition whose number of runs is fixed
_EXACT_MOST_S = 3600.0
_PACKAGES = {"ort": "onnxruntime", "torch": "torch", "trt": "tensorrt"}
#: measures one repetition of each task, and yields its number as soon as it is measured
Workers = Callable[[Sequence[Task], processes.Tell], Generator[tuple[int, Ran], None, None]]


def bench_models(
    request: BenchRequest,
    progress: Progress = silent,
    *,
    command: tuple[str, ...] = (),
    workers: Workers = processes.run_workers,
    results: Path | None = None,
    resume: bool | None = None,
) -> BenchReport:
    """Measure models by a timing contract, interleaved, each repetition in a fresh process.

    A cell whose logits are wrong, or whose process dies, stands in the report with the reason.
    Ctrl-C ends the measurement; whole repetitions are reported.

    Args:
        request: what to measure.
        progress: called with each stage, and with the running median.
        command: the command line, for the records.
        workers: measures one repetition of each cell.
        results: the file that `keep_records` will append to: beside it, each repetition is kept as
            soon as it is measured. None keeps nothing.
        resume: whether a call that was cut short goes on where it stopped; None for one that began
            within the last day.

    Raises:
        UsageError: an option does not go with the models, the runner or the contract, or another
            process is measuring the same.
        MissingDependency: the runner's package is absent, or torch where a bundle must be made.
        InputFileError: a bundle or plan is missing or was changed since it was made.
        ExportError: a bundle that was missing cannot be made, or the disk is full.
    """
    check_provider(request.provider)
    differences = contracts.differences(request.contract, request.runner, request.provider)
    measured_cells.check_request(request)
    if request.runner in _PACKAGES:
        optional.load(_PACKAGES[request.runner])
    notes: list[str] = []
    cells = _cells(request, progress, notes)
    baseline = _baseline(request, cells)
    found, git = machine.read_machine(), git_state()
    with contextlib.ExitStack() as stack:
        kept = None
        if results is not None:
            call = measured_cells.call_of(request, cells, found, git)
            kept = stack.enter_context(partial.opened(partial.path_of(results, call)))
        started, before = units.now(), machine_state.read_state()
        earlier = _earlier(kept, resume, started, notes, len(cells) * request.plan.repetitions)
        sitting = kept.begin(started, before).number if kept else 0
        ran = session.measure(
            cells,
            functools.partial(_launch, request, progress, workers),
            repetitions=request.plan.repetitions,
            seed=request.seed,
            sentinel=(baseline or cells[0]) if request.plan.sentinel else None,
            earlier=earlier,
            sitting=sitting,
            keep=kept.keep if kept else _forget,
        )
        sittings = kept.sittings if kept else ()
    return run_records.report(
        request,
        ran,
        baseline,
        machine=found,
        git=git,
        states_before=(*(one.before for one in sittings[:-1]), before),
        after=machine_state.read_state(),
        differences=differences,
        notes=tuple(dict.fromkeys(notes)),
        started=sittings[0].started if sittings else started,
        command=command,
        partial=kept.path if kept else None,
    )


def keep_records(report: BenchReport, results: Path) -> None:
    """Append the records of a report to a results file; then nothing needs to be resumed.

    Of a call that was interrupted, cells without a repetition are left out, and the next call goes
    on where it stopped.

    Raises:
        ExportError: the file cannot be written; the same call again finds what was measured.
        SchemaError: the file is no results file.
    """
    for record in report.records:
        if record.repetitions or not report.interrupted:
            store.append(results, record)
    if report.partial is not None and not report.interrupted:
        partial.remove(report.partial)


def _forget(visit: Visit) -> None:
    """Keep nothing."""


def _earlier(
    kept: Partial | None, resume: bool | None, started: str, notes: list[str], all_visits: int
) -> tuple[Visit, ...]:
    """Return what earlier sittings measured, or forget it."""
    if kept is None or not kept.visits:
        return ()
    began = kept.sittings[0].started if kept.sittings else "earlier"
    told = f"{len(kept.visits)} of {all_visits} measurements of the same call, begun {began}"
    if resume is False or (resume is None and not kept.is_fresh(started)):
        notes.append(f"{told}, were thrown away")
        kept.clear()
        return ()
    notes.append(f"{told}, were taken over; --no-resume measures all anew")
    return kept.visits


def _launch(
    request: BenchRequest,
    progress: Progress,
    workers: Workers,
    cells: Sequence[BenchCell],
    words: str,
) -> Generator[tuple[int, Ran], None, None]:
    """Measure each cell once, in turn where they can be."""
    limits = request.plan.limits
    if request.contract.runs is not None:
        exact = dataclasses.replace(limits.enough, rounds=request.contract.runs, seconds=0.0)
        limits = dataclasses.replace(limits, enough=exact, most_seconds=_EXACT_MOST_S)
    tasks = [
        Task(
            bundle=str(cell.bundle.path.resolve()),
            runner=request.runner,
            provider=request.provider,
            precision=cell.precision,
            batch=cell.batch,
            threads=request.threads,
            in_flight=request.contract.in_flight,
            limits=limits,
            steady=request.plan.steady,
            contract=request.contract.name,
            plan=str(cell.plan.path.resolve()) if cell.plan else "",
            variant=request.variant,
            plugins=tuple(str(path.resolve()) for path in request.plugins),
            turns=len(cells) > 1 and measured_cells.in_turns(request),
        )
        for cell in cells
    ]
    names = [f"{cell.name}, {words}" for cell in cells]
    progress(names[0] if len(cells) == 1 else f"{len(cells)} models, {words}")
    return workers(
        tasks,
        lambda number, runs, ms: progress(run_records.running(names[number], runs, ms)),
    )


def _cells(request: BenchRequest, progress: Progress, notes: list[str]) -> tuple[BenchCell, ...]:
    found: list[tuple[Bundle, Plan | None]] = []
    if request.plans:
        found += [measured_cells.with_bundle(request, path) for path in request.plans]
    else:
        found += [(bundles.read_bundle(path), None) for path in request.bundles]
        found += [(_bundle_of(request, n, progress, notes), None) for n in request.models]
    taken: dict[str, int] = {}
    cells = []
    for bundle, plan in found:
        name = bundle.manifest.model.name
        taken[name] = taken.get(name, 0) + 1
        unique = name if taken[name] == 1 else f"{name}#{taken[name]}"
        cells.append(measured_cells.cell_of(request, unique, bundle, plan))
    sizes = {cell.batch for cell in cells}
    if len(sizes) > 1:
        raise UsageError(
            f"the bundles have different batches: {', '.join(map(str, sorted(sizes)))}",
            hint="measure those of one batch in one call",
        )
    return tuple(cells)


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
        precision=measured_cells.stored_precision(request),
        batch=request.batch,
        any_batch=request.runner == "torch",
    )
    if found is not None:
        notes.append(f"bundle of {name}: {found} (exported earlier)")
        return bundles.read_bundle(found)
    asked = ExportRequest(
        model=name,
        height=height,
        width=width,
        batch=request.batch,
        precision=measured_cells.stored_precision(request),
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
    notes.append(f"bundle of {name}: {outcome.bundle.path} (exported now)")
    return outcome.bundle


def _baseline(request: BenchRequest, cells: tuple[BenchCell, ...]) -> BenchCell | None:
    if request.baseline is None:
        return None
    for cell in cells:
        if cell.name == request.baseline:
            return cell
    raise UnknownNameError("baseline", request.baseline, [cell.name for cell in cells])
