"""`predict`: counted kernels, a board file and stated constants -> predicted run records.

Nothing runs. The study that fits and judges the constants is here too, for its published points
and the boards' clocks are of different stages; `docs/prediction.py` writes its page.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import boards
from elfatt_deploy.device.boards import BoardFile, BoardMode
from elfatt_deploy.errors import UsageError
from elfatt_deploy.models.plugin_node import check_plugin
from elfatt_deploy.pipeline.manifest import git_state, versions
from elfatt_deploy.predict.constants import Constants, constants
from elfatt_deploy.predict.fitting import Point
from elfatt_deploy.predict.kernels import KernelTable, Precision, Regime, kernel_table
from elfatt_deploy.predict.machine import Machine, machine_of
from elfatt_deploy.predict.plugin import Saving, savings
from elfatt_deploy.predict.records import (
    predicted_cell,
    predicted_record,
    uncertainty,
    uncertainty_words,
)
from elfatt_deploy.predict.roofline import Estimate, estimate
from elfatt_deploy.report.published import figure4
from elfatt_deploy.results import store
from elfatt_deploy.results.parts import GitState
from elfatt_deploy.results.schema import RunRecord

DEFAULT_MODEL = "cswin_t_elfatt"
REGIMES: tuple[Regime, ...] = ("eager", "fused")
#: the models whose points at `FITTED_POWERS_W` are fitted: the slowest, the median and the fastest
#: of Table VIII in FP32
FITTED_MODELS = ("cswin_t_global", "cswin_t_agent", "efficientvit_b2_288")
FITTED_POWERS_W = (15.0, 60.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest:
    """What to predict.

    Args:
        models: names of models with counted kernels.
        boards: names of boards; all where there is none.
        power: a power mode, as `--power` takes it; None means every mode.
        precisions: `fp32`, `fp16`.
        regimes: `eager`, `fused`.
        plugin: `elfatt` for predictions with its node beside them; None for none.
        batch: images in a run.
        results: file that the records are appended to; None means none.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    boards: tuple[str, ...] = ()
    power: str | None = None
    precisions: tuple[Precision, ...] = ("fp16",)
    regimes: tuple[Regime, ...] = REGIMES
    plugin: str | None = None
    batch: int = 1
    results: Path | None = None

    def __post_init__(self) -> None:
        """Reject what cannot be predicted.

        Raises:
            UsageError: the batch is below 1, or a mode is asked for of no board in particular.
            UnknownNameError: there is no such plugin.
        """
        check_plugin(self.plugin)
        if self.batch < 1:
            raise UsageError(f"--batch {self.batch}", hint="use a number from 1")
        if self.power is not None and not self.boards:
            raise UsageError(
                f"--power {self.power} of which board?", hint="add --board NAME, such as nano"
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictedCell:
    """One prediction: the record, the estimate behind it, and the machine that it is for."""

    record: RunRecord
    estimate: Estimate
    machine: Machine


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PredictReport:
    """The result of `predict`.

    Args:
        request: what was asked.
        constants: what it rests on.
        cells: every prediction.
        missing: modes without one, and why.
        unverified: facts of board files that nobody has checked, a line a board.
        savings: what the plugin's node saves in each level of each model, where that was asked for.
    """

    request: PredictRequest
    constants: Constants
    cells: tuple[PredictedCell, ...]
    missing: tuple[str, ...]
    unverified: tuple[str, ...]
    savings: tuple[Saving, ...] = ()


def predict(request: PredictRequest, *, command: tuple[str, ...]) -> PredictReport:
    """Predict every model on every board and mode that was asked for, and store the records.

    Args:
        request: what to predict.
        command: the command line, for the records.

    Raises:
        UnknownNameError: a model has no counted kernels, or there is no such board.
        PowerModeError: the board has no such mode, or several.
        ExportError: the results cannot be written.
    """
    known, stated = boards.boards(), constants()
    tables = [kernel_table(name) for name in request.models]
    asked = [boards.board(name) for name in request.boards] or list(known.values())
    git = git_state()
    started = units.now()
    cells: list[PredictedCell] = []
    missing = [
        f"{table.model} with the plugin {request.plugin}: it covers none of its attention blocks"
        for table in tables
        if request.plugin and not table.plugin
    ]
    for board in asked:
        chosen = boards.find_mode(board.modes, request.power) if request.power else None
        for mode in (chosen,) if chosen else board.modes:
            machine = machine_of(board, mode)
            if isinstance(machine, Unavailable):
                missing.append(f"{board.name} {mode.name}: {machine.reason}")
                continue
            cells += _cells(request, tables, board, mode, machine, stated, started, command, git)
    for cell in cells:
        if request.results is not None:
            store.append(request.results, cell.record)
    return PredictReport(
        request=request,
        constants=stated,
        cells=tuple(cells),
        missing=tuple(missing),
        unverified=tuple(
            f"{board.name}: {', '.join(board.unverified)}" for board in asked if board.unverified
        ),
        savings=tuple(
            saving
            for table in tables
            for precision in request.precisions
            if request.plugin and table.plugin
            for saving in savings(table, precision)
        ),
    )


def _cells(
    request: PredictRequest,
    tables: list[KernelTable],
    board: BoardFile,
    mode: BoardMode,
    machine: Machine,
    stated: Constants,
    started: str,
    command: tuple[str, ...],
    git: GitState | Unavailable,
) -> list[PredictedCell]:
    found = []
    for table in tables:
        with_plugin: tuple[Regime, ...] = ("plugin",) if request.plugin and table.plugin else ()
        for precision in request.precisions:
            for regime in (*request.regimes, *with_plugin):
                guess = estimate(
                    table, machine, stated,
                    regime=regime, precision=precision, batch=request.batch,
                )  # fmt: skip
                cell = predicted_cell(
                    table, board, mode,
                    method=stated.method, precision=precision, regime=regime, batch=request.batch,
                )  # fmt: skip
                record = predicted_record(
                    cell,
                    guess,
                    uncertainty(stated, machine, regime, guess),
                    uncertainty_words(stated, machine, regime),
                    board,
                    mode,
                    started=started,
                    command=command,
                    git=git,
                    versions=versions(()),
                )
                found.append(PredictedCell(record=record, estimate=guess, machine=machine))
    return found


def study_points() -> tuple[tuple[Point, float], ...]:
    """Return the images a second of Figure 4 as points, each with its power in W."""
    figure = figure4()
    machines = {}
    for setting in figure.settings:
        board = boards.board(setting.board)
        machine = machine_of(board, boards.find_mode(board.modes, setting.mode))
        if isinstance(machine, Machine):
            machines[setting.power_w] = (machine, setting.batch)
    words: tuple[tuple[Precision, str], ...] = (("fp32", "fp32"), ("fp16", "mixed"))
    return tuple(
        (
            Point(
                model=series.model,
                precision=precision,
                machine=machines[marker.power_w][0],
                batch=machines[marker.power_w][1],
                images_per_s=marker.value,
            ),
            marker.power_w,
        )
        for precision, word in words
        for series in figure.series
        if (series.precision, series.quantity) == (word, "images_per_s")
        for marker in series.points
    )


def study_parts(
    models: tuple[str, ...] = FITTED_MODELS,
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Return the points that are fitted, those of `models` at 15 and 60 W, and all others."""
    fitted: list[Point] = []
    tested: list[Point] = []
    for point, power_w in study_points():
        mine = point.model in models and power_w in FITTED_POWERS_W
        (fitted if mine else tested).append(point)
    return tuple(fitted), tuple(tested)
