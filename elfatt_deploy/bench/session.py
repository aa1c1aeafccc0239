"""Measures cells interleaved: in every repetition each cell once, in a process of its own.

Whatever changes on the machine during a call meets all cells alike, so that the ratio between two
of them can be trusted.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import time
from collections.abc import Callable, Sequence

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.bench.cells import BenchCell, CellResult, Failed, Measured, Sentinel
from elfatt_deploy.bench.partial import Visit

#: measures one cell once; the second argument is what it tells the user meanwhile
Launch = Callable[[BenchCell, str], Measured | Failed]
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
    """A cell while it is measured."""

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

    def give_up(self, failed: Failed, started: str, duration_s: float) -> None:
        """Note that the cell cannot be measured."""
        self.failed = failed
        self.started = self.started or started
        self.duration_s += duration_s


def order_of(cells: int, repetitions: int, seed: int) -> list[tuple[int, int]]:
    """Return (repetition, cell) of every visit: each repetition in an order shuffled anew."""
    shuffle = random.Random(seed).shuffle
    visits: list[tuple[int, int]] = []
    for repetition in range(repetitions):
        order = list(range(cells))
        shuffle(order)
        visits.extend((repetition, cell) for cell in order)
    return visits


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
        launch: measures one of them once.
        repetitions: how often each.
        seed: seed of the order.
        sentinel: measured once before and once after all others; None for no sentinel.
        earlier: what earlier sittings of the same call measured: it is not measured again.
        sitting: number of this one.
        keep: called with each repetition of a cell as soon as it is measured.
    """
    states = [_Open(cell=cell) for cell in cells]
    for visit in earlier:
        states[visit.cell].take(visit)
    interrupted = False
    first: Measured | Failed | None = None
    last: Measured | Failed | None = None
    try:
        if sentinel is not None:
            first = launch(sentinel, f"{sentinel.name}, sentinel before")
        visits = order_of(len(cells), repetitions, seed)
        for position, (repetition, index) in enumerate(visits):
            if states[index].failed is not None or repetition in states[index].repetitions:
                continue
            words = f"{cells[index].name}, repetition {repetition + 1}/{repetitions}"
            began, started = time.monotonic(), now()
            outcome = launch(cells[index], words)
            duration_s = time.monotonic() - began
            if isinstance(outcome, Failed):
                states[index].give_up(outcome, started, duration_s)
                continue
            visit = Visit(
                cell=index,
                repetition=repetition,
                started=started,
                duration_s=duration_s,
                measured=dataclasses.replace(outcome, position=position, sitting=sitting),
            )
            keep(visit)
            states[index].take(visit)
        if sentinel is not None:
            last = launch(sentinel, f"{sentinel.name}, sentinel after")
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


def now() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
