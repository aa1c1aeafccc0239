"""sweep: recipe -> cells -> the board, mode by mode -> a record a cell, stored at once."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy import bundles as bundle_files
from elfatt_deploy import units
from elfatt_deploy.artifacts import Bundle, Unavailable
from elfatt_deploy.bench.protocol import BenchPlan
from elfatt_deploy.bench.sweep import SweepCell, SweepMode, SweepRecipe, cells_of, remaining
from elfatt_deploy.device import boards
from elfatt_deploy.device.boards import BoardFile, BoardMode
from elfatt_deploy.device.records import NvpmodelConfig, NvpmodelMode, Snapshot
from elfatt_deploy.errors import ConnectError, DeviceError, PowerModeError, UsageError
from elfatt_deploy.models import registry
from elfatt_deploy.models.own import is_own
from elfatt_deploy.pipeline import board_measuring
from elfatt_deploy.pipeline.board_run import BoardRun, open_board
from elfatt_deploy.pipeline.devices import open_device
from elfatt_deploy.pipeline.lookup import bundle_for
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.results import store
from elfatt_deploy.results.schema import RunRecord, Statistics

#: connections that may be lost one after the other without a cell in between
_STRIKES = 3
#: how long a board that went away is waited for
_AWAY_S = 300.0
_PAUSE_S, _ASK_S = 2.0, 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """What to sweep, on one device.

    Args:
        recipe: the cells.
        device: `local`, `ssh://...` or `sim:BOARD`.
        results: JSON Lines file that each record is appended to; None keeps them in the report.
        folder: where bundles are looked up and exported.
        bundles: bundles that are measured in place of those of the folder, by model and precision.
        plugins: plugin libraries of that board, which its plans need.
        plan: how long each cell is measured.
        seed: of the order.
        again: whether cells that the results already hold are measured again.
        any_board: whether another board than the recipe's may be measured.
        allow_reboot: whether the board may be started anew where a mode demands it.
        keep: whether what was pushed stays on the board.
        rate_hz: samples of power a second; 0 for none.
        command: the command line, for the records.
    """

    recipe: SweepRecipe
    device: str
    results: Path | None = None
    folder: Path = Path("bundles")
    bundles: tuple[Bundle, ...] = ()
    plugins: tuple[Path, ...] = ()
    plan: BenchPlan
    seed: int = 0
    again: bool = False
    any_board: bool = False
    allow_reboot: bool = False
    keep: bool = False
    rate_hz: float = 10.0
    command: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What a sweep came to.

    Args:
        device: the device.
        board: its name; Unavailable where no board file knows it.
        simulated: whether it is an emulated board.
        cells: number of cells of the recipe.
        skipped: number of those that the results already held.
        records: of the cells that were measured now.
        restored: what was verified at the end, in words.
        interrupted: whether Ctrl-C ended it.
    """

    device: str
    board: str | Unavailable
    simulated: bool
    cells: int
    skipped: int
    records: tuple[RunRecord, ...]
    restored: str
    interrupted: bool

    @property
    def failures(self) -> tuple[str, ...]:
        """Why cells have no numbers, a line each."""
        return tuple(
            f"{record.cell.label}: {record.statistics.reason}"
            for record in self.records
            if isinstance(record.statistics, Unavailable)
        )

    @property
    def parity_failed(self) -> bool:
        """Whether a plan gave wrong logits."""
        return any(record.parity_failed for record in self.records)


@dataclasses.dataclass(slots=True)
class _State:
    """A sweep under way, over all its connections."""

    records: list[RunRecord] = dataclasses.field(default_factory=list)
    board: str | Unavailable = Unavailable(reason="the board was never reached")
    simulated: bool = False
    cells: int = 0
    skipped: int = 0
    restored: str = "nothing was changed"
    interrupted: bool = False
    lost: ConnectError | None = None


