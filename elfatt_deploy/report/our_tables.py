"""Tables of our own records: every record, models against each other, time against size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.report import ratios, selection, tables
from elfatt_deploy.report.ratios import SpeedRatio
from elfatt_deploy.report.rows import (
    MARKS,
    WHERE,
    bands,
    finished,
    groups,
    interval_title,
    marked,
    where,
)
from elfatt_deploy.report.selection import Setting, facets_of
from elfatt_deploy.report.tables import Column, Entry, Row, Table
from elfatt_deploy.results.parts import Statistics
from elfatt_deploy.results.schema import RunRecord

_MS = units.milliseconds
_BASE = "global"

BY_TIME = (
    "p50: median of the repetitions' medians, of one batch; 95 %: its bootstrap interval; "
    "percentiles by trtexec's formula, where there are samples enough"
)
BY_BOARD = "W and mJ/image: over the timed windows alone, by the board's own sensors"


def speed_table(records: Sequence[RunRecord]) -> tuple[Table, ...]:
    """Return the table with a row for each record."""
    if not records:
        return ()
    spread = interval_title(records)
    columns = (
        *WHERE,
        Column(name="images_per_s", title="images/s", kind="number"),
        Column(name="images_per_s_interval", title=spread, kind="interval"),
        Column(name="p50_ms", title="p50 (ms)", kind="number"),
        Column(name="p50_interval_ms", title=f"{spread} (ms)", kind="interval"),
        Column(name="p90_ms", title="p90 (ms)", kind="number"),
        Column(name="p99_ms", title="p99 (ms)", kind="number"),
        Column(name="mean_w", title="W", kind="number"),
        Column(name="energy_mj_per_image", title="mJ/image", kind="number"),
        MARKS,
    )
    return (
        finished(
            Table(
                name="speed",
                title="Every record",
                sources=selection.sources_of(records),
                columns=columns,
                rows=tuple(
                    Row(entries=_speed_row(record), facets=facets_of(record)) for record in records
                ),
                notes=(BY_TIME, BY_BOARD, *bands(records)),
                topic="speed",
            )
        ),
    )


def _speed_row(record: RunRecord) -> tuple[Entry, ...]:
    found = record.statistics
    if isinstance(found, Statistics):
        numbers = (
            tables.number(found.images_per_s, units.images_per_second),
            tables.interval(found.images_per_s_interval, units.images_per_second),
            tables.number(found.p50_ms, _MS),
            tables.interval(found.p50_interval_ms, _MS),
            tables.number(found.p90_ms, _MS),
            tables.number(found.p99_ms, _MS),
        )
    else:
        numbers = (tables.gap(found.reason),) * 6
    return (
        *where(record),
        *numbers,
        tables.watts(selection.mean_power_w(record)),
        tables.number(selection.energy_mj(record), units.millijoules),
        marked(record),
    )


def base_of(records: Sequence[RunRecord]) -> RunRecord | None:
    """Return the record that the others are set against: GLOBAL attention, else the slowest.

    GLOBAL stays it where it could not be timed, so that a failure changes no other ratio's meaning.
    None where fewer than two are timed.
    """
    timed = [record for record in records if isinstance(record.statistics, Statistics)]
    if len({selection.model_label(record) for record in timed}) < 2:
        return None
    usual = [
        record
        for record in records
        if record.cell.model.endswith(f"_{_BASE}") and not record.cell.settings
    ]
    return selection.best(usual) or max(timed, key=p50)


def p50(record: RunRecord) -> float:
    """Return the p50 of a timed record, in milliseconds; 0 where it is not timed."""
    return record.statistics.p50_ms if isinstance(record.statistics, Statistics) else 0.0


#: a baseline, and each other model under its conditions with the ratio
RatioGroup: TypeAlias = tuple[RunRecord, list[tuple[RunRecord, SpeedRatio | Unavailable]]]


def ratio_groups(
    by_setting: Mapping[Setting, Sequence[RunRecord]],
) -> list[RatioGroup]:
    """Return, for every condition with several models, the baseline and the others' ratios."""
    found = []
    for records in by_setting.values():
        for group in groups(records, _alike):
            base = base_of(group)
            if base is not None:
                others = [record for record in group if record is not base]
                found.append((base, [(one, ratios.speed_ratio(one, base)) for one in others]))
    return found


def _alike(record: RunRecord) -> tuple[object, ...]:
    cell = record.cell
    return selection.mode_of(record), cell.precision, cell.height, cell.width


