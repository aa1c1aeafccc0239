"""Figure 4 of the paper, our records beside its markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import comparing, published, ratios, selection
from elfatt_deploy.report.charts import Axis, Chart, Colours, Panel, Point, Series
from elfatt_deploy.report.published import FigureSetting, Precision
from elfatt_deploy.report.selection import Facets, Setting
from elfatt_deploy.results.schema import RunRecord, Source

#: what the name of a series of the paper ends in
PAPER = ", the paper"

_WORD: dict[Precision, str] = {"fp32": "FP32", "mixed": "mixed precision (FP16)"}
_Found = tuple[FigureSetting, list[RunRecord]]


def figure4(
    by_setting: Mapping[Setting, Sequence[RunRecord]], colours: Colours
) -> tuple[Chart, ...]:
    """Return Figure 4 once for each kind of number that there is of the paper's boards.

    A board has one setting in a figure: that nearest to the paper's conditions.
    """
    found = []
    for source in selection.SOURCES:
        places: list[_Found] = []
        said = []
        for number in published.SPEED_TABLES:
            paper = published.speed_table(number)
            setting = comparing.nearest(paper, by_setting, (source,))
            if setting is None:
                continue
            said.append(f"ours on {paper.board}: {setting.label}")
            places += [
                (place, [r for r in by_setting[setting] if selection.mode_of(r) == place.mode])
                for place in published.figure4().settings
                if place.board == paper.board
            ]
        if any(records for _, records in places):
            found.append(_chart(source, places, said, colours))
    return tuple(found)


def _chart(
    source: Source, places: Sequence[_Found], said: Sequence[str], colours: Colours
) -> Chart:
    figure = published.figure4()
    boards = tuple(dict.fromkeys(place.board for place, records in places if records))
    panels = []
    for quantity in ("images_per_s", "ratio"):
        for precision in published.PRECISIONS:
            rate = quantity == "images_per_s"
            panels.append(
                Panel(
                    title=f"{'Images a second' if rate else 'Speed-up'}, {_WORD[precision]}",
                    x=Axis(label="power mode (W)"),
                    y=Axis(label="images/s" if rate else "times the slowest", zero=rate),
                    # a line for each board: between two boards there is nothing
                    series=(
                        *_paper(precision, rate, boards, colours),
                        *_ours(precision, rate, places, colours),
                    ),
                )
            )
    return Chart(
        name="figure4" if source == "measured" else f"figure4-{source}",
        title=f"Figure 4: {figure.title}",
        sources=(source,),
        panels=tuple(panels),
        notes=(
            *said,
            "hollow, dashed: the paper's markers; filled: ours; bars: 95 % interval of what was "
            "measured, the stated band of what was predicted",
            "speed-up: over the slowest network of the paper at that power",
            *(f"the paper: {note}" for note in figure.notes),
            *(f"the paper, {i.where}, {i.power_w:g} W: {i.text}" for i in figure.inconsistencies),
        ),
        topic="4",
    )


def _paper(
    precision: Precision, rate: bool, boards: Sequence[str], colours: Colours
) -> list[Series]:
    """Return the paper's markers of the boards that there are records of."""
    wanted = "images_per_s" if rate else "ratio"
    places = {one.power_w: one for one in published.figure4().settings}
    return [
        Series(
            name=f"{series.model}{PAPER}",
            colour=colours.of(series.model),
            origin="paper",
            points=tuple(
                Point(
                    x=point.power_w,
                    y=point.value,
                    text=f"{series.method}, the paper\n{point.power_w:g} W: {point.value:g} "
                    f"± {point.uncertainty:g}" + (f"\n{point.note}" if point.note else ""),
                    facets=Facets(
                        board=board,
                        model=series.model,
                        precision=comparing.PRECISION_OF[precision],
                        mode=places[point.power_w].mode,
                    ),
                )
                for point in series.points
                if places[point.power_w].board == board
            ),
        )
        for board in boards
        for series in published.figure4().series
        if (series.precision, series.quantity) == (precision, wanted)
    ]


def _ours(
    precision: Precision, rate: bool, places: Sequence[_Found], colours: Colours
) -> list[Series]:
    points: dict[tuple[str, str, int], list[Point]] = {}
    gaps: dict[str, int] = {}
    for place, records in places:
        paper = next(t for n in published.SPEED_TABLES if (t := _table(n)).board == place.board)
        rates = published.figure4().panel(precision, "images_per_s")
        slowest = min(paper.rows, key=lambda row: rates[row.model, place.power_w].value)
        base = comparing.record_of(slowest, precision, records)
        for row in paper.rows:
            record = comparing.record_of(row, precision, records)
            value, spread = _value(record, base, rate)
            if record is None or value is None:
                gaps[row.model] = gaps.get(row.model, 0) + 1  # the line ends here
                continue
            line = (row.model, place.board, gaps.get(row.model, 0))
            points.setdefault(line, []).append(_point(record, row.model, place, value, spread))
    return [
        Series(name=model, colour=colours.of(model), points=tuple(found))
        for (model, *_), found in points.items()
    ]


_table = published.speed_table


def _value(
    record: RunRecord | None, base: RunRecord | None, rate: bool
) -> tuple[float | None, Interval | None]:
    if record is None:
        return None, None
    if rate:
        value = selection.images_per_s(record)
        if isinstance(value, Unavailable) or isinstance(record.statistics, Unavailable):
            return None, None
        spread = record.statistics.images_per_s_interval
        return value, spread if isinstance(spread, Interval) else None
    if record is base:
        return (1.0, None) if isinstance(selection.images_per_s(record), float) else (None, None)
    ratio = ratios.speed_ratio(record, base) if base is not None else None
    if ratio is None or isinstance(ratio, Unavailable):
        return None, None
    return ratio.value, ratio.interval if isinstance(ratio.interval, Interval) else None


def _point(
    record: RunRecord, model: str, place: FigureSetting, value: float, spread: Interval | None
) -> Point:
    words = selection.marks(record)
    shown = units.images_per_second(value)
    if spread is not None:
        low, high = map(units.images_per_second, (spread.low, spread.high))
        shown += f" ({units.share(spread.level)} % {low}..{high})"
    facets = selection.facets_of(record)
    return Point(
        x=place.power_w,
        y=value,
        low=spread.low if spread else None,
        high=spread.high if spread else None,
        text=f"{model}, {record.source}\n{place.mode}, {place.power_w:g} W: {shown}"
        + (f"\n{' '.join(words)}" if words else ""),
        doubtful=bool(words),
        facets=Facets(
            board=facets.board, model=model, precision=facets.precision, mode=facets.mode
        ),
    )
