"""`report`: tables, figures and pages of results, beside what the paper published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from elfatt_deploy.report.assembling import Report
    from elfatt_deploy.report.tables import Table

_FORMATS = ("table", "markdown", "csv", "latex", "json", "html", "png", "svg")
_TABLES = ("VIII", "IX", "claims", "ratios", "scaling", "energy", "layers", "speed", "proof")
_FIGURES = ("4", "ratios", "scaling", "latency", "energy", "pareto", "trace")
#: rows of a table that a terminal shows where no table was asked for
_ROWS = 40


@output.guarded
def command(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULTS...", help="Results that bench, sweep or predict wrote."),
    ],
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="NAME",
            help=f"{', '.join(_TABLES)} (or 8, 9); all that the records give by default. "
            "Repeatable.",
            autocompletion=lambda incomplete: [
                name for name in _TABLES if name.startswith(incomplete)
            ],
        ),
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            metavar="NAME",
            help=f"{', '.join(_FIGURES)}; all by default. Repeatable.",
            autocompletion=lambda incomplete: [
                name for name in _FIGURES if name.startswith(incomplete)
            ],
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"{', '.join(_FORMATS)}; table by default, or what the ending of -o says.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR",
            help="Where to: a file, such as report.html; a folder, for every format; - is stdout.",
        ),
    ] = None,
    include_simulated: Annotated[
        bool,
        typer.Option("--include-simulated", help="Show numbers of emulated boards, marked so."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show what records say: Tables VIII and IX and Figure 4 beside the paper's, ratios, energy.

    What is simulated is refused without --include-simulated, and then marked wherever it is seen.
    What is predicted stands apart. Nothing is averaged over records.
    """
    from elfatt_deploy.pipeline import reporting  # numpy: not on the way to --help
    from elfatt_deploy.report.assembling import Asked

    if kind is not None and kind not in _FORMATS:
        raise UnknownNameError("format", kind, _FORMATS)
    asked = Asked(tables=tuple(table or ()), figures=tuple(figure or ()))
    target = None if out in (None, "-") else Path(str(out))
    if target is not None and kind is None:
        reporting.format_of(target)
    kind = _checked_format(kind, target, json=json, drawn=bool(figure) and not table)
    if kind == "csv" and target is None and asked.everything:
        asked = Asked(tables=("speed",))  # a text of that format holds one table
    made = reporting.make(tuple(results), asked, include_simulated=include_simulated)
    if target is not None:
        for path in reporting.write(made.report, kind, target):
            if not json:
                output.show(str(path))
    if json:
        output.show(reporting.text_of(made.report, "json").rstrip("\n"))
    elif target is None and kind in (None, "table"):
        _show(made.report, whole=not asked.everything)
    elif target is None and kind is not None:
        output.show(reporting.text_of(made.report, kind).rstrip("\n"))
    if not quiet:
        for line in made.warnings:
            output.say(f"warning: {line}")
        if target is not None or json:
            for line in made.report.notes:
                output.say(f"note: {line}")
    return 0


def _checked_format(
    kind: str | None, target: Path | None, *, json: bool, drawn: bool
) -> str | None:
    """Return the format; refuse one that a terminal cannot show.

    Raises:
        UsageError: a picture or page has no place to go to, or two formats are asked of stdout.
    """
    if json and target is None and kind not in (None, "json"):
        raise UsageError(f"--json and --format {kind} both write to stdout", hint="leave out one")
    pictured = kind in ("html", "png", "svg")
    if target is None and not json and (pictured or (drawn and kind in (None, "table"))):
        name = {"html": "report.html", "png": "figures", "svg": "figures"}.get(
            kind or "", "figure.png"
        )
        what = f"--format {kind}" if pictured else "--figure"
        raise UsageError(
            f"{what} needs a place to go to",
            hint=f"add -o {name}" + (f"{'/' if name == 'figures' else ''}"),
        )
    return kind


def _show(report: Report, *, whole: bool) -> None:
    """Show all tables on the terminal."""
    mark = f"{report.watermark}: " if report.watermark else ""
    output.show(f"{mark}{report.title}, {report.records} records\n")
    for table in report.tables:
        if whole or not table.detail:
            _show_table(table, whole=whole)
            output.show("")
    left_out = [] if whole else [table.topic for table in report.tables if table.detail]
    if left_out:
        output.show("more: " + ", ".join(f"--table {topic}" for topic in left_out))
    for note in report.notes:
        output.show(f"note: {note}")


def _show_table(table: Table, *, whole: bool) -> None:
    from elfatt_deploy.report import render

    rows = table.rows if whole else table.rows[:_ROWS]
    notes = list(table.notes)
    if len(rows) < len(table.rows):
        notes.insert(
            0, f"{len(rows)} of {len(table.rows)} rows; --table {table.topic} shows all of them"
        )
    output.show_table(
        render.heading(table),
        [column.title for column in table.columns],
        [tuple(entry.text for entry in row.entries) for row in rows],
        "\n".join(notes),
    )
