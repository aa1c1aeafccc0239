"""What the tables of our records share: where a record stands, its marks, grouping."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from elfatt_deploy.report import selection, tables
from elfatt_deploy.report.tables import Column, Entry, Table
from elfatt_deploy.results.parts import Prediction
from elfatt_deploy.results.schema import RunRecord

#: columns that say what a record is of
WHERE = (
    Column(name="source", title="source", condition=True),
    Column(name="board", title="board", condition=True),
    Column(name="device", title="device", condition=True),
    Column(name="power_mode", title="power mode", condition=True),
    Column(name="model", title="model", condition=True),
    Column(name="size", title="size (px)", condition=True),
    Column(name="batch", title="batch", kind="number", condition=True),
    Column(name="precision", title="precision", condition=True),
    Column(name="framework", title="framework", condition=True),
    Column(name="contract", title="contract", condition=True),
)
MARKS = Column(name="marks", title="marks")


def where(record: RunRecord) -> tuple[Entry, ...]:
    """Return the entries of `WHERE` for a record."""
    setting = selection.setting_of(record)
    return (
        tables.text(record.source),
        tables.text(setting.board),
        tables.text(setting.device),
        tables.text(selection.mode_of(record)),
        tables.text(selection.model_label(record)),
        tables.text(selection.size_label(record)),
        tables.count(setting.batch),
        tables.text(record.cell.precision),
        tables.text(f"{setting.framework} on {setting.provider}"),
        tables.text(setting.contract),
    )


def marked(record: RunRecord) -> Entry:
    """Return the entry of `MARKS` for a record."""
    return tables.text(" ".join(selection.marks(record)))


def interval_title(records: Iterable[RunRecord]) -> str:
    """Return the title of a column of intervals: that of a prediction is not one of 95 %."""
    return "interval" if any(record.source == "predicted" for record in records) else "95 %"


def bands(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """Return what the intervals of predictions mean, each once."""
    found = dict.fromkeys(
        record.prediction.band for record in records if isinstance(record.prediction, Prediction)
    )
    return tuple(f"interval of a prediction: {text}" for text in found)


def finished(table: Table) -> Table:
    """Return a table as it is shown: what is the same everywhere and what is absent is noted."""
    return tables.with_gaps_noted(tables.compact(table))


def groups(
    records: Sequence[RunRecord], key: Callable[[RunRecord], tuple[object, ...]]
) -> list[list[RunRecord]]:
    """Return records by what a function says of them, in the order in which it first does."""
    found: dict[tuple[object, ...], list[RunRecord]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return list(found.values())
