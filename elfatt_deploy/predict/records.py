"""Predicted run records: complete, and unable to pass for measured ones."""

from __future__ import annotations

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.device.boards import BoardFile, BoardMode
from elfatt_deploy.predict.constants import Constants
from elfatt_deploy.predict.kernels import KernelTable, Precision, Regime
from elfatt_deploy.predict.machine import Machine
from elfatt_deploy.predict.roofline import Estimate
from elfatt_deploy.results.parts import (
    Cell,
    Device,
    GitState,
    MachineState,
    Memory,
    Prediction,
    Statistics,
)
from elfatt_deploy.results.schema import RunRecord

_NOT_RUN = Unavailable(reason="predicted: nothing ran")
_NOT_TESTED = Unavailable(
    reason="no published time of a compiled engine on a board tests these predictions"
)


def uncertainty(
    constants: Constants, machine: Machine, regime: Regime, guess: Estimate
) -> Interval | Unavailable:
    """Return the band of the images a second; none where nothing published tests the regime.

    The band of the points that were not fitted, and launches at the least and the most of what they
    may cost.
    """
    if regime != "eager":
        return _NOT_TESTED
    band, launch = constants.band(machine), constants.launch
    shortest = guess.total_ms - (1 - launch.least) * guess.launch_ms
    longest = guess.total_ms + (launch.most - 1) * guess.launch_ms
    return Interval(
        low=band.low * 1000 * guess.batch / longest,
        high=band.high * 1000 * guess.batch / shortest,
        level=band.level,
    )


def uncertainty_words(constants: Constants, machine: Machine, regime: Regime) -> str:
    """Return what the band of a prediction means."""
    if regime != "eager":
        return f"none: {_NOT_TESTED.reason}"
    band, launch = constants.band(machine), constants.launch
    return (
        f"{100 * band.level:.0f} % of {band.points} published points that were not fitted "
        f"({band.boards}) had {band.low:.2f} to {band.high:.2f} of the predicted images/s; "
        f"launches may cost {launch.least:g} to {launch.most:g} times what is stated"
    )


def predicted_cell(
    table: KernelTable,
    board: BoardFile,
    mode: BoardMode,
    *,
    method: str,
    precision: Precision,
    regime: Regime,
    batch: int,
) -> Cell:
    """Return the cell of a prediction: its runner is the method, its variant the regime.

    What is predicted of the eager regime is what the paper measured, `paper/1`; of the others it is
    the time of the kernels, `compute/1`.
    """
    eager = regime == "eager"
    return Cell(
        model=table.model,
        height=table.height,
        width=table.width,
        batch=batch,
        precision=precision,
        target=board.target,
        runner=method,
        provider="cuda" if eager else "tensorrt",
        contract="paper/1" if eager else "compute/1",
        device=board.name,
        power=mode.name,
        variant=regime,
    )


def predicted_record(
    cell: Cell,
    guess: Estimate,
    spread: Interval | Unavailable,
    words: str,
    board: BoardFile,
    mode: BoardMode,
    *,
    started: str,
    command: tuple[str, ...],
    git: GitState | Unavailable,
    versions: dict[str, str],
) -> RunRecord:
    """Return the record of a prediction; everything that only a run could tell is absent.

    Args:
        cell: what was asked for.
        guess: the predicted time.
        spread: the band of its images a second.
        words: what that band means.
        board: the board that it is for.
        mode: the power mode of that board.
        started: when, UTC.
        command: the command line.
        git: the checkout of this program.
        versions: of this program.
    """
    state = _state()
    return RunRecord(
        source="predicted",
        key=cell.key,
        cell=cell,
        started=started,
        duration_s=0.0,
        command=command,
        git=git,
        versions=versions,
        weights=_NOT_RUN,
        bundle_sha256=_NOT_RUN,
        model_sha256=_NOT_RUN,
        plan_sha256=_NOT_RUN,
        proof=f"{cell.precision}-predicted",
        evidence="kernels counted on the model, clocks of the board file",
        parity=_NOT_RUN,
        device=_device(board, mode),
        power_mode=_NOT_RUN,
        before=state,
        after=state,
        protocol=_NOT_RUN,
        quantity="predicted time of a batch",
        repetitions=(),
        statistics=_statistics(guess, spread),
        power=_NOT_RUN,
        memory=Memory(host_peak_bytes=_NOT_RUN, device_peak_bytes=_NOT_RUN),
        prediction=Prediction(
            method=cell.runner,
            regime=cell.variant,
            levels_ms={level.level: level.total_ms for level in guess.levels},
            limits={level.level: level.limit for level in guess.levels},
            band=words,
        ),
    )


def _statistics(guess: Estimate, rate: Interval | Unavailable) -> Statistics:
    time: Interval | Unavailable = _NOT_TESTED
    if isinstance(rate, Interval):
        time = Interval(
            low=1000 * guess.batch / rate.high,
            high=1000 * guess.batch / rate.low,
            level=rate.level,
        )
    return Statistics(
        count=0,
        repetitions=0,
        p50_ms=guess.total_ms,
        p50_interval_ms=time,
        mean_ms=_NOT_RUN,
        mad_ms=_NOT_RUN,
        p90_ms=_NOT_RUN,
        p95_ms=_NOT_RUN,
        p99_ms=_NOT_RUN,
        min_ms=_NOT_RUN,
        max_ms=_NOT_RUN,
        images_per_s=guess.images_per_s,
        images_per_s_interval=rate,
        images_per_s_rule="1000 x batch / predicted time (ms)",
    )


def _device(board: BoardFile, mode: BoardMode) -> Device:
    cores = mode.cores
    return Device(
        name=board.title,
        board=board.name,
        cpu="not asked: predicted",
        cores=board.cores if isinstance(cores, Unavailable) else cores,
        memory_bytes=board.memory_bytes,
        gpu=f"SM {board.sm / 10:.1f}",
        system="none: predicted",
        virtual=_NOT_RUN,
    )


def _state() -> MachineState:
    return MachineState(
        load=_NOT_RUN,
        governor=_NOT_RUN,
        free_bytes=_NOT_RUN,
        swap_used_bytes=_NOT_RUN,
        gpu_processes=_NOT_RUN,
        clocks=_NOT_RUN,
        temperatures=_NOT_RUN,
        throttle_events=_NOT_RUN,
    )