def sweep(request: SweepRequest, progress: Progress = silent) -> SweepReport:
    """Measure every cell of a recipe that the results do not hold yet, and put the board back.

    A cell that fails stands in the results with the reason, and is tried again by the next sweep.
    A lost connection is waited for; the board is put back, and the sweep goes on. Ctrl-C ends it.

    Args:
        request: what to sweep.
        progress: called with each stage.

    Raises:
        UsageError: the recipe, the bundles or the modes do not go with the board.
        MissingDependency: torch is absent where a bundle must be exported.
        DeviceError: the board cannot be reached, used or put back, or it is lost for good.
        ExportError: the results cannot be written, or a bundle cannot be exported.
    """
    state = _State()
    strikes, done = 0, 0
    while not _connected(request, state, progress):
        strikes = strikes + 1 if len(state.records) == done else 1
        done = len(state.records)
        assert state.lost is not None
        if strikes >= _STRIKES:
            raise state.lost
        _wait_for(request.device, state.lost, progress)
    return SweepReport(
        device=request.device,
        board=state.board,
        simulated=state.simulated,
        cells=state.cells,
        skipped=state.skipped,
        records=tuple(state.records),
        restored=state.restored,
        interrupted=state.interrupted,
    )


def _connected(request: SweepRequest, state: _State, progress: Progress) -> bool:
    """Measure over one connection; False where it was lost on the way.

    Raises:
        ConnectError: there was none from the start.
    """
    reached = False
    try:
        with open_board(
            request.device,
            allow_reboot=request.allow_reboot,
            keep=request.keep,
            say=progress,
        ) as run:
            reached = True
            try:
                _pass(request, run, state, progress)
            except KeyboardInterrupt:
                state.interrupted = True
        state.restored = run.restored
    except ConnectError as error:  # the session has put the board back, or kept its journal
        first = not reached and state.lost is None
        if state.interrupted or (first and not _answers(request.device)):
            raise
        state.lost = error
        return False
    return True


def _answers(device: str) -> bool:
    """Whether a device can be reached: then it was a connection that was lost, no wrong address."""
    try:
        with open_device(device) as transport:
            return transport.run(("true",), timeout_s=_ASK_S).status == 0
    except DeviceError:
        return False


def _wait_for(device: str, lost: ConnectError, progress: Progress) -> None:
    """Wait until a device answers again; Ctrl-C gives it up.

    Raises:
        ConnectError: it did not in time; the one by which it was lost.
    """
    end = time.monotonic() + _AWAY_S
    try:
        while time.monotonic() < end:
            progress(f"{lost.message}: waiting for {device}")
            if _answers(device):
                return
            time.sleep(_PAUSE_S)
    except KeyboardInterrupt:
        raise lost from None
    raise lost


def _pass(request: SweepRequest, run: BoardRun, state: _State, progress: Progress) -> None:
    """Measure what is left, over one connection."""
    state.board = run.board.name if isinstance(run.board, BoardFile) else run.board
    state.simulated = run.snapshot.simulated
    check_board(request, run.board)
    modes = modes_of(request.recipe, run.snapshot, run.board)
    found = bundles_of(request, run.board, progress)
    cells = cells_of(request.recipe, tuple(modes), request.seed)
    batches = {name: board_measuring.batch_of(request, bundle) for name, bundle in found.items()}
    keys = []
    for cell in cells:
        name = cell.model, cell.precision
        keys.append(run.cell(batches[name], cell, found[name]).key)
    finished = _finished(request, state)
    left = remaining(cells, keys, finished)
    state.cells, state.skipped = len(cells), len(cells) - len(left) - len(state.records)
    check_reboots(request, left)
    for cell in left:
        run.enter(modes[cell.mode], progress)
        words = f"{len(state.records) + state.skipped + 1}/{len(cells)} "
        words += f"{cell.model} {cell.precision} {cell.mode.asked} {cell.contract}"
        words += time_left(state.records, len(cells) - state.skipped)
        bundle = found[cell.model, cell.precision]
        record = board_measuring.measure_cell(
            run, request, cell, bundle, functools.partial(_say, progress, words)
        )
        if request.results is not None:
            store.append(request.results, record)
        state.records.append(record)


def time_left(done: Sequence[RunRecord], cells: int) -> str:
    """Return words for how long the rest of a sweep takes, by the mean of what is done; or none.

    Args:
        done: the cells of this call so far.
        cells: how many this call measures.
    """
    if not done:
        return ""
    mean_s = sum(record.duration_s for record in done) / len(done)
    return f" (about {units.minutes(mean_s * (cells - len(done)))} min left)"


def _say(progress: Progress, words: str, stage: str) -> None:
    progress(f"{words}: {stage}")


