"""Warm-up and stop rule on a clock that only the runs move."""

from __future__ import annotations

import itertools
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.bench import protocol
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.errors import UsageError

MS = 1_000_000
RUNS_MS = st.lists(st.integers(1, 4000), min_size=1, max_size=30)


class Machine:
    """A clock, and runs that move it: these times in turn, the last one for ever."""

    def __init__(self, *times_ms):
        self.now, self.runs = 0, 0
        self.lock = threading.Lock()
        self.times = itertools.chain(times_ms, itertools.repeat(times_ms[-1]))

    def clock(self):
        return self.now

    def run(self):
        with self.lock:
            self.runs += 1
            self.now += round(next(self.times) * MS)


def _limits(runs, seconds, most):
    return Limits(enough=StopRule(rounds=runs, seconds=seconds), most_seconds=most)


@given(times=RUNS_MS, runs=st.integers(1, 40), seconds=st.integers(0, 20), more=st.integers(0, 20))
def test_a_repetition_ends_with_the_first_run_that_reaches_both_or_the_bound(
    times, runs, seconds, more
):
    machine, most = Machine(*times), seconds + more
    timed = protocol.one_in_flight(machine.run, _limits(runs, seconds, most), machine.clock)
    count, total_ms = len(timed.times_ms), sum(timed.times_ms)
    assert machine.runs == count >= 1
    assert timed.wall_ms == pytest.approx(total_ms)
    enough = count >= runs and total_ms >= 1000 * seconds
    assert enough or total_ms >= 1000 * most
    before, before_ms = count - 1, total_ms - timed.times_ms[-1]
    if before:
        assert before < runs or before_ms < 1000 * seconds
        assert before_ms < 1000 * most


@given(times=RUNS_MS, runs=st.integers(1, 40), seconds=st.integers(0, 20), more=st.integers(0, 20))
def test_turns_count_what_is_timed_and_the_first_run_of_each_is_not(times, runs, seconds, more):
    machine, most, waits = Machine(*times), seconds + more, []

    def turn():
        machine.now += 3_600_000 * MS  # the others run for an hour
        waits.append(machine.runs)

    limits = _limits(runs, seconds, most)
    timed = protocol.in_turns(machine.run, limits, turn, machine.clock)
    count, total_ms = len(timed.times_ms), sum(timed.times_ms)
    assert timed.wall_ms == pytest.approx(total_ms)
    assert (sum(timed.turns), len(timed.turns)) == (count, len(waits))
    assert machine.runs == count + len(waits)
    assert (count >= runs and total_ms >= 1000 * seconds) or total_ms >= 1000 * most
    ends = list(itertools.accumulate(timed.turns))
    each = [timed.times_ms[end - size : end] for end, size in zip(ends, timed.turns, strict=True)]
    least_ms = 1000 * protocol.TURN_SECONDS
    assert all(sum(turn[:-1]) < least_ms for turn in each)
    assert all(sum(turn) >= least_ms for turn in each[:-1])


def test_the_limit_ends_a_turn_that_has_not_its_least_time():
    machine = Machine(1)
    timed = protocol.in_turns(machine.run, _limits(7, 0, 60), lambda: None, machine.clock)
    assert (timed.turns, machine.runs) == ((7,), 8)


def test_time_alone_and_count_alone_are_not_enough():
    limits = _limits(10, 1.0, 60)
    assert not limits.met(9, 2_000 * MS)
    assert not limits.met(500, 999 * MS)
    assert limits.met(10, 1_000 * MS)


def test_no_bound_ends_a_repetition_before_its_first_run():
    assert not _limits(1, 0, 0).met(0, 5_000 * MS)


def test_a_bound_below_the_least_time_is_refused():
    with pytest.raises(UsageError, match=r"at most 1 s is less than at least 2 s"):
        _limits(1, 2, 1)


