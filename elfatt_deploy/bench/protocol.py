"""How one repetition is warmed up and when it has measured enough.

The clock is an argument everywhere: the rules are proved on a clock that only the runs move.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from elfatt_deploy.bench import stats
from elfatt_deploy.bench.timing import Clock, StopRule
from elfatt_deploy.errors import UsageError

Run = Callable[[], object]
#: called after each timed run with the times so far in ns and the time since the first one began
Watch = Callable[[Sequence[int], int], None]
#: returns when it is this process's turn; gives back the one that it had
Turn = Callable[[], None]

#: The least time of a turn. On a machine shared with others the speed changes within tenths of a
#: second (docs/measuring.md): the shorter the turns, the more of it meets all cells alike.
TURN_SECONDS = 0.05
_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a repetition is over: it measured enough, or it took the most that it may.

    Args:
        enough: the least number of runs (its `rounds`) and the least time; both must be reached.
        most_seconds: the end in any case, after the run that is under way.
    """

    enough: StopRule
    most_seconds: float

    def __post_init__(self) -> None:
        """Reject a bound below the least time.

        Raises:
            UsageError: the repetition would have to end before it may.
        """
        if not self.most_seconds >= self.enough.seconds:
            raise UsageError(
                f"at most {self.most_seconds} s is less than at least {self.enough.seconds} s"
            )

    def met(self, runs: int, elapsed_ns: int) -> bool:
        """Return whether the repetition is over; never before its first run."""
        if runs == 0:
            return False
        return self.enough.reached(runs, elapsed_ns) or elapsed_ns >= self.most_seconds * _NS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SteadyRule:
    """When a warm-up has settled: enough windows in a row agree, or it took the most that it may.

    Args:
        windows: number of windows that must agree.
        tolerance: how far apart their medians may lie, as a share of the smallest.
        window_runs: least number of runs in a window.
        window_seconds: least time that they take together.
        most_seconds: the end in any case.
    """

    windows: int = 5
    tolerance: float = 0.01
    window_runs: int = 3
    window_seconds: float = 0.1
    most_seconds: float = 3.0

    def agree(self, medians: Sequence[float]) -> bool:
        """Return whether the last windows agree."""
        last = medians[-self.windows :]
        if len(last) < self.windows:
            return False
        return max(last) - min(last) <= self.tolerance * min(last)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What a warm-up was: its runs, the median of each window, and whether it settled."""

    runs: int
    windows_ms: tuple[float, ...]
    steady: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """All timed runs in the order in which they ended.

    Args:
        times_ms: time of each.
        wall_ms: wall-clock time of all together; of several turns, their sum.
        turns: number of runs of each turn; none where no turns were taken.
    """

    times_ms: tuple[float, ...]
    wall_ms: float
    turns: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchPlan:
    """How a cell is measured.

    Args:
        name: `quick`, `default` or `strict`.
        repetitions: how many fresh processes measure each cell.
        limits: of the timed runs of one repetition.
        steady: of its warm-up.
        sentinel: whether one cell is measured once more before and after all others.
    """

    name: Literal["quick", "default", "strict"]
    repetitions: int
    limits: Limits
    steady: SteadyRule
    sentinel: bool = True


#: Seconds of timed runs of one cell: about 4, 30 and 600. Processes differ by more than the runs of
#: one of them (docs/measuring.md), so the same time is better spent on many short repetitions.
PLANS: dict[str, BenchPlan] = {
    plan.name: plan
    for plan in (
        BenchPlan(
            name="quick",
            repetitions=5,
            limits=Limits(enough=StopRule(rounds=3, seconds=0.75), most_seconds=5.0),
            steady=SteadyRule(window_runs=1, window_seconds=0.05, most_seconds=1.0),
            sentinel=False,
        ),
        BenchPlan(
            name="default",
            repetitions=10,
            limits=Limits(enough=StopRule(rounds=10, seconds=3.0), most_seconds=60.0),
            steady=SteadyRule(),
        ),
        BenchPlan(
            name="strict",
            repetitions=20,
            limits=Limits(enough=StopRule(rounds=50, seconds=30.0), most_seconds=600.0),
            steady=SteadyRule(window_runs=10, most_seconds=60.0),
        ),
    )
}


def warm_up(run: Run, rule: SteadyRule, clock: Clock = time.perf_counter_ns) -> WarmUp:
    """Run until the rule says that the times have settled, or its bound is reached."""
    medians: list[float] = []
    window: list[int] = []
    runs, start = 0, clock()
    while True:
        before = clock()
        run()
        after = clock()
        window.append(after - before)
        runs += 1
        if len(window) >= rule.window_runs and sum(window) >= rule.window_seconds * _NS:
            medians.append(stats.median(window) / 1e6)
            window = []
        steady = not window and rule.agree(medians)
        if steady or after - start >= rule.most_seconds * _NS:
            return WarmUp(runs=runs, windows_ms=tuple(medians), steady=steady)


def one_in_flight(
    run: Run, limits: Limits, clock: Clock = time.perf_counter_ns, watch: Watch | None = None
) -> Timed:
    """Time one run after the other."""
    times: list[int] = []
    start = clock()
    while True:
        before = clock()
        run()
        after = clock()
        times.append(after - before)
        if limits.met(len(times), after - start):
            break
        if watch is not None:
            watch(times, after - start)
    return Timed(times_ms=tuple(ns / 1e6 for ns in times), wall_ms=(after - start) / 1e6)


def in_turns(
    run: Run,
    limits: Limits,
    turn: Turn,
    clock: Clock = time.perf_counter_ns,
    watch: Watch | None = None,
) -> Timed:
    """Time one run after the other, in turn with other processes.

    The first run of a turn is not timed: the others have emptied the caches. The limits count what
    is timed alone.
    """
    times: list[int] = []
    turns: list[int] = []
    spent = 0
    while not limits.met(len(times), spent):
        turn()
        run()
        before, start, elapsed = len(times), clock(), 0
        while elapsed < TURN_SECONDS * _NS and not limits.met(len(times), spent + elapsed):
            began = clock()
            run()
            ended = clock()
            times.append(ended - began)
            elapsed = ended - start
        spent += elapsed
        turns.append(len(times) - before)
        if watch is not None:
            watch(times, spent)
    return Timed(times_ms=tuple(ns / 1e6 for ns in times), wall_ms=spent / 1e6, turns=tuple(turns))


def several_in_flight(
    run: Run,
    limits: Limits,
    count: int,
    clock: Clock = time.perf_counter_ns,
    watch: Watch | None = None,
) -> Timed:
    """Time runs that are under way `count` at once, each from a thread of its own.

    The wall-clock time ends with the last run, as trtexec's does: runs that were begun are
    finished and counted.
    """
    times: list[int] = []
    lock, over, last = threading.Lock(), threading.Event(), 0
    start = clock()

    def loop() -> None:
        nonlocal last
        try:
            while not over.is_set():
                before = clock()
                run()
                after = clock()
                with lock:
                    times.append(after - before)
                    last = max(last, after)
                    if limits.met(len(times), after - start):
                        over.set()
                    elif watch is not None:
                        watch(times, after - start)
        finally:
            over.set()  # where one fails the others end too

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(loop) for _ in range(count)]:
            done.result()
    return Timed(times_ms=tuple(ns / 1e6 for ns in times), wall_ms=(last - start) / 1e6)
