"""A whole report: which tables and charts records give, and what stands over all of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import UnknownNameError
from elfatt_deploy.report import (
    board_charts,
    board_tables,
    claim_tables,
    claims,
    our_charts,
    our_tables,
    paper_charts,
    paper_tables,
    selection,
    traces,
)
from elfatt_deploy.report.charts import Chart, Colours
from elfatt_deploy.report.claims import Verdict
from elfatt_deploy.report.our_tables import RatioGroup
from elfatt_deploy.report.tables import Table, watermark
from elfatt_deploy.report.traces import Layers, Traced
from elfatt_deploy.results.schema import RunRecord, Source

#: what `--table` takes -> the topic of a table
TABLES = {
    "VIII": "VIII",
    "8": "VIII",
    "IX": "IX",
    "9": "IX",
    "claims": "claims",
    "ratios": "ratios",
    "scaling": "scaling",
    "energy": "energy",
    "layers": "layers",
    "speed": "speed",
    "proof": "proof",
}
#: what `--figure` takes
FIGURES = ("4", "ratios", "scaling", "latency", "energy", "pareto", "trace")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a report shall hold; nothing asked for is all that the records can give.

    Args:
        tables: keys of `TABLES`.
        figures: names of `FIGURES`.
    """

    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what there is not.

        Raises:
            UnknownNameError: there is no such table or figure.
        """
        for name in self.tables:
            if name not in TABLES:
                raise UnknownNameError("table", name, TABLES)
        for name in self.figures:
            if name not in FIGURES:
                raise UnknownNameError("figure", name, FIGURES)

    @property
    def everything(self) -> bool:
        """Whether nothing in particular was asked for."""
        return not self.tables and not self.figures


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is shown.

    Args:
        title: what it is of.
        sources: what its numbers are.
        records: number of records in it.
        tables: its tables.
        charts: its charts.
        verdicts: about the paper's claims.
        notes: what must be known about all of it, a line each.
    """

    title: str
    sources: tuple[Source, ...]
    records: int
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]

    @property
    def watermark(self) -> str:
        """What stands over the report: the kinds of number in it that nobody measured."""
        return watermark(self.sources)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a report is made of.

    Args:
        records: run records, in the order in which they were stored.
        traces: power and temperature over time, of records that have them.
        layers: layer profiles of plans, of records that have them.
    """

    records: tuple[RunRecord, ...]
    traces: tuple[Traced, ...] = ()
    layers: tuple[Layers, ...] = ()


def assemble(given: Given, asked: Asked, *, include_simulated: bool = False) -> Report:
    """Return a report.

    Args:
        given: what it is made of.
        asked: what it shall hold.
        include_simulated: whether numbers of emulated boards may be in it.

    Raises:
        UsageError: a record is simulated and that was not asked for.
    """
    selection.refuse_simulated(given.records, include_simulated)
    records, notes = selection.latest(given.records)
    by_setting = selection.by_setting(records)
    found = claims.verdicts(by_setting)
    sources = selection.sources_of(records)
    kinds = [_kind(source, by_setting) for source in sources]
    return Report(
        title=_title(records),
        sources=sources,
        records=len(records),
        tables=_tables(asked, by_setting, kinds, found, given),
        charts=_charts(asked, by_setting, kinds, given),
        verdicts=found if asked.everything or "claims" in asked.tables else (),
        notes=(*notes, *_doubts(records)),
    )


_Settings: TypeAlias = Mapping[selection.Setting, tuple[RunRecord, ...]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """All records of one kind of number; measured and other ones never share a table or chart."""

    by_setting: _Settings
    records: tuple[RunRecord, ...]
    ratios: tuple[RatioGroup, ...]


def _kind(source: Source, by_setting: _Settings) -> _Kind:
    mine = {setting: found for setting, found in by_setting.items() if setting.source == source}
    return _Kind(
        by_setting=mine,
        records=tuple(record for found in mine.values() for record in found),
        ratios=tuple(our_tables.ratio_groups(mine)),
    )


_Shown = TypeVar("_Shown", Table, Chart)


def _apart(kinds: Sequence[_Kind], make: Callable[[_Kind], tuple[_Shown, ...]]) -> list[_Shown]:
    """Return what a function makes of each kind, with names that differ."""
    found: list[_Shown] = []
    for number, kind in enumerate(kinds):
        for one in make(kind):
            name = f"{one.name}-{one.sources[0]}" if number else one.name
            found.append(dataclasses.replace(one, name=name))
    return found


def _title(records: Sequence[RunRecord]) -> str:
    boards = list(dict.fromkeys(map(selection.board_of, records)))
    return f"Report of {', '.join(boards)}" if boards else "Report of no record"


def _doubts(records: Sequence[RunRecord]) -> list[str]:
    """Return what is doubtful about all records, a line for each kind of doubt."""
    counts: dict[str, int] = {}
    for record in records:
        for mark in selection.marks(record):
            counts[mark] = counts.get(mark, 0) + 1
    said = [
        f"{count} of {len(records)} records: {_MEANING.get(mark, mark)}"
        for mark, count in counts.items()
    ]
    if any(not isinstance(r.weights, Unavailable) and r.weights.random for r in records):
        said.append("random weights: times do not depend on them, classes mean nothing")
    return said


_MEANING = {
    "quick": "quick: too short to be quoted",
    "not timed": "not timed: the gaps say why",
    "throttled": "throttled: the board slowed itself down",
    "off-clock": "off-clock: a clock was not the one that was set",
    "disturbed": "disturbed: something else ran on the machine",
    "unwatched": "unwatched: nothing told whether clocks and heat stayed in bounds",
    "not-steady": "not-steady: the times had not settled when measuring began",
    "unstable": "unstable: the repetitions differ more than they should",
}


def _tables(
    asked: Asked,
    by_setting: _Settings,
    kinds: Sequence[_Kind],
    found: tuple[Verdict, ...],
    given: Given,
) -> tuple[Table, ...]:
    """Return the tables that were asked for, or all, in the order in which they are read."""
    topics = {TABLES[name] for name in asked.tables}
    made: tuple[tuple[str, Callable[[], Iterable[Table]]], ...] = (
        ("claims", lambda: claim_tables.verdict_tables(found)),
        ("VIII", lambda: paper_tables.paper_tables(8, by_setting, anywhere="VIII" in topics)),
        ("IX", lambda: paper_tables.paper_tables(9, by_setting, anywhere="IX" in topics)),
        ("ratios", lambda: _apart(kinds, lambda kind: our_tables.ratio_table(kind.ratios))),
        ("scaling", lambda: _apart(kinds, lambda kind: our_tables.scaling_table(kind.by_setting))),
        ("energy", lambda: _apart(kinds, lambda kind: board_tables.energy_table(kind.records))),
        ("layers", lambda: traces.layer_tables(given.layers)),
        ("speed", lambda: _apart(kinds, lambda kind: our_tables.speed_table(kind.records))),
        ("proof", lambda: _apart(kinds, lambda kind: board_tables.proof_table(kind.records))),
    )
    return tuple(
        table for topic, make in made if asked.everything or topic in topics for table in make()
    )


def _charts(
    asked: Asked, by_setting: _Settings, kinds: Sequence[_Kind], given: Given
) -> tuple[Chart, ...]:
    colours = Colours()
    made: tuple[tuple[str, Callable[[], Iterable[Chart]]], ...] = (
        ("4", lambda: paper_charts.figure4(by_setting, colours)),
        ("ratios", lambda: _apart(kinds, lambda k: our_charts.ratio_chart(k.ratios, colours))),
        (
            "scaling",
            lambda: _apart(kinds, lambda k: our_charts.scaling_chart(k.by_setting, colours)),
        ),
        ("pareto", lambda: _apart(kinds, lambda k: board_charts.pareto_chart(k.records, colours))),
        ("energy", lambda: _apart(kinds, lambda k: board_charts.energy_chart(k.records, colours))),
        ("latency", lambda: _apart(kinds, lambda k: our_charts.latency_chart(k.records, colours))),
        ("trace", lambda: traces.trace_charts(given.traces)),
    )
    return tuple(
        chart
        for topic, make in made
        if asked.everything or topic in asked.figures
        for chart in make()
    )
