"""Measures cells interleaved: in every repetition each cell once, in a process of its own.

Whatever changes on the machine during a call meets all cells alike, the more so where the processes
of a repetition take turns: the ratio between two of them can be trusted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Callable, Generator, Sequence

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.bench.cells import BenchCell, CellResult, Failed, Measured, Ran, Sentinel
from elfatt_deploy.bench.partial import Visit

#: measures each cell once, and yields its place among them as soon as it is measured; the second
#: argument is what it tells the user meanwhile
Launch = Callable[[Sequence[BenchCell], str], Generator[tuple[int, Ran], None, None]]
#: called with each repetition as soon as it is measured
Keep = Callable[[Visit], None]

NO_SENTINEL = Unavailable(reason="a quick run has no sentinel")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What an interleaved call came to."""

    results: tuple[CellResult, ...]
    sentinel: Sentinel | Unavailable
    interrupted: bool


@dataclasses.dataclass(slots=True)
class _Open:
    """A cell while it is measured, and its number."""

    number: int
    cell: BenchCell
    repetitions: dict[int, Measured] = dataclasses.field(default_factory=dict)
    failed: Failed | None = None
    started: str = ""
    duration_s: float = 0.0

    def take(self, visit: Visit) -> None:
        """Add a repetition."""
        self.repetitions[visit.repetition] = visit.measured
        self.started = self.started or visit.started
        self.duration_s += visit.duration_s

    def give_up(self, failed: Failed, ran: Ran) -> None:
        """Note that the cell cannot be measured."""
        self.failed = failed
        self.started = self.started or ran.started
        self.duration_s += ran.duration_s


def orders_of(cells: int, repetitions: int, seed: int) -> list[list[int]]:
    """Return the order of the cells of each repetition, shuffled anew."""
    shuffle = random.Random(seed).shuffle
    orders = []
    for _ in range(repetitions):
        order = list(range(cells))
        shuffle(order)
        orders.append(order)
    return orders


def _once(cell: BenchCell, launch: Launch, words: str) -> Measured | Failed:
    """Measure one cell once."""
    with contextlib.closing(launch([cell], words)) as launched:
        return next(launched)[1].outcome


def measure(
    cells: Sequence[BenchCell],
    launch: Launch,
    *,
    repetitions: int,
    seed: int,
    sentinel: BenchCell | None,
    earlier: Sequence[Visit] = (),
    sitting: int = 0,
    keep: Keep = lambda visit: None,
) -> Session:
    """Measure every cell in every repetition; Ctrl-C ends it, and what was measured is kept.

    A cell that fails is not tried again; the others go on.

    Args:
        cells: the cells.
        launch: measures those of a repetition, each once.
        repetitions: how often each.
        seed: seed of the order.
        sentinel: measured once before and once after all others; None for no sentinel.
        earlier: what earlier sittings of the same call measured: it is not measured again.
        sitting: number of this one.
        keep: called with each repetition of a cell as soon as it is measured.
    """
    states = [_Open(number=number, cell=cell) for number, cell in enumerate(cells)]
    for visit in earlier:
        states[visit.cell].take(visit)
    interrupted = False
    first: Measured | Failed | None = None
    last: Measured | Failed | None = None
    try:
        if sentinel is not None:
            first = _once(sentinel, launch, "sentinel before")
        for repetition, order in enumerate(orders_of(len(cells), repetitions, seed)):
            missing = [
                (repetition * len(cells) + place, states[index])
                for place, index in enumerate(order)
                if states[index].failed is None and repetition not in states[index].repetitions
            ]
            if not missing:
                continue
            words = f"repetition {repetition + 1}/{repetitions}"
            launched = launch([state.cell for _, state in missing], words)
            with contextlib.closing(launched):  # so that no process outlives Ctrl-C
                for number, ran in launched:
                    position, state = missing[number]
                    if isinstance(ran.outcome, Failed):
                        state.give_up(ran.outcome, ran)
                        continue
                    visit = Visit(
                        cell=state.number,
                        repetition=repetition,
                        started=ran.started,
                        duration_s=ran.duration_s,
                        measured=dataclasses.replace(
                            ran.outcome, position=position, sitting=sitting
                        ),
                    )
                    keep(visit)
                    state.take(visit)
        if sentinel is not None:
            last = _once(sentinel, launch, "sentinel after")
    except KeyboardInterrupt:
        interrupted = True
    return Session(
        results=tuple(
            CellResult(
                cell=state.cell,
                repetitions=state.repetitions,
                failed=state.failed,
                started=state.started,
                duration_s=state.duration_s,
            )
            for state in states
        ),
        sentinel=_sentinel(sentinel, first, last),
        interrupted=interrupted,
    )


def _sentinel(
    cell: BenchCell | None, first: Measured | Failed | None, last: Measured | Failed | None
) -> Sentinel | Unavailable:
    if cell is None:
        return NO_SENTINEL
    if not isinstance(first, Measured) or not isinstance(last, Measured):
        return Unavailable(reason="the sentinel was not measured before and after")
    return Sentinel(
        name=cell.name,
        first_ms=stats.median(first.timed.times_ms),
        last_ms=stats.median(last.timed.times_ms),
    )
