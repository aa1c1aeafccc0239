"""Energy of timed windows out of a trace of power samples; pure.

Power is integrated by the trapezoid rule over the windows alone; at their edges it is interpolated
between two samples. Nothing is estimated: a window that the samples do not cover, or a gap in them,
leaves no number. Milliwatts times seconds are millijoules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.device.boards import TotalRule
from elfatt_deploy.device.trace import Sample, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: longest time between two samples that is still integrated, in periods
MAX_GAP_PERIODS = 3.0
#: the typical period may be longer than what was asked for, up to so many times
_MAX_SLOWER = 2.0
#: resolution of the stamps, by which two of them may lie further apart
_STAMP_S = 0.01
#: counters that say how far something throttles now, not how often it has
_LEVEL_PREFIX = "thermal-"

#: start and end on the board's clock, in seconds
Window = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """Power over some windows.

    Args:
        name: the rail, or what the total is made of.
        energy_mj: of all windows together.
        mean_mw: that energy over their length.
        p95_mw: 95th percentile of the samples within, as trtexec takes percentiles.
        max_mw: the largest of them.
        window_s: length of the windows together.
        count: number of samples within; without any the edges stand for them.
    """

    name: str
    energy_mj: float
    mean_mw: float
    p95_mw: float
    max_mw: float
    window_s: float
    count: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """How much a counter rose within the windows.

    Args:
        name: the counter.
        events: how much; for `thermal-...` the deepest throttling. Unavailable where a reading is
            missing: events may have been missed then.
    """

    name: str
    events: int | Unavailable


def window(trace: Trace, start_s: float, end_s: float) -> tuple[Sample, ...]:
    """Return the samples within a window, its edges included."""
    return tuple(sample for sample in trace.samples if start_s <= sample.uptime_s <= end_s)


def rail_power(trace: Trace, windows: Sequence[Window]) -> dict[str, Power | Unavailable]:
    """Return the power of each rail of a trace over some windows."""
    return {name: power_of(trace, windows, (name,)) for name in trace.rails}


def total_power(
    trace: Trace, windows: Sequence[Window], rule: TotalRule | None
) -> Power | Unavailable:
    """Return the total power by a board's rule; an unknown board has none."""
    if rule is None:
        return Unavailable(reason="no rule says which rails are the total power of this board")
    if len(rule.rails) > 1 and not rule.sum:
        return Unavailable(reason=f"the rule does not say to add {' and '.join(rule.rails)}")
    return power_of(trace, windows, rule.rails)


def power_of(trace: Trace, windows: Sequence[Window], rails: Sequence[str]) -> Power | Unavailable:
    """Return the power of a rail, or of the sum of several, over some windows.

    Args:
        trace: the samples.
        windows: they may touch, and do not overlap.
        rails: which to add; a sample that lacks one of them counts as missing.
    """
    name = " + ".join(rails)
    missing = [rail for rail in rails if rail not in trace.rails]
    if missing or not rails:
        return Unavailable(reason=f"the rail {' and '.join(missing)} was not sampled")
    if not windows:
        return Unavailable(reason="nothing was timed")
    times, powers = _series(trace, rails)
    if (np.diff([sample.uptime_s for sample in trace.samples]) < 0).any():
        return Unavailable(reason="the board's clock went back: it was started again meanwhile")
    limit_s = MAX_GAP_PERIODS * _period_s(trace) + _STAMP_S
    energy, length, inside, edges = 0.0, 0.0, [], []
    for start, end in windows:
        reason = _uncovered(times, start, end, limit_s)
        if reason:
            return Unavailable(reason=f"{name}: {reason}")
        within = (times > start) & (times < end)
        at = np.concatenate(([start], times[within], [end]))
        values = np.interp(at, times, powers)
        energy += float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(at)))
        length += end - start
        inside += powers[(times >= start) & (times <= end)].tolist()
        edges += [values[0], values[-1]]
    samples = inside or [float(value) for value in edges]
    return Power(
        name=name,
        energy_mj=energy,
        mean_mw=energy / length,
        p95_mw=stats.percentile(samples, 95.0),
        max_mw=float(max(samples)),
        window_s=length,
        count=len(inside),
    )


def rises(trace: Trace, windows: Sequence[Window]) -> tuple[Rise, ...]:
    """Return how much each counter rose within the windows.

    The last reading before a window is where its count begins, the first one after it where it
    ends: an event between two readings belongs to the window that lies between them.
    """
    names = dict.fromkeys(name for sample in trace.samples for name in sample.counters)
    return tuple(Rise(name=name, events=_events(trace, windows, name)) for name in names)


def _events(trace: Trace, windows: Sequence[Window], name: str) -> int | Unavailable:
    total = 0
    for start, end in windows:
        before = [sample for sample in trace.samples if sample.uptime_s <= start][-1:]
        within = [sample for sample in trace.samples if start < sample.uptime_s < end]
        after = [sample for sample in trace.samples if sample.uptime_s >= end][:1]
        if not (before and after):
            return Unavailable(reason=f"{name}: not watched from the start to the end")
        values = [sample.counters.get(name) for sample in (*before, *within, *after)]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return Unavailable(reason=f"{name}: {len(values) - len(known)} readings are missing")
        if name.startswith(_LEVEL_PREFIX):
            total = max(total, *known)
        else:
            steps = (later - earlier for earlier, later in zip(known, known[1:], strict=False))
            total += sum(step for step in steps if step > 0)
    return total


def _series(trace: Trace, rails: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times and powers of the samples that have all the rails."""
    times, powers = [], []
    for sample in trace.samples:
        values = [sample.power_mw.get(rail) for rail in rails]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            times.append(sample.uptime_s)
            powers.append(sum(known))
    return np.asarray(times, np.float64), np.asarray(powers, np.float64)


def _period_s(trace: Trace) -> float:
    """Return the time between two samples: what was asked for, or a little more where it was."""
    return min(trace.typical_period_s, _MAX_SLOWER * trace.period_s)


def _uncovered(times: NDArray[np.float64], start: float, end: float, limit_s: float) -> str:
    """Return why the samples do not cover a window; empty where they do."""
    if end <= start:
        return f"the window from {start:g} to {end:g} s has no length"
    if not len(times):
        return "no sample was read"
    if times[0] > start or times[-1] < end:
        return (
            f"the samples from {times[0]:.2f} to {times[-1]:.2f} s do not cover the window from "
            f"{start:.2f} to {end:.2f} s"
        )
    first = int(np.searchsorted(times, start, side="right")) - 1
    last = int(np.searchsorted(times, end, side="left"))
    gaps = np.diff(times[first : last + 1])
    if len(gaps) and gaps.max() > limit_s:
        return (
            f"{gaps.max():.2f} s without a sample in the window, more than {limit_s:.2f} s are not "
            "bridged"
        )
    return ""
