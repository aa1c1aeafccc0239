"""Charts of what a board told: energy of an image, and the front of speed against power."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from elfatt_deploy import units
from elfatt_deploy.report import board_tables, selection
from elfatt_deploy.report.charts import Axis, Chart, Colours, Panel, Point, Series
from elfatt_deploy.report.our_charts import by_model, where
from elfatt_deploy.report.rows import groups
from elfatt_deploy.report.selection import facets_of, model_label
from elfatt_deploy.results.schema import RunRecord


def energy_chart(records: Sequence[RunRecord], colours: Colours) -> tuple[Chart, ...]:
    """Return the chart of the energy of one image in each power mode."""
    known = [record for record in records if isinstance(selection.energy_mj(record), float)]
    if not known:
        return ()
    panels = []
    for group in groups(known, _panel_key):
        modes = sorted(dict.fromkeys(map(selection.mode_of, group)), key=_by_watts(group))
        panels.append(
            Panel(
                title=_panel_title(group[0]),
                x=Axis(label="power mode", names=tuple(mode or "as found" for mode in modes)),
                y=Axis(label="mJ/image", zero=True),
                series=_energy_series(group, modes, colours),
            )
        )
    return (
        Chart(
            name="energy",
            title="Energy of one image in each power mode",
            sources=selection.sources_of(known),
            panels=tuple(panels),
            notes=("energy of the board over the timed windows alone / images",),
            topic="energy",
        ),
    )


def _energy_series(
    records: Sequence[RunRecord], modes: Sequence[str], colours: Colours
) -> tuple[Series, ...]:
    """Return a line for each model, which ends where a mode has no record."""
    found = []
    for group in groups(records, lambda record: (model_label(record),)):
        by_mode = {selection.mode_of(record): record for record in group}
        line: list[Point] = []
        lines = [line]
        for number, mode in enumerate(modes):
            if mode in by_mode:
                line.append(_energy_point(by_mode[mode], number))
            else:
                line = []
                lines.append(line)
        name = model_label(group[0])
        found += [
            Series(name=name, colour=colours.of(name), points=tuple(part)) for part in lines if part
        ]
    return tuple(found)


def _energy_point(record: RunRecord, mode: int) -> Point:
    value = selection.energy_mj(record)
    y = value if isinstance(value, float) else 0.0
    return Point(
        x=float(mode),
        y=y,
        text=f"{model_label(record)}, {selection.mode_of(record)}: {units.millijoules(y)} mJ/image",
        where=where(record),
        doubtful=bool(selection.marks(record)),
        facets=facets_of(record),
    )


def _by_watts(records: Sequence[RunRecord]) -> Callable[[str], float]:
    board = selection.board_of(records[0])
    return lambda mode: selection.nominal_w(board, mode) or 0.0


def _panel_key(record: RunRecord) -> tuple[object, ...]:
    return selection.setting_of(record), record.cell.precision


def _panel_title(record: RunRecord) -> str:
    setting = selection.setting_of(record)
    words = (setting.board, record.cell.precision, f"batch {setting.batch}", setting.contract)
    return ", ".join(words)


def pareto_chart(records: Sequence[RunRecord], colours: Colours) -> tuple[Chart, ...]:
    """Return the chart of speed against measured power, with the front."""
    known = [
        record
        for record in records
        if isinstance(selection.mean_power_w(record), float)
        and isinstance(selection.images_per_s(record), float)
    ]
    if not known:
        return ()
    front = {id(known[place]) for place in board_tables.on_front(known)}
    panels = []
    for group in groups(known, _panel_key):
        points: dict[str, list[Point]] = {}
        best = []
        for record in group:
            point = _pareto_point(record)
            points.setdefault(model_label(record), []).append(point)
            if id(record) in front:
                best.append(point)
        line = tuple(
            Point(x=one.x, y=one.y, facets=one.facets) for one in sorted(best, key=lambda p: p.x)
        )
        panels.append(
            Panel(
                title=_panel_title(group[0]),
                x=Axis(label="mean power (W)", zero=True),
                y=Axis(label="images/s", zero=True),
                series=(
                    Series(name="front", colour=-1, points=line, origin="guide"),
                    *by_model(points, colours),
                ),
            )
        )
    return (
        Chart(
            name="pareto",
            title="Speed against power",
            sources=selection.sources_of(known),
            panels=tuple(panels),
            notes=(
                "power: mean of the board's own sensors over the timed windows; line: records that "
                "no other beats at that power or less",
            ),
            topic="pareto",
        ),
    )


def _pareto_point(record: RunRecord) -> Point:
    watts, rate = selection.mean_power_w(record), selection.images_per_s(record)
    x = watts if isinstance(watts, float) else 0.0
    y = rate if isinstance(rate, float) else 0.0
    return Point(
        x=x,
        y=y,
        text=f"{model_label(record)}, {selection.mode_of(record)}: "
        f"{units.images_per_second(y)} images/s at {units.watts(x)} W",
        where=where(record),
        doubtful=bool(selection.marks(record)),
        facets=facets_of(record),
    )
