"""Fits the constants of a prediction on published points, and compares on others.

Pure: the points come from the caller, and so does the choice of those that are fitted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from elfatt_deploy.predict.constants import Band, Constants, Fitted
from elfatt_deploy.predict.kernels import Precision, kernel_table
from elfatt_deploy.predict.machine import Machine
from elfatt_deploy.predict.roofline import estimate

_SEED = 0
#: the search tries this many points of the whole range, then walks from each of the best ones
_COARSE, _KEPT = 300, 3
#: rounds of a walk, tries in each, and by what the step shrinks between two rounds
_ROUNDS, _TRIES, _SHRINK = 40, 30, 0.88
#: the least share that is tried, and the first step, in natural logarithms
_LEAST_SHARE, _STEP = 0.01, 0.6
#: how many of the constants change in a try, on average
_CHANGED = 0.5

_NAMES = tuple(field.name for field in dataclasses.fields(Fitted))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A published value and what it was measured on."""

    model: str
    precision: Precision
    machine: Machine
    batch: int
    images_per_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """How far predictions are from published values.

    Args:
        points: number of points.
        median: median of the absolute errors, as a share of the published value.
        worst: the largest one.
        bias: median of the errors with their sign; above 0 where predictions are too fast.
        rank: Spearman's rank correlation.
    """

    points: int
    median: float
    worst: float
    bias: float
    rank: float


def predicted(point: Point, constants: Constants) -> float:
    """Return the predicted images a second of a point, in the eager regime of the paper."""
    return estimate(
        kernel_table(point.model),
        point.machine,
        constants,
        regime="eager",
        precision=point.precision,
        batch=point.batch,
    ).images_per_s


def fit(points: Sequence[Point], constants: Constants) -> Constants:
    """Return the constants whose `fitted` ones come closest to the points.

    A seeded random search in logarithms: over the whole range first, then from the best of those
    with steps that shrink. All are shares, 1 at most. It minimises the mean of the squared
    logarithms of predicted over published.

    Args:
        points: those that are fitted.
        constants: all others are taken from here.
    """
    generator = np.random.default_rng(_SEED)
    coarse = np.log(_LEAST_SHARE) * generator.random((_COARSE, len(_NAMES)))
    starts = sorted(coarse, key=lambda logs: _loss(points, _with(constants, logs)))[:_KEPT]
    ends = [_walked(points, constants, start, generator) for start in starts]
    return min((_with(constants, end) for end in ends), key=lambda found: _loss(points, found))


def _walked(
    points: Sequence[Point], constants: Constants, best: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return where steps that shrink lead from a start."""
    least, step = _loss(points, _with(constants, best)), _STEP
    for _ in range(_ROUNDS):
        for _ in range(_TRIES):
            change = step * generator.normal(size=best.size)
            tried = np.minimum(best + change * (generator.random(best.size) < _CHANGED), 0.0)
            loss = _loss(points, _with(constants, tried))
            if loss < least:
                best, least = tried, loss
        step *= _SHRINK
    return best


def _with(constants: Constants, logarithms: np.ndarray) -> Constants:
    values = dict(zip(_NAMES, np.exp(logarithms).tolist(), strict=True))
    return dataclasses.replace(constants, fitted=Fitted(**values))


def _loss(points: Sequence[Point], constants: Constants) -> float:
    ratios = [predicted(point, constants) / point.images_per_s for point in points]
    return float(np.mean(np.log(ratios) ** 2))


def errors(points: Sequence[Point], constants: Constants) -> Errors:
    """Return how far the predictions of points are from what was published."""
    ours = np.array([predicted(point, constants) for point in points])
    theirs = np.array([point.images_per_s for point in points])
    relative = ours / theirs - 1
    return Errors(
        points=len(points),
        median=float(np.median(np.abs(relative))),
        worst=float(np.max(np.abs(relative))),
        bias=float(np.median(relative)),
        rank=rank_correlation(ours, theirs),
    )


def band(
    points: Sequence[Point],
    constants: Constants,
    *,
    boards: str,
    sms: tuple[int, ...],
    level: float = 0.9,
) -> Band:
    """Return between which shares of the prediction that part of the published values lies."""
    ratios = [point.images_per_s / predicted(point, constants) for point in points]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Band(
        boards=boards,
        sms=sms,
        low=float(low),
        high=float(high),
        level=level,
        points=len(points),
    )


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation: that of the ranks, equal values sharing theirs."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
