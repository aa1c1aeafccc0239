"""What the attention micro-benchmark came to.

Cells that could not be measured stay in the report with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy.artifacts import ParityRow, Unavailable
from elfatt_deploy.bench import stability, stats, timing
from elfatt_deploy.bench.attention import AttentionCell, AttentionRequest, Prepared
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.stability import StabilityWarning
from elfatt_deploy.bench.stats import Growth, Summary
from elfatt_deploy.bench.timing import Samples, Timing


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionResult:
    """What one cell came to.

    Args:
        cell: the cell.
        parity: its graph in ONNX Runtime against torch; None where that was not reached.
        summary: its statistics, or why there are none.
        samples: every timed run.
        warm_up_runs: runs before them.
    """

    cell: AttentionCell
    parity: ParityRow | None
    summary: Summary | Unavailable
    samples: Samples = Samples(times_ms=(), rounds=())
    warm_up_runs: int = 0

    @property
    def failed(self) -> bool:
        """Whether the graph does not compute what torch does."""
        return self.parity is not None and not self.parity.passed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionGrowth:
    """How the time of one mechanism grows with the tokens."""

    attention: str
    growth: Growth | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionReport:
    """The result of the micro-benchmark.

    Args:
        request: what was asked.
        contract: name of the timing contract.
        contract_words: what it means here.
        runner: what ran the graphs.
        provider: what it ran them on.
        machine: the machine, read before the measurement.
        versions: package -> version.
        started: date and time in UTC, ISO 8601.
        rounds: number of whole rounds.
        interrupted: whether Ctrl-C ended it.
        results: every cell, in the order of the request.
        growth: every mechanism.
        warnings: what is doubtful.
    """

    request: AttentionRequest
    contract: str
    contract_words: str
    runner: str
    provider: str
    machine: Machine
    versions: dict[str, str]
    started: str
    rounds: int
    interrupted: bool
    results: tuple[AttentionResult, ...]
    growth: tuple[AttentionGrowth, ...]
    warnings: tuple[StabilityWarning, ...]

    @property
    def measured(self) -> bool:
        """Whether at least one cell was measured."""
        return any(isinstance(result.summary, Summary) for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether something was measured and nothing failed parity."""
        return self.measured and not any(result.failed for result in self.results)

    @property
    def figure(self) -> Path | None:
        """Where the figure is drawn; None where none was asked for or the run has no whole one."""
        return None if self.interrupted or not self.measured else self.request.plot


def report(
    request: AttentionRequest,
    prepared: Sequence[Prepared],
    timed: Timing,
    *,
    machine: Machine,
    versions: dict[str, str],
    started: str,
) -> AttentionReport:
    """Put a report together.

    Args:
        request: what was asked.
        prepared: every cell.
        timed: the samples of those that were not refused, in the same order.
        machine: the machine, read before the measurement.
        versions: package -> version.
        started: when the measurement began.
    """
    measured = zip(timed.cells, _padded(timed.warm_up_runs, len(timed.cells)), strict=True)
    results = []
    for one in prepared:
        if one.refused is not None:
            results.append(AttentionResult(cell=one.cell, parity=one.parity, summary=one.refused))
            continue
        samples, warm_up_runs = next(measured)
        results.append(
            AttentionResult(
                cell=one.cell,
                parity=one.parity,
                summary=_summary(samples),
                samples=samples,
                warm_up_runs=warm_up_runs,
            )
        )
    return AttentionReport(
        request=request,
        contract=timing.CONTRACT,
        contract_words=timing.CONTRACT_ON_CPU,
        runner="ort",
        provider="cpu",
        machine=machine,
        versions=versions,
        started=started,
        rounds=timed.rounds,
        interrupted=timed.interrupted,
        results=tuple(results),
        growth=tuple(_growths(request, results)),
        warnings=_warnings(machine, timed, results),
    )


def _padded(counts: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Add zeros for the cells whose warm-up Ctrl-C forestalled."""
    return counts + (0,) * (length - len(counts))


def _summary(samples: Samples) -> Summary | Unavailable:
    if not samples.times_ms:
        return Unavailable(reason="interrupted before its first run")
    return stats.summarize(samples.times_ms, samples.rounds)


def _growths(
    request: AttentionRequest, results: Sequence[AttentionResult]
) -> list[AttentionGrowth]:
    found = []
    for name in dict.fromkeys(request.attentions):
        points = [
            (result.cell.tokens, stats.by_round(result.samples.times_ms, result.samples.rounds))
            for result in results
            if result.cell.attention == name and result.samples.times_ms
        ]
        found.append(AttentionGrowth(attention=name, growth=stats.growth(points)))
    return found


def _warnings(
    machine: Machine, timed: Timing, results: Sequence[AttentionResult]
) -> tuple[StabilityWarning, ...]:
    found = list(stability.run_warnings(machine, timed.rounds))
    for result in results:
        samples = result.samples
        if samples.times_ms:
            found.extend(stability.warnings_of(result.cell.name, samples.times_ms, samples.rounds))
    return tuple(found)