@pytest.mark.parametrize(
    ("medians", "agree"),
    [
        ([10, 10, 10, 10], False),
        ([10, 10.1, 10, 10.05, 10], True),
        ([10, 10.11, 10, 10, 10], False),
        ([99, 10, 10, 10, 10, 10], True),
        ([10, 10, 10, 10, 10, 99], False),
    ],
)
def test_five_windows_in_a_row_must_agree_within_one_percent(medians, agree):
    assert SteadyRule().agree(medians) is agree


def test_a_warm_up_goes_on_until_the_times_settle():
    machine = Machine(80, 60, 50, 45, *[40] * 100)
    rule = SteadyRule(window_runs=1, window_seconds=0, most_seconds=60)
    warm = protocol.warm_up(machine.run, rule, machine.clock)
    assert warm.steady
    assert (warm.runs, warm.windows_ms[-5:]) == (9, (40,) * 5)


def test_a_window_is_long_enough_in_runs_and_in_time():
    machine = Machine(1)
    rule = SteadyRule(windows=2, window_runs=3, window_seconds=0.01, most_seconds=60)
    assert protocol.warm_up(machine.run, rule, machine.clock).runs == 20
    machine = Machine(100)
    assert protocol.warm_up(machine.run, rule, machine.clock).runs == 6


@given(times=st.lists(st.sampled_from([100, 150, 200]), min_size=1, max_size=99))
def test_a_warm_up_is_bounded_and_says_whether_it_settled(times):
    machine = Machine(*times, 100)
    rule = SteadyRule(window_runs=2, most_seconds=3)
    warm = protocol.warm_up(machine.run, rule, machine.clock)
    assert machine.now < 3_200 * MS
    assert warm.steady == rule.agree(warm.windows_ms)
    assert warm.steady or machine.now >= 3_000 * MS


def test_a_warm_up_that_never_settles_is_not_steady():
    machine = Machine(*[100, 130] * 99)
    rule = SteadyRule(window_runs=1, most_seconds=5)
    assert not protocol.warm_up(machine.run, rule, machine.clock).steady


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_run_of_every_thread_is_counted(threads):
    machine = Machine(10)
    timed = protocol.several_in_flight(machine.run, _limits(50, 0, 60), threads, machine.clock)
    assert len(timed.times_ms) == machine.runs
    assert 50 <= machine.runs <= 50 + threads - 1
    assert timed.wall_ms == pytest.approx(10 * machine.runs)


def test_two_runs_are_really_in_flight_at_once():
    meeting, met = threading.Barrier(2, timeout=30), set()

    def run():
        if threading.get_ident() not in met:  # the first run of each thread ends with the other's
            met.add(threading.get_ident())
            meeting.wait()

    protocol.several_in_flight(run, _limits(4, 0, 60), 2)
    assert len(met) == 2


def test_a_run_that_fails_ends_all_threads_and_is_raised():
    machine = Machine(1)

    def fails():
        machine.run()
        if machine.runs >= 5:
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        protocol.several_in_flight(fails, _limits(10**9, 0, 10**9), 2, machine.clock)
    assert machine.runs <= 6


def test_the_running_times_are_told_between_runs():
    told = []
    machine = Machine(100)
    protocol.one_in_flight(
        machine.run,
        _limits(4, 0, 60),
        machine.clock,
        lambda times, elapsed: told.append((len(times), elapsed // MS)),
    )
    assert told == [(1, 100), (2, 200), (3, 300)]


@pytest.mark.parametrize("plan", protocol.PLANS.values(), ids=lambda plan: plan.name)
def test_every_plan_gives_an_interval_and_can_be_sent_as_json(plan):
    import dataclasses

    from elfatt_deploy.bench import stats

    assert plan.repetitions >= stats.MIN_ROUNDS
    json.dumps(dataclasses.asdict(plan), allow_nan=False)


def test_strict_takes_the_600_seconds_of_the_design():
    plan = protocol.PLANS["strict"]
    assert plan.repetitions * plan.limits.enough.seconds == 600
