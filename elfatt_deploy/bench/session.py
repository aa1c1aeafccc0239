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

#: measures one cell once; the second argument is what it tells the user meanwhile
Launch = Callable[[BenchCell, str], Measured | Failed]

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
) -> Session:
    """Measure every cell in every repetition; Ctrl-C ends it, and what was measured is kept.

    A cell that fails is not tried again; the others go on.

    Args:
        cells: the cells.
        launch: measures one of them once.
        repetitions: how often each.
        seed: seed of the order.
        sentinel: measured once before and once after all others; None for no sentinel.
    """
    states = [_Open(cell=cell) for cell in cells]
    interrupted = False
    first: Measured | Failed | None = None
    last: Measured | Failed | None = None
    try:
        if sentinel is not None:
            first = launch(sentinel, f"{sentinel.name}, sentinel before")
        visits = order_of(len(cells), repetitions, seed)
        for position, (repetition, index) in enumerate(visits):
            words = f"{cells[index].name}, repetition {repetition + 1}/{repetitions}"
            _visit(states[index], launch, repetition, position, words)
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


def _visit(state: _Open, launch: Launch, repetition: int, position: int, words: str) -> None:
    if state.failed is not None:
        return
    began = time.monotonic()
    state.started = state.started or now()
    outcome = launch(state.cell, words)
    state.duration_s += time.monotonic() - began
    if isinstance(outcome, Failed):
        state.failed = outcome
    else:
        state.repetitions[repetition] = dataclasses.replace(outcome, position=position)


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
