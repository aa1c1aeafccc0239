"""Timing on a clock that only the runs move."""

from __future__ import annotations

import gc
import itertools

import pytest

from elfatt_deploy.bench import timing
from elfatt_deploy.bench.timing import Protocol, StopRule, interleaved
from elfatt_deploy.errors import UsageError

MS = 1_000_000


class Bench:
    """A clock, and cells that move it and write down that they ran."""

    def __init__(self):
        self.now, self.ran = 0, []

    def clock(self):
        return self.now

    def cell(self, name, *times_ms):
        """Return a cell; its runs take these times in turn, the last one for ever."""
        times = itertools.chain(times_ms, itertools.repeat(times_ms[-1]))

        def run():
            self.ran.append(name)
            self.now += round(next(times) * MS)

        return run


@pytest.fixture
def bench():
    return Bench()


#: one timed run a visit, no warm-up: the order is all there is to see
PLAIN = Protocol(warm_up_runs=0, warm_up_ns=0, visit_ns=0, visit_runs=1)


def _order(bench, seed, rounds=6):
    bench.ran.clear()
    cells = [bench.cell(name, 1) for name in "abcd"]
    interleaved(cells, StopRule(rounds=rounds, seconds=0), seed=seed, protocol=PLAIN,
                clock=bench.clock)  # fmt: skip
    return ["".join(bench.ran[i : i + 4]) for i in range(0, len(bench.ran), 4)]


def test_each_round_runs_every_cell_once_in_an_order_of_its_own(bench):
    rounds = _order(bench, seed=0)
    assert {"".join(sorted(order)) for order in rounds} == {"abcd"}
    assert len(rounds) == 6
    assert len(set(rounds)) > 2


def test_the_order_is_that_of_the_seed(bench):
    assert _order(bench, seed=3) == _order(bench, seed=3)
    assert _order(bench, seed=3) != _order(bench, seed=4)


def test_warm_up_is_not_kept(bench):
    cold = bench.cell("a", 900, 700, 30)
    found = interleaved([cold], StopRule(rounds=3, seconds=0), clock=bench.clock)
    assert found.cells[0].times_ms == (30.0, 30.0, 30.0)
    assert found.warm_up_runs == (2,)


def test_warm_up_lasts_for_a_time_and_a_number_of_runs(bench):
    rule = StopRule(rounds=1, seconds=0)
    found = interleaved([bench.cell("a", 8), bench.cell("b", 80)], rule, clock=bench.clock)
    assert found.warm_up_runs == (7, 2)


def test_a_short_cell_runs_untimed_first_and_then_until_its_visit_is_full(bench):
    protocol = Protocol(warm_up_runs=1, warm_up_ns=0, visit_ns=20 * MS, visit_runs=64)
    # warm-up, untimed after the other cell, then the four timed runs of 6 ms that fill 20 ms
    cell = bench.cell("a", 6, 50, 6)
    rule = StopRule(rounds=1, seconds=0)
    found = interleaved([cell], rule, protocol=protocol, clock=bench.clock)
    assert found.cells[0].times_ms == (6.0,) * 4
    assert len(bench.ran) == 1 + 1 + 4


def test_a_long_cell_runs_once_a_visit(bench):
    protocol = Protocol(warm_up_runs=1, warm_up_ns=0, visit_ns=20 * MS, visit_runs=64)
    rule = StopRule(rounds=3, seconds=0)
    found = interleaved([bench.cell("a", 25)], rule, protocol=protocol, clock=bench.clock)
    assert found.cells[0].times_ms == (25.0,) * 3
    assert len(bench.ran) == 1 + 3


def test_a_visit_has_an_end_even_where_the_clock_stands(bench):
    protocol = Protocol(warm_up_runs=1, warm_up_ns=0, visit_runs=5)
    rule = StopRule(rounds=2, seconds=0)
    found = interleaved([bench.cell("a", 0)], rule, protocol=protocol, clock=bench.clock)
    assert found.cells[0].rounds == (0,) * 5 + (1,) * 5


