"""What `bench` measured, as run records and ratios between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import elfatt_deploy
from elfatt_deploy import bundles, units
from elfatt_deploy.artifacts import MANIFEST_FILE, MODEL_FILE, Unavailable
from elfatt_deploy.bench import doubts, machine, stats
from elfatt_deploy.bench.cells import BenchCell, BenchRequest, CellResult, Measured, Sentinel
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.bench.session import Session
from elfatt_deploy.bench.stability import Kind, StabilityWarning
from elfatt_deploy.bench.stats import Ratio
from elfatt_deploy.errors import CommandError
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.results import making
from elfatt_deploy.results.parts import (
    Cell,
    Clock,
    Device,
    GitState,
    MachineState,
    Memory,
    Protocol,
    Repetition,
    RunWarning,
    Temperature,
)
from elfatt_deploy.results.schema import RunRecord
from elfatt_deploy.transport.local import Local

_GIT_TIMEOUT_S = 10.0
_ORDER = "every cell once in each repetition, order shuffled"


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

    @property
    def failures(self) -> tuple[str, ...]:
        """Why cells have no numbers, a line each."""
        return tuple(
            f"{name}: {record.statistics.reason}"
            for name, record in zip(self.names, self.records, strict=True)
            if isinstance(record.statistics, Unavailable)
        )

    @property
    def parity_failed(self) -> bool:
        """Whether a cell gave wrong logits."""
        return any(
            not isinstance(record.parity, Unavailable) and not record.parity.passed
            for record in self.records
        )


def running(words: str, runs: int, median_ms: float) -> str:
    """Return the line of progress of a repetition under way."""
    return f"{words}: running median {units.milliseconds(median_ms)} ms, {runs} runs"


def report(
    request: BenchRequest,
    ran: Session,
    baseline: BenchCell | None,
    *,
    machine: Machine,
    before: State,
    after: State,
    differences: tuple[str, ...],
    notes: tuple[str, ...],
    started: str,
    command: tuple[str, ...],
) -> BenchReport:
    """Turn what was measured into records and ratios; the arguments are those of `BenchReport`."""
    sentinel = ran.sentinel if isinstance(ran.sentinel, Sentinel) else None
    common = doubts.machine_warnings(
        before, after, machine.cores, provider=request.provider, sentinel=sentinel
    )
    records, warnings = [], list(common)
    git, device = _git_state(), _device(machine)
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
                device=device,
                states=(_state(before), _state(after)),
                note="; ".join(differences),
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
    )


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
    return making.host_record(
        cell=_cell(request, cell),
        group=f"{started} {request.seed}",
        started=result.started or started,
        duration_s=result.duration_s,
        command=command,
        git=git,
        versions=versions(),
        weights=manifest.weights,
        bundle_sha256=bundles.sha256_of(cell.bundle.path / MANIFEST_FILE),
        model_sha256=manifest.files[MODEL_FILE],
        proof=_proof(manifest.precision),
        evidence="types in the file; parity of one batch before every repetition",
        parity=parity or none,
        device=device,
        before=states[0],
        after=states[1],
        protocol=_protocol(request, note),
        quantity=request.contract.quantity,
        repetitions=() if failed else tuple(map(_repetition, measured)),
        memory=_memory(measured, none),
        refused=none if failed else None,
        warnings=tuple(RunWarning(kind=w.kind.value, message=w.message) for w in warnings),
        validity=doubts.words(warnings),
    )


def _cell(request: BenchRequest, cell: BenchCell) -> Cell:
    manifest = cell.bundle.manifest
    _, _, number = cell.name.partition("#")
    return Cell(
        model=manifest.model.name,
        settings=tuple(sorted(f"{k}={v}" for k, v in manifest.model.settings.items())),
        height=manifest.preprocessing.height,
        width=manifest.preprocessing.width,
        batch=cell.batch,
        precision=manifest.precision,
        target=manifest.target,
        runner=request.runner,
        provider=request.provider,
        contract=request.contract.name,
        threads=request.threads,
        variant=f"again {number}" if number else "",
    )


def _proof(precision: str) -> str:
    """Return what is proved of the precision: no runner here shows which kernels it chose."""
    return f"{precision}-unproven" if precision == "fp16" else precision


def _protocol(request: BenchRequest, note: str) -> Protocol:
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
        order=_ORDER,
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
    )


def _memory(measured: tuple[Measured, ...], none: Unavailable) -> Memory:
    return Memory(
        host_peak_bytes=_largest([one.host_peak_bytes for one in measured], none),
        device_peak_bytes=_largest([one.device_peak_bytes for one in measured], none),
    )


def _largest(values: list[int | Unavailable], none: Unavailable) -> int | Unavailable:
    known = [value for value in values if isinstance(value, int)]
    return max(known) if known else next(iter(values), none)


def _device(found: Machine) -> Device:
    return Device(
        name=found.cpu,
        board=Unavailable(reason="no board that we know"),
        cpu=found.cpu,
        cores=found.cores,
        memory_bytes=machine.total_bytes(),
        gpu=Unavailable(reason="the GPU was not asked for its name"),
        system=found.system,
        virtual=found.virtual,
    )


def _state(state: State) -> MachineState:
    degrees = state.temperatures_c
    return MachineState(
        load=state.load,
        governor=state.governor,
        free_bytes=state.free_bytes,
        swap_used_bytes=state.swap_used_bytes,
        gpu_processes=state.gpu_processes,
        clocks=(
            Clock(
                name="cpu",
                now_hz=state.clock_hz,
                min_hz=state.clock_min_hz,
                max_hz=state.clock_max_hz,
            ),
        )
        if isinstance(state.clock_hz, float)
        else state.clock_hz,
        temperatures=degrees
        if isinstance(degrees, Unavailable)
        else tuple(Temperature(zone=zone, value_c=value) for zone, value in degrees.items()),
        throttle_events=state.throttle_events,
    )


def _git_state() -> GitState | Unavailable:
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


def _ratios(
    request: BenchRequest, results: tuple[CellResult, ...], baseline: BenchCell | None
) -> tuple[CellRatio, ...]:
    if baseline is None:
        return ()
    times = {result.cell.name: _times(request, result) for result in results}
    return tuple(
        CellRatio(
            cell=name,
            baseline=baseline.name,
            time=stats.paired_ratio(own, times[baseline.name]),
        )
        for name, own in times.items()
        if name != baseline.name
    )


def _times(request: BenchRequest, result: CellResult) -> Mapping[int, float]:
    """Return the one number of each repetition; none of a cell that was given up."""
    found = {}
    for number, one in result.repetitions.items():
        time = making.repetition_ms(request.contract.name, _repetition(one))
        if isinstance(time, float) and result.failed is None:
            found[number] = time
    return found
