"""Makes run records: the statistics of their samples, and the record of a run on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from elfatt_deploy.artifacts import Interval, ParityReport, Unavailable, Weights
from elfatt_deploy.bench import stats
from elfatt_deploy.results.parts import (
    Cell,
    Device,
    GitState,
    MachineState,
    Memory,
    Protocol,
    Repetition,
    RunWarning,
    Statistics,
    Validity,
)
from elfatt_deploy.results.schema import RunRecord

_NO_BOARD = Unavailable(reason="this machine has no power modes that we know")
_NO_RAILS = Unavailable(reason="this machine has no power rails that we know")
_NO_PLAN = Unavailable(reason="no TensorRT plan ran")
_MEASURED = Unavailable(reason="this was measured")


def repetition_ms(contract: str, repetition: Repetition) -> float | Unavailable:
    """Return the one number of a repetition, of which a cell's result is the median.

    It is the median of the samples; for `throughput` the wall-clock time of one run, for `paper`
    the mean.
    """
    samples = repetition.samples_ms
    if not samples:
        return Unavailable(reason="a repetition has no sample")
    if _kind(contract) == "paper":
        return float(np.mean(samples))
    if _kind(contract) == "throughput":
        wall = repetition.wall_ms
        return wall if isinstance(wall, Unavailable) else wall / len(samples)
    return stats.median(samples)


def repetition_ratio(
    contract: str, repetition: Repetition, base: Repetition
) -> float | Unavailable:
    """Return time / time of the base of two repetitions that were measured interleaved.

    Where both took turns, by turn (`stats.turn_ratio`); otherwise of the one number of each.
    """
    if repetition.turns and base.turns and _kind(contract) == "single-stream":
        return stats.turn_ratio(
            repetition.samples_ms, repetition.turns, base.samples_ms, base.turns
        )
    ours, theirs = repetition_ms(contract, repetition), repetition_ms(contract, base)
    if isinstance(ours, Unavailable):
        return ours
    return theirs if isinstance(theirs, Unavailable) else ours / theirs


def are_paired(record: RunRecord, base: RunRecord) -> bool:
    """Whether two cells were measured interleaved: repetition i of both belongs together."""
    counts = {len(_sampled(one)) for one in (record, base)}
    return bool(record.group) and record.group == base.group and len(counts) == 1


def paired_ratio(record: RunRecord, base: RunRecord, seed: int) -> stats.Ratio | Unavailable:
    """Return time / time of the base of two cells that are paired, over their repetitions."""
    ratios = []
    for ours, theirs in zip(_sampled(record), _sampled(base), strict=True):
        ratio = repetition_ratio(record.cell.contract, ours, theirs)
        if isinstance(ratio, Unavailable):
            return ratio
        ratios.append(ratio)
    return stats.paired_ratio(ratios, seed)


def _sampled(record: RunRecord) -> list[Repetition]:
    return [repetition for repetition in record.repetitions if repetition.samples_ms]


def statistics_of(
    contract: str, batch: int, repetitions: Sequence[Repetition]
) -> Statistics | Unavailable:
    """Return what the samples of a cell come to."""
    kept = [repetition for repetition in repetitions if repetition.samples_ms]
    if not kept:
        return Unavailable(reason="no sample was taken")
    samples = [time for repetition in kept for time in repetition.samples_ms]
    medians = np.array([stats.median(repetition.samples_ms) for repetition in kept])
    rate, interval, rule = _rate(contract, batch, kept)
    return Statistics(
        count=len(samples),
        repetitions=len(kept),
        p50_ms=stats.median(medians.tolist()),
        p50_interval_ms=stats.median_interval(medians),
        mean_ms=float(np.mean(samples)),
        mad_ms=stats.mad(samples),
        p90_ms=stats.tail_percentile(samples, 90),
        p95_ms=stats.tail_percentile(samples, 95),
        p99_ms=stats.tail_percentile(samples, 99),
        min_ms=min(samples),
        max_ms=max(samples),
        images_per_s=rate,
        images_per_s_interval=interval,
        images_per_s_rule=rule,
    )


_RULES = {
    "single-stream": "1000 x batch / p50 (ms)",
    "throughput": "batch x runs / wall-clock time",
    "paper": "1000 x batch / mean (ms)",
}


def _kind(contract: str) -> str:
    return contract.partition("/")[0]


def _rate(
    contract: str, batch: int, repetitions: Sequence[Repetition]
) -> tuple[float | Unavailable, Interval | Unavailable, str]:
    """Return images a second, the interval, and the rule."""
    rule = _RULES.get(_kind(contract))
    if rule is None:
        absent = Unavailable(reason=f"{contract} times no images a second; use throughput/1")
        return absent, absent, "none"
    times = []
    for repetition in repetitions:
        time = repetition_ms(contract, repetition)
        if isinstance(time, Unavailable):
            return time, time, rule
        times.append(time)
    spread = stats.median_interval(np.array(times))
    if isinstance(spread, Interval):
        low, high = 1000 * batch / spread.high, 1000 * batch / spread.low
        spread = Interval(low=low, high=high, level=spread.level)
    return 1000 * batch / stats.median(times), spread, rule


def host_record(
    *,
    cell: Cell,
    started: str,
    duration_s: float,
    command: tuple[str, ...],
    git: GitState | Unavailable,
    versions: dict[str, str],
    weights: Weights | Unavailable,
    bundle_sha256: str | Unavailable,
    model_sha256: str | Unavailable,
    proof: str,
    evidence: str,
    parity: ParityReport | Unavailable,
    device: Device,
    before: MachineState,
    after: MachineState,
    protocol: Protocol,
    quantity: str,
    repetitions: tuple[Repetition, ...],
    memory: Memory,
    group: str = "",
    refused: Unavailable | None = None,
    warnings: tuple[RunWarning, ...] = (),
    validity: tuple[Validity, ...] = (),
) -> RunRecord:
    """Return the record of a cell measured on this machine, without board and without plan.

    The arguments are the fields of `RunRecord`; the statistics are made here. `refused` says why
    the cell was not timed, and is None where it was.

    Raises:
        SchemaError: the arguments contradict each other.
    """
    return RunRecord(
        source="measured",
        key=cell.key,
        cell=cell,
        group=group,
        started=started,
        duration_s=duration_s,
        command=command,
        git=git,
        versions=versions,
        weights=weights,
        bundle_sha256=bundle_sha256,
        model_sha256=model_sha256,
        plan_sha256=_NO_PLAN,
        proof=proof,
        evidence=evidence,
        parity=parity,
        device=device,
        power_mode=_NO_BOARD,
        before=before,
        after=after,
        protocol=protocol,
        quantity=quantity,
        repetitions=repetitions,
        statistics=refused or statistics_of(cell.contract, cell.batch, repetitions),
        power=_NO_RAILS,
        memory=memory,
        prediction=_MEASURED,
        warnings=warnings,
        validity=validity,
    )
