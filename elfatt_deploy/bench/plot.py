"""The figure of the attention micro-benchmark: time against tokens, both axes logarithmic."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.bench.attention import AttentionCell
from elfatt_deploy.bench.attention_report import AttentionReport, AttentionResult
from elfatt_deploy.bench.stats import Growth, Summary
from elfatt_deploy.errors import ExportError, UsageError

SUFFIXES = (".png", ".svg", ".pdf")

#: colours of Okabe and Ito, told apart by colour-blind readers too, without the pale yellow
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_GREY = "#999999"
_DPI = 160
#: cells that the figure names as not measured before it only counts them
_NAMED = 4
#: ratio of the longest and shortest time from which only decades are labelled
_MANY_DECADES = 300.0
#: share of the token axis that a label takes
_LABEL_SHARE = 0.1


def check(path: Path) -> None:
    """Raise where no figure could be written, before anything is measured.

    Raises:
        UsageError: the name does not end in a format that we write.
        MissingDependency: matplotlib is absent or broken.
        ExportError: the file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--set plot={path} does not say which format", hint=f"end it in {', '.join(SUFFIXES)}"
        )
    optional.load("matplotlib.figure")
    if path.is_dir():
        raise ExportError(f"cannot write the figure {path}: it is a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise _unwritable(path, error) from error


def write(report: AttentionReport, path: Path) -> None:
    """Draw a report and write it; an older file stays whole until the new one takes its place.

    Raises:
        MissingDependency: matplotlib is absent or broken.
        ExportError: the file cannot be written.
    """
    figure = draw(report)
    work: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        work = Path(name)
        figure.savefig(work, dpi=_DPI)
        work.chmod(0o644)  # mkstemp makes it for the owner alone
        os.replace(work, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if work is not None:
            work.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> ExportError:
    return ExportError(
        f"cannot write the figure {path}: {error.strerror or error}",
        hint="make room, or choose another file with --plot FILE",
    )


def draw(report: AttentionReport) -> Any:
    """Return the matplotlib figure of a report with at least one measured cell.

    Raises:
        MissingDependency: matplotlib is absent or broken.
    """
    figure = optional.load("matplotlib.figure").Figure(figsize=(9.0, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log", base=10)
    axes.set_yscale("log", base=10)
    for index, entry in enumerate(report.growth):
        results = [r for r in report.results if r.cell.attention == entry.attention]
        label = f"{entry.attention}  {_growth_label(entry.growth)}"
        _draw_line(axes, _measured(results), label, index)
    every = _measured(report.results)
    low_ms, high_ms = min(s.p50_ms for _, s in every) / 2, max(s.p50_ms for _, s in every) * 2
    _draw_references(axes, [n for n, _ in every], low_ms * 1.2, high_ms / 1.2)
    _set_time_axis(axes, min(low_ms, *_bar_ends(every)), max(high_ms, *_bar_ends(every)))
    _set_token_axis(axes, report.request.cells)
    _label(figure, axes, report)
    return figure


def _measured(results: Sequence[AttentionResult]) -> list[tuple[int, Summary]]:
    return [(r.cell.tokens, r.summary) for r in results if isinstance(r.summary, Summary)]


def _growth_label(growth: Growth | Unavailable) -> str:
    if isinstance(growth, Unavailable):
        return "(no growth fitted)"
    return f"grows as $N^{{{growth.exponent:.2f}}}$"


def _draw_line(axes: Any, points: Sequence[tuple[int, Summary]], label: str, index: int) -> None:
    times = [summary.p50_ms for _, summary in points]
    bars = [_error_bar(summary) for _, summary in points]
    axes.errorbar(
        [tokens for tokens, _ in points],
        times,
        yerr=[[below for below, _ in bars], [above for _, above in bars]],
        label=label,
        color=_COLOURS[index % len(_COLOURS)],
        marker=_MARKERS[index % len(_MARKERS)],
        linestyle="-" if index < len(_COLOURS) else "--",
        markersize=5.5,
        linewidth=1.6,
        capsize=3.0,
    )


def _error_bar(summary: Summary) -> tuple[float, float]:
    """Return how far the interval reaches below and above the median, in milliseconds."""
    interval = summary.p50_interval_ms
    if not isinstance(interval, Interval):
        return (0.0, 0.0)
    return (max(0.0, summary.p50_ms - interval.low), max(0.0, interval.high - summary.p50_ms))


def _bar_ends(points: Sequence[tuple[int, Summary]]) -> list[float]:
    """Return the ends of all error bars, a little beyond their caps."""
    bars = [(summary.p50_ms, *_error_bar(summary)) for _, summary in points]
    return [end for t, below, above in bars for end in ((t - below) / 1.1, (t + above) * 1.1)]


def _draw_references(axes: Any, tokens: Sequence[int], floor: float, ceiling: float) -> None:
    """Draw the slopes of N and N^2 from below the leftmost points."""
    low, high = min(tokens), max(tokens)
    if low == high:
        return
    for power, text in ((1, "slope of $N$"), (2, "slope of $N^2$")):
        # ends where it would leave the data upwards, so that it stretches no axis
        end = min(high, low * (ceiling / floor) ** (1 / power))
        axes.plot(
            [low, end],
            [floor, floor * (end / low) ** power],
            color=_GREY,
            linewidth=0.8,
            zorder=0,
        )
        # the label stands where no point can be: right of all, or above those left of the end
        right = end == high
        axes.annotate(
            text,
            (end, floor * (end / low) ** power),
            xytext=(8, -2) if right else (-4, 2),
            textcoords="offset points",
            color="#666666",
            fontsize=8,
            ha="left" if right else "right",
            va="center",
        )


def _set_time_axis(axes: Any, low_ms: float, high_ms: float) -> None:
    """Label 1, 2 and 5 of each decade, or the decades alone where there are many."""
    ticker = optional.load("matplotlib.ticker")
    steps = (1.0, 2.0, 5.0) if high_ms / low_ms < _MANY_DECADES else (1.0,)
    axes.set_ylim(low_ms, high_ms)
    axes.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=steps, numticks=20))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _set_token_axis(axes: Any, cells: Sequence[AttentionCell]) -> None:
    """Label the sizes, from the largest down, where there is room for the text."""
    maps: dict[int, list[str]] = {}
    for cell in sorted(cells, key=lambda cell: cell.tokens):
        size = f"{cell.rows}x{cell.cols}"
        if size not in maps.setdefault(cell.tokens, []):
            maps[cell.tokens].append(size)
    low, high = min(maps), max(maps)
    span = high / low if high > low else 4.0
    axes.set_xlim(low / span**0.06, high * span**0.16)  # room for the references' names
    labels: list[str] = []
    last = float("inf")
    for tokens in reversed(maps):
        fits = last / tokens >= span**_LABEL_SHARE
        labels.append("\n".join((str(tokens), *maps[tokens])) if fits else "")
        last = tokens if fits else last
    axes.set_xticks(list(reversed(maps)), labels=labels)
    axes.set_xticks([], minor=True)


def _label(figure: Any, axes: Any, report: AttentionReport) -> None:
    request, machine = report.request, report.machine
    threads = f"{request.threads or 'all'} thread{'' if request.threads == 1 else 's'}"
    axes.set_xlabel("tokens N (rows x columns)" + _absent(report))
    axes.set_ylabel("median time of one run (ms)")
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"Attention alone: {request.dim} channels, {request.head_count} heads, batch 1, float32\n"
        f"measured on {machine.cpu} ({machine.cores} cores)\n"
        f"{threads}, ONNX Runtime {report.versions.get('onnxruntime', '')}, {report.started[:10]}",
        fontsize=9.5,
        loc="left",
    )
    figure.legend(
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        title="bars: 95 % interval of the median",
        title_fontsize=8,
        alignment="left",
    )


def _absent(report: AttentionReport) -> str:
    """Return a line that names the cells without a time; empty where there is none."""
    names = [r.cell.name for r in report.results if not isinstance(r.summary, Summary)]
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"\nnot measured: {', '.join(names[:_NAMED])}{more}"
