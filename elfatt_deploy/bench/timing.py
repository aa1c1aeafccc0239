"""Times cells by the host's clock, interleaved in rounds.

In every round each cell is visited once, in an order shuffled anew, so that whatever changes on the
machine meets all cells alike and the ratio of two of them can be trusted.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from elfatt_deploy.errors import UsageError

#: the contract, and what it means on a CPU
CONTRACT = "single-stream/1"
CONTRACT_ON_CPU = (
    "one run in flight, host clock around it from array to array; there are no device transfers, "
    "no CUDA graph and no stream to wait for"
)

Clock = Callable[[], int]
#: called before each visit with the round (from 0), the cell's index and the seconds since round 0
Watch = Callable[[int, int, float], None]

_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When enough was measured: after at least so many rounds and so many seconds.

    Args:
        rounds: least number of rounds.
        seconds: least duration of the timed rounds together.
    """

    rounds: int = 10
    seconds: float = 10.0

    def __post_init__(self) -> None:
        """Reject a rule that measures nothing.

        Raises:
            UsageError: fewer than one round, or a negative time.
        """
        if self.rounds < 1:
            raise UsageError(f"{self.rounds} rounds measure nothing", hint="use 1 or more")
        if not 0 <= self.seconds < float("inf"):
            raise UsageError(f"{self.seconds} seconds is no duration", hint="use 0 or more")

    def reached(self, rounds: int, elapsed_ns: int) -> bool:
        """Return whether both were reached."""
        return rounds >= self.rounds and elapsed_ns >= self.seconds * _NS


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a cell is warmed up and visited.

    A cell that is shorter than a visit runs once untimed at its beginning, for the cell before it
    has emptied the caches.

    Args:
        warm_up_runs: least number of runs before the first round; their times are not kept.
        warm_up_ns: least time that they take together.
        visit_ns: a visit is over when its timed runs took that long together.
        visit_runs: most timed runs of a visit.
    """

    warm_up_runs: int = 2
    warm_up_ns: int = 50_000_000
    visit_ns: int = 20_000_000
    visit_runs: int = 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """All timed runs of one cell in the order in which they were made, and the round of each."""

    times_ms: tuple[float, ...]
    rounds: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What a call of `interleaved` measured.

    Args:
        cells: the samples of each cell.
        rounds: number of whole rounds.
        warm_up_runs: runs of each cell before the first round.
        interrupted: whether Ctrl-C ended it before its stop rule did.
    """

    cells: tuple[Samples, ...]
    rounds: int
    warm_up_runs: tuple[int, ...]
    interrupted: bool


def interleaved(
    runs: Sequence[Callable[[], object]],
    rule: StopRule,
    *,
    seed: int = 0,
    protocol: Protocol | None = None,
    clock: Clock = time.perf_counter_ns,
    watch: Watch | None = None,
) -> Timing:
    """Time every cell in rounds until the rule is met or Ctrl-C is pressed.

    Args:
        runs: one run of each cell, without arguments.
        rule: when to stop; a round that was begun is finished.
        seed: seed of the order in the rounds.
        protocol: warm-up and visits; None means `Protocol()`.
        clock: nanoseconds.
        watch: told of each visit before it begins.
    """
    protocol = protocol or Protocol()
    # a time and its round in one append: Ctrl-C may fall between two
    taken: list[list[tuple[int, int]]] = [[] for _ in runs]
    warm_ups: list[int] = []
    order, shuffle = list(range(len(runs))), random.Random(seed).shuffle
    rounds, interrupted = 0, False
    with no_collector():
        try:
            short = []
            for run in runs:
                count, last = _warm_up(run, protocol, clock)
                warm_ups.append(count)
                short.append(last < protocol.visit_ns)
            start = clock()
            while runs and not rule.reached(rounds, clock() - start):
                shuffle(order)
                for index in order:
                    if watch is not None:
                        watch(rounds, index, (clock() - start) / _NS)
                    for time_ns in _visit(runs[index], protocol, clock, settle=short[index]):
                        taken[index].append((time_ns, rounds))
                rounds += 1
        except KeyboardInterrupt:
            interrupted = True
    return Timing(
        cells=tuple(
            Samples(
                times_ms=tuple(time_ns / 1e6 for time_ns, _ in cell),
                rounds=tuple(number for _, number in cell),
            )
            for cell in taken
        ),
        rounds=rounds,
        warm_up_runs=tuple(warm_ups),
        interrupted=interrupted,
    )


def _warm_up(run: Callable[[], object], protocol: Protocol, clock: Clock) -> tuple[int, int]:
    """Run until warm; returns the number of runs and how long the last one took."""
    count, last, start = 0, 0, clock()
    while count < protocol.warm_up_runs or clock() - start < protocol.warm_up_ns:
        last = _timed(run, clock)
        count += 1
    return count, last


def _visit(
    run: Callable[[], object], protocol: Protocol, clock: Clock, *, settle: bool
) -> Iterator[int]:
    """Yield the nanoseconds of each timed run of one visit."""
    if settle:
        run()
    count = spent = 0
    while count == 0 or (spent < protocol.visit_ns and count < protocol.visit_runs):
        taken = _timed(run, clock)
        count, spent = count + 1, spent + taken
        yield taken


def _timed(run: Callable[[], object], clock: Clock) -> int:
    start = clock()
    run()
    return clock() - start


@contextmanager
def no_collector() -> Iterator[None]:
    """Keep Python's garbage collector off."""
    # A collection would walk all objects of torch and fall into the time of whichever cell runs.
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
