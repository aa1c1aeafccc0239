"""What `bench --attention` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import output

if TYPE_CHECKING:
    from elfatt_deploy.artifacts import Interval, Unavailable
    from elfatt_deploy.bench.attention_report import AttentionReport, AttentionResult
    from elfatt_deploy.bench.stats import Growth

_TIMES = ("p50 (ms)", "95 % (ms)", "MAD (ms)", "p90 (ms)", "p99 (ms)")


def show(report: AttentionReport, *, json: bool, quiet: bool) -> int:
    """Show the report; returns the exit code."""
    if json:
        output.show_json("bench-attention", _document(report))
    else:
        _show_tables(report)
    if not quiet:
        for warning in report.warnings:
            output.say(f"warning: {warning.kind.value}: {warning.message}")
        if report.interrupted:
            output.say(f"interrupted after {report.rounds} rounds: what was measured is shown")
        if report.request.plot and not report.figure:
            output.say(f"note: {report.request.plot} was not drawn: there is no whole measurement")
    if report.interrupted:
        return 130
    return 0 if report.passed else 1


def _show_tables(report: AttentionReport) -> None:
    request = report.request
    columns: tuple[str, ...] = ("attention", "map", "tokens", *_TIMES, "runs")
    rows = [_row(result) for result in report.results]
    if any(row[-1] for row in rows):
        columns = (*columns, "not measured because")
    output.show_table(
        f"attention alone, {request.dim} channels, {request.head_count} heads, batch 1, float32",
        columns,
        [row[: len(columns)] for row in rows],
        _conditions(report),
    )
    output.show_table(
        "growth with the number of tokens N",
        ("attention", "grows as", "95 % of the exponent", "fitted on N"),
        [_growth_row(entry.attention, entry.growth) for entry in report.growth],
        "least squares of log p50 on log N, over the sizes with at least 1/16 of the most tokens; "
        "the interval is what a repetition would change, not whether the points lie on a line",
    )
    if report.figure:
        output.show(f"figure: {report.figure}")


def _row(result: AttentionResult) -> tuple[str, ...]:
    from elfatt_deploy.bench.stats import Summary

    cell, summary = result.cell, result.summary
    head = (cell.attention, f"{cell.rows}x{cell.cols}", str(cell.tokens))
    if not isinstance(summary, Summary):
        return (*head, *["-"] * len(_TIMES), "-", summary.reason)
    return (
        *head,
        _ms(summary.p50_ms),
        _span(summary.p50_interval_ms, _ms),
        _ms(summary.mad_ms),
        _ms(summary.p90_ms),
        _ms(summary.p99_ms),
        str(summary.count),
        "",
    )


def _growth_row(attention: str, growth: Growth | Unavailable) -> tuple[str, ...]:
    from elfatt_deploy.bench.stats import Growth

    if not isinstance(growth, Growth):
        return (attention, "-", "-", growth.reason)
    return (
        attention,
        f"N^{units.ratio(growth.exponent)}",
        _span(growth.interval, units.ratio),
        ", ".join(map(str, growth.tokens)),
    )


def _conditions(report: AttentionReport) -> str:
    """Return how the table was measured."""
    from elfatt_deploy.bench import stats
    from elfatt_deploy.models.attention.context import AttentionContext

    request, machine = report.request, report.machine
    block = AttentionContext(dim=1, heads=1, rows=1, cols=1, block=request.block)
    virtual = ", virtual machine" if machine.virtual else ""
    return (
        f"measured {report.started} on {machine.cpu}, {machine.cores} cores{virtual}, "
        f"{machine.system}; ONNX Runtime {report.versions.get('onnxruntime', '')} on the "
        f"CPU, {threads(request.threads)}\n"
        f"contract {report.contract}: {report.contract_words}\n"
        f"{report.rounds} rounds, every cell once in each, order shuffled with seed "
        f"{request.seed}; p50 is the median of the rounds' medians, 95 % its bootstrap interval, "
        "MAD and percentiles (trtexec's formula) are of all runs; "
        f"- is absent: p90 needs {stats.samples_for(90)} runs, p99 {stats.samples_for(99)}\n"
        f"blocks of {block.block}x{block.block} tokens; the rest as published for level 1: "
        f"stripes of width {block.stripe}, {block.agents} agents"
    )


def threads(count: int) -> str:
    """Return how many threads a runner has, in words."""
    if count == 0:
        return "as many threads as it chooses"
    return f"{count} thread{'s' if count > 1 else ''}"


def _span(interval: Interval | Unavailable, render: Callable[[float], str]) -> str:
    from elfatt_deploy.artifacts import Interval

    if not isinstance(interval, Interval):
        return "-"
    return f"{render(interval.low)}..{render(interval.high)}"


def _ms(value_ms: float | Unavailable) -> str:
    return units.milliseconds(value_ms) if isinstance(value_ms, float) else "-"


def _document(report: AttentionReport) -> dict[str, Any]:
    """Return the JSON document: what the tables show, every sample, and the conditions."""
    document = to_document(report)
    for result, record in zip(report.results, document["results"], strict=True):
        record["cell"]["tokens"] = result.cell.tokens
    document["request"]["heads"] = report.request.head_count
    document["figure"] = str(report.figure) if report.figure else None
    return {"passed": report.passed, **document}
