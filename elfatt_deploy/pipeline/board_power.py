"""Power over the timed inferences of a cell: sampled, cut to them, summed by the board's rule."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import energy
from elfatt_deploy.bench.stability import Kind, StabilityWarning
from elfatt_deploy.device.boards import BoardFile, TotalRule
from elfatt_deploy.device.telemetry import Sampler, SysfsSampler
from elfatt_deploy.device.trace import Sample, Trace, hottest_c
from elfatt_deploy.errors import ConnectError, DeviceError
from elfatt_deploy.results.parts import PowerSummary, Rail

if TYPE_CHECKING:
    from elfatt_deploy.pipeline.board_records import CellFindings
    from elfatt_deploy.pipeline.board_run import BoardRun

#: an idle baseline is taken over so many seconds before the first repetition
_IDLE_S = {"quick": 0.5, "default": 2.0, "strict": 10.0}
_NEEDED = 2
#: fewer samples of power than these within the timed inferences are hardly a mean
_FEW_SAMPLES = 10
_NOT_WATCHED = Unavailable(reason="every repetition was sampled")


@dataclasses.dataclass(slots=True)
class Watch:
    """What a sampler sees while a cell is measured; `trace` is there when it has ended."""

    rule: tuple[str, ...]
    sampler: Sampler | None
    trace: Trace | Unavailable

    def words(self) -> str:
        """Return the latest power and temperature, for the line of progress."""
        if self.sampler is None:
            return ""
        new = self.sampler.read_new()
        if not new:
            return ""
        watts, degrees = _watts(new[-1], self.rule), hottest_c(new[-1].temperature_c)
        texts = [] if watts is None else [f"{units.watts(watts)} W"]
        texts += [] if degrees is None else [f"{units.degrees(degrees)} degC"]
        return "".join(f", {text}" for text in texts)


@contextmanager
def watched(run: BoardRun, rate_hz: float, plan: str) -> Iterator[Watch]:
    """Sample the board for the time of a block; a sampler that cannot run leaves no trace.

    Args:
        run: the board.
        rate_hz: samples a second; 0 for none.
        plan: `quick`, `default` or `strict`: how long the board is watched at rest first.

    Raises:
        ConnectError: the board was lost.
    """
    found = run.snapshot
    rule = run.board.total.rails if isinstance(run.board, BoardFile) and run.board.total else ()
    watch = Watch(rule, None, Unavailable(reason="no power was sampled: --rate 0"))
    if rate_hz > 0:
        sampler = SysfsSampler(
            run.transport,
            found.rails,
            found.zones,
            tuple(clock for clock in found.clocks if clock.name in ("cpu0", "gpu", "emc")),
            found.counters,
            rate_hz=rate_hz,
            work_folder=run.work,
        )
        try:
            sampler.start()
            watch.sampler = sampler
            time.sleep(_IDLE_S[plan])
        except ConnectError:
            raise
        except DeviceError as error:
            watch.trace = Unavailable(reason=error.message)
    try:
        yield watch
    finally:
        if watch.sampler is not None:
            try:
                time.sleep(_NEEDED / rate_hz)  # a sample after the last inference closes its window
                watch.trace = watch.sampler.stop()
            except ConnectError:
                raise
            except DeviceError as error:
                watch.trace = Unavailable(reason=error.message)


def summary(run: BoardRun, found: CellFindings, batch: int) -> PowerSummary | Unavailable:
    """Return power and energy over the timed inferences of all repetitions.

    Args:
        run: the board.
        found: what the cell has come to.
        batch: images in a run.
    """
    if found.failed is not None:
        return found.failed
    trace = found.trace
    if isinstance(trace, Unavailable):
        return trace
    windows = []
    for one in found.repetitions:
        if isinstance(one.began_s, Unavailable) or isinstance(one.ended_s, Unavailable):
            return Unavailable(reason="trtexec did not say when it started")
        windows.append((one.began_s, one.ended_s))
    rails = tuple(
        Rail(name=name, mean_mw=power.mean_mw, p95_mw=power.p95_mw, max_mw=power.max_mw)
        for name, power in energy.rail_power(trace, windows).items()
        if isinstance(power, energy.Power)
    )
    rule = run.board.total if isinstance(run.board, BoardFile) else None
    total = energy.total_power(trace, windows, rule)
    images = batch * sum(len(one.times.compute_ms) for one in found.repetitions)
    return PowerSummary(
        sampler=trace.source,
        rate_hz=1 / trace.typical_period_s,
        count=sum(len(energy.window(trace, start, end)) for start, end in windows),
        window_ms=1e3 * sum(end - start for start, end in windows),
        rails=rails,
        total_rule=" + ".join(rule.rails) if rule else _no_rule(),
        total_mean_mw=total if isinstance(total, Unavailable) else total.mean_mw,
        total_p95_mw=total if isinstance(total, Unavailable) else total.p95_mw,
        idle_mw=_idle(trace, windows, rule),
        energy_mj=total if isinstance(total, Unavailable) else total.energy_mj,
        energy_mj_per_image=total if isinstance(total, Unavailable) else total.energy_mj / images,
        sampler_overhead=_overhead(found),
        hottest_c=_highest(trace, windows),
    )


def _no_rule() -> Unavailable:
    return Unavailable(reason="no rule says which rails are the total power of this board")


def _idle(
    trace: Trace, windows: Sequence[energy.Window], rule: TotalRule | None
) -> float | Unavailable:
    """Return the power before the first repetition, clocks as they were for it."""
    if not trace.samples or not windows:
        return Unavailable(reason="no sample was taken")
    begin = trace.samples[0].uptime_s
    # up to the first inference the plan is loaded: only the agreed pause is rest
    end = min(begin + min(_IDLE_S.values()), windows[0][0])
    found = energy.total_power(trace, ((begin, end),), rule)
    return found.mean_mw if isinstance(found, energy.Power) else found


def _highest(trace: Trace, windows: Sequence[energy.Window]) -> float | Unavailable:
    """Return the highest temperature of any sensor within the timed inferences."""
    samples = [sample for start, end in windows for sample in energy.window(trace, start, end)]
    values = [value for sample in samples if (value := hottest_c(sample.temperature_c)) is not None]
    return max(values) if values else Unavailable(reason="no temperature was sampled meanwhile")


def _overhead(found: CellFindings) -> float | Unavailable:
    """Return the share by which a repetition without the sampler was faster."""
    if found.unwatched is None:
        return _NOT_WATCHED
    watched = statistics.median(
        statistics.median(one.times.compute_ms) for one in found.repetitions
    )
    return watched / statistics.median(found.unwatched.times.compute_ms) - 1


def warnings(
    name: str, power: PowerSummary | Unavailable, found: CellFindings
) -> list[StabilityWarning]:
    """Return what is doubtful about the watching of a cell: what nobody saw is never called clean.

    Args:
        name: of the cell.
        power: its summary.
        found: what the cell has come to.
    """
    if found.failed is not None:
        return []
    lines = []
    if isinstance(power, Unavailable):
        lines.append((Kind.UNWATCHED, power.reason))
    else:
        if isinstance(power.total_mean_mw, Unavailable):
            lines.append((Kind.UNWATCHED, power.total_mean_mw.reason))
        elif power.count < _FEW_SAMPLES:
            text = f"{power.count} power samples fell into the timed inferences; measure longer"
            lines.append((Kind.FEW_ROUNDS, text))
        lines += _events(found)
    return [
        StabilityWarning(kind=kind, cell=name, message=f"{name}: {text}") for kind, text in lines
    ]


def _events(found: CellFindings) -> list[tuple[Kind, str]]:
    """Return what the counters did within the timed inferences."""
    assert isinstance(found.trace, Trace)
    windows = [
        (one.began_s, one.ended_s)
        for one in found.repetitions
        if isinstance(one.began_s, float) and isinstance(one.ended_s, float)
    ]
    lines = []
    for rise in energy.rises(found.trace, windows):
        if isinstance(rise.events, Unavailable):
            lines.append((Kind.UNWATCHED, rise.events.reason))
        elif rise.events:
            lines.append(
                (
                    Kind.THROTTLED,
                    f"the counter {rise.name} rose by {rise.events} within the timed inferences; "
                    "see to cooling and to the power supply",
                )
            )
    return lines


def _watts(sample: Sample, rails: Sequence[str]) -> float | None:
    """Return the total power of one sample in W; None where a rail is missing."""
    values = [sample.power_mw.get(rail) for rail in rails]
    known = [value for value in values if value is not None]
    return sum(known) / 1e3 if known and len(known) == len(values) else None
