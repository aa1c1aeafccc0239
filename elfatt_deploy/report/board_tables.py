"""Tables of what a board told: power and energy, and the proof of precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.report import selection, tables
from elfatt_deploy.report.rows import MARKS, WHERE, finished, groups, marked, where
from elfatt_deploy.report.selection import facets_of
from elfatt_deploy.report.tables import Column, Entry, Row, Table
from elfatt_deploy.results.parts import PowerSummary
from elfatt_deploy.results.schema import RunRecord


def on_front(records: Sequence[RunRecord]) -> set[int]:
    """Return the places of records of which no other is as fast at less power, or faster at equal.

    Records of different boards, precisions or contracts do not compete.
    """
    found = set()
    places = {id(record): place for place, record in enumerate(records)}
    for group in groups(records, _competing):
        known = sorted(
            (
                (watts, -rate, places[id(record)])
                for record in group
                if isinstance(watts := selection.mean_power_w(record), float)
                and isinstance(rate := selection.images_per_s(record), float)
            ),
        )
        fastest = 0.0
        for _, negative, place in known:
            if -negative > fastest:
                fastest = -negative
                found.add(place)
    return found


def _competing(record: RunRecord) -> tuple[object, ...]:
    return selection.setting_of(record), record.cell.precision


def energy_table(records: Sequence[RunRecord]) -> tuple[Table, ...]:
    """Return the table of power and energy, where anything was read."""
    read = [record for record in records if isinstance(record.power, PowerSummary)]
    if not read:
        return ()
    front = on_front(read)
    columns = (
        *WHERE,
        Column(name="images_per_s", title="images/s", kind="number"),
        Column(name="mean_w", title="mean (W)", kind="number"),
        Column(name="p95_w", title="p95 (W)", kind="number"),
        Column(name="idle_w", title="idle (W)", kind="number"),
        Column(name="energy_mj_per_image", title="mJ/image", kind="number"),
        Column(name="front", title="front"),
        MARKS,
    )
    rules = dict.fromkeys(
        rule
        for record in read
        if isinstance(record.power, PowerSummary)
        and isinstance(rule := record.power.total_rule, str)
    )
    return (
        finished(
            Table(
                name="energy",
                title="Power and energy",
                sources=selection.sources_of(read),
                columns=columns,
                rows=tuple(
                    Row(
                        entries=_energy_row(record, place in front),
                        facets=facets_of(record),
                    )
                    for place, record in enumerate(read)
                ),
                notes=(
                    f"over the timed windows alone; total: {'; '.join(rules) or 'not known'}",
                    "front: no other record of that board, precision and contract is faster at "
                    "that power or less",
                ),
                topic="energy",
            )
        ),
    )


def _energy_row(record: RunRecord, front: bool) -> tuple[Entry, ...]:
    power = record.power
    if not isinstance(power, PowerSummary):
        return ()
    mean, peak, idle = (
        value if isinstance(value, Unavailable) else value / 1e3
        for value in (power.total_mean_mw, power.total_p95_mw, power.idle_mw)
    )
    return (
        *where(record),
        tables.number(selection.images_per_s(record), units.images_per_second),
        tables.watts(mean),
        tables.watts(peak),
        tables.watts(idle),
        tables.number(power.energy_mj_per_image, units.millijoules),
        tables.text("yes" if front else ""),
        marked(record),
    )


#: of what says where a record stands, that which a plan does not depend on
_NOT_OF_A_PLAN = ("power_mode", "contract")


def proof_table(records: Sequence[RunRecord]) -> tuple[Table, ...]:
    """Return the table of what proves the precision and the results of what ran.

    Records of one plan, which differ in power mode and contract alone, share a row.
    """
    ran = [record for record in records if record.source != "predicted"]
    if not ran:
        return ()
    columns = (
        *(column for column in WHERE if column.name not in _NOT_OF_A_PLAN),
        Column(name="proof", title="proved"),
        Column(name="evidence", title="by"),
        Column(name="parity", title="parity"),
        Column(name="max_abs", title="largest error of a logit", kind="number"),
        Column(name="plan", title="plan or file"),
    )
    rows = dict.fromkeys(_proof_row(record) for record in ran)
    return (
        finished(
            Table(
                name="proof",
                title="Proof of precision and parity",
                sources=selection.sources_of(ran),
                columns=columns,
                rows=tuple(rows),
                notes=(
                    "parity: logits at this batch against the reference, before it was timed",
                    "records that differ in power mode and contract alone share a row",
                ),
                topic="proof",
                detail=True,
            )
        ),
    )


def _proof_row(record: RunRecord) -> Row:
    parity = record.parity
    if isinstance(parity, Unavailable):
        shown = (tables.gap(parity.reason), tables.gap(parity.reason))
    else:
        worst = max((row.max_abs for row in parity.rows), default=0.0)
        word = "passed" if parity.passed else "FAILED"
        shown = (tables.text(word), tables.number(worst, units.error))
    digests = (record.plan_sha256, record.model_sha256)
    known = next((one[:12] for one in digests if isinstance(one, str)), "")
    places = zip(where(record), WHERE, strict=True)
    return Row(
        entries=(
            *(entry for entry, column in places if column.name not in _NOT_OF_A_PLAN),
            tables.text(record.proof),
            tables.text(record.evidence),
            *shown,
            tables.text(known),
        ),
        facets=dataclasses.replace(facets_of(record), mode=""),
    )
