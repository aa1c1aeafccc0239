"""What is made of one run of trtexec, and when its times have settled."""

from __future__ import annotations

import pytest

from elfatt_deploy.bench import taking
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.engine.trtexec_log import TrtexecLog
from elfatt_deploy.engine.trtexec_times import TrtexecTimes


class _Runner:
    """A trtexec that has run."""

    def __init__(self, compute_ms, warnings=()):
        self.compute_ms = tuple(compute_ms)
        self.log = TrtexecLog(version="10.3.0", verdict="passed", warnings=warnings)
        self.asked = None

    def time(self, feeds, contract, length, *, timeout_s):
        self.asked = (contract, length, timeout_s)
        count = len(self.compute_ms)
        starts = tuple(10.0 * n for n in range(count))
        return (
            TrtexecTimes(
                start_ms=starts,
                end_ms=tuple(start + 9.0 for start in starts),
                h2d_ms=(0.5,) * count,
                compute_ms=self.compute_ms,
                d2h_ms=(0.25,) * count,
                latency_ms=tuple(time + 0.75 for time in self.compute_ms),
                warm_up_rows=0,
            ),
            17,
        )


def _take(runner, contract="single-stream/1", rounds=10, seconds=5.0, most_seconds=60.0):
    limits = Limits(enough=StopRule(rounds=rounds, seconds=seconds), most_seconds=most_seconds)
    return taking.by_trtexec(runner, {}, contract, limits, SteadyRule())


def test_the_contract_and_the_limits_reach_trtexec():
    runner = _Runner([2.0] * 50)
    taken = _take(runner)
    contract, length, timeout_s = runner.asked
    assert contract == "single-stream/1"
    assert (length.warm_up_ms, length.duration_s, length.iterations) == (2500, 5.0, 10)
    assert timeout_s == 60 + 2.5 + 300
    assert taken.timed.times_ms == (2.75,) * 50
    assert taken.timed.wall_ms == 499.0
    assert (taken.warm_up.runs, taken.warm_up.steady, taken.notes) == (17, True, ())
    assert taken.phases_ms["h2d"] == (0.5,) * 50


def test_an_exact_number_of_runs_is_the_first_so_many():
    runner = _Runner([1.0] * 100 + [9.0] * 3)
    taken = _take(runner, "paper/1", rounds=100, seconds=0.0)
    assert runner.asked[1].warm_up_ms == 1000
    assert taken.timed.times_ms == (1.75,) * 100
    assert taken.timed.wall_ms == 999.0
    assert {len(values) for values in taken.phases_ms.values()} == {100}


def test_compute_is_a_sample_of_the_compute_contract():
    assert _take(_Runner([1.0, 2.0]), "compute/1").timed.times_ms == (1.0, 2.0)


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        ([1.0] * 100, True),
        ([1.0 + 0.0008 * n / 100 for n in range(100)], True),
        ([1.2] * 20 + [1.0] * 80, False),  # the first fifth is slower
        ([1.0] * 4, False),  # too few to say
    ],
)
def test_the_times_have_settled_where_five_fifths_agree(times, steady):
    assert _take(_Runner(times)).warm_up.steady == steady


def test_a_graph_that_was_given_up_is_a_note():
    warned = ("The specified --useCudaGraph flag has been ignored. The inference will be ...",)
    (note,) = _take(_Runner([1.0] * 9, warned)).notes
    assert "could not launch by a CUDA graph" in note
