"""Interleaved sessions with invented machines: order, failures, Ctrl-C, A/A and a slowdown."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import session, stats
from elfatt_deploy.bench.cells import BenchCell, Failed, Sentinel

TRIES = 20
#: differences below this share are not called one, as in the table of `bench`
MARGIN = 0.02


def _cells(*names):
    return [BenchCell(name=name, bundle=None, batch=1) for name in names]


def _measure(cells, launch, *, repetitions=3, seed=0, sentinel=None):
    return session.measure(cells, launch, repetitions=repetitions, seed=seed, sentinel=sentinel)


def test_each_repetition_visits_every_cell_once_in_a_new_order():
    visits = session.order_of(4, 6, seed=3)
    rounds = [visits[i : i + 4] for i in range(0, 24, 4)]
    for number, row in enumerate(rounds):
        assert [repetition for repetition, _ in row] == [number] * 4
        assert sorted(cell for _, cell in row) == [0, 1, 2, 3]
    assert len({tuple(cell for _, cell in row) for row in rounds}) > 2
    assert session.order_of(4, 6, seed=3) == visits != session.order_of(4, 6, seed=4)


def test_the_sentinel_is_measured_first_and_last_and_stays_out_of_the_samples(made_measured):
    cells, ran = _cells("a", "b"), []

    def launch(cell, words):
        ran.append((cell.name, "sentinel" in words))
        return made_measured([10.0 + len(ran)] * 3)

    found = _measure(cells, launch, sentinel=cells[0])
    assert (ran[0], ran[-1]) == (("a", True), ("a", True))
    assert Counter(ran[1:-1]) == {("a", False): 3, ("b", False): 3}
    assert found.sentinel == Sentinel(name="a", first_ms=11.0, last_ms=18.0)
    assert found.sentinel.drift == pytest.approx(18 / 11 - 1)
    positions = [one.position for r in found.results for one in r.repetitions.values()]
    assert sorted(positions) == list(range(6))


def test_a_cell_that_fails_is_given_up_and_the_others_go_on(made_measured):
    ran = []

    def launch(cell, words):
        ran.append(cell.name)
        return Failed(reason="killed") if cell.name == "bad" else made_measured([1.0])

    good, bad = _measure(_cells("good", "bad"), launch).results
    assert ran.count("bad") == 1
    assert bad.failed == Failed(reason="killed")
    assert (good.failed, len(good.repetitions)) == (None, 3)


def test_ctrl_c_keeps_whole_repetitions(made_measured):
    ran = []

    def launch(cell, words):
        ran.append(cell.name)
        if len(ran) == 6:
            raise KeyboardInterrupt
        return made_measured([1.0])

    cells = _cells("a", "b")
    found = _measure(cells, launch, sentinel=cells[0])
    assert found.interrupted
    assert sum(len(result.repetitions) for result in found.results) == 4
    assert isinstance(found.sentinel, Unavailable)


class Noisy:
    """A machine whose speed wanders and jumps between repetitions, and jitters within one."""

    def __init__(self, made_measured, seed, **factors):
        self.made, self.random = made_measured, np.random.default_rng(seed)
        self.factors, self.speed, self.visits = factors, 1.0, 0

    def __call__(self, cell, words):
        if self.visits % len(self.factors) == 0:  # a new repetition: the machine drifts
            self.speed *= self.random.choice([1.0, 1.0, 1.15, 0.9]) * self.random.normal(1, 0.01)
        self.visits += 1
        process = self.random.normal(1, 0.003)  # addresses and pages of a fresh process
        runs = self.random.normal(1, 0.01, 40) + self.random.exponential(0.005, 40)
        times = 20 * self.factors[cell.name] * self.speed * process * runs
        return self.made(times.tolist())


def _ratio(made_measured, seed, slower):
    launch = Noisy(made_measured, seed, a=1.0, b=slower)
    results = _measure(_cells("a", "b"), launch, repetitions=5, seed=seed).results
    a, b = (
        {n: stats.median(one.timed.times_ms) for n, one in result.repetitions.items()}
        for result in results
    )
    return stats.paired_ratio(b, a)


def test_the_same_model_twice_is_not_different_in_20_of_20_tries(made_measured):
    assert not any(_ratio(made_measured, seed, 1.0).differs(MARGIN) for seed in range(TRIES))


def test_a_planted_slowdown_of_5_percent_is_detected_in_at_least_18_of_20(made_measured):
    ratios = [_ratio(made_measured, seed, 1.05) for seed in range(TRIES)]
    assert sum(ratio.differs(MARGIN) for ratio in ratios) >= 18
    assert stats.median([ratio.value for ratio in ratios]) == pytest.approx(1.05, rel=0.01)


def test_a_planted_speedup_is_detected_too(made_measured):
    ratios = [_ratio(made_measured, seed, 1 / 1.05) for seed in range(TRIES)]
    assert sum(ratio.differs(MARGIN) for ratio in ratios) >= 18


def test_a_session_goes_on_where_an_earlier_one_stopped(made_measured):
    cells, kept = _cells("a", "b"), []

    def first(cell, words):
        if len(kept) == 3:
            raise KeyboardInterrupt
        return made_measured([1.0])

    session.measure(cells, first, repetitions=3, seed=5, sentinel=None, keep=kept.append)
    ran = []

    def second(cell, words):
        ran.append(cell.name)
        return made_measured([2.0])

    found = session.measure(
        cells, second, repetitions=3, seed=5, sentinel=cells[0], earlier=kept, sitting=1
    )
    order = [(r, i) for r, i in session.order_of(2, 3, seed=5)]
    assert ran == ["a", *(cells[index].name for _, index in order[3:]), "a"]
    by_visit = {
        (number, index): one
        for index, result in enumerate(found.results)
        for number, one in result.repetitions.items()
    }
    assert [by_visit[visit].timed.times_ms for visit in order] == [(1.0,)] * 3 + [(2.0,)] * 3
    assert [by_visit[visit].sitting for visit in order] == [0] * 3 + [1] * 3
    assert [by_visit[visit].position for visit in order] == list(range(6))
    assert all(result.duration_s >= 0 and result.started for result in found.results)


def test_a_cell_that_failed_before_is_tried_again(made_measured):
    cells, kept = _cells("good", "bad"), []

    def first(cell, words):
        return Failed(reason="killed") if cell.name == "bad" else made_measured([1.0])

    session.measure(cells, first, repetitions=2, seed=0, sentinel=None, keep=kept.append)
    assert [visit.cell for visit in kept] == [0, 0]
    found = session.measure(
        cells, lambda *_: made_measured([1.0]), repetitions=2, seed=0, sentinel=None, earlier=kept
    )
    assert [len(result.repetitions) for result in found.results] == [2, 2]
    assert not any(result.failed for result in found.results)
