"""The verdicts about the paper's claims as tables."""

from __future__ import annotations

from collections.abc import Sequence

from elfatt_deploy import units
from elfatt_deploy.report import tables
from elfatt_deploy.report.claims import ClaimPoint, Verdict
from elfatt_deploy.report.selection import Facets
from elfatt_deploy.report.tables import Column, Row, Table


def verdict_tables(found: Sequence[Verdict]) -> tuple[Table, ...]:
    """Return the table of verdicts, and that of the points they are made of."""
    if not found:
        return ()
    sources = tuple(dict.fromkeys(verdict.source for verdict in found))
    summary = Table(
        name="claims",
        title="The paper's claims",
        sources=sources,
        columns=(
            Column(name="verdict", title="verdict"),
            Column(name="board", title="board"),
            Column(name="claim", title="claim"),
            Column(name="reason", title="reason"),
            Column(name="paper", title="in the paper"),
        ),
        rows=tuple(
            Row(
                entries=tuple(
                    map(tables.text, (v.colour, v.board, v.claim.text, v.reason, v.paper))
                ),
                facets=Facets(board=v.board),
            )
            for v in found
        ),
        notes=(
            "green: every whole interval meets the claim; amber: a whole interval contradicts it; "
            "else inconclusive; a doubtful or quick record never makes green",
            *dict.fromkeys(f"judged: {v.setting}" for v in found),
            *dict.fromkeys(f"the paper, {v.board}, {c}" for v in found for c in v.caveats),
        ),
        topic="claims",
    )
    columns = (
        Column(name="claim", title="claim"),
        Column(name="board", title="board"),
        Column(name="power_mode", title="power mode"),
        Column(name="precision", title="precision"),
        Column(name="against", title="against"),
        Column(name="paper_ratio", title="paper's ratio", kind="number"),
        Column(name="ratio", title="our ratio", kind="number"),
        Column(name="ratio_interval", title="95 %", kind="interval"),
        Column(name="verdict", title="verdict"),
        Column(name="reason", title="reason"),
    )
    points = Table(
        name="claim-points",
        title="The paper's claims, point by point: speed of ELFATT over another network",
        sources=sources,
        columns=columns,
        rows=tuple(_point_row(verdict, point) for verdict in found for point in verdict.points),
        notes=("the paper's ratio is recomputed from the images a second of Figure 4",),
        topic="claims",
        detail=True,
    )
    return summary, points


def _point_row(verdict: Verdict, point: ClaimPoint) -> Row:
    return Row(
        entries=(
            tables.text(verdict.claim.name),
            tables.text(verdict.board),
            tables.text(point.mode),
            tables.text(point.precision),
            tables.text(point.against),
            tables.number(point.paper, units.ratio),
            tables.number(point.ratio, units.ratio),
            tables.interval(point.interval, units.ratio),
            tables.text(point.verdict),
            tables.text(point.reason),
        ),
        facets=Facets(board=verdict.board, mode=point.mode, model=point.against),
    )
