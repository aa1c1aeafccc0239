"""What a board told and measured, as a run record."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import (
    MANIFEST_FILE,
    MODEL_FILE,
    Bundle,
    ParityReport,
    Unavailable,
)
from elfatt_deploy.bench import board_doubts, contracts, doubts
from elfatt_deploy.bench.contracts import Contract
from elfatt_deploy.bench.sweep import SweepCell
from elfatt_deploy.device.boards import BoardFile
from elfatt_deploy.device.records import ModeNow, Snapshot
from elfatt_deploy.device.trace import Trace
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.pipeline import beside, board_power
from elfatt_deploy.pipeline.manifest import git_state, versions
from elfatt_deploy.results import making
from elfatt_deploy.results.parts import (
    Clock,
    Device,
    MachineState,
    Memory,
    PowerMode,
    Protocol,
    Repetition,
    RunWarning,
    Temperature,
)
from elfatt_deploy.results.schema import RunRecord

if TYPE_CHECKING:
    from elfatt_deploy.pipeline.board_measuring import BoardRepetition
    from elfatt_deploy.pipeline.board_run import BoardRun
    from elfatt_deploy.pipeline.sweeping import SweepRequest

_MEASURED = Unavailable(reason="this was not predicted")
_NO_MEMORY = Unavailable(reason="trtexec does not tell the memory it used")


@dataclasses.dataclass(slots=True, kw_only=True)
class CellFindings:
    """What a cell has come to so far; it is filled as the cell goes on.

    Args:
        started: when, UTC.
        duration_s: of the whole cell.
        plan: the plan that ran.
        parity: its logits against the golden ones.
        command: of a repetition.
        repetitions: those under the sampler.
        unwatched: one more without it.
        trace: power, clocks and temperatures meanwhile.
        layers: what trtexec wrote of the time of each layer.
        warm: words where the board was not cool when the cell began.
        failed: why the cell has no numbers; None where it has.
    """

    started: str
    duration_s: float = 0.0
    plan: Plan | None = None
    parity: ParityReport | None = None
    command: tuple[str, ...] = ()
    repetitions: list[BoardRepetition] = dataclasses.field(default_factory=list)
    unwatched: BoardRepetition | None = None
    trace: Trace | Unavailable = Unavailable(reason="no power was sampled")
    layers: str | Unavailable = Unavailable(reason="not asked for with --quick")
    warm: str = ""
    failed: Unavailable | None = None


def record(
    run: BoardRun,
    request: SweepRequest,
    cell: SweepCell,
    bundle: Bundle,
    batch: int,
    found: CellFindings,
    before: Snapshot,
    after: Snapshot,
) -> RunRecord:
    """Return the record of a cell that a board ran, or of why it could not."""
    contract = contracts.contract(cell.contract)
    named = run.cell(batch, cell, bundle)
    repetitions = tuple(
        _repetition(one, contract, number) for number, one in enumerate(found.repetitions)
    )
    if found.failed is not None:
        repetitions = ()
    power = board_power.summary(run, found, batch)
    warnings = board_doubts.board_warnings(
        named.model,
        before,
        after,
        [one.samples_ms for one in repetitions],
        unlocked=run.unlocked,
        mislabelled=board_doubts.mislabelled(run.mode, run.board) if run.mode else "",
    )
    warnings += board_power.warnings(named.model, power, found)
    plan = found.plan
    none = found.failed or Unavailable(reason="it was not compared")
    manifest = bundle.manifest
    return RunRecord(
        source="simulated" if before.simulated else "measured",
        key=named.key,
        cell=named,
        sweep=request.recipe.name,
        started=found.started,
        duration_s=found.duration_s,
        command=request.command,
        device_commands=tuple(run.transport.commands),
        git=git_state(),
        versions={
            **versions(()),
            **versions_of(before),
            "tensorrt": run.builder.tensorrt,
        },
        weights=manifest.weights,
        bundle_sha256=bundles.sha256_of(bundle.path / MANIFEST_FILE),
        model_sha256=manifest.files[MODEL_FILE],
        plan_sha256=plan.manifest.files[plan.path.name] if plan else none,
        proof=plan.manifest.proof if plan else f"{cell.precision}-unproven",
        evidence=_evidence(plan),
        parity=found.parity or none,
        device=device_of(before, run.board),
        power_mode=_mode(run, after),
        before=state_of(before),
        after=state_of(after),
        protocol=_protocol(request, contract.runs, found),
        quantity=contract.quantity,
        repetitions=repetitions,
        statistics=found.failed or making.statistics_of(contract.name, batch, repetitions),
        power=power,
        memory=Memory(host_peak_bytes=_NO_MEMORY, device_peak_bytes=_NO_MEMORY),
        prediction=_MEASURED,
        warnings=tuple(RunWarning(kind=w.kind.value, message=w.message) for w in warnings),
        validity=doubts.words(warnings),
        attachments=_attachments(request, named.key, found),
    )


def _attachments(request: SweepRequest, key: str, found: CellFindings) -> dict[str, str]:
    """Write what lies beside the results; returns the name of each file and its SHA-256.

    Raises:
        ExportError: one cannot be written.
    """
    if request.results is None:
        return {}
    written: dict[str, str] = {}
    if isinstance(found.trace, Trace):
        written |= beside.write_trace(request.results, key, found.started, found.trace)
    if isinstance(found.layers, str):
        written |= beside.write_layers(request.results, key, found.started, found.layers)
    return written


def _evidence(plan: Plan | None) -> str:
    if plan is None:
        return "no plan was made"
    proof = plan.manifest.evidence
    if proof is None or not proof.layers:
        return "the builder gave no layer information"
    return (
        f"layer information of the plan: {proof.deciding} of {proof.layers} layers hold products "
        "and decide; parity of one batch on the board"
    )


def _mode(run: BoardRun, after: Snapshot) -> PowerMode | Unavailable:
    """Return the mode as read back after the cell, not as it was asked for."""
    if not isinstance(after.mode, ModeNow):
        return after.mode
    return PowerMode(id=after.mode.id, name=after.mode.name, locked=run.locked)


def _repetition(one: BoardRepetition, contract: Contract, position: int) -> Repetition:
    # A contract with an exact number of runs: trtexec makes at least so many.
    count = contract.runs
    return Repetition(
        samples_ms=one.times.samples_ms(contract.name)[:count],
        wall_ms=one.times.wall_ms,
        warm_up_runs=one.times.warm_up_rows
        or Unavailable(reason="this trtexec does not tell its warm-up"),
        steady=Unavailable(reason="trtexec warms up for a stated time and judges nothing"),
        position=position,
        phases_ms={name: values[:count] for name, values in one.times.phases_ms.items()},
    )


def _protocol(request: SweepRequest, exact: int | None, found: CellFindings) -> Protocol:
    plan = request.plan
    words = [word for word in found.command if word.startswith("--")]
    graphs = {one.graph for one in found.repetitions}
    note = "trtexec " + " ".join(words[1:])
    if False in graphs:
        note += "; the launch by a CUDA graph failed and was not used"
    if found.warm:
        note += f"; the board {found.warm}"
    return Protocol(
        name=plan.name,
        min_seconds=0.0 if exact else plan.limits.enough.seconds,
        min_runs=exact or plan.limits.enough.rounds,
        repetitions=plan.repetitions,
        fresh_processes=True,
        seed=request.seed,
        order="mode by mode; within a mode the models shuffled, one cell after the other",
        warm_up=next((word[2:] for word in words if word.startswith("--warmUp")), "none") + " ms",
        note=note,
    )


def device_of(snapshot: Snapshot, board: BoardFile | Unavailable) -> Device:
    """Return the machine of a record."""
    name = snapshot.model if isinstance(snapshot.model, str) else snapshot.machine
    soc = snapshot.soc if isinstance(snapshot.soc, str) else "unknown processor"
    return Device(
        name=f"{name} (simulated)" if snapshot.simulated else name,
        board=board.name if isinstance(board, BoardFile) else board,
        cpu=f"{snapshot.machine} cores of {soc}",
        cores=snapshot.cores_present if isinstance(snapshot.cores_present, int) else 0,
        memory_bytes=snapshot.memory_total_bytes,
        gpu=f"SM {board.sm} of {soc}" if isinstance(board, BoardFile) else board,
        system=f"Linux {snapshot.kernel}, L4T {_text(snapshot.l4t)}, "
        f"JetPack {_text(snapshot.jetpack)}",
        virtual=False,
    )


def state_of(snapshot: Snapshot) -> MachineState:
    """Return the state of a board at the moment of a snapshot."""
    governors = sorted(
        {
            clock.governor
            for clock in snapshot.clocks
            if clock.name.startswith("cpu") and isinstance(clock.governor, str)
        }
    )
    clocks = tuple(
        Clock(name=c.name, now_hz=c.now_hz, min_hz=c.min_hz, max_hz=c.max_hz)
        for c in snapshot.clocks
    )
    warm = tuple(
        Temperature(zone=zone.name, value_c=zone.value_c)
        for zone in snapshot.zones
        if isinstance(zone.value_c, float)
    )
    events = {c.name: c.value for c in snapshot.counters if isinstance(c.value, int)}
    absent = "the board shows none"
    return MachineState(
        load=snapshot.load,
        governor=", ".join(governors) or Unavailable(reason=absent),
        free_bytes=snapshot.memory_free_bytes,
        swap_used_bytes=snapshot.swap_used_bytes,
        gpu_processes=snapshot.gpu_users,
        clocks=clocks or Unavailable(reason=absent),
        temperatures=warm or Unavailable(reason=absent),
        throttle_events=events or Unavailable(reason=absent),
    )


def versions_of(snapshot: Snapshot) -> dict[str, str]:
    """Return the versions of the board's software, as far as it tells them."""
    named = {
        "l4t": snapshot.l4t,
        "jetpack": snapshot.jetpack,
        "cuda": snapshot.cuda,
        "tensorrt": snapshot.tensorrt,
    }
    return {name: text for name, text in named.items() if isinstance(text, str)}


def _text(value: str | Unavailable) -> str:
    return value if isinstance(value, str) else "unknown"
