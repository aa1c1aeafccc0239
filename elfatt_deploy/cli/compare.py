"""`compare`: whether one results file is slower than another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import options, output, results
from elfatt_deploy.errors import UsageError
from elfatt_deploy.results import conditions

if TYPE_CHECKING:
    from elfatt_deploy.results.compare import CellComparison, ComparisonReport

_DEFAULT_SLOWDOWN = f"{100 * conditions.DEFAULT_LIMIT:g}%"


@output.guarded
def command(
    a: Annotated[Path, typer.Argument(metavar="A", help="Results to compare with.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Results to judge.")],
    slowdown: Annotated[
        str, typer.Option("--slowdown", metavar="N%", help="The slowdown that passes.")
    ] = _DEFAULT_SLOWDOWN,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="FIELD",
            help=f"A condition that may differ: {', '.join(conditions.ALLOWED)}. Repeatable.",
            autocompletion=lambda incomplete: [
                name for name in conditions.ALLOWED if name.startswith(incomplete)
            ],
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 for INCONCLUSIVE, too.")
    ] = False,
    markdown: Annotated[
        str | None,
        typer.Option("--markdown", metavar="FILE", help="Write a summary; - is stdout."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write an interactive page of one file."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the resampling.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Judge whether results B are slower than results A.

    Each cell PASSes, FAILs or is INCONCLUSIVE, by the interval of the ratio of its times in the
    last record of each file. Unlike conditions are refused, and named. Exit code 1 where a cell
    fails.
    """
    from elfatt_deploy.results import store, tabular  # numpy: not on the way to --help
    from elfatt_deploy.results.compare import compare

    limit = _limit(slowdown)
    if json and markdown == "-":
        raise UsageError("--json and --markdown - both write to stdout", hint="name a FILE")
    report = compare(store.read(a), store.read(b), limit=limit, allowed=allow or (), seed=seed)
    if markdown is not None:
        results.write(tabular.markdown(report, str(a), str(b)), markdown)
    if html is not None:
        from elfatt_deploy.pipeline import files, reporting

        files.write_whole(html, reporting.comparison_page(report, str(a), str(b)))
    if json:
        output.show_json("compare", _document(report))
    elif markdown != "-":
        _show_table(report, a, b)
    if not quiet:
        _say_notes(report)
    failed = ("FAIL", "INCONCLUSIVE") if strict else ("FAIL",)
    return 1 if report.verdict in failed else 0


def _limit(text: str) -> float:
    """Turn `3%` into 0.03.

    Raises:
        UsageError: it is no percentage.
    """
    number, percent, rest = text.partition("%")
    try:
        value = float(number) / 100
    except ValueError:
        value = -1.0
    if not percent or rest.strip() or not 0 <= value < 10:
        raise UsageError(f"--slowdown {text} is not a percentage", hint="write it as in 3%")
    return value


def _document(report: ComparisonReport) -> dict[str, Any]:
    return {"verdict": report.verdict, **to_document(report)}


def _show_table(report: ComparisonReport, a: Path, b: Path) -> None:
    from elfatt_deploy.results import tabular

    output.show_table(
        f"{report.verdict}: B against A",
        ("verdict", "source", "cell", "A (ms)", "B (ms)", "B / A", "95 %", "reason"),
        [_row(cell) for cell in report.cells],
        f"A: {a}\nB: {b}\n{tabular.rule(report)}",
    )
    for name, keys in (("A", report.only_a), ("B", report.only_b)):
        for key in keys:
            output.show(f"only in {name}, not judged: {key}")


def _row(cell: CellComparison) -> tuple[str, ...]:
    from elfatt_deploy.results import tabular

    return (
        cell.verdict,
        cell.source,
        cell.label,
        tabular.time_ms(cell.a_ms),
        tabular.time_ms(cell.b_ms),
        tabular.ratio(cell.ratio),
        tabular.span(cell.interval, tabular.ratio),
        cell.reason,
    )


def _say_notes(report: ComparisonReport) -> None:
    """Say what differs without forbidding the comparison: once, however many cells it is in."""
    for warning in report.warnings:
        output.say(f"warning: {warning}")
    for note in dict.fromkeys(note for cell in report.cells for note in cell.noted):
        output.say(f"note: {note}")
