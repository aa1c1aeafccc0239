"""A comparison of two results files as a report: its table, its chart and its verdict."""

from __future__ import annotations

from urllib.parse import unquote

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import tables
from elfatt_deploy.report.assembling import Report
from elfatt_deploy.report.charts import Axis, Chart, Panel, Point, Series
from elfatt_deploy.report.html import Card
from elfatt_deploy.report.selection import SOURCES, Facets
from elfatt_deploy.report.tables import Column, Row, Table
from elfatt_deploy.results.compare import CellComparison, ComparisonReport
from elfatt_deploy.results.schema import Source
from elfatt_deploy.results.tabular import rule

_COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "inconclusive"}
#: verdict -> number of a colour of the charts: those of the page that look most like them
_SERIES = {"PASS": 1, "FAIL": 2, "INCONCLUSIVE": 9}


def comparison_report(comparison: ComparisonReport, a: str, b: str) -> tuple[Report, Card]:
    """Return a comparison as a report, and its verdict.

    Args:
        comparison: the comparison.
        a: name of what was compared with.
        b: name of what was judged.
    """
    present = {cell.source for cell in comparison.cells}
    sources = tuple(source for source in SOURCES if source in present)
    report = Report(
        title=f"{b} against {a}",
        sources=sources,
        records=2 * len(comparison.cells),
        tables=(_table(comparison, sources),),
        charts=_charts(comparison, sources),
        verdicts=(),
        notes=(
            *comparison.warnings,
            *(f"only in A, not judged: {key}" for key in comparison.only_a),
            *(f"only in B, not judged: {key}" for key in comparison.only_b),
        ),
    )
    counts = [
        f"{count} {verdict}"
        for verdict in _COLOURS
        if (count := sum(cell.verdict == verdict for cell in comparison.cells))
    ]
    card = Card(
        colour=_COLOURS[comparison.verdict],
        word=comparison.verdict,
        title=f"{', '.join(counts)} of {len(comparison.cells)} cells",
        lines=(f"A: {a}", f"B: {b}", rule(comparison)),
    )
    return report, card


def _table(comparison: ComparisonReport, sources: tuple[Source, ...]) -> Table:
    noted = dict.fromkeys(note for cell in comparison.cells for note in cell.noted)
    return tables.with_gaps_noted(
        Table(
            name="cells",
            title="Time of each cell, B against A",
            sources=sources,
            columns=(
                Column(name="verdict", title="verdict"),
                Column(name="source", title="source"),
                Column(name="cell", title="cell"),
                Column(name="a_ms", title="A (ms)", kind="number"),
                Column(name="b_ms", title="B (ms)", kind="number"),
                Column(name="ratio", title="B / A", kind="number"),
                Column(name="ratio_interval", title="95 %", kind="interval"),
                Column(name="reason", title="reason"),
            ),
            rows=tuple(_row(cell) for cell in comparison.cells),
            notes=(rule(comparison), *(f"differs and does not forbid it: {n}" for n in noted)),
        )
    )


def _facets(cell: CellComparison) -> Facets:
    """Return what a cell is filtered by, from its key: a comparison has no records."""
    parts = [unquote(part) for part in cell.key.split(",")]
    model, settings, _, _, precision, _, _, _, _, device, power, *_ = parts
    return Facets(
        board=device,
        model=" ".join((model, *settings.split(";"))).strip(),
        precision=precision,
        mode=power,
    )


def _row(cell: CellComparison) -> Row:
    return Row(
        facets=_facets(cell),
        entries=(
            tables.text(cell.verdict),
            tables.text(cell.source),
            tables.text(cell.label),
            tables.number(cell.a_ms, units.milliseconds),
            tables.number(cell.b_ms, units.milliseconds),
            tables.number(cell.ratio, units.ratio),
            tables.interval(cell.interval, units.ratio),
            tables.text(cell.reason),
        ),
    )


def _charts(comparison: ComparisonReport, sources: tuple[Source, ...]) -> tuple[Chart, ...]:
    timed = [cell for cell in comparison.cells if not isinstance(cell.ratio, Unavailable)]
    if not timed:
        return ()
    points: dict[str, list[Point]] = {}
    for row, cell in enumerate(timed):
        points.setdefault(cell.verdict, []).append(_point(cell, row))
    panel = Panel(
        title="",
        x=Axis(label="time in B / time in A"),
        y=Axis(label="", names=tuple(cell.label for cell in timed)),
        series=tuple(
            Series(name=verdict, colour=_SERIES[verdict], points=tuple(found), joined=False)
            for verdict, found in points.items()
        ),
        rows=True,
        line=1 + comparison.limit,
    )
    return (
        Chart(
            name="ratio",
            title="Time of each cell, B / A",
            sources=sources,
            panels=(panel,),
            notes=(f"line: {1 + comparison.limit:.4g}, what passes; bars: 95 % interval",),
        ),
    )


def _point(cell: CellComparison, row: int) -> Point:
    ratio = cell.ratio if isinstance(cell.ratio, float) else 0.0
    spread = cell.interval if isinstance(cell.interval, Interval) else None
    shown = units.ratio(ratio)
    if spread:
        shown += f" (95 % {units.ratio(spread.low)}..{units.ratio(spread.high)})"
    return Point(
        x=ratio,
        y=float(row),
        low=spread.low if spread else None,
        high=spread.high if spread else None,
        text=f"{cell.verdict}: {shown}\n{cell.label}\n{cell.source}, {cell.reason}",
        facets=_facets(cell),
    )
