"""Our records beside the paper's numbers: which record stands beside a row, what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.report import published, selection
from elfatt_deploy.report.published import SpeedRow, SpeedTable
from elfatt_deploy.report.selection import Setting
from elfatt_deploy.results.parts import PowerMode
from elfatt_deploy.results.schema import RunRecord, Source

#: the paper's word for a precision -> ours
PRECISION_OF: dict[published.Precision, str] = {"fp32": "fp32", "mixed": "fp16"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition in which our records differ from the paper's measurements, or may."""

    name: str
    paper: str
    ours: str

    def __str__(self) -> str:
        """Return `batch: 128 in the paper, 1 here`."""
        return f"{self.name}: {self.paper} in the paper, {self.ours} here"


def is_row(row: SpeedRow, record: RunRecord) -> bool:
    """Whether a record is of the network of a row, in the input size of the row."""
    cell = record.cell
    if cell.settings or not cell.height == cell.width == row.resolution:
        return False
    return cell.model in (row.model, row.model.removesuffix(f"_{row.resolution}"))


def record_of(
    row: SpeedRow, precision: published.Precision, records: Sequence[RunRecord]
) -> RunRecord | None:
    """Return the record that stands beside a row; None where there is none."""
    asked = PRECISION_OF[precision]
    return selection.best([r for r in records if r.cell.precision == asked and is_row(row, r)])


def nearest(
    paper: SpeedTable,
    by_setting: Mapping[Setting, Sequence[RunRecord]],
    sources: Sequence[Source],
) -> Setting | None:
    """Return the setting on a table's board that is nearest to the paper's conditions.

    Args:
        paper: the table.
        by_setting: the records, the nearest contracts first.
        sources: what may be taken; an earlier one before a later one.
    """
    candidates = [
        setting
        for setting, records in by_setting.items()
        if setting.source in sources
        and setting.board == paper.board
        and not setting.contract.startswith("compute/")
        and any(is_row(row, record) for row in paper.rows for record in records)
    ]
    return min(
        candidates,
        key=lambda setting: (sources.index(setting.source), setting.batch != paper.batch),
        default=None,
    )


def conditions(
    paper: SpeedTable, setting: Setting, mode: str, records: Sequence[RunRecord]
) -> tuple[Condition, ...]:
    """Return in what records differ from the measurements of a table, or may differ."""
    found = (
        Condition(name="framework", paper="not stated", ours=setting.framework),
        Condition(name="board", paper=paper.board, ours=setting.board),
        Condition(name="power mode", paper=paper.power, ours=mode or "as found"),
        Condition(name="JetPack", paper=paper.jetpack, ours=setting.jetpack or "none"),
        Condition(name="batch", paper=str(paper.batch), ours=str(setting.batch)),
        Condition(
            name="contract",
            paper=f"mean of {paper.repetitions} repetitions, transfers and warm-up not stated",
            ours=setting.contract,
        ),
        Condition(name="clocks", paper="not stated", ours=_clocks(records)),
        Condition(name="images", paper=paper.dataset, ours=_weights(records)),
    )
    return tuple(one for one in found if one.paper != one.ours)


def _clocks(records: Sequence[RunRecord]) -> str:
    words = {
        "locked" if record.power_mode.locked else "not locked"
        for record in records
        if isinstance(record.power_mode, PowerMode)
    }
    return " or ".join(sorted(words)) or "not known"


def _weights(records: Sequence[RunRecord]) -> str:
    random = {
        record.weights.random for record in records if not isinstance(record.weights, Unavailable)
    }
    kind = {frozenset({True}): "random weights", frozenset({False}): "a checkpoint"}
    return f"one batch again and again, {kind.get(frozenset(random), 'weights of several kinds')}"
