"""A table of a report: columns, rows and how they came about; every format is made from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report.selection import WATERMARKS, Facets
from elfatt_deploy.results.schema import Source

GAP = "-"

Kind = Literal["text", "number", "interval"]
Value: TypeAlias = str | float | Interval | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Args:
        name: in files for programs; it carries the unit, such as `p50_ms`.
        title: for people; with the unit.
        kind: what its entries are.
        condition: whether it says under what a row holds, and not what came out.
    """

    name: str
    title: str
    kind: Kind = "text"
    condition: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One cell of a table.

    Args:
        text: as shown, rounded.
        value: the same, not rounded; None where there is none.
        reason: why there is none.
    """

    text: str
    value: Value = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, and what a page filters it by."""

    entries: tuple[Entry, ...]
    facets: Facets = Facets()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table, the same in every format.

    Args:
        name: unique in a report; the stem of its file.
        title: what it shows.
        sources: what its numbers are.
        columns: its columns.
        rows: its rows.
        notes: how it was made and what is doubtful, a line each.
        topic: what it is asked for by, such as `VIII`.
        detail: whether it is for those who ask for it, and not for a first look.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    topic: str = ""
    detail: bool = False

    @property
    def watermark(self) -> str:
        """What stands over the table: the kinds of number in it that nobody measured."""
        return watermark(self.sources)


def watermark(sources: Sequence[Source]) -> str:
    """Return the mark of what holds numbers of these kinds; empty where all were measured."""
    return " + ".join(WATERMARKS[source] for source in sources if source in WATERMARKS)


def text(value: str) -> Entry:
    """Return an entry of words."""
    return Entry(text=value or GAP, value=value)


def number(value: float | Unavailable, shown: Callable[[float], str]) -> Entry:
    """Return an entry of a number, or a gap with its reason."""
    if isinstance(value, Unavailable):
        return gap(value.reason)
    return Entry(text=shown(value), value=float(value))


def interval(value: Interval | Unavailable, shown: Callable[[float], str]) -> Entry:
    """Return an entry of an interval, or a gap with its reason."""
    if isinstance(value, Unavailable):
        return gap(value.reason)
    return Entry(text=f"{shown(value.low)}..{shown(value.high)}", value=value)


def count(value: int) -> Entry:
    """Return an entry of a whole number."""
    return Entry(text=str(value), value=float(value))


def gap(reason: str = "") -> Entry:
    """Return an entry where there is nothing, and why."""
    return Entry(text=GAP, reason=reason)


def watts(value: float | Unavailable) -> Entry:
    """Return an entry of a power."""
    return number(value, units.watts)


def with_gaps_noted(table: Table) -> Table:
    """Return a table whose notes name the reasons of its gaps, each once."""
    reasons: dict[str, int] = {}
    for row in table.rows:
        for entry in row.entries:
            if entry.value is None and entry.reason:
                reasons[entry.reason] = reasons.get(entry.reason, 0) + 1
    notes = tuple(
        f"{GAP} ({times} {'entry' if times == 1 else 'entries'}): {reason}"
        for reason, times in reasons.items()
    )
    return dataclasses.replace(table, notes=(*table.notes, *notes))


def compact(table: Table) -> Table:
    """Return a table without the columns that say the same in every row; a note says it once.

    What came out stays, even where it is the same; a column without a single entry goes.
    """
    if len(table.rows) < 2:
        return table
    kept, said, absent = [], [], []
    for index, column in enumerate(table.columns):
        entries = [row.entries[index] for row in table.rows]
        texts = {entry.text for entry in entries}
        if index and texts == {GAP}:
            reason = next((entry.reason for entry in entries if entry.reason), "")
            absent += [f"no {column.title}: {reason}"] if reason else []
        elif index and len(texts) == 1 and (column.condition or column.kind == "text"):
            said.append(f"{column.title} {next(iter(texts))}")
        else:
            kept.append(index)
    note = (f"in every row: {', '.join(said)}",) if said else ()
    return dataclasses.replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(
            Row(entries=tuple(row.entries[index] for index in kept), facets=row.facets)
            for row in table.rows
        ),
        notes=(*note, *table.notes, *absent),
    )
