"""The statistics of a record are those of its samples, by the contract."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.results import making
from elfatt_deploy.results.parts import Repetition

_LOST = Unavailable(reason="not read")


def _repetition(*times, wall=None):
    return Repetition(samples_ms=times, wall_ms=wall or _LOST, warm_up_runs=_LOST, steady=_LOST)


REPETITIONS = tuple(_repetition(1.0 * n, 2.0 * n, 6.0 * n, wall=12.0 * n) for n in range(1, 6))


@pytest.mark.parametrize(
    ("contract", "expected"),
    [("single-stream/1", 2.0), ("compute/1", 2.0), ("throughput/1", 4.0), ("paper/1", 3.0)],
)
def test_the_number_of_a_repetition_is_that_of_the_contract(contract, expected):
    assert making.repetition_ms(contract, REPETITIONS[0]) == expected


def test_throughput_without_a_wall_clock_is_absent_and_not_guessed():
    found = making.statistics_of("throughput/1", 8, [_repetition(1.0, 2.0)])
    assert (found.images_per_s, found.images_per_s_interval) == (_LOST, _LOST)
    assert found.p50_ms == 1.5


def test_the_statistics_of_known_samples():
    found = making.statistics_of("single-stream/1", 4, REPETITIONS)
    assert (found.count, found.repetitions, found.p50_ms) == (15, 5, 6.0)
    assert (found.min_ms, found.max_ms, found.mean_ms, found.mad_ms) == (1.0, 30.0, 9.0, 4.0)
    assert found.images_per_s == pytest.approx(4000 / 6.0)
    assert (found.p50_interval_ms.low, found.p50_interval_ms.high) == (2.0, 10.0)
    spread = found.images_per_s_interval
    assert (spread.low, spread.high) == (pytest.approx(400.0), pytest.approx(2000.0))
    assert "needs 50 samples" in found.p90_ms.reason
    assert found.images_per_s_rule == "1000 x batch / p50 (ms)"


@pytest.mark.parametrize(
    ("contract", "expected"), [("throughput/1", 4000 / 12.0), ("paper/1", 4000 / 9.0)]
)
def test_images_a_second_follow_the_contract(contract, expected):
    found = making.statistics_of(contract, 4, REPETITIONS)
    assert found.images_per_s == pytest.approx(expected)
    assert found.images_per_s_interval.low < expected < found.images_per_s_interval.high


def test_gpu_compute_alone_has_no_images_a_second():
    found = making.statistics_of("compute/1", 4, REPETITIONS)
    assert "compute/1" in found.images_per_s.reason


def test_four_repetitions_have_no_interval():
    found = making.statistics_of("single-stream/1", 1, REPETITIONS[:4])
    for interval in (found.p50_interval_ms, found.images_per_s_interval):
        assert interval == Unavailable(reason="needs 5 rounds, there are 4")


@pytest.mark.parametrize("repetitions", [(), (_repetition(),)], ids=["none", "empty"])
def test_without_samples_there_are_no_statistics(repetitions):
    assert making.statistics_of("single-stream/1", 1, repetitions) == Unavailable(
        reason="no sample was taken"
    )


def test_the_record_of_a_host_is_measured_and_says_what_a_host_has_not(runs):
    found = runs.record()
    assert (found.source, found.key) == ("measured", found.cell.key)
    for absent in (found.power, found.power_mode, found.plan_sha256, found.prediction):
        assert isinstance(absent, Unavailable)
    assert not found.quick
    quick = dataclasses.replace(runs.PROTOCOL, name="quick")
    assert runs.record(protocol=quick).quick
