"""What `bench` measured, as run records and ratios between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from elfatt_deploy import bundles, units
from elfatt_deploy.artifacts import MANIFEST_FILE, MODEL_FILE, Unavailable
from elfatt_deploy.bench import doubts, protocol, stats
from elfatt_deploy.bench.cells import BenchCell, BenchRequest, CellResult, Measured, Sentinel
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.bench.session import Session
from elfatt_deploy.bench.stability import Kind, StabilityWarning
from elfatt_deploy.bench.stats import Ratio
from elfatt_deploy.pipeline import host_parts, measured_cells
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.results import making
from elfatt_deploy.results.parts import (
    Device,
    GitState,
    MachineState,
    Memory,
    Protocol,
    Repetition,
    RunWarning,
)
from elfatt_deploy.results.schema import RunRecord

_ORDER = "every cell once in each repetition, order shuffled"
_TURNS = (
    f"; within it the cells take turns of {protocol.TURN_SECONDS:g} s or more, the first run of "
    "each not timed"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CellRatio:
    """How one cell compares with the baseline: time of the cell / time of the baseline."""

    cell: str
    baseline: str
    time: Ratio | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchReport:
    """The result of `bench`.

    Args:
        request: what was asked.
        names: name of each cell, in the order of `records`.
        records: a record for each cell.
        ratios: each other cell against the baseline.
        sentinel: the same cell before and after all others.
        differences: how the runner keeps the contract.
        notes: which bundle each model is.
        warnings: what is doubtful, of all cells.
        interrupted: whether Ctrl-C ended it.
        partial: file beside the results that keeps the repetitions until the records are in them.
    """

    request: BenchRequest
    names: tuple[str, ...]
    records: tuple[RunRecord, ...]
    ratios: tuple[CellRatio, ...]
    sentinel: Sentinel | Unavailable
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[StabilityWarning, ...]
    interrupted: bool
    partial: Path | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """Why cells have no numbers, a line each."""
        return tuple(
            f"{name}: {record.statistics.reason}"
            for name, record in zip(self.names, self.records, strict=True)
            if isinstance(record.statistics, Unavailable)
        )

    @property
    def in_turns(self) -> bool:
        """Whether cells took turns within a repetition."""
        return any(one.turns for record in self.records for one in record.repetitions)

    @property
    def parity_failed(self) -> bool:
        """Whether a cell gave wrong logits."""
        return any(record.parity_failed for record in self.records)


def running(words: str, runs: int, median_ms: float) -> str:
    """Return the line of progress of a repetition under way."""
    return f"{words}: running median {units.milliseconds(median_ms)} ms, {runs} runs"


def report(
    request: BenchRequest,
    ran: Session,
    baseline: BenchCell | None,
    *,
    machine: Machine,
    git: GitState | Unavailable,
    states_before: tuple[State, ...],
    after: State,
    differences: tuple[str, ...],
    notes: tuple[str, ...],
    started: str,
    command: tuple[str, ...],
    partial: Path | None = None,
) -> BenchReport:
    """Turn what was measured into records and ratios.

    The arguments are those of `BenchReport`, and how the machine was before each sitting and after
    the last.
    """
    common = _machine_warnings(request, ran, states_before, after, machine.cores)
    records, warnings = [], list(common)
    for result in ran.results:
        measured = tuple(one for _, one in sorted(result.repetitions.items()))
        own = doubts.cell_warnings(result.cell.name, measured, machine.cores)
        if ran.interrupted and measured:
            own.append(_cut(result.cell.name, len(measured), request.plan.repetitions))
        warnings.extend(own)
        records.append(
            _record(
                request,
                result,
                measured,
                (*common, *own),
                command=command,
                git=git,
                device=host_parts.device_of(machine, measured),
                states=(host_parts.state_of(states_before[-1]), host_parts.state_of(after)),
                note="; ".join((*differences, *_notes(measured))),
                started=started,
            )
        )
    return BenchReport(
        request=request,
        names=tuple(result.cell.name for result in ran.results),
        records=tuple(records),
        ratios=_ratios(request, ran.results, baseline),
        sentinel=ran.sentinel,
        differences=differences,
        notes=notes,
        warnings=tuple(warnings),
        interrupted=ran.interrupted,
        partial=partial,
    )


def _machine_warnings(
    request: BenchRequest, ran: Session, states_before: tuple[State, ...], after: State, cores: int
) -> list[StabilityWarning]:
    """Return what is doubtful about the machine, of earlier sittings as they began."""
    sentinel = ran.sentinel if isinstance(ran.sentinel, Sentinel) else None
    provider = "cpu" if request.provider == "cpu" else "cuda"
    found = [
        warning
        for state in states_before[:-1]
        for warning in doubts.machine_warnings(
            state, state, cores, provider=provider, sentinel=None
        )
    ]
    found += doubts.machine_warnings(
        states_before[-1], after, cores, provider=provider, sentinel=sentinel
    )
    return list(dict.fromkeys(found))


def _notes(measured: tuple[Measured, ...]) -> tuple[str, ...]:
    sittings = len({one.sitting for one in measured})
    notes = tuple(dict.fromkeys(note for one in measured for note in one.notes))
    if sittings > 1:
        return (*notes, f"measured in {sittings} sittings: the call was cut short and continued")
    return notes


def _cut(name: str, done: int, planned: int) -> StabilityWarning:
    return StabilityWarning(
        kind=Kind.FEW_ROUNDS,
        cell=name,
        message=f"{name}: interrupted after {done} of {planned} repetitions; measure it again for "
        "a comparison",
    )


def _record(
    request: BenchRequest,
    result: CellResult,
    measured: tuple[Measured, ...],
    warnings: tuple[StabilityWarning, ...],
    *,
    command: tuple[str, ...],
    git: GitState | Unavailable,
    device: Device,
    states: tuple[MachineState, MachineState],
    note: str,
    started: str,
) -> RunRecord:
    cell, manifest, failed = result.cell, result.cell.bundle.manifest, result.failed
    none = Unavailable(reason=failed.reason if failed else "interrupted before its first run")
    parity = measured[0].parity if measured else failed.parity if failed else None
    record = making.host_record(
        cell=measured_cells.record_cell(request, cell),
        group=f"{started} {request.seed}",
        started=result.started or started,
        duration_s=result.duration_s,
        command=command,
        git=git,
        versions=_versions(measured),
        weights=manifest.weights,
        bundle_sha256=bundles.sha256_of(cell.bundle.path / MANIFEST_FILE),
        model_sha256=manifest.files[MODEL_FILE],
        proof=measured_cells.proof(request, cell),
        evidence=measured_cells.evidence(cell),
        parity=parity or none,
        device=device,
        before=states[0],
        after=states[1],
        protocol=_protocol(request, note, turns=any(one.timed.turns for one in measured)),
        quantity=request.contract.quantity,
        repetitions=() if failed else tuple(map(_repetition, measured)),
        memory=_memory(measured, none),
        refused=none if failed else None,
        warnings=tuple(RunWarning(kind=w.kind.value, message=w.message) for w in warnings),
        validity=doubts.words(warnings),
    )
    if cell.plan is None:
        return record
    return dataclasses.replace(record, plan_sha256=cell.plan.manifest.files[cell.plan.path.name])


def _versions(measured: tuple[Measured, ...]) -> dict[str, str]:
    """Return the versions of our packages, and of what ran: TensorRT may be none of them."""
    ran = dict(one.version.split(" ", 1) for one in measured if " " in one.version)
    return {**versions(), **ran}


def _protocol(request: BenchRequest, note: str, *, turns: bool) -> Protocol:
    plan, contract = request.plan, request.contract
    steady = plan.steady
    exact = contract.runs is not None
    return Protocol(
        name=plan.name,
        min_seconds=0.0 if exact else plan.limits.enough.seconds,
        min_runs=contract.runs or plan.limits.enough.rounds,
        repetitions=plan.repetitions,
        fresh_processes=True,
        seed=request.seed,
        order=_ORDER + (_TURNS if turns else ""),
        warm_up=f"until {steady.windows} windows in a row agree within "
        f"{units.share(steady.tolerance)} %, at most {steady.most_seconds:g} s; a window has "
        f"{steady.window_runs} runs and {steady.window_seconds:g} s or more",
        note=note,
    )


def _repetition(one: Measured) -> Repetition:
    return Repetition(
        samples_ms=one.timed.times_ms,
        wall_ms=one.timed.wall_ms,
        warm_up_runs=one.warm_up.runs,
        steady=one.warm_up.steady,
        position=one.position,
        phases_ms=one.phases_ms,
        turns=one.timed.turns,
    )


def _memory(measured: tuple[Measured, ...], none: Unavailable) -> Memory:
    return Memory(
        host_peak_bytes=_largest([one.host_peak_bytes for one in measured], none),
        device_peak_bytes=_largest([one.device_peak_bytes for one in measured], none),
    )


def _largest(values: list[int | Unavailable], none: Unavailable) -> int | Unavailable:
    known = [value for value in values if isinstance(value, int)]
    return max(known) if known else next(iter(values), none)


def _ratios(
    request: BenchRequest, results: tuple[CellResult, ...], baseline: BenchCell | None
) -> tuple[CellRatio, ...]:
    if baseline is None:
        return ()
    by_name = {result.cell.name: result for result in results}
    base = by_name.pop(baseline.name)
    return tuple(
        CellRatio(
            cell=name,
            baseline=baseline.name,
            time=stats.paired_ratio(_within(request.contract.name, result, base)),
        )
        for name, result in by_name.items()
    )


def _within(contract: str, result: CellResult, base: CellResult) -> list[float]:
    """Return the ratio within each repetition; none of a cell that was given up.

    Two cells are compared within a repetition of one sitting alone: between two sittings the
    machine may have changed.
    """
    if result.failed is not None or base.failed is not None:
        return []
    ratios = (
        making.repetition_ratio(contract, _repetition(one), _repetition(base.repetitions[number]))
        for number, one in sorted(result.repetitions.items())
        if number in base.repetitions and one.sitting == base.repetitions[number].sitting
    )
    return [ratio for ratio in ratios if isinstance(ratio, float)]