def ratio_table(found: Sequence[RatioGroup]) -> tuple[Table, ...]:
    """Return the table of models against each other, under like conditions."""
    rows = []
    sources = []
    for base, others in found:
        for record, ratio in others:
            sources.append(record)
            rows.append(Row(entries=_ratio_row(record, base, ratio), facets=facets_of(record)))
    if not rows:
        return ()
    columns = (
        *WHERE,
        Column(name="baseline", title="baseline"),
        Column(name="speed_ratio", title="times as fast", kind="number"),
        Column(name="speed_ratio_interval", title="95 %", kind="interval"),
        Column(name="outcome", title="outcome"),
        MARKS,
        Column(name="baseline_marks", title="marks of the baseline"),
    )
    return (
        finished(
            Table(
                name="ratios",
                title="Models against each other",
                sources=selection.sources_of(sources),
                columns=columns,
                rows=tuple(rows),
                notes=(
                    "times as fast: time of the baseline / time of the model; paired by turn or by "
                    "repetition where both were measured so; 95 %: bootstrap over repetitions",
                    "outcome: faster or slower where the whole interval is beyond 1",
                ),
                topic="ratios",
            )
        ),
    )


def _ratio_row(
    record: RunRecord, base: RunRecord, ratio: SpeedRatio | Unavailable
) -> tuple[Entry, ...]:
    if isinstance(ratio, Unavailable):
        shown = (tables.gap(ratio.reason), tables.gap(ratio.reason), tables.text(""))
    else:
        shown = (
            tables.number(ratio.value, units.ratio),
            tables.interval(ratio.interval, units.ratio),
            tables.text(_outcome(ratio.interval)),
        )
    name = selection.model_label(base)
    return (*where(record), tables.text(name), *shown, marked(record), marked(base))


def _outcome(interval: Interval | Unavailable) -> str:
    if isinstance(interval, Unavailable):
        return ""
    if interval.low > 1:
        return "faster"
    return "slower" if interval.high < 1 else "no difference shown"


def scaling_groups(by_setting: Mapping[Setting, Sequence[RunRecord]]) -> list[list[RunRecord]]:
    """Return the timed records of each model that differ in input size alone, the smallest first.

    Where a size was measured under several conditions the best record stands for it.
    """
    found = []
    for records in by_setting.values():
        timed = [record for record in records if isinstance(record.statistics, Statistics)]
        for group in groups(timed, _all_but_size):
            sizes = groups(group, lambda record: (record.cell.height, record.cell.width))
            best = [record for size in sizes if (record := selection.best(size)) is not None]
            if len(best) > 1:
                found.append(sorted(best, key=pixels))
    return found


def pixels(record: RunRecord) -> int:
    """Return the pixels of one image."""
    return record.cell.height * record.cell.width


def _all_but_size(record: RunRecord) -> tuple[object, ...]:
    return selection.model_label(record), selection.mode_of(record), record.cell.precision


def scaling_table(by_setting: Mapping[Setting, Sequence[RunRecord]]) -> tuple[Table, ...]:
    """Return the table of how the time grows with the input size."""
    found = scaling_groups(by_setting)
    if not found:
        return ()
    return (
        finished(
            Table(
                name="scaling",
                title="Time against input size",
                sources=selection.sources_of([group[0] for group in found]),
                columns=(
                    *(column for column in WHERE if column.name != "size"),
                    Column(name="sizes", title="sizes (px)"),
                    Column(name="p50_ms_by_size", title="p50 (ms) at each"),
                    Column(name="exponent", title="grows as pixels to the", kind="number"),
                    Column(name="exponent_interval", title="95 %", kind="interval"),
                    MARKS,
                ),
                rows=tuple(
                    Row(entries=_scaling_row(group), facets=facets_of(group[0])) for group in found
                ),
                notes=(
                    "slope of a line through log time and log pixels; its interval says what "
                    "repeating would change, not whether the points lie on a line",
                ),
                topic="scaling",
            )
        ),
    )


def _scaling_row(group: Sequence[RunRecord]) -> tuple[Entry, ...]:
    points = []
    for record in group:
        times = ratios.repetition_times(record)
        if not isinstance(times, Unavailable):
            points.append((pixels(record), np.asarray(times, np.float64)))
    growth = stats.growth(points)
    exponent = growth if isinstance(growth, Unavailable) else growth.exponent
    spread = growth if isinstance(growth, Unavailable) else growth.interval
    words = dict.fromkeys(word for record in group for word in selection.marks(record))
    return (
        *(e for e, c in zip(where(group[0]), WHERE, strict=True) if c.name != "size"),
        tables.text(" ".join(map(selection.size_label, group))),
        tables.text(" ".join(_MS(p50(record)) for record in group)),
        tables.number(exponent, units.ratio),
        tables.interval(spread, units.ratio),
        tables.text(" ".join(words)),
    )
