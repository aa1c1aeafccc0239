"""`bench`: how long it takes, measured here."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.bench.attention_report import AttentionReport, AttentionResult
    from elfatt_deploy.bench.records import Interval, Unavailable
    from elfatt_deploy.bench.stats import Growth

_ALL = "all"
_DEFAULT_SIZES = "14x14,28x28,56x56,112x112"
_TIMES = ("p50 (ms)", "95 % (ms)", "MAD (ms)", "p90 (ms)", "p99 (ms)")
_DEFAULT_RULE = StopRule()
#: rounds that --seconds alone asks for: as many as an interval needs
_LEAST_ROUNDS = 5


def _complete_attention(incomplete: str) -> list[str]:
    """Return the mechanisms that begin as the last name typed."""
    from elfatt_deploy.models import registry

    before, comma, last = incomplete.rpartition(",")
    names = (_ALL, *registry.ATTENTIONS)
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


@output.guarded
def command(
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            metavar="NAME[,NAME...]",
            help="Time these mechanisms alone: names of 'models', or all.",
            autocompletion=_complete_attention,
        ),
    ] = None,
    size: Annotated[
        str, typer.Option("--size", metavar="HxW[,HxW...]", help="Token maps, rows x columns.")
    ] = _DEFAULT_SIZES,
    dim: Annotated[int, typer.Option("--dim", help="Channels.")] = 64,
    heads: Annotated[
        int | None, typer.Option("--heads", help="Heads; without it, one for each 32 channels.")
    ] = None,
    block: Annotated[
        int, typer.Option("--block", help="Side of the blocks of blockified attention.")
    ] = 7,
    threads: Annotated[
        int, typer.Option("--threads", help="Threads of ONNX Runtime; 0 is its own choice.")
    ] = 1,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            help="Least number of rounds; without --rounds and --seconds "
            f"{_DEFAULT_RULE.rounds} rounds and {_DEFAULT_RULE.seconds:g} s, the later of them.",
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Least duration of the rounds together.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights, inputs and order.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw time against tokens: .png, .svg, .pdf."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Time attention alone in ONNX Runtime on this CPU, and fit how it grows with the tokens.

    Each graph is held against PyTorch first; exit code 1 where one differs: it is not timed.
    """
    from elfatt_deploy.bench.attention import AttentionRequest  # numpy: not on the way to --help
    from elfatt_deploy.pipeline import bench_attention

    if attention is None:
        raise UsageError(
            "there is nothing to time", hint="for example --attention elfatt,global, or all"
        )
    request = AttentionRequest(
        attentions=_attentions(attention),
        sizes=_sizes(size),
        dim=dim,
        heads=heads,
        block=block,
        threads=threads,
        rule=_rule(rounds, seconds),
        seed=seed,
        plot=plot,
    )
    with output.progress(quiet) as progress:
        report = bench_attention(request, progress)
    return _show(report, json=json, quiet=quiet)


def _attentions(text: str) -> tuple[str, ...]:
    """Turn `elfatt,global` into names, and `all` into those of every mechanism."""
    from elfatt_deploy.models import registry

    names = tuple(name.strip() for name in text.split(","))
    return tuple(registry.ATTENTIONS) if _ALL in names else names


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Turn `14x14,28x56` into rows and columns.

    Raises:
        UsageError: a part of it is no size.
    """
    sizes = []
    for part in text.split(","):
        rows, _, cols = part.strip().lower().partition("x")
        if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
            raise UsageError(
                f"--size {part.strip()} is not a size",
                hint="write rows x columns, as in 56x56, and a comma between two sizes",
            )
        sizes.append((int(rows), int(cols)))
    return tuple(sizes)


def _rule(rounds: int | None, seconds: float | None) -> StopRule:
    """Return the stop rule: what is given alone counts alone."""
    if rounds is None and seconds is None:
        return _DEFAULT_RULE
    return StopRule(rounds=_LEAST_ROUNDS if rounds is None else rounds, seconds=seconds or 0.0)


def _show(report: AttentionReport, *, json: bool, quiet: bool) -> int:
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
        f"N^{_exponent(growth.exponent)}",
        _span(growth.interval, _exponent),
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
        f"CPU, {_threads(request.threads)}\n"
        f"contract {report.contract}: {report.contract_words}\n"
        f"{report.rounds} rounds, every cell once in each, order shuffled with seed "
        f"{request.seed}; p50 is the median of the rounds' medians, 95 % its bootstrap interval, "
        "MAD and percentiles (trtexec's formula) are of all runs; "
        f"- is absent: p90 needs {stats.samples_for(90)} runs, p99 {stats.samples_for(99)}\n"
        f"blocks of {block.block}x{block.block} tokens; the rest as published for level 1: "
        f"stripes of width {block.stripe}, {block.agents} agents"
    )


def _threads(threads: int) -> str:
    if threads == 0:
        return "as many threads as it chooses"
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _span(interval: Interval | Unavailable, render: Callable[[float], str]) -> str:
    from elfatt_deploy.bench.records import Interval

    if not isinstance(interval, Interval):
        return "-"
    return f"{render(interval.low)}..{render(interval.high)}"


def _ms(value_ms: float | Unavailable) -> str:
    """Return a time to four significant digits."""
    if not isinstance(value_ms, float):
        return "-"
    digits = 3 - math.floor(math.log10(value_ms)) if value_ms > 0 else 3
    return f"{value_ms:.{min(max(digits, 0), 4)}f}"


def _exponent(value: float) -> str:
    return f"{value:.2f}"


def _document(report: AttentionReport) -> dict[str, Any]:
    """Return the JSON document: what the tables show, every sample, and the conditions."""
    document = to_document(report)
    for result, record in zip(report.results, document["results"], strict=True):
        record["cell"]["tokens"] = result.cell.tokens
    document["request"]["heads"] = report.request.head_count
    document["figure"] = str(report.figure) if report.figure else None
    return {"passed": report.passed, **document}
