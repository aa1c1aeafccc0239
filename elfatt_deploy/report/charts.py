"""A chart of a report: panels, series and points; pictures and pages are drawn from it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from elfatt_deploy.report import published
from elfatt_deploy.report.selection import Facets
from elfatt_deploy.report.tables import watermark
from elfatt_deploy.results.schema import Source

#: what a series shows: numbers of ours, the paper's, or a line that is no data
Origin = Literal["ours", "paper", "guide"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point.

    Args:
        x: its place; in a panel of rows the value.
        y: its value; in a panel of rows the number of the row.
        low: lower end of its bar; None where it has none.
        high: upper end.
        box: first and third quartile, in a panel of rows.
        text: what it is, for people who point at it.
        where: under which conditions it holds; many points share it.
        doubtful: whether its record is marked.
        facets: what it is filtered by.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    box: tuple[float, float] | None = None
    text: str = ""
    where: str = ""
    doubtful: bool = False
    facets: Facets = Facets()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one colour; `joined` by a line where their order means something."""

    name: str
    colour: int
    points: tuple[Point, ...]
    origin: Origin = "ours"
    joined: bool = True


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its label with the unit, whether it is logarithmic, and names in place of numbers.

    `zero` says that it begins at zero.
    """

    label: str
    log: bool = False
    zero: bool = False
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One pair of axes.

    Args:
        title: what it shows.
        x: horizontal axis.
        y: vertical axis; its names are the rows of a panel of rows.
        series: what is drawn.
        rows: whether each point is a horizontal bar in a row of its own.
        line: a vertical line that means "the same", in a panel of rows.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    rows: bool = False
    line: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Panels that belong together.

    Args:
        name: unique in a report; the stem of its file.
        title: what it shows.
        sources: what our numbers in it are.
        panels: its panels.
        notes: how it was made, a line each.
        topic: what it is asked for by, such as `4`.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    topic: str = ""

    @property
    def watermark(self) -> str:
        """What stands over the chart: the kinds of number in it that nobody measured."""
        return watermark(self.sources)

    @property
    def one_key(self) -> bool:
        """Whether a colour means the same in every panel, so that one key serves all."""
        meant: dict[int, str] = {}
        return all(
            meant.setdefault(series.colour, series.name) == series.name
            for panel in self.panels
            for series in panel.series
            if series.origin == "ours"
        )


class Colours:
    """Gives every model one colour in a whole report: the paper's seven first."""

    def __init__(self) -> None:
        """Begin with the paper's models, in the order of its tables."""
        rows = published.speed_table(8).rows
        self._places = {row.model: place for place, row in enumerate(rows)}

    def of(self, model: str) -> int:
        """Return the number of a model's colour."""
        return self._places.setdefault(model, len(self._places))