@pytest.mark.parametrize(
    ("rounds", "seconds", "expected"), [(3, 0, 3), (1, 0.35, 4), (5, 0.35, 5), (1, 0.3, 3)]
)
def test_it_stops_when_rounds_and_seconds_are_both_reached(bench, rounds, seconds, expected):
    rule = StopRule(rounds=rounds, seconds=seconds)
    found = interleaved([bench.cell("a", 100)], rule, clock=bench.clock)
    assert found.rounds == expected
    assert not found.interrupted


def test_a_round_that_was_begun_is_finished(bench):
    cells = [bench.cell(name, 100) for name in "abc"]
    found = interleaved(cells, StopRule(rounds=1, seconds=0.35), clock=bench.clock)
    assert [len(cell.times_ms) for cell in found.cells] == [2, 2, 2]


def test_ctrl_c_keeps_what_was_measured(bench):
    good, runs = bench.cell("a", 100), itertools.count()

    def stops():
        if next(runs) == 5:  # two runs of warm-up, three rounds
            raise KeyboardInterrupt
        bench.now += 200 * MS

    found = interleaved([good, stops], StopRule(), clock=bench.clock)
    assert found.interrupted
    assert found.rounds == 3
    assert found.cells[1].times_ms == (200.0,) * 3
    assert found.cells[1].rounds == (0, 1, 2)
    assert len(found.cells[0].times_ms) in (3, 4)  # as the order of the broken round has it
    assert len(found.cells[0].times_ms) == len(found.cells[0].rounds)


def test_ctrl_c_in_the_warm_up_leaves_no_sample(bench):
    def stops():
        raise KeyboardInterrupt

    found = interleaved([bench.cell("a", 1), stops], StopRule(), clock=bench.clock)
    assert found.interrupted
    assert [cell.times_ms for cell in found.cells] == [(), ()]
    assert len(found.warm_up_runs) == 1


def test_an_error_of_a_run_is_not_swallowed_and_the_collector_is_back(bench):
    def fails():
        raise RuntimeError("planted")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="planted"):
        interleaved([fails], StopRule(), clock=bench.clock)
    assert gc.isenabled()


def test_the_collector_is_off_while_runs_are_timed(bench):
    seen = []

    def run():
        seen.append(gc.isenabled())
        bench.now += 100 * MS

    interleaved([run], StopRule(rounds=2, seconds=0), clock=bench.clock)
    assert set(seen) == {False}


def test_the_watch_is_told_of_every_visit(bench):
    told = []
    cells = [bench.cell("a", 500), bench.cell("b", 500)]
    rule = StopRule(rounds=2, seconds=0)
    interleaved(cells, rule, clock=bench.clock, watch=lambda *facts: told.append(facts))
    assert [(number, elapsed) for number, _, elapsed in told] == [
        (0, 0.0), (0, 0.5), (1, 1.0), (1, 1.5),
    ]  # fmt: skip
    assert sorted(index for _, index, _ in told[:2]) == [0, 1]


def test_without_cells_there_is_nothing_to_wait_for():
    found = interleaved([], StopRule(rounds=5, seconds=60))
    assert (found.cells, found.rounds, found.interrupted) == ((), 0, False)


@pytest.mark.parametrize(
    ("rounds", "seconds"), [(0, 1), (-1, 1), (1, -1), (1, float("inf")), (1, float("nan"))]
)
def test_a_rule_that_ends_never_or_before_it_begins_is_refused(rounds, seconds):
    with pytest.raises(UsageError):
        StopRule(rounds=rounds, seconds=seconds)


def test_the_contract_says_what_it_lacks_on_a_cpu():
    assert timing.CONTRACT == "single-stream/1"
    assert "no device transfers" in timing.CONTRACT_ON_CPU
