"""A report as one HTML file that needs nothing else: no network, no other file, no server.

The template, and `_body` for the rows of tables, escape every text. The data of the charts is JSON
within a script element; there the signs that could end the element are written as escapes, and the
script puts texts into the page as texts alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

from elfatt_deploy import __version__, optional
from elfatt_deploy.report.assembling import Report
from elfatt_deploy.report.charts import Chart, Point
from elfatt_deploy.report.claims import Verdict
from elfatt_deploy.report.selection import Facets
from elfatt_deploy.report.tables import Entry, Table

_PARTS = ("report.html.j2", "style.css", "script.js")
#: what a page is filtered by -> its title
_FILTERS = {
    "board": "board", "model": "model", "precision": "precision", "mode": "power mode",
}  # fmt: skip
_VERDICTS = ("green", "amber", "inconclusive", "PASS", "FAIL", "INCONCLUSIVE")
#: letters of a cell from which it is wrapped
_WRAPPED = 28
#: digits of a number in a chart: more are not seen
_DIGITS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A verdict at the head of a page.

    Args:
        colour: `green`, `amber`, `red` or `inconclusive`.
        word: the verdict.
        title: what is judged.
        lines: what it rests on.
    """

    colour: str
    word: str
    title: str
    lines: tuple[str, ...]


def page(report: Report, cards: Sequence[Card] | None = None) -> str:
    """Return a report as one HTML document.

    Args:
        report: what it shows.
        cards: verdicts at its head; None means those about the paper's claims.

    Raises:
        MissingDependency: Jinja2 is absent or broken.
    """
    jinja2 = optional.load("jinja2")
    parts = {name: _part(name) for name in _PARTS}
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    places = _Places()
    charts = [_chart(chart, places) for chart in report.charts]
    sections = _sections(report, places)
    data = {"facets": places.listed, "texts": places.texts, "charts": charts}
    text: str = environment.from_string(parts["report.html.j2"]).render(
        report=report,
        cards=[_card(one) for one in report.verdicts] if cards is None else cards,
        sections=sections,
        filters=_filters(places),
        data=_embedded(data),
        style=parts["style.css"],
        script=parts["script.js"],
        version=__version__,
    )
    return text


def _part(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _card(verdict: Verdict) -> Card:
    mark = "" if verdict.source == "measured" else f"{verdict.source.upper()}: "
    return Card(
        colour=verdict.colour,
        word=f"{mark}{verdict.colour}",
        title=f"{verdict.board}: {verdict.claim.text}",
        lines=(verdict.reason, verdict.paper, f"ours: {verdict.setting}", *verdict.caveats),
    )


class _Places:
    """Gives every set of facets and every text that many share a number: a page holds each once."""

    def __init__(self) -> None:
        self._found: dict[Facets, int] = {}
        self._texts: dict[str, int] = {}

    def text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    @property
    def texts(self) -> list[str]:
        return list(self._texts)

    def of(self, facets: Facets) -> int:
        return self._found.setdefault(facets, len(self._found))

    @property
    def listed(self) -> list[tuple[str, ...]]:
        return [dataclasses.astuple(facets) for facets in self._found]


#: topics of tables and charts, in the order of a page -> the title of their section
_SECTIONS = {
    "4": "Figure 4",
    "VIII": "Table VIII",
    "IX": "Table IX",
    "claims": "The paper's claims",
    "ratios": "Models against each other",
    "scaling": "Time against input size",
    "pareto": "Speed against power",
    "energy": "Power and energy",
    "latency": "Spread of the times",
    "trace": "Over time",
    "layers": "Time by part of the network",
    "": "Each cell",
    "speed": "Every record",
    "proof": "Proof of precision and parity",
}


def _sections(report: Report, places: _Places) -> list[dict[str, Any]]:
    """Return name, title, charts and tables of each topic that has any."""
    found = []
    for topic, title in _SECTIONS.items():
        charts = [
            {"chart": chart, "place": place}
            for place, chart in enumerate(report.charts)
            if chart.topic == topic
        ]
        tables = [
            {"table": table, "body": _body(table, places)}
            for table in report.tables
            if table.topic == topic
        ]
        if charts or tables:
            name = topic or "cells"
            found.append({"name": name, "title": title, "charts": charts, "tables": tables})
    return found


def _body(table: Table, places: _Places) -> str:
    """Return the rows of a table as HTML, every text escaped.

    It is not the template that does it: on 2,000 records that takes a second longer. The closing
    tags of rows and cells are left out, as HTML allows: they would be a fifth of the page.
    """
    lines = []
    for row in table.rows:
        cells = "".join(map(_cell, row.entries))
        lines.append(f"<tr data-f={places.of(row.facets)}>{cells}")
    return "".join(lines)


def _cell(entry: Entry) -> str:
    shown = escape(entry.text)
    if entry.value in _VERDICTS:
        return f'<td class="v {escape(entry.text.lower())}">{shown}'
    return f"<td class=w>{shown}" if len(entry.text) > _WRAPPED else f"<td>{shown}"


def _filters(places: _Places) -> list[tuple[str, str, list[str]]]:
    """Return name, title and choices of each filter that has several."""
    found = []
    for place, (name, title) in enumerate(_FILTERS.items()):
        choices = list(dict.fromkeys(facets[place] for facets in places.listed if facets[place]))
        if len(choices) > 1:
            found.append((name, title, choices))
    return found


def _chart(chart: Chart, places: _Places) -> dict[str, Any]:
    return {
        "name": chart.name,
        "mark": chart.watermark,
        "oneKey": chart.one_key,
        "panels": [
            {
                "title": panel.title,
                "x": dataclasses.asdict(panel.x),
                "y": dataclasses.asdict(panel.y),
                "rows": panel.rows,
                "line": panel.line,
                "series": [
                    {
                        "name": series.name,
                        "colour": series.colour,
                        "origin": series.origin,
                        "joined": series.joined,
                        "points": [_point(point, places) for point in series.points],
                    }
                    for series in panel.series
                ],
            }
            for panel in chart.panels
        ],
    }


def _point(point: Point, places: _Places) -> list[Any]:
    box = point.box or (None, None)
    numbers = _short((point.x, point.y, point.low, point.high, *box))
    return [
        *numbers,
        point.text,
        places.text(point.where),
        int(point.doubtful),
        places.of(point.facets),
    ]


def _short(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.{_DIGITS}g}") for value in values]


def _embedded(data: dict[str, Any]) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
