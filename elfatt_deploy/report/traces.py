"""What lies beside a results file: power and temperature over time, layer profiles of plans.

A record names such a file in its `attachments`, with its digest. A trace lies in the folder
`RESULTS.traces`: a JSON document of schema `elfatt-deploy/trace` with the fields of
`device.trace.Trace` and the key of its record. A layer profile, `*.profile.json`, is what trtexec's
`--exportProfile` writes, each entry with the `nodes` of the ONNX graph in that layer where the plan
tells them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.device.trace import TRACE_SCHEMA, Trace
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.report import selection, tables
from elfatt_deploy.report.charts import Axis, Chart, Panel, Point, Series
from elfatt_deploy.report.selection import Facets, facets_of, model_label
from elfatt_deploy.report.tables import Column, Row, Table
from elfatt_deploy.results.schema import RunRecord

_TRACES, _PROFILE = ".traces", ".profile.json"

#: points of a line of a chart: more are not seen
_MOST = 300


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A record and what its board was read while it ran."""

    record: RunRecord
    trace: Trace


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of a plan, its mean time, and the ONNX nodes in it as far as they are known."""

    name: str
    mean_ms: float
    nodes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """A record and the times of the layers of its plan."""

    record: RunRecord
    layers: tuple[Layer, ...]


def is_trace(name: str) -> bool:
    """Whether an attachment of this name is a trace."""
    return PurePosixPath(name).parent.name.endswith(_TRACES)


def is_profile(name: str) -> bool:
    """Whether an attachment of this name is a layer profile."""
    return name.endswith(_PROFILE)


def trace_from_document(document: Mapping[str, Any], key: str, origin: str) -> Trace:
    """Return a trace.

    Args:
        document: as it was read.
        key: that of the record.
        origin: where it comes from, for the message.

    Raises:
        SchemaError: it is none, not of this version, or of another record.
    """
    fields = dict(document)
    found = fields.pop("schema", None), fields.pop("version", None)
    if found != (TRACE_SCHEMA, 1):
        raise SchemaError(f"{origin} is no trace of version 1: it says {found}")
    if fields.pop("key", None) != key:
        raise SchemaError(f"{origin} is the trace of another record")
    return from_document(Trace, fields, origin)


def layers_from_document(document: Any, origin: str) -> tuple[Layer, ...]:
    """Return the layers that trtexec's `--exportProfile` wrote.

    Raises:
        SchemaError: it is something else.
    """
    if not isinstance(document, list):
        raise SchemaError(f"{origin} is no layer profile of trtexec")
    try:
        return tuple(
            Layer(
                name=str(one["name"]),
                mean_ms=float(one["averageMs"]),
                nodes=tuple(map(str, one.get("nodes", ()))),
            )
            for one in document
            if "name" in one
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SchemaError(f"{origin} is no layer profile of trtexec: {error}") from error


def trace_charts(found: Sequence[Traced]) -> tuple[Chart, ...]:
    """Return a chart for each trace: power, temperature and clocks against time."""
    charts = []
    for number, one in enumerate(found, start=1):
        kinds = (
            ("power", "W", 1e3, [sample.power_mw for sample in one.trace.samples]),
            ("temperature", "degrees C", 1.0, [s.temperature_c for s in one.trace.samples]),
            ("clocks", "MHz", 1e6, [sample.clock_hz for sample in one.trace.samples]),
        )
        panels = tuple(
            panel
            for name, unit, scale, readings in kinds
            if (panel := _panel(one, name, unit, scale, readings)) is not None
        )
        if panels:
            charts.append(
                Chart(
                    name=f"trace-{number}",
                    title=f"Over time: {one.record.cell.label}",
                    sources=(one.record.source,),
                    panels=panels,
                    notes=(f"read by {one.trace.source} on the board's clock", *one.trace.notes),
                    topic="trace",
                )
            )
    return tuple(charts)


def _panel(
    one: Traced, name: str, unit: str, scale: float, readings: Sequence[Mapping[str, float | None]]
) -> Panel | None:
    names = list(dict.fromkeys(key for reading in readings for key in reading))
    start = one.trace.samples[0].uptime_s if one.trace.samples else 0.0
    times = [sample.uptime_s - start for sample in one.trace.samples]
    series = []
    for colour, key in enumerate(names):
        values = [reading.get(key) for reading in readings]
        scaled = [None if value is None else value / scale for value in values]
        facets = facets_of(one.record)
        series += [
            Series(name=key, colour=colour, points=part)
            for part in _lines(times, scaled, f"{key} ({unit})", facets)
        ]
    if not series:
        return None
    return Panel(
        title=name,
        x=Axis(label="time (s)", zero=True),
        y=Axis(label=unit, zero=name != "temperature"),
        series=tuple(series),
    )


def _lines(
    times: Sequence[float], values: Sequence[float | None], name: str, facets: Facets
) -> list[tuple[Point, ...]]:
    """Return lines through readings, which end where one failed.

    Of many readings only every n-th is drawn, never a mean of several.
    """
    step = max(1, len(times) // _MOST)
    lines: list[list[Point]] = [[]]
    for time, value in list(zip(times, values, strict=True))[::step]:
        if value is None:
            lines.append([])
        else:
            text = f"{name}: {value:.4g} at {time:.1f} s"
            lines[-1].append(Point(x=round(time, 3), y=value, text=text, facets=facets))
    return [tuple(line) for line in lines if line]


#: parts of a layer's name that say which part of the network it is of
_PART = re.compile(r"(?:levels?|stages?|layers)[._/]?(\d+)", re.IGNORECASE)


def layer_tables(found: Sequence[Layers]) -> tuple[Table, ...]:
    """Return the table of the time that each part of each network takes, network beside network."""
    if not found:
        return ()
    parts = list(dict.fromkeys(part for one in found for part in _by_part(one)))
    rows = []
    for part in parts:
        entries = [tables.text(part)]
        for one in found:
            time = _by_part(one).get(part)
            missing = tables.gap("that network has no such part")
            entries.append(missing if time is None else tables.number(time, units.milliseconds))
        rows.append(Row(entries=tuple(entries)))
    columns = [
        Column(
            name=f"{one.record.cell.model}_{number}_ms",
            title=f"{model_label(one.record)} {one.record.cell.precision} (ms)",
            kind="number",
        )
        for number, one in enumerate(found, start=1)
    ]
    return (
        tables.with_gaps_noted(
            Table(
                name="layers",
                title="Time by part of the network",
                sources=selection.sources_of([one.record for one in found]),
                columns=(Column(name="part", title="part"), *columns),
                rows=tuple(rows),
                notes=(
                    "mean times of trtexec's layer profile, summed over the layers of a part; "
                    "profiling slows a plan down: the sum is not its latency",
                    *(f"{one.record.cell.label}: {len(one.layers)} layers" for one in found),
                ),
                topic="layers",
            )
        ),
    )


def _by_part(one: Layers) -> dict[str, float]:
    found: dict[str, float] = {}
    for layer in one.layers:
        match = next(filter(None, map(_PART.search, (*layer.nodes, layer.name))), None)
        part = f"level {match[1]}" if match else "elsewhere"
        found[part] = found.get(part, 0.0) + layer.mean_ms
    return dict(sorted(found.items()))