def check_board(request: SweepRequest, board: BoardFile | Unavailable) -> None:
    """Refuse a recipe that was written for another board.

    Raises:
        UsageError: it was.
    """
    wanted = request.recipe.boards
    name = board.name if isinstance(board, BoardFile) else "a board that no board file knows"
    if wanted and not request.any_board and name not in wanted:
        raise UsageError(
            f"the recipe {request.recipe.name} is for {' or '.join(wanted)}, and {request.device} "
            f"is {name}",
            hint="name another --device, or add --any-board to measure it all the same",
        )


def check_reboots(request: SweepRequest, cells: Sequence[SweepCell]) -> None:
    """Refuse modes that may demand a reboot before the first cell, not after hours of others.

    Raises:
        PowerModeError: there are such modes, and reboots were not allowed.
    """
    modes = dict.fromkeys(cell.mode.asked for cell in cells if cell.mode.reboot)
    if modes and not request.allow_reboot:
        raise PowerModeError(
            f"{request.device} goes to {', '.join(modes)} from where it is only by a reboot, for "
            "they switch other parts of the GPU",
            hint="add --allow-reboot, which holds for the way back as well, or ask for other modes",
        )


def modes_of(
    recipe: SweepRecipe, snapshot: Snapshot, board: BoardFile | Unavailable
) -> dict[SweepMode, NvpmodelMode | None]:
    """Return the power modes that a recipe asks for, as the board has them.

    Raises:
        DeviceError: the machine has no power modes.
        PowerModeError: one is unknown, or a label means several.
    """
    if not recipe.modes:
        return {SweepMode(asked=""): None}
    if not isinstance(snapshot.nvpmodel, NvpmodelConfig):
        raise DeviceError(
            f"this machine has no power modes: {snapshot.nvpmodel.reason}",
            hint="name a Jetson with --device ssh://user@board, or try the workflow on an emulated "
            "one with --device sim:agx-orin-64gb",
        )
    known = boards.modes_of(snapshot, board)
    by_id = {mode.id: mode for mode in snapshot.nvpmodel.modes}
    found: dict[SweepMode, NvpmodelMode | None] = {}
    for label in recipe.modes:
        mode = boards.find_mode(known, label)
        named = SweepMode(asked=label, id=mode.id, rank=_rank(mode), reboot=mode.reboot)
        found[named] = by_id[mode.id]
    return found


def _rank(mode: BoardMode) -> float:
    """Return how fast a mode lets the GPU be: its clock times the TPCs that run."""
    clock = mode.gpu_max_hz if isinstance(mode.gpu_max_hz, float) else float("inf")
    return clock * (mode.tpcs_on if isinstance(mode.tpcs_on, int) else 1)


def bundles_of(
    request: SweepRequest, board: BoardFile | Unavailable, progress: Progress
) -> dict[tuple[str, str], Bundle]:
    """Return the bundle of each model and precision: given, found, or exported now.

    Raises:
        UsageError: their target is not known.
        MissingDependency: one must be exported, and torch is absent.
        InputFileError: a bundle is torn, or an export fails parity.
        ExportError: one cannot be exported.
    """
    recipe = request.recipe
    target = recipe.target or (board.target if isinstance(board, BoardFile) else "")
    if not target:
        raise UsageError(
            f"{request.device} is no board that we know, so the target of its bundles is not known",
            hint="name bundles with --bundle DIR, or a target in the recipe",
        )
    given = {(b.manifest.model.name, b.manifest.precision): b for b in request.bundles}
    found = {}
    for model in recipe.models:
        for precision in recipe.precisions:
            stored = "fp32" if precision == "tf32" else precision
            bundle = given.get((model, stored))
            if bundle is None:
                size: tuple[int | None, int | None] = (recipe.resolution, recipe.resolution)
                if not is_own(model):  # whose module may not be importable where the board is
                    size = registry.get(model).size(*size)
                path, _ = bundle_for(
                    request.folder,
                    model,
                    size=size,
                    precision=stored,
                    batch=recipe.batch,
                    target=target,
                    progress=progress,
                )
                bundle = bundle_files.read_bundle(path)
            found[model, precision] = bundle
    return found


def _finished(request: SweepRequest, state: _State) -> set[str]:
    """Return the keys of cells that need not be measured again."""
    finished = {record.key for record in state.records}
    if request.again or request.results is None or not request.results.is_file():
        return finished
    for key, record in store.read(request.results).latest.items():
        if isinstance(record.statistics, Statistics) and record.quick <= (
            request.plan.name == "quick"
        ):
            finished.add(key)
    return finished
