"""Statistics of samples; pure numpy.

No sample is ever dropped. Samples that belong together (those of one round) are resampled together:
neighbours in time share the state of the machine, and are not independent.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.artifacts import Interval, Unavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: samples that must lie above a percentile for it to be shown: fewer would leave it to chance
MIN_ABOVE = 5
#: rounds from which an interval is given: below, resampling has too little to draw from
MIN_ROUNDS = 5
_RESAMPLES = 2000
_CHUNK = 1_000_000
_LEVEL = 0.95
#: a growth is fitted on sizes of at least this share of the most tokens: two doublings of the side
_FIT_SHARE = 1 / 16


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return a percentile as trtexec does: a sample, never a value between two.

    Of n sorted samples it is number max(n - 1 - e, 0), where e = int((1 - percent / 100) * n) in
    float32 arithmetic. Source: `findPercentile` in samples/common/sampleReporting.cpp of
    NVIDIA/TensorRT.

    Raises:
        ValueError: there is no sample, or `percent` is not within 0 to 100.
    """
    if not len(samples) or not 0.0 <= percent <= 100.0:
        raise ValueError(f"percentile {percent} of {len(samples)} samples")
    count = len(samples)
    share = np.float32(1.0) - np.float32(percent) / np.float32(100.0)
    above = int(share * np.float32(count))
    return float(np.sort(np.asarray(samples, np.float64))[max(count - 1 - above, 0)])


def samples_for(percent: float) -> int:
    """Return how many samples a percentile needs, so that `MIN_ABOVE` are expected above it."""
    return math.ceil(round(MIN_ABOVE / (1.0 - percent / 100.0), 6))


def tail_percentile(samples: Sequence[float], percent: float) -> float | Unavailable:
    """Return a percentile above the median where enough samples lie above it."""
    needed = samples_for(percent)
    if len(samples) < needed:
        return Unavailable(reason=f"needs {needed} samples, there are {len(samples)}")
    return percentile(samples, percent)


def median(samples: Sequence[float]) -> float:
    """Return the middle sample, or the mean of the two in the middle."""
    return float(np.median(np.asarray(samples, np.float64)))


def mad(samples: Sequence[float]) -> float:
    """Return the median absolute deviation from the median, not scaled."""
    values = np.asarray(samples, np.float64)
    return float(np.median(np.abs(values - np.median(values))))


def by_round(samples: Sequence[float], rounds: Sequence[int]) -> NDArray[np.float64]:
    """Return the median of each round's samples, in the order of the rounds."""
    values, numbers = np.asarray(samples, np.float64), np.asarray(rounds)
    return np.array([np.median(values[numbers == number]) for number in np.unique(numbers)])


def median_interval(medians: NDArray[np.float64], seed: int = 0) -> Interval | Unavailable:
    """Return a bootstrap interval of the median of the rounds' medians (percentile method)."""
    if len(medians) < MIN_ROUNDS:
        return _too_few_rounds(len(medians))
    return _interval(_resampled(medians[None, :], seed)[0])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is shown of the samples of one cell, in milliseconds.

    Args:
        count: number of samples.
        rounds: number of rounds in which they were taken.
        p50_ms: median of the rounds' medians.
        p50_interval_ms: its bootstrap interval over the rounds.
        mad_ms: median absolute deviation of all samples.
        p90_ms: 90th percentile of all samples, by trtexec's formula.
        p99_ms: 99th percentile of all samples, by the same formula.
        min_ms: the smallest sample.
        max_ms: the largest sample.
    """

    count: int
    rounds: int
    p50_ms: float
    p50_interval_ms: Interval | Unavailable
    mad_ms: float
    p90_ms: float | Unavailable
    p99_ms: float | Unavailable
    min_ms: float
    max_ms: float


def summarize(samples_ms: Sequence[float], rounds: Sequence[int]) -> Summary:
    """Summarize the samples of one cell and the number of the round of each."""
    medians = by_round(samples_ms, rounds)
    return Summary(
        count=len(samples_ms),
        rounds=len(medians),
        p50_ms=median(medians.tolist()),
        p50_interval_ms=median_interval(medians),
        mad_ms=mad(samples_ms),
        p90_ms=tail_percentile(samples_ms, 90),
        p99_ms=tail_percentile(samples_ms, 99),
        min_ms=min(samples_ms),
        max_ms=max(samples_ms),
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How a time grows with the number of tokens N: as N ** exponent.

    Args:
        exponent: slope of the line through (log N, log time) by least squares.
        interval: what repeating the measurement would change; it says nothing about whether the
            points lie on a line.
        tokens: the numbers of tokens that were fitted.
    """

    exponent: float
    interval: Interval | Unavailable
    tokens: tuple[int, ...]


