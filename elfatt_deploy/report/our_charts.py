"""Charts of our own records: models against each other, time against size, latencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import our_tables, selection
from elfatt_deploy.report.charts import Axis, Chart, Colours, Panel, Point, Series
from elfatt_deploy.report.our_tables import RatioGroup
from elfatt_deploy.report.selection import Setting, facets_of, model_label
from elfatt_deploy.results.parts import Statistics
from elfatt_deploy.results.schema import RunRecord

_By = Mapping[Setting, Sequence[RunRecord]]


def where(record: RunRecord) -> str:
    """Return under which conditions a record holds, and what is doubtful about it."""
    parts = (
        selection.board_of(record),
        selection.mode_of(record),
        selection.size_label(record),
        f"b{record.cell.batch}",
        record.cell.precision,
        record.cell.contract,
    )
    words = (record.source, *selection.marks(record))
    return f"{', '.join(filter(None, parts))}\n{' '.join(words)}"


def _labels(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return a label for each record: its model, and what differs among them."""
    parts: list[Callable[[RunRecord], str]] = [
        selection.board_of,
        selection.mode_of,
        selection.size_label,
        lambda record: f"b{record.cell.batch}",
        lambda record: record.cell.precision,
        lambda record: record.cell.contract,
        lambda record: record.cell.runner,
        lambda record: record.source,
    ]
    differing = [part for part in parts if len({part(record) for record in records}) > 1]
    return tuple(
        " ".join(filter(None, (model_label(record), *(part(record) for part in differing))))
        for record in records
    )


def ratio_chart(found: Sequence[RatioGroup], colours: Colours) -> tuple[Chart, ...]:
    """Return the chart of models against each other, a row each."""
    records: list[RunRecord] = []
    points: dict[str, list[Point]] = {}
    for base, others in found:
        for record, ratio in others:
            if isinstance(ratio, Unavailable):
                continue
            spread = ratio.interval if isinstance(ratio.interval, Interval) else None
            shown = units.ratio(ratio.value)
            if spread:
                shown += f" (95 % {units.ratio(spread.low)}..{units.ratio(spread.high)})"
            points.setdefault(model_label(record), []).append(
                Point(
                    x=ratio.value,
                    y=float(len(records)),
                    low=spread.low if spread else None,
                    high=spread.high if spread else None,
                    text=f"{model_label(record)}: {shown} times as fast as {model_label(base)}",
                    where=where(record),
                    doubtful=bool(selection.marks(record) or selection.marks(base)),
                    facets=facets_of(record),
                )
            )
            records.append(record)
    if not records:
        return ()
    panel = Panel(
        title="",
        x=Axis(label="times as fast as the baseline"),
        y=Axis(label="", names=_labels(records)),
        series=by_model(points, colours),
        rows=True,
        line=1.0,
    )
    return (
        Chart(
            name="ratios",
            title="Models against each other",
            sources=selection.sources_of(records),
            panels=(panel,),
            notes=(
                "the baseline is GLOBAL attention, or the slowest model where there is none; "
                "bars: 95 % interval of the ratio, bootstrap over repetitions",
            ),
            topic="ratios",
        ),
    )


def by_model(
    points: Mapping[str, Sequence[Point]], colours: Colours, joined: bool = False
) -> tuple[Series, ...]:
    """Return a series for each model."""
    return tuple(
        Series(name=model, colour=colours.of(model), points=tuple(found), joined=joined)
        for model, found in points.items()
    )


def latency_chart(records: Sequence[RunRecord], colours: Colours) -> tuple[Chart, ...]:
    """Return the chart of how the samples of each record spread around p50, a row each."""
    sampled = [record for record in records if any(r.samples_ms for r in record.repetitions)]
    if not sampled:
        return ()
    points: dict[str, list[Point]] = {}
    for row, record in enumerate(sampled):
        points.setdefault(model_label(record), []).append(_distribution(record, row))
    panel = Panel(
        title="",
        x=Axis(label="time of a batch / p50 of its record"),
        y=Axis(label="", names=_labels(sampled)),
        series=by_model(points, colours),
        rows=True,
        line=1.0,
    )
    return (
        Chart(
            name="latency",
            title="Spread of the times",
            sources=selection.sources_of(sampled),
            panels=(panel,),
            notes=(
                "mark: p50; box: the middle half of all samples; line: smallest to largest sample; "
                "no sample is left out",
            ),
            topic="latency",
        ),
    )


def _distribution(record: RunRecord, row: int) -> Point:
    samples = np.concatenate([r.samples_ms for r in record.repetitions])
    low, first, third, high = (float(q) for q in np.quantile(samples, (0, 0.25, 0.75, 1)))
    found = record.statistics
    middle = found.p50_ms if isinstance(found, Statistics) else float(np.median(samples))
    tails = [
        f"{name} {units.milliseconds(value)}"
        for name in ("p90", "p99")
        if isinstance(value := getattr(found, f"{name}_ms", None), float)
    ]
    times = ", ".join((f"p50 {units.milliseconds(middle)}", *tails))
    return Point(
        x=1.0,
        y=float(row),
        low=low / middle,
        high=high / middle,
        box=(first / middle, third / middle),
        text=f"{model_label(record)}: {times} ms, {len(samples)} samples "
        f"{units.milliseconds(low)}..{units.milliseconds(high)}",
        where=where(record),
        doubtful=bool(selection.marks(record)),
        facets=facets_of(record),
    )


def scaling_chart(by_setting: _By, colours: Colours) -> tuple[Chart, ...]:
    """Return the chart of time against input size, both axes logarithmic."""
    found = our_tables.scaling_groups(by_setting)
    if not found:
        return ()
    panels: dict[str, list[Series]] = {}
    for group in found:
        first = group[0]
        title = ", ".join(
            filter(
                None,
                (
                    selection.setting_of(first).label,
                    first.cell.precision,
                    selection.mode_of(first),
                ),
            )
        )
        label = model_label(first)
        points = tuple(_scaling_point(record) for record in group)
        panels.setdefault(title, []).append(
            Series(name=label, colour=colours.of(label), points=points)
        )
    return (
        Chart(
            name="scaling",
            title="Time against input size",
            sources=selection.sources_of([group[0] for group in found]),
            panels=tuple(
                Panel(
                    title=title,
                    x=Axis(label="input side (px)", log=True),
                    y=Axis(label="p50 (ms)", log=True),
                    series=tuple(series),
                )
                for title, series in panels.items()
            ),
            notes=("both axes are logarithmic; bars: 95 % interval of p50",),
            topic="scaling",
        ),
    )


def _scaling_point(record: RunRecord) -> Point:
    found = record.statistics
    spread = found.p50_interval_ms if isinstance(found, Statistics) else None
    bounds = spread if isinstance(spread, Interval) else None
    middle = our_tables.p50(record)
    return Point(
        x=math.sqrt(our_tables.pixels(record)),
        y=middle,
        low=bounds.low if bounds else None,
        high=bounds.high if bounds else None,
        text=f"{model_label(record)} at {selection.size_label(record)}: p50 "
        f"{units.milliseconds(middle)} ms",
        where=where(record),
        doubtful=bool(selection.marks(record)),
        facets=facets_of(record),
    )
