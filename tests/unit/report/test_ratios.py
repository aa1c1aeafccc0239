"""Ratios between records: paired or not, and only under like conditions."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import ratios


@pytest.fixture
def pair(runs):
    """Return a record, and one of twice its time in other repetitions."""
    return runs.record(1), runs.record(2, repetitions=runs.samples(2, ms=20.0))


def test_a_ratio_is_the_speed_over_the_other(pair):
    found = ratios.speed_ratio(*pair)
    assert found.value == pytest.approx(2.0, rel=0.02)
    assert found.interval.low < found.value < found.interval.high
    assert not found.paired
    assert ratios.speed_ratio(*reversed(pair)).value == pytest.approx(1 / found.value)


def test_interleaved_records_are_paired_and_what_slowed_both_cancels(runs):
    drifting = [runs.samples(seed, ms=10.0 + seed, repetitions=1)[0] for seed in range(10)]
    slower = [
        dataclasses.replace(one, samples_ms=tuple(2 * time for time in one.samples_ms))
        for one in drifting
    ]
    fast, slow = (
        dataclasses.replace(
            runs.record(repetitions=tuple(found)), group="one call", repetitions=tuple(found)
        )
        for found in (drifting, slower)
    )
    found = ratios.speed_ratio(fast, slow)
    assert found.paired
    assert found.value == pytest.approx(2.0)
    assert (found.interval.low, found.interval.high) == pytest.approx((2.0, 2.0))


def test_records_under_other_conditions_have_no_ratio(runs, pair):
    other = dataclasses.replace(pair[1], device=dataclasses.replace(runs.DEVICE, cores=8))
    found = ratios.speed_ratio(pair[0], other)
    assert found == Unavailable(reason="the conditions differ: cores: 4 and 8")


def test_few_repetitions_give_a_ratio_without_an_interval(runs):
    short = runs.record(repetitions=runs.samples(1, repetitions=3))
    found = ratios.speed_ratio(short, runs.record(2))
    assert found.interval == Unavailable(reason="an interval needs 5 repetitions, there are 3")


def test_a_record_without_times_says_why(runs):
    assert ratios.speed_ratio(runs.refused("no memory"), runs.record()) == Unavailable(
        reason="no memory"
    )


def test_predictions_have_a_ratio_and_no_interval(runs):
    found = ratios.speed_ratio(runs.predicted(), runs.predicted())
    assert found.value == 1.0
    assert not isinstance(found.interval, Interval)
