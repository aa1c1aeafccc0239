"""measure_cell: plan on the board -> parity -> repetitions under the sampler -> a run record."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import units
from elfatt_deploy.artifacts import GOLDEN_FILE, Bundle, ParityReport, Unavailable
from elfatt_deploy.bench import contracts
from elfatt_deploy.bench.protocol import BenchPlan
from elfatt_deploy.bench.sweep import SweepCell
from elfatt_deploy.device import probes
from elfatt_deploy.device.records import Snapshot
from elfatt_deploy.device.trace import Trace, hottest_c
from elfatt_deploy.engine import dialects, trtexec_outputs, trtexec_run, trtexec_times
from elfatt_deploy.engine.config import LAYERS_FILE, BatchProfile
from elfatt_deploy.engine.layers import read_layers
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.engine.trtexec_run import RunLength, RunPlaces
from elfatt_deploy.engine.trtexec_times import TrtexecTimes
from elfatt_deploy.errors import (
    BusyError,
    ConnectError,
    DeviceError,
    ElfattDeployError,
    EngineError,
    PlanMismatch,
)
from elfatt_deploy.golden import read_golden
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.pipeline import board_building, board_power, board_records
from elfatt_deploy.pipeline.board_building import Builder
from elfatt_deploy.pipeline.board_run import BoardRun, Stamping, plan_digest
from elfatt_deploy.pipeline.building import BuildRequest
from elfatt_deploy.pipeline.records import Progress
from elfatt_deploy.results.schema import RunRecord

if TYPE_CHECKING:
    from elfatt_deploy.pipeline.sweeping import SweepRequest

#: inferences that begin in this time are no samples; trtexec's own default is 200 ms
_WARM_UP_MS = {"quick": 500, "default": 2000, "strict": 10_000}
#: a cell begins when the hottest sensor reads no more, or when it was waited for so long
_START_C = 55.0
_COOL_S = {"quick": 0.0, "default": 60.0, "strict": 300.0}
_COOL_POLL_S = 5.0
#: for loading the plan, and for a last inference that takes long
_MARGIN_S = 600.0
#: ONNX file and plan are about of one size; the rest is for inputs, times and layer information
_ROOM = 3
#: the line after which trtexec's clock begins
_STARTED = "Starting inference"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoardRepetition:
    """One run of trtexec.

    Args:
        times: of its inferences.
        began_s: uptime of the board at the first timed inference; Unavailable where the output
            does not tell.
        ended_s: the same at the end of the last one.
        graph: whether the launch was by a CUDA graph, where it was asked for.
    """

    times: TrtexecTimes
    began_s: float | Unavailable
    ended_s: float | Unavailable
    graph: bool


def measure_cell(
    run: BoardRun, request: SweepRequest, cell: SweepCell, bundle: Bundle, progress: Progress
) -> RunRecord:
    """Measure one cell in the power mode that the board is in; a failure is a record, too.

    Raises:
        ConnectError: the connection was lost.
        BusyError: somebody else took the board.
    """
    started, began = units.now(), time.monotonic()
    run.transport.commands.clear()
    before, warm = _cooled(run, request.plan, progress)
    batch = batch_of(request, bundle)
    found = board_records.CellFindings(started=started, warm=warm)
    try:
        _check_room(run, before, bundle)
        _measure(run, request, cell, bundle, batch, found, progress)
    except (ConnectError, BusyError):
        raise
    except (EngineError, DeviceError) as error:
        found.failed = Unavailable(reason=str(error).replace("\n  next:", "; next:"))
    found.duration_s = time.monotonic() - began
    return board_records.record(
        run, request, cell, bundle, batch, found, before, probes.snapshot(run.transport)
    )


def _cooled(run: BoardRun, plan: BenchPlan, progress: Progress) -> tuple[Snapshot, str]:
    """Wait until the board is cool, but not for ever; return it, and words where it is warm still.

    A cell that begins hot ends slower than one that begins cool: each begins alike.

    Raises:
        DeviceError: the board cannot be read.
    """
    end = time.monotonic() + _COOL_S[plan.name]
    while True:
        found = probes.snapshot(run.transport)
        degrees = hottest_c(
            {zone.name: zone.value_c for zone in found.zones if isinstance(zone.value_c, float)}
        )
        if degrees is None or degrees <= _START_C:
            return found, ""
        words = f"began at {units.degrees(degrees)} degC"
        if time.monotonic() >= end:
            waited = f" after {_COOL_S[plan.name]:g} s of cooling" if _COOL_S[plan.name] else ""
            return found, f"{words}{waited}"
        progress(f"cooling down: {units.degrees(degrees)} degC")
        time.sleep(_COOL_POLL_S)


def _check_room(run: BoardRun, before: Snapshot, bundle: Bundle) -> None:
    """Refuse a board whose disk will be full before the plan is there.

    Raises:
        DeviceError: it will.
    """
    need = _ROOM * bundle.model_path.stat().st_size
    if not run.pushed and isinstance(before.disk_free_bytes, int) and before.disk_free_bytes < need:
        raise DeviceError(
            f"{run.transport.name} has {units.mebibytes(before.disk_free_bytes)} MiB free for "
            f"{before.work_folder}, and the ONNX file, the plan and its inputs need about "
            f"{units.mebibytes(need)} MiB",
            hint="make room there",
        )


def batch_of(request: SweepRequest, bundle: Bundle) -> int:
    """Return the images in a run: the bundle's own, or the recipe's where that is open."""
    stored = bundle.manifest.batch
    return request.recipe.batch if isinstance(stored, str) else stored


def build_request(
    bundle: Bundle, precision: str, batch: int, plugins: tuple[Path, ...] = ()
) -> BuildRequest:
    """Return how the plan of a cell is built: a dynamic bundle for this batch alone."""
    dynamic = isinstance(bundle.manifest.batch, str)
    profile = BatchProfile(smallest=batch, best=batch, largest=batch) if dynamic else None
    return BuildRequest(bundle=bundle.path, precision=precision, profile=profile, plugins=plugins)


def _measure(
    run: BoardRun,
    request: SweepRequest,
    cell: SweepCell,
    bundle: Bundle,
    batch: int,
    found: board_records.CellFindings,
    progress: Progress,
) -> None:
    """Fill the findings of one cell."""
    asked = build_request(bundle, cell.precision, batch, request.plugins)
    run.push_plugins(request.plugins)
    plan = board_building.plan_on_board(run.builder, asked, progress)
    try:
        parity = _parity(run, plan, bundle, batch, progress)
    except PlanMismatch:  # of a board that was flashed anew, say
        progress("the plan is refused: building it again")
        plan = board_building.build_on_board(run.builder, asked, progress)
        parity = _parity(run, plan, bundle, batch, progress)
    found.plan, found.parity = plan, parity
    if not parity.passed:
        row = max(parity.rows, key=lambda row: row.max_abs)
        found.failed = Unavailable(
            reason=f"parity failed at batch {batch}: max error {row.max_abs:.1e}, relative L2 "
            f"{row.relative_l2:.1e}; it was not timed"
        )
        return
    remote = run.push_plan(plan)
    shape = _shape(plan, bundle, batch)
    command = timing_command(
        run.builder,
        cell.contract,
        RunPlaces(
            program=run.builder.program,
            plan=remote,
            times=f"{run.work}/times.json",
            plugins=run.plugins,
        ),
        request.plan,
        shape,
    )
    found.command = command
    with board_power.watched(run, request.rate_hz, request.plan.name) as watch:
        for number in range(request.plan.repetitions):
            progress(f"repetition {number + 1}/{request.plan.repetitions}{watch.words()}")
            found.repetitions.append(_repetition(run, plan, command, request.plan))
    found.trace = watch.trace
    if request.plan.name != "quick":
        found.layers = _layer_times(run, plan, remote, shape, progress)
    if isinstance(found.trace, Trace) and request.plan.name != "quick":
        progress("once more without the sampler")
        found.unwatched = _repetition(run, plan, command, request.plan)


def _shape(plan: Plan, bundle: Bundle, batch: int) -> tuple[int, ...] | None:
    if plan.manifest.profile is None:
        return None
    recipe = bundle.manifest.preprocessing
    return (batch, 3, recipe.height, recipe.width)


def timing_command(
    builder: Builder,
    contract: str,
    places: RunPlaces,
    length: BenchPlan,
    shape: tuple[int, ...] | None,
) -> tuple[str, ...]:
    """Return the command of one repetition.

    Args:
        builder: the board's trtexec.
        contract: the timing contract.
        places: program and files.
        length: how long a cell is measured.
        shape: of the images, where the plan has a dynamic batch.
    """
    exact = contracts.contract(contract).runs
    enough = length.limits.enough
    return trtexec_run.run_command(
        dialects.dialect_of(builder.tensorrt),
        contract,
        places,
        RunLength(
            warm_up_ms=_WARM_UP_MS[length.name],
            duration_s=0.0 if exact else enough.seconds,
            iterations=exact or enough.rounds,
        ),
        shape,
    )


def _repetition(
    run: BoardRun, plan: Plan, command: tuple[str, ...], length: BenchPlan
) -> BoardRepetition:
    """Run trtexec once, and read its times.

    Raises:
        EngineError: it fails, or its times cannot be read.
        DeviceError: it cannot be run.
    """
    stamping = Stamping(run.transport)
    version = run.builder.tensorrt
    log = trtexec_run.run(
        stamping, command, version, timeout_s=length.limits.most_seconds + _MARGIN_S
    )
    warm_up = _WARM_UP_MS[length.name]
    origin = f"the times of trtexec on {run.transport.name}"
    times = trtexec_times.parse_times(
        run.transport.read_text(f"{run.work}/times.json"),
        warm_up_ms=warm_up,
        with_warm_up=dialects.dialect_of(version).times_with_warm_up,
        origin=origin,
    )
    if log.summary is not None:
        trtexec_times.check_summary(times, log.summary, origin)
    zero = stamping.last.stamp_of(_STARTED) if stamping.last is not None else None
    absent = Unavailable(reason="trtexec did not say when it started")
    return BoardRepetition(
        times=times,
        began_s=absent if zero is None else zero + times.start_ms[0] / 1e3,
        ended_s=absent if zero is None else zero + max(times.end_ms) / 1e3,
        graph=trtexec_run.graph_was_used(log),
    )


def _layer_times(
    run: BoardRun,
    plan: Plan,
    remote: str,
    shape: tuple[int, ...] | None,
    progress: Progress,
) -> str | Unavailable:
    """Return what trtexec writes of the time of each layer, once for a plan and a power mode.

    Raises:
        ConnectError: the connection was lost.
    """
    key = (plan_digest(plan), run.mode.id if run.mode else None)
    if key in run.layers_taken:
        return Unavailable(reason="taken with an earlier cell of this plan and power mode")
    progress("the time of each layer")
    places = RunPlaces(
        program=run.builder.program,
        plan=remote,
        layers=f"{run.work}/layers.profile.json",
        plugins=run.plugins,
    )
    try:
        command = trtexec_run.layers_command(
            dialects.dialect_of(run.builder.tensorrt), places, shape
        )
        trtexec_run.run(run.transport, command, run.builder.tensorrt, timeout_s=_MARGIN_S)
        text = run.transport.read_text(places.layers)
    except ConnectError:
        raise
    except (EngineError, DeviceError) as error:  # the times of the plan stand without it
        return Unavailable(reason=error.message)
    run.layers_taken.add(key)
    return _with_nodes(text, plan.path.parent / LAYERS_FILE)


def _with_nodes(text: str, information: Path) -> str:
    """Return trtexec's layer times, each entry with the ONNX nodes in that layer.

    TensorRT 10 calls its fused kernels `__myl_Add_myl0_7`, which tells nothing of the network.

    Args:
        text: as trtexec wrote it; what is none of those (names are not escaped) stays as it is.
        information: the plan's layer information.
    """
    try:
        entries = json.loads(text)
        nodes = {layer.name: layer.nodes for layer in read_layers(information)}
    except (ValueError, ElfattDeployError):  # the report says so of the one, and lacks the other
        return text
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return text
    for entry in entries:
        if nodes.get(entry.get("name", "")):
            entry["nodes"] = nodes[entry["name"]]
    return json.dumps(entries)


def _parity(
    run: BoardRun, plan: Plan, bundle: Bundle, batch: int, progress: Progress
) -> ParityReport:
    """Hold the logits of a plan on the board against the golden ones, once for each plan.

    Raises:
        PlanMismatch: the board does not load the plan.
        EngineError: trtexec fails, or gives no logits.
        DeviceError: it cannot be run.
    """
    key = (plan_digest(plan), batch)
    if key in run.parity:
        return run.parity[key]
    progress("comparing its logits with the golden ones")
    golden = read_golden(bundle.path / GOLDEN_FILE).batch(batch)
    places = RunPlaces(
        program=run.builder.program,
        plan=run.push_plan(plan),
        inputs=f"{run.work}/images.bin",
        outputs=f"{run.work}/logits.json",
        plugins=run.plugins,
    )
    with tempfile.TemporaryDirectory(prefix="elfatt-deploy-") as folder:
        local = Path(folder) / "images.bin"
        trtexec_outputs.write_input(local, golden.images)
        run.transport.push(local, places.inputs)
    command = trtexec_run.parity_command(
        dialects.dialect_of(run.builder.tensorrt), places, _shape(plan, bundle, batch)
    )
    trtexec_run.run(run.transport, command, run.builder.tensorrt, timeout_s=_MARGIN_S)
    outputs = trtexec_outputs.parse_outputs(
        run.transport.read_text(places.outputs), f"the outputs of trtexec on {run.transport.name}"
    )
    if "logits" not in outputs:
        raise EngineError(f"the plan gives {', '.join(outputs) or 'nothing'}, and no 'logits'")
    report = compare.batch_report(
        golden,
        outputs["logits"],
        f"TensorRT {run.builder.tensorrt} on {run.transport.name}",
        tolerance(plan.manifest.precision),
    )
    run.parity[key] = report
    return report
