"""Tables VIII and IX of the paper, our records beside its numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import comparing, published, ratios, selection, tables
from elfatt_deploy.report.published import Precision, SpeedRow, SpeedTable
from elfatt_deploy.report.rows import bands, interval_title
from elfatt_deploy.report.selection import Facets, Setting
from elfatt_deploy.report.tables import Column, Entry, Row, Table
from elfatt_deploy.results.schema import RunRecord

ROMAN = {8: "VIII", 9: "IX"}

#: the columns of intervals are named where the records are known
_COLUMNS = (
    Column(name="precision", title="precision"),
    Column(name="method", title="method"),
    Column(name="model", title="our model"),
    Column(name="paper_images_per_s", title="paper (images/s)", kind="number"),
    Column(name="images_per_s", title="ours (images/s)", kind="number"),
    Column(name="images_per_s_interval", title="{}", kind="interval"),
    Column(name="ratio", title="ours / paper", kind="number"),
    Column(name="ratio_interval", title="{} of it", kind="interval"),
    Column(name="paper_speed_up", title="paper's speed-up", kind="number"),
    Column(name="speed_up", title="our speed-up", kind="number"),
    Column(name="speed_up_interval", title="{} of it", kind="interval"),
    Column(name="marks", title="marks"),
)
#: models from which an order means something
_ENOUGH = 3


def paper_tables(
    number: int, by_setting: Mapping[Setting, Sequence[RunRecord]], *, anywhere: bool
) -> tuple[Table, ...]:
    """Return a table of the paper once for each setting whose records stand in it.

    Args:
        number: 8 or 9.
        by_setting: the records.
        anywhere: whether records of other boards are set beside it where none is of the paper's.
    """
    paper = published.speed_table(number)
    fitting = {
        setting: [record for record in records if _row_of(paper, record) is not None]
        for setting, records in by_setting.items()
        if not setting.contract.startswith("compute/")
    }
    chosen = {s: r for s, r in fitting.items() if r and s.board == paper.board}
    if not chosen and anywhere:
        chosen = {s: r for s, r in fitting.items() if r}
    found: list[Table] = []
    for setting, records in chosen.items():
        modes = list(dict.fromkeys(map(selection.mode_of, records)))
        for mode in [paper.power] if paper.power in modes else modes:
            here = [record for record in records if selection.mode_of(record) == mode]
            found.append(_table(paper, setting, mode, here, len(found)))
    return tuple(found)


def _row_of(paper: SpeedTable, record: RunRecord) -> SpeedRow | None:
    return next((row for row in paper.rows if comparing.is_row(row, record)), None)


def _table(
    paper: SpeedTable, setting: Setting, mode: str, records: Sequence[RunRecord], number: int
) -> Table:
    rows: list[Row] = []
    notes: list[str] = []
    for precision in published.PRECISIONS:
        found = {row.model: comparing.record_of(row, precision, records) for row in paper.rows}
        base = min(paper.rows, key=lambda row: row.images_per_s(precision))
        notes.append(f"speed-up in {precision}: over {base.method}, as in the paper")
        notes += _order(paper, precision, found)
        for row in paper.rows:
            entries = _entries(row, precision, found[row.model], found[base.model])
            facets = Facets(
                board=setting.board,
                model=row.model,
                precision=comparing.PRECISION_OF[precision],
                mode=mode,
            )
            rows.append(Row(entries=entries, facets=facets))
    notes += [f"differs: {one}" for one in comparing.conditions(paper, setting, mode, records)]
    notes += [f"the paper: {note}" for note in paper.notes]
    notes += [f"the paper, {one.where}: {one.text}" for one in paper.inconsistencies]
    spread = interval_title(records)
    notes += bands(records)
    notes.append(
        f"{spread} of ours / paper: of ours alone; the paper's numbers are rounded as printed"
    )
    place = f"{setting.label}{f', power mode {mode}' if mode else ''}"
    return tables.with_gaps_noted(
        Table(
            name=f"table{paper.number}" + (f"-{number + 1}" if number else ""),
            title=f"Table {ROMAN[paper.number]}: {paper.title}; ours: {place}",
            sources=(setting.source,),
            columns=tuple(
                dataclasses.replace(column, title=column.title.format(spread))
                for column in _COLUMNS
            ),
            rows=tuple(rows),
            notes=tuple(notes),
            topic=ROMAN[paper.number],
        )
    )


def _entries(
    row: SpeedRow, precision: Precision, record: RunRecord | None, base: RunRecord | None
) -> tuple[Entry, ...]:
    printed = row.fps_fp32 if precision == "fp32" else row.fps_mixed
    theirs = row.images_per_s(precision)
    speed_up = row.printed_ratio(precision)
    paper = Entry(text=printed, value=theirs), Entry(text=speed_up, value=float(speed_up))
    head = (tables.text(precision), tables.text(row.method), tables.text(row.model))
    if record is None:
        gaps = [tables.gap("no record of that model, precision and size")] * 4
        return (*head, paper[0], *gaps, paper[1], tables.gap(), tables.gap(), tables.text(""))
    ours = selection.images_per_s(record)
    spread = _rate_interval(record)
    over = _speed_up(record, base)
    ratio = ours if isinstance(ours, Unavailable) else ours / theirs
    return (
        *head,
        paper[0],
        tables.number(ours, units.images_per_second),
        tables.interval(spread, units.images_per_second),
        tables.number(ratio, units.ratio),
        tables.interval(_divided(spread, theirs), units.ratio),
        paper[1],
        tables.number(over if isinstance(over, Unavailable) else over.value, units.ratio),
        tables.interval(over if isinstance(over, Unavailable) else over.interval, units.ratio),
        tables.text(" ".join(selection.marks(record))),
    )


def _rate_interval(record: RunRecord) -> Interval | Unavailable:
    found = record.statistics
    return found if isinstance(found, Unavailable) else found.images_per_s_interval


def _divided(found: Interval | Unavailable, by: float) -> Interval | Unavailable:
    if isinstance(found, Unavailable):
        return found
    return Interval(low=found.low / by, high=found.high / by, level=found.level)


def _speed_up(record: RunRecord, base: RunRecord | None) -> ratios.SpeedRatio | Unavailable:
    if base is None:
        return Unavailable(reason="no record of the model that speed-ups are over")
    if base is record:
        same = Unavailable(reason="the model that speed-ups are over")
        return ratios.SpeedRatio(value=1.0, interval=same, paired=False)
    return ratios.speed_ratio(record, base)


def _order(
    paper: SpeedTable, precision: Precision, found: Mapping[str, RunRecord | None]
) -> list[str]:
    """Return how far our order of the models is the paper's, where there are enough of them."""
    ours = {
        model: rate
        for model, record in found.items()
        if record is not None and isinstance(rate := selection.images_per_s(record), float)
    }
    if len(ours) < _ENOUGH:
        return []
    theirs = [row.images_per_s(precision) for row in paper.rows if row.model in ours]
    same = rank_correlation(theirs, [ours[row.model] for row in paper.rows if row.model in ours])
    return [
        f"order of the models in {precision}: rank correlation {same:.2f} with the paper's "
        f"({len(ours)} models)"
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    first, second = _ranks(a), _ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, np.float64)
    below = (array[None, :] < array[:, None]).sum(axis=1)
    equal = (array[None, :] == array[:, None]).sum(axis=1)
    ranks: np.ndarray[tuple[int], np.dtype[np.float64]] = below + (equal - 1) / 2
    return ranks
