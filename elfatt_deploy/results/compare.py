"""Whether results B are slower than results A: a verdict a cell, from the interval of the ratio.

The ratio is time B / time A, each the median over the repetitions. Its interval is a bootstrap
over the repetitions. With a limit of 3 % a cell is

- PASS where the whole interval is at or below 1.03: a slowdown beyond the limit is ruled out;
- FAIL where the whole interval is above 1.03: a slowdown beyond the limit is proved;
- INCONCLUSIVE otherwise, and where there is no interval or a record is doubtful.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.results import conditions, making
from elfatt_deploy.results.conditions import DEFAULT_LIMIT
from elfatt_deploy.results.schema import RunRecord, Source, Validity
from elfatt_deploy.results.store import Records

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]

_RESAMPLES = 10_000
_LEVEL = 0.95
_NAMED = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CellComparison:
    """One cell in A and in B.

    Args:
        key: of the cell in B.
        label: the same for people.
        source: what the numbers of both are.
        verdict: PASS, FAIL or INCONCLUSIVE.
        reason: what it rests on.
        a_ms: time of one batch in A.
        b_ms: the same in B.
        ratio: time B / time A; where they are paired, the median of the repetitions' ratios.
        interval: of the ratio.
        paired: whether repetition i of A and of B were measured close to each other, and were
            resampled together.
        noted: what differs and does not forbid the comparison.
    """

    key: str
    label: str
    source: Source
    verdict: Verdict
    reason: str
    a_ms: float | Unavailable
    b_ms: float | Unavailable
    ratio: float | Unavailable
    interval: Interval | Unavailable
    paired: bool = False
    noted: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonReport:
    """All cells of A and B.

    Args:
        limit: the slowdown that passes, as a share.
        seed: of the resampling.
        allowed: the conditions that were allowed to differ.
        cells: those that are in both, in the order of A.
        only_a: keys of the cells that are in A alone.
        only_b: keys of the cells that are in B alone.
        warnings: what was left out of the files, a line each.
    """

    limit: float
    seed: int
    allowed: tuple[str, ...]
    cells: tuple[CellComparison, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """FAIL where a cell fails, PASS where all pass and none of A is missing in B."""
        verdicts = {cell.verdict for cell in self.cells}
        if "FAIL" in verdicts:
            return "FAIL"
        return "PASS" if verdicts == {"PASS"} and not self.only_a else "INCONCLUSIVE"


def compare(
    a: Records,
    b: Records,
    *,
    limit: float = DEFAULT_LIMIT,
    allowed: Collection[str] = (),
    seed: int = 0,
) -> ComparisonReport:
    """Compare the last record of each cell in A with that in B.

    Args:
        a: the results to compare with.
        b: the results to judge.
        limit: the slowdown that passes: 0.03 is 3 %.
        allowed: names of `conditions.ALLOWED` that may differ.
        seed: seed of the resampling.

    Raises:
        UnknownNameError: a name in `allowed` is none of a condition.
        UsageError: the limit is no share; no cell is in both; or a condition differs that may not.
    """
    for name in allowed:
        if name not in conditions.ALLOWED:
            raise UnknownNameError("condition", name, conditions.ALLOWED)
    if not 0 <= limit < 10:
        raise UsageError(f"a limit of {limit:g} is no slowdown", hint="0.03 stands for 3 %")
    first, repeated_a = _cells(a, allowed, "A")
    second, repeated_b = _cells(b, allowed, "B")
    pairs = [(record, second[cell]) for cell, record in first.items() if cell in second]
    if not pairs:
        raise _nothing_in_common(tuple(first.values()), tuple(second.values()))
    _refuse_unlike(pairs, allowed)
    return ComparisonReport(
        limit=limit,
        seed=seed,
        allowed=tuple(allowed),
        cells=tuple(_compared(one, other, limit, allowed, seed) for one, other in pairs),
        only_a=tuple(record.key for cell, record in first.items() if cell not in second),
        only_b=tuple(record.key for cell, record in second.items() if cell not in first),
        warnings=(*a.warnings, *b.warnings, *repeated_a, *repeated_b),
    )


def _cells(
    records: Records, allowed: Collection[str], name: str
) -> tuple[dict[tuple[str, ...], RunRecord], tuple[str, ...]]:
    """Return the last record of each cell, and what was left out for it.

    Raises:
        UsageError: two cells differ in nothing but what is allowed to differ.
    """
    found: dict[tuple[str, ...], RunRecord] = {}
    repeated = 0
    for record in records.records:
        cell = conditions.identity(record, allowed)
        before = found.get(cell)
        if before is not None and before.key != record.key:
            differing = conditions.differing_cells(before, record)
            raise UsageError(
                f"{name} has several cells that differ in what is allowed to differ: "
                f"{before.key} and {record.key}",
                hint=f"leave out --allow {differing[0].field}, or give files with one of them",
            )
        repeated += before is not None
        found[cell] = record
    text = f"{name} has {repeated} earlier records of cells that were measured again: left out"
    return found, (text,) if repeated else ()


def _nothing_in_common(a: Sequence[RunRecord], b: Sequence[RunRecord]) -> UsageError:
    for name, records in (("A", a), ("B", b)):
        if not records:
            return UsageError(f"{name} has no record", hint="give a file with results")
    # of one cell only: all pairs of two large files would take minutes
    differing = min((conditions.differing_cells(a[0], other) for other in b), key=len)
    names = " ".join(f"--allow {difference.field}" for difference in differing)
    return UsageError(
        f"no cell is in both A and B; the nearest to {a[0].key} differs in {_listed(differing)}",
        hint=f"measure like cells, or, where that is what you want to compare, add {names}",
    )


def _refuse_unlike(pairs: Sequence[tuple[RunRecord, RunRecord]], allowed: Collection[str]) -> None:
    """Raise where a condition differs that may not."""
    found = [
        (a.key, differences) for a, b in pairs if (differences := conditions.unlike(a, b, allowed))
    ]
    if not found:
        return
    key, differences = found[0]
    more = f" (and {len(found) - 1} more cells)" if len(found) > 1 else ""
    if any(difference.field == "source" for difference in differences):
        raise UsageError(
            f"{key}{more}: {differences[0]}: these are never compared",
            hint="compare measured with measured, and simulated with simulated results",
        )
    names = " ".join(f"--allow {difference.field}" for difference in differences)
    raise UsageError(
        f"the conditions differ in {key}{more}: {_listed(differences)}",
        hint=f"measure under like conditions; {names} compares all the same",
    )


def _listed(differences: Sequence[conditions.Difference]) -> str:
    return "; ".join(map(str, differences[:_NAMED]))


def _compared(
    a: RunRecord, b: RunRecord, limit: float, allowed: Collection[str], seed: int
) -> CellComparison:
    paired = making.are_paired(a, b)
    times_a, times_b = _times(a), _times(b)
    a_ms, b_ms = _middle(times_a), _middle(times_b)
    if paired and not isinstance(times_a, Unavailable) and not isinstance(times_b, Unavailable):
        ratio, interval = _paired_ratio(a, b, seed)
    else:
        ratio, interval = _ratio(times_a, times_b, seed)
    verdict, reason = _judged(interval, limit)
    doubts, shared = _doubts(a, b, paired=paired)
    noted = [str(difference) for difference in conditions.noted(a, b, allowed)]
    if shared:
        noted.append(
            f"both are {' and '.join(shared)}: they took turns, the interval shows what it did"
        )
    if doubts and "validity" not in allowed:
        verdict = "INCONCLUSIVE"
        reason = f"{', '.join(doubts)}; measure again, or --allow validity"
    return CellComparison(
        key=b.key,
        label=b.cell.label,
        source=a.source,
        verdict=verdict,
        reason=reason,
        a_ms=a_ms,
        b_ms=b_ms,
        ratio=ratio,
        interval=interval,
        paired=paired,
        noted=tuple(noted),
    )


def _times(record: RunRecord) -> tuple[float, ...] | Unavailable:
    """Return the time of each repetition; why there is none where the cell was not timed."""
    if isinstance(record.statistics, Unavailable):
        return record.statistics
    times = []
    for repetition in record.repetitions:
        time = making.repetition_ms(record.cell.contract, repetition)
        if isinstance(time, Unavailable):
            return time
        times.append(time)
    return tuple(times) or Unavailable(reason=f"{record.source} numbers have no repetitions")


def _middle(times: tuple[float, ...] | Unavailable) -> float | Unavailable:
    return times if isinstance(times, Unavailable) else float(np.median(times))


def _paired_ratio(
    a: RunRecord, b: RunRecord, seed: int
) -> tuple[float | Unavailable, Interval | Unavailable]:
    """Return time B / time A of two cells that were measured interleaved, and its interval."""
    together = making.paired_ratio(b, a, seed)
    if isinstance(together, stats.Ratio):
        return together.value, together.interval
    return together, together


def _ratio(
    a: tuple[float, ...] | Unavailable, b: tuple[float, ...] | Unavailable, seed: int
) -> tuple[float | Unavailable, Interval | Unavailable]:
    """Return time B / time A, and its interval, each side resampled on its own."""
    if isinstance(a, Unavailable):
        return a, Unavailable(reason=f"not timed in A: {a.reason}")
    if isinstance(b, Unavailable):
        return b, Unavailable(reason=f"not timed in B: {b.reason}")
    values_a, values_b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ratio = float(np.median(values_b) / np.median(values_a))
    for name, values in (("A", values_a), ("B", values_b)):
        if len(values) < stats.MIN_ROUNDS:
            text = f"an interval needs {stats.MIN_ROUNDS} repetitions, {name} has {len(values)}"
            return ratio, Unavailable(reason=text)
    generator = np.random.default_rng(seed)
    drawn_a, drawn_b = (
        values[generator.integers(0, len(values), (_RESAMPLES, len(values)))]
        for values in (values_a, values_b)
    )
    ratios = np.median(drawn_b, axis=1) / np.median(drawn_a, axis=1)
    low, high = np.quantile(ratios, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return ratio, Interval(low=float(low), high=float(high), level=_LEVEL)


def _judged(interval: Interval | Unavailable, limit: float) -> tuple[Verdict, str]:
    if isinstance(interval, Unavailable):
        return "INCONCLUSIVE", interval.reason
    if interval.low > 1 + limit:
        return "FAIL", "slower than the limit"
    if interval.high <= 1 + limit:
        return "PASS", "faster" if interval.high < 1 else "no slowdown beyond the limit"
    return "INCONCLUSIVE", "the interval spans the limit; measure more repetitions"


def _doubts(a: RunRecord, b: RunRecord, *, paired: bool) -> tuple[list[str], list[Validity]]:
    """Return what is doubtful in A or B, and the words that both have and that doubt nothing.

    Where both took turns, what was wrong with the machine was wrong under both within the same
    second: the ratio of the turns is without it, and its interval shows what is left of it.
    """
    found = {
        name: [word for word in record.validity if word in conditions.DOUBTFUL]
        for name, record in (("A", a), ("B", b))
    }
    in_turns = paired and all(
        repetition.turns for record in (a, b) for repetition in record.repetitions
    )
    shared = [word for word in found["A"] if word in found["B"]] if in_turns else []
    own = {name: [word for word in words if word not in shared] for name, words in found.items()}
    return [f"{name} is {' and '.join(words)}" for name, words in own.items() if words], shared
