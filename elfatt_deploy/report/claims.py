"""A verdict for each claim of the paper about speed, from our records.

A verdict is

- green where the whole interval of our ratio meets the claim in every point that was judged;
- amber where a whole interval contradicts it;
- inconclusive otherwise: a point has no record or no interval, its interval spans the bound, or a
  record in it is doubtful.

It is about our networks under our conditions. The paper does not state its framework; a TensorRT
engine is another program than its measurements were made with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.report import comparing, published, ratios, selection
from elfatt_deploy.report.published import FigureSetting, Inconsistency, SpeedTable
from elfatt_deploy.report.selection import Setting
from elfatt_deploy.results.schema import RunRecord, Source

Colour = Literal["green", "amber", "inconclusive"]

OURS, GLOBAL = "cswin_t_elfatt", "cswin_t_global"
#: what "1.6 to 2.0 times" covers once it is rounded to one decimal
_RANGE = (1.55, 2.05)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the paper says of speed, in a form that can be judged.

    Args:
        name: one word.
        text: in words.
        source: where the paper says it, or that it is our reading.
        against: the networks that ELFATT is set against: all others, the slowest of the column,
            or GLOBAL.
        precisions: in which it is said.
        low: the speed ratio that it must exceed.
        high: the one that it must not; None where there is none.
    """

    name: str
    text: str
    source: str
    against: Literal["others", "slowest", "global"]
    precisions: tuple[published.Precision, ...]
    low: float
    high: float | None = None


