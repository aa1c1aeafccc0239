"""How many times as fast one record is as another, with an interval."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.results import conditions, making
from elfatt_deploy.results.schema import RunRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Indices: TypeAlias = NDArray[np.int64]

_RESAMPLES = 2000
_LEVEL = 0.95
_SEED = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRatio:
    """Speed of one record / speed of another: above 1 the first is faster.

    Args:
        value: time of the other / time of the one; where they are paired, the median over the
            repetitions of the ratio within each.
        interval: its bootstrap interval over the repetitions.
        paired: whether both were measured interleaved, and repetitions were resampled together.
    """

    value: float
    interval: Interval | Unavailable
    paired: bool


def speed_ratio(record: RunRecord, base: RunRecord) -> SpeedRatio | Unavailable:
    """Return how many times as fast a record is as another one of the same setting.

    The precision that is proved may differ; whoever judges must look at it.
    """
    differing = conditions.unlike(record, base, allowed=("proof",))
    if differing:
        found = "; ".join(f"{one.field}: {one.a} and {one.b}" for one in differing)
        return Unavailable(reason=f"the conditions differ: {found}")
    if record.source == "predicted":
        return _of_predictions(record, base)
    times, others = repetition_times(record), repetition_times(base)
    if isinstance(times, Unavailable):
        return times
    if isinstance(others, Unavailable):
        return others
    if making.are_paired(record, base):
        paired = making.paired_ratio(base, record, _SEED)
        if isinstance(paired, Unavailable):
            return paired
        return SpeedRatio(value=paired.value, interval=paired.interval, paired=True)
    return SpeedRatio(
        value=stats.median(others) / stats.median(times),
        interval=_interval(times, others),
        paired=False,
    )


def _of_predictions(record: RunRecord, base: RunRecord) -> SpeedRatio | Unavailable:
    ours, other = record.statistics, base.statistics
    if isinstance(ours, Unavailable):
        return ours
    if isinstance(other, Unavailable):
        return other
    absent = Unavailable(reason="the errors of two predictions are not independent")
    return SpeedRatio(value=other.p50_ms / ours.p50_ms, interval=absent, paired=False)


def repetition_times(record: RunRecord) -> tuple[float, ...] | Unavailable:
    """Return the one number of each repetition, in milliseconds."""
    found = []
    for repetition in record.repetitions:
        if not repetition.samples_ms:
            continue
        time = making.repetition_ms(record.cell.contract, repetition)
        if isinstance(time, Unavailable):
            return time
        found.append(time)
    if found:
        return tuple(found)
    absent = record.statistics
    return absent if isinstance(absent, Unavailable) else Unavailable(reason="no sample was taken")


def _interval(times: Sequence[float], others: Sequence[float]) -> Interval | Unavailable:
    """Return the interval of median(others) / median(times), each resampled on its own."""
    fewest = min(len(times), len(others))
    if fewest < stats.MIN_ROUNDS:
        return Unavailable(
            reason=f"an interval needs {stats.MIN_ROUNDS} repetitions, there are {fewest}"
        )
    places = _places(len(times), len(others))
    ratios = _medians(np.asarray(others)[places[1]]) / _medians(np.asarray(times)[places[0]])
    low, high = np.quantile(ratios, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(low=float(low), high=float(high), level=_LEVEL)


@functools.cache
def _places(count: int, other: int) -> tuple[_Indices, _Indices]:
    """Return which repetitions each resample draws: the same for all ratios of that many."""
    generator = np.random.default_rng(_SEED)
    drawn = [generator.integers(0, size, (_RESAMPLES, size)) for size in (count, other)]
    return drawn[0], drawn[1]


def _medians(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each row; `np.median` takes several times as long on short rows."""
    ordered = np.sort(drawn, axis=1)
    count = ordered.shape[1]
    middle: NDArray[np.float64] = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return middle
