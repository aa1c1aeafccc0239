"""Interleaved sessions with invented machines: order, failures, Ctrl-C, A/A and a slowdown."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections import Counter

import numpy as np
import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import protocol, session, stats
from elfatt_deploy.bench.cells import BenchCell, Failed, Ran, Sentinel
from elfatt_deploy.bench.protocol import Limits
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.results.conditions import DEFAULT_LIMIT as LIMIT

TRIES = 20
#: differences below this share are not called one, as in the table of `bench`
MARGIN = 0.02


def _cells(*names):
    return [BenchCell(name=name, bundle=None, batch=1) for name in names]


def _each(one):
    """Return a launch of cells, each by a function of its own."""

    def launch(cells, words):
        for number, cell in enumerate(cells):
            outcome = one(cell, words)
            yield number, Ran(outcome=outcome, started="2030-01-02T03:04:05+00:00", duration_s=1.0)

    return launch


def _measure(cells, one, *, repetitions=3, seed=0, sentinel=None, **more):
    return session.measure(
        cells, _each(one), repetitions=repetitions, seed=seed, sentinel=sentinel, **more
    )


def test_each_repetition_visits_every_cell_once_in_a_new_order():
    orders = session.orders_of(4, 6, seed=3)
    assert [sorted(order) for order in orders] == [[0, 1, 2, 3]] * 6
    assert len(set(map(tuple, orders))) > 2
    assert session.orders_of(4, 6, seed=3) == orders != session.orders_of(4, 6, seed=4)


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


class Shared:
    """A machine that others use as well: its speed jumps within tenths of a second.

    The clock is moved by the runs alone. The cells of a repetition run in threads that take turns,
    one at a time, as the processes do.
    """

    def __init__(self, made_measured, seed, **factors):
        self.made, self.random, self.factors = made_measured, np.random.default_rng(seed), factors
        self.now, self.speed, self.until = 0, 1.0, 0

    def run(self, ms):
        """Move the clock by one run."""
        if self.now >= self.until:  # another program begins, or ends
            self.speed = self.random.choice([1.0, 1.0, 1.15, 1.25]) * self.random.normal(1, 0.02)
            self.until = self.now + int(self.random.exponential(0.3e9))
        noise = self.random.normal(1, 0.01) + self.random.exponential(0.005)
        self.now += int(1e6 * ms * self.speed * noise)

    def __call__(self, cells, words):
        """Let the cells take turns, each round in the order of the last one reversed."""
        process = {cell.name: self.random.normal(1, 0.003) for cell in cells}
        limits = Limits(enough=StopRule(rounds=10, seconds=3.0), most_seconds=60.0)
        mine = {cell.name: threading.Semaphore(0) for cell in cells}
        back, timed = threading.Semaphore(0), {}

        def turn(name):
            back.release()
            mine[name].acquire()

        def work(name):
            run = functools.partial(self.run, 20 * self.factors[name] * process[name])
            timed[name] = protocol.in_turns(run, limits, lambda: turn(name), lambda: self.now)
            back.release()

        threads = [threading.Thread(target=work, args=(cell.name,)) for cell in cells]
        for thread in threads:
            thread.start()
            back.acquire()
        order = [cell.name for cell in cells]
        while len(timed) < len(cells):
            for name in [name for name in order if name not in timed]:
                mine[name].release()
                back.acquire()
            order.reverse()
        for number, cell in enumerate(cells):
            measured = dataclasses.replace(self.made([1.0]), timed=timed[cell.name])
            yield number, Ran(outcome=measured, started="2030-01-02", duration_s=1.0)


def _results(made_measured, seed, slower):
    launch = Shared(made_measured, seed, a=1.0, b=slower)
    session_ = session.measure(_cells("a", "b"), launch, repetitions=10, seed=seed, sentinel=None)
    return [[one.timed for one in result.repetitions.values()] for result in session_.results]


def _by_turn(made_measured, seed, slower):
    a, b = _results(made_measured, seed, slower)
    pairs = zip(a, b, strict=True)
    return stats.paired_ratio(
        [stats.turn_ratio(y.times_ms, y.turns, x.times_ms, x.turns) for x, y in pairs]
    )


def _by_repetition(made_measured, seed, slower):
    a, b = _results(made_measured, seed, slower)
    pairs = zip(a, b, strict=True)
    return stats.paired_ratio(
        [stats.median(y.times_ms) / stats.median(x.times_ms) for x, y in pairs]
    )


def _slower_than(ratio, limit):
    """Whether `compare` would say FAIL."""
    return ratio.interval.low > 1 + limit


def test_the_same_model_twice_is_not_different_in_20_of_20_tries(made_measured):
    ratios = [_by_turn(made_measured, seed, 1.0) for seed in range(TRIES)]
    assert not any(ratio.differs(MARGIN) or _slower_than(ratio, LIMIT) for ratio in ratios)


def test_a_planted_slowdown_of_5_percent_is_detected_in_at_least_18_of_20(made_measured):
    ratios = [_by_turn(made_measured, seed, 1.05) for seed in range(TRIES)]
    assert sum(_slower_than(ratio, LIMIT) for ratio in ratios) >= 18
    assert stats.median([ratio.value for ratio in ratios]) == pytest.approx(1.05, rel=0.01)


def test_a_planted_speedup_is_detected_too(made_measured):
    ratios = [_by_turn(made_measured, seed, 1 / 1.05) for seed in range(TRIES)]
    assert sum(ratio.differs(MARGIN) for ratio in ratios) >= 18


def test_the_ratio_of_turns_scatters_less_than_that_of_whole_repetitions(made_measured):
    turns, whole = (
        np.std([of(made_measured, seed, 1.05).value for seed in range(TRIES)])
        for of in (_by_turn, _by_repetition)
    )
    assert turns < 0.7 * whole


def test_a_session_goes_on_where_an_earlier_one_stopped(made_measured):
    cells, kept = _cells("a", "b"), []

    def first(cell, words):
        if len(kept) == 3:
            raise KeyboardInterrupt
        return made_measured([1.0])

    _measure(cells, first, seed=5, keep=kept.append)
    ran = []

    def second(cell, words):
        ran.append(cell.name)
        return made_measured([2.0])

    found = _measure(cells, second, seed=5, sentinel=cells[0], earlier=kept, sitting=1)
    orders = session.orders_of(2, 3, seed=5)
    order = [(repetition, index) for repetition in range(3) for index in orders[repetition]]
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

    _measure(cells, first, repetitions=2, keep=kept.append)
    assert [visit.cell for visit in kept] == [0, 0]
    found = _measure(cells, lambda *_: made_measured([1.0]), repetitions=2, earlier=kept)
    assert [len(result.repetitions) for result in found.results] == [2, 2]
    assert not any(result.failed for result in found.results)
