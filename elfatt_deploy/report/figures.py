"""Charts as pictures, by matplotlib: PNG and SVG."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from elfatt_deploy import optional
from elfatt_deploy.report.charts import Axis, Chart, Panel, Point, Series
from elfatt_deploy.report.paper_charts import PAPER

FORMATS = ("png", "svg")

#: colours of Okabe and Ito, told apart by colour-blind readers too, and two more
COLOURS = (
    "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#000000", "#0072B2", "#CC79A7", "#7F6A00",
    "#8C564B", "#999999",
)  # fmt: skip
_MARKERS = ("o", "^", "D", "v", "s", "P", "X", "*", "<", ">")
_DPI = 150
#: rows of a panel of rows that a picture has room for
_ROWS = 40
#: letters of a line of a panel's title
_TITLE = 72
#: points of a line from which they are not marked one by one
_MARKED = 30
_GREY = "#777777"


def picture(chart: Chart, kind: str) -> bytes:
    """Return a chart as a picture.

    Args:
        chart: what to draw.
        kind: one of `FORMATS`.

    Raises:
        MissingDependency: matplotlib is absent or broken.
    """
    optional.load("matplotlib.figure")
    out = io.BytesIO()
    # no date in the file: the same records give the same picture
    metadata = {"Date": None} if kind == "svg" else {}
    with optional.load("matplotlib").rc_context({"svg.hashsalt": chart.name}):
        _draw(chart).savefig(out, format=kind, dpi=_DPI, metadata=metadata)
    return out.getvalue()


def _draw(chart: Chart) -> Any:
    columns = 1 if len(chart.panels) == 1 else 2
    lines = math.ceil(len(chart.panels) / columns)
    height = 3.6 * lines + 1.4
    if chart.panels[0].rows:
        columns, lines = 1, len(chart.panels)
        height = 1.8 + sum(0.24 * min(len(panel.y.names), _ROWS) for panel in chart.panels)
    figure = optional.load("matplotlib.figure").Figure(
        figsize=(5.2 * columns + 2.0, height), layout="constrained"
    )
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, panel in zip(grid, chart.panels, strict=False):
        _draw_panel(axes, panel)
    for axes in grid[len(chart.panels) :]:
        axes.set_visible(False)
    if chart.one_key and not chart.panels[0].rows:
        named = _keys(chart.panels)
        figure.legend(
            named.values(), named.keys(), loc="outside right upper", frameon=False, fontsize=8
        )
    elif not chart.one_key:
        for axes, panel in zip(grid, chart.panels, strict=False):
            named = _keys([panel])
            axes.legend(
                named.values(), named.keys(), fontsize=7, frameon=False, ncols=4,
                loc="upper center", bbox_to_anchor=(0.5, -0.14),
            )  # fmt: skip
    mark = f"{chart.watermark}: " if chart.watermark else ""
    figure.suptitle(f"{mark}{chart.title}", fontsize=11, x=0.01, ha="left")
    note = "\n".join(_wrapped(chart.notes))
    figure.supxlabel(note, fontsize=7, x=0.01, ha="left", color="#444444")
    if chart.watermark:
        figure.text(
            0.5, 0.5, chart.watermark,
            fontsize=54, color="#cc0000", alpha=0.16, rotation=28, ha="center", va="center",
            zorder=10,
        )  # fmt: skip
    return figure


def _wrapped(notes: Sequence[str], width: int = 150) -> list[str]:
    lines = [line for note in notes for line in textwrap.wrap(note, width)]
    return lines if len(lines) <= 8 else [*lines[:8], "(more notes stand in the tables)"]


def _draw_panel(axes: Any, panel: Panel) -> None:
    if panel.title:
        axes.set_title(textwrap.fill(panel.title, _TITLE), fontsize=9, loc="left")
    axes.grid(visible=True, color="#e2e2e2", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if panel.rows:
        _draw_rows(axes, panel)
    else:
        for series in panel.series:
            _draw_series(axes, series)
        _scale(axes, panel)
    axes.set_xlabel(panel.x.label, fontsize=8.5)
    axes.set_ylabel(panel.y.label, fontsize=8.5)


def _draw_series(axes: Any, series: Series) -> None:
    if not series.points:
        return
    colour = _colour(series.colour)
    xs = [point.x for point in series.points]
    ys = [point.y for point in series.points]
    if series.origin == "guide":
        axes.plot(xs, ys, color=_GREY, linewidth=1.0, linestyle="--", zorder=1)
        return
    paper = series.origin == "paper"
    line = "--" if paper else "-"
    many = len(series.points) > _MARKED
    axes.plot(
        xs, ys,
        color=colour,
        linestyle=line if series.joined else "none",
        linewidth=0.9 if paper else 1.4,
        marker="none" if many else _MARKERS[series.colour % len(_MARKERS)],
        markersize=5.0,
        markerfacecolor="white" if paper else colour,
        alpha=0.75 if paper else 1.0,
    )  # fmt: skip
    _bars(axes, series.points, colour, vertical=True)
    _doubts(axes, series.points, xs, ys)


def _bars(axes: Any, points: Sequence[Point], colour: str, *, vertical: bool) -> None:
    for point in points:
        if point.low is None or point.high is None:
            continue
        ends = [point.low, point.high]
        if vertical:
            axes.plot([point.x, point.x], ends, color=colour, linewidth=1.0)
        else:
            axes.plot(ends, [point.y, point.y], color=colour, linewidth=1.2)


def _doubts(axes: Any, points: Sequence[Point], xs: Sequence[float], ys: Sequence[float]) -> None:
    """Mark points whose records are doubtful by a ring."""
    places = [index for index, point in enumerate(points) if point.doubtful]
    axes.plot(
        [xs[place] for place in places], [ys[place] for place in places],
        linestyle="none", marker="o", markersize=10, markerfacecolor="none",
        markeredgecolor="#cc0000", markeredgewidth=0.7,
    )  # fmt: skip


def _draw_rows(axes: Any, panel: Panel) -> None:
    shown = min(len(panel.y.names), _ROWS)
    for series in panel.series:
        points = [point for point in series.points if point.y < shown]
        colour = _colour(series.colour)
        _bars(axes, points, colour, vertical=False)
        for point in points:
            if point.box:
                first, third = point.box
                axes.barh(point.y, third - first, left=first, height=0.5, color=colour, alpha=0.4)
        xs, ys = [point.x for point in points], [point.y for point in points]
        axes.plot(xs, ys, linestyle="none", marker="o", markersize=4.5, color=colour)
        _doubts(axes, points, xs, ys)
    if panel.line is not None:
        axes.axvline(panel.line, color=_GREY, linewidth=1.0)
    axes.set_yticks(range(shown), labels=panel.y.names[:shown], fontsize=7.5)
    axes.set_ylim(shown - 0.4, -0.6)
    if panel.x.zero:
        axes.set_xlim(left=0)
    if shown < len(panel.y.names):
        axes.set_title(
            f"the first {shown} of {len(panel.y.names)} rows; the page has all",
            fontsize=8,
            loc="left",
        )


def _scale(axes: Any, panel: Panel) -> None:
    for name, axis in (("x", panel.x), ("y", panel.y)):
        if axis.log:
            getattr(axes, f"set_{name}scale")("log")
            _log_ticks(getattr(axes, f"{name}axis"), axis, panel, name)
        if axis.names:
            getattr(axes, f"set_{name}ticks")(range(len(axis.names)), labels=axis.names)
            getattr(axes, f"set_{name}lim")(-0.5, len(axis.names) - 0.5)
        elif axis.zero:
            getattr(axes, f"set_{name}lim")(**{"left" if name == "x" else "bottom": 0})


def _log_ticks(side: Any, axis: Axis, panel: Panel, name: str) -> None:
    """Label the values that were measured where they are few, as numbers and not as powers."""
    ticker = optional.load("matplotlib.ticker")
    values = sorted({getattr(p, name) for series in panel.series for p in series.points})
    if name == "x" and len(values) <= 8:
        side.set_major_locator(ticker.FixedLocator(values))
        side.set_minor_locator(ticker.NullLocator())
    else:
        side.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        side.set_minor_formatter(ticker.NullFormatter())
    side.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _keys(panels: Sequence[Panel]) -> dict[str, Any]:
    """Return what stands in a legend: name -> a sample of the line."""
    lines = optional.load("matplotlib.lines")
    named: dict[str, Any] = {}
    for panel in panels:
        for series in panel.series:
            if series.origin == "ours":
                named[series.name] = lines.Line2D(
                    [], [],
                    color=_colour(series.colour),
                    marker="none"
                    if len(series.points) > _MARKED
                    else _MARKERS[series.colour % len(_MARKERS)],
                    linestyle="-" if series.joined else "none",
                    markersize=5,
                )  # fmt: skip
            elif series.origin == "paper":
                named["the paper"] = lines.Line2D(
                    [], [], color=_GREY, marker="o", markerfacecolor="white", linestyle="--"
                )
            else:
                named[series.name] = lines.Line2D([], [], color=_GREY, linestyle="--")
    for panel in panels:
        for series in panel.series:
            if series.origin == "paper" and series.name.removesuffix(PAPER) not in named:
                named[series.name] = lines.Line2D(
                    [], [],
                    color=_colour(series.colour),
                    marker=_MARKERS[series.colour % len(_MARKERS)],
                    markerfacecolor="white",
                    linestyle="--",
                    markersize=5,
                )  # fmt: skip
    ringed = any(p.doubtful for panel in panels for s in panel.series for p in s.points)
    if ringed:
        named["doubtful: see marks"] = lines.Line2D(
            [], [], linestyle="none", marker="o", markersize=9,
            markerfacecolor="none", markeredgecolor="#cc0000",
        )  # fmt: skip
    return named


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