def growth(
    points: Sequence[tuple[int, NDArray[np.float64]]], seed: int = 0
) -> Growth | Unavailable:
    """Fit the growth over the largest sizes.

    Args:
        points: number of tokens, and the median of each round. Round i of one point and of another
            were taken close to each other, and are resampled together.
        seed: seed of the resampling.
    """
    most = max((tokens for tokens, _ in points), default=0)
    fitted = sorted((p for p in points if p[0] >= most * _FIT_SHARE), key=lambda p: p[0])
    tokens = tuple(n for n, _ in fitted)
    if len(set(tokens)) < 2:
        return Unavailable(reason="needs two sizes, the smaller with 1/16 of the tokens or more")
    rounds = min(len(medians) for _, medians in fitted)
    table = np.array([medians[:rounds] for _, medians in fitted])
    interval: Interval | Unavailable = _too_few_rounds(rounds)
    if rounds >= MIN_ROUNDS:
        interval = _interval(_slope(tokens, _resampled(table, seed)))
    exponent = _slope(tokens, np.median(table, axis=1, keepdims=True))
    return Growth(exponent=float(exponent[0]), interval=interval, tokens=tokens)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How many times as long one cell takes as another.

    Args:
        value: median over the repetitions of the ratio within each; see `turn_ratio`.
        interval: its bootstrap interval over the repetitions.
        repetitions: number of repetitions that both have.
    """

    value: float
    interval: Interval | Unavailable
    repetitions: int

    def differs(self, margin: float) -> bool:
        """Return whether the whole interval lies further from 1 than a share `margin`."""
        if not isinstance(self.interval, Interval):
            return False
        return self.interval.low > 1 + margin or self.interval.high < 1 / (1 + margin)


def turn_ratio(
    samples: Sequence[float], turns: Sequence[int], base: Sequence[float], base_turns: Sequence[int]
) -> float:
    """Return the ratio of two cells that took turns in one repetition.

    The median, over the turns that both have, of the ratio of the medians of turn k: the two were
    taken within a second, and what slows the machine down for longer cancels.

    Args:
        samples: times of the one.
        turns: number of samples of each of its turns.
        base: times of the other.
        base_turns: number of samples of each of its turns.

    Raises:
        ValueError: the turns do not divide the samples.
    """
    ratios = [
        median(ours) / median(theirs)
        for ours, theirs in zip(by_turn(samples, turns), by_turn(base, base_turns), strict=False)
    ]
    return median(ratios)


def by_turn(samples: Sequence[float], turns: Sequence[int]) -> list[Sequence[float]]:
    """Return the samples of each turn.

    Raises:
        ValueError: the turns do not divide the samples.
    """
    if not turns or min(turns) < 1 or sum(turns) != len(samples):
        raise ValueError(f"turns of {list(turns)} runs do not divide {len(samples)} samples")
    ends = np.cumsum(turns).tolist()
    return [samples[end - size : end] for end, size in zip(ends, turns, strict=True)]


def paired_ratio(ratios: Sequence[float], seed: int = 0) -> Ratio | Unavailable:
    """Return the ratio of two cells that were measured interleaved.

    The two times of one repetition were taken close to each other: what slows the machine down for
    a while meets both, and cancels.

    Args:
        ratios: of each repetition that both have.
        seed: seed of the resampling.
    """
    if not ratios:
        return Unavailable(reason="no repetition has a time of both")
    return Ratio(
        value=median(ratios),
        interval=median_interval(np.array(ratios), seed),
        repetitions=len(ratios),
    )


def _slope(tokens: Sequence[int], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slopes in log-log of times [sizes, columns], one a column."""
    x = np.log(np.asarray(tokens, np.float64))
    x = x - x.mean()
    slopes: NDArray[np.float64] = x @ np.log(times) / (x @ x)
    return slopes


def _resampled(table: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Return medians [rows, resamples] of a table [rows, rounds] with its rounds drawn anew."""
    generator = np.random.default_rng(seed)
    rounds = table.shape[1]
    chunk = max(1, _CHUNK // rounds)  # many rounds at once would take gigabytes
    medians = []
    for start in range(0, _RESAMPLES, chunk):
        size = (min(chunk, _RESAMPLES - start), rounds)
        medians.append(np.median(table[:, generator.integers(0, rounds, size=size)], axis=2))
    return np.concatenate(medians, axis=1)


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(low=float(low), high=float(high), level=_LEVEL)


def _too_few_rounds(rounds: int) -> Unavailable:
    return Unavailable(reason=f"needs {MIN_ROUNDS} rounds, there are {rounds}")