CLAIMS = (
    Claim(
        name="fastest-mixed",
        text="ELFATT is the fastest of the seven networks in mixed precision in every power mode",
        source="arXiv 2501.06098, Figure 4 and Tables VIII, IX",
        against="others",
        precisions=("mixed",),
        low=1.0,
    ),
    Claim(
        name="1.6-to-2.0",
        text="ELFATT is 1.6 to 2.0 times as fast as the slowest network of the column",
        source="arXiv 2501.06098, Figure 4 and Tables VIII, IX",
        against="slowest",
        precisions=published.PRECISIONS,
        low=_RANGE[0],
        high=_RANGE[1],
    ),
    Claim(
        name="faster-than-global",
        text="ELFATT is faster than softmax attention over all tokens (GLOBAL) in every power mode",
        source="our reading of Figure 4: one baseline for both precisions and both boards",
        against="global",
        precisions=published.PRECISIONS,
        low=1.0,
    ),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClaimPoint:
    """A claim in one power mode and precision, against one network.

    Args:
        mode: the power mode.
        precision: as the paper says it.
        against: our model that ELFATT is set against.
        verdict: of this point.
        reason: what it rests on.
        ratio: our speed ratio, ELFATT over the other.
        interval: of the ratio.
        paper: the paper's ratio, recomputed from its images a second.
    """

    mode: str
    precision: published.Precision
    against: str
    verdict: Colour
    reason: str
    ratio: float | Unavailable
    interval: Interval | Unavailable
    paper: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A claim on one board.

    Args:
        claim: what is claimed.
        board: the board.
        source: what our numbers are; it stands beside the colour wherever that is shown.
        setting: of our records, in words.
        colour: green, amber or inconclusive.
        reason: what it rests on.
        paper: whether the paper's own numbers meet the claim, in words.
        caveats: where the paper contradicts itself about it.
        points: each point.
    """

    claim: Claim
    board: str
    source: Source
    setting: str
    colour: Colour
    reason: str
    paper: str
    caveats: tuple[str, ...]
    points: tuple[ClaimPoint, ...]


def verdicts(by_setting: Mapping[Setting, Sequence[RunRecord]]) -> tuple[Verdict, ...]:
    """Return a verdict for each claim and each board of the paper that there are records of.

    Measured records are judged; simulated ones only where a board has no measured ones. Of several
    settings of a board the one nearest to the paper's conditions is judged.
    """
    found = []
    for number in published.SPEED_TABLES:
        paper = published.speed_table(number)
        setting = comparing.nearest(paper, by_setting, ("measured", "simulated"))
        if setting is not None:
            records = by_setting[setting]
            found += [_verdict(claim, paper, setting, records) for claim in CLAIMS]
    return tuple(found)


def _verdict(
    claim: Claim, paper: SpeedTable, setting: Setting, records: Sequence[RunRecord]
) -> Verdict:
    figure = published.figure4()
    places = [one for one in figure.settings if one.board == paper.board]
    points = tuple(
        point
        for precision in claim.precisions
        for place in places
        for point in _points(claim, paper, precision, place, records)
    )
    colour, reason = _summed(points)
    inside = sum(_inside(claim, point.paper) for point in points)
    return Verdict(
        claim=claim,
        board=paper.board,
        source=setting.source,
        setting=setting.label,
        colour=colour,
        reason=reason,
        paper=f"in the paper's own numbers it holds in {inside} of {len(points)} points",
        caveats=_caveats(claim, paper, figure.inconsistencies),
        points=points,
    )


def _points(
    claim: Claim,
    paper: SpeedTable,
    precision: published.Precision,
    place: FigureSetting,
    records: Sequence[RunRecord],
) -> Iterable[ClaimPoint]:
    panel = published.figure4().panel(precision, "images_per_s")
    rates = {row.model: panel[row.model, place.power_w].value for row in paper.rows}
    here = [record for record in records if selection.mode_of(record) == place.mode]
    rows = {row.model: row for row in paper.rows}
    ours = comparing.record_of(rows[OURS], precision, here)
    for model in _others(claim, rates):
        other = comparing.record_of(rows[model], precision, here)
        ratio = _ratio(ours, other)
        verdict, reason = _point_verdict(claim, ratio, ours, other)
        yield ClaimPoint(
            mode=place.mode,
            precision=precision,
            against=model,
            verdict=verdict,
            reason=reason,
            ratio=ratio if isinstance(ratio, Unavailable) else ratio.value,
            interval=ratio if isinstance(ratio, Unavailable) else ratio.interval,
            paper=rates[OURS] / rates[model],
        )


def _others(claim: Claim, rates: Mapping[str, float]) -> tuple[str, ...]:
    if claim.against == "others":
        return tuple(model for model in rates if model != OURS)
    return (GLOBAL,) if claim.against == "global" else (min(rates, key=lambda m: rates[m]),)


def _ratio(ours: RunRecord | None, other: RunRecord | None) -> ratios.SpeedRatio | Unavailable:
    if ours is None or other is None:
        return Unavailable(reason="no record")
    return ratios.speed_ratio(ours, other)


def _point_verdict(
    claim: Claim,
    ratio: ratios.SpeedRatio | Unavailable,
    ours: RunRecord | None,
    other: RunRecord | None,
) -> tuple[Colour, str]:
    if isinstance(ratio, Unavailable):
        return "inconclusive", ratio.reason
    doubts = [
        f"{record.cell.model} is {' and '.join(words)}"
        for record in (ours, other)
        if record is not None and (words := selection.marks(record))
    ]
    if doubts:
        return "inconclusive", "; ".join(doubts)
    if isinstance(ratio.interval, Unavailable):
        return "inconclusive", ratio.interval.reason
    low, high = ratio.interval.low, ratio.interval.high
    spread = f"{units.ratio(low)}..{units.ratio(high)}"
    if low > claim.low and (claim.high is None or high < claim.high):
        return "green", f"the whole interval {spread} meets it"
    if high <= claim.low:
        return "amber", f"the whole interval {spread} is below {claim.low:g}"
    if claim.high is not None and low >= claim.high:
        return "amber", f"the whole interval {spread} is above {claim.high:g}"
    return "inconclusive", f"the interval {spread} spans the bound"


def _inside(claim: Claim, ratio: float) -> bool:
    # at the lower bound of a range the paper's rounding decides for it
    above = ratio >= claim.low if claim.high is not None else ratio > claim.low
    return above and (claim.high is None or ratio <= claim.high)


def _summed(points: Sequence[ClaimPoint]) -> tuple[Colour, str]:
    by_colour: dict[Colour, list[ClaimPoint]] = {"green": [], "amber": [], "inconclusive": []}
    for point in points:
        by_colour[point.verdict].append(point)
    counts = ", ".join(f"{len(found)} {colour}" for colour, found in by_colour.items() if found)
    colour: Colour = "green"
    if by_colour["amber"]:
        colour = "amber"
    elif by_colour["inconclusive"] or not points:
        colour = "inconclusive"
    if colour == "green":
        return colour, f"all {len(points)} points hold"
    first = by_colour[colour][0]
    return colour, (
        f"{counts} of {len(points)} points; first: {first.mode}, {first.precision}, against "
        f"{first.against}: {first.reason}"
    )


def _caveats(claim: Claim, paper: SpeedTable, found: Sequence[Inconsistency]) -> tuple[str, ...]:
    """Return where the source contradicts itself about a claim on a board."""
    powers = {one.power_w for one in published.figure4().settings if one.board == paper.board}
    if claim.against == "others":
        return ()
    return tuple(
        f"{one.where}, {one.power_w:g} W: {one.text}"
        for one in found
        if one.power_w in powers and one.where in claim.precisions
    )
