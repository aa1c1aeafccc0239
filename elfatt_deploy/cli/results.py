"""`results`: what a results file holds, as a table, as one record, as comma-separated values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import ExportError, UnknownNameError

if TYPE_CHECKING:
    from elfatt_deploy.results.schema import RunRecord
    from elfatt_deploy.results.store import Records

app = typer.Typer(
    help="List, show and export the run records of a results file.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="Results that 'bench --results FILE' wrote.")
]
_LAST = "last"


@app.command("ls")
@output.guarded
def list_records(file: File, json: options.Json = False, quiet: options.Quiet = False) -> int:
    """List the records of a file, the newest last.

    Each says whether it was measured, simulated or predicted.
    """
    records = _read(file, quiet)
    if json:
        documents = []
        for number, record in enumerate(records.records, start=1):
            document = to_document(record)
            del document["repetitions"]  # 'show' has the samples
            documents.append({"number": number, **document})
        output.show_json("results", {"records": documents, "warnings": list(records.warnings)})
    elif records.records:
        _show_table(file, records)
    else:
        output.show(f"{file} holds no record")
    return 0


@app.command("show")
@output.guarded
def show_record(
    file: File,
    which: Annotated[
        str, typer.Argument(metavar="[NUMBER|KEY]", help="A number or key of 'ls', or last.")
    ] = _LAST,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Show everything about one record.

    With --json every sample as well.
    """
    number, record = _chosen(_read(file, quiet), which)
    if json:
        output.show_json("result", {"number": number, "record": to_document(record)})
    else:
        _show_record(number, record)
    return 0


@app.command("export")
@output.guarded
def export_records(
    file: File,
    out: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout.")
    ] = "-",
    quiet: options.Quiet = False,
) -> int:
    """Export a file as comma-separated values.

    A line is a record, the units stand in the names of the columns, and what was not measured is an
    empty field.
    """
    from elfatt_deploy.results import tabular  # numpy: not on the way to --help

    text = tabular.csv_text(_read(file, quiet).records)
    write(text, out)
    return 0


def write(text: str, out: str) -> None:
    """Write a text to a file, or to stdout where that is named `-`.

    Raises:
        ExportError: the file cannot be written.
    """
    if out == "-":
        output.show(text.rstrip("\n"))
        return
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(
            f"cannot write {out}: {error.strerror}", hint="make room or name another file"
        ) from error


def _read(file: Path, quiet: bool) -> Records:
    from elfatt_deploy.results import store

    records = store.read(file)
    if not quiet:
        for warning in records.warnings:
            output.say(f"warning: {warning}")
    return records


def _chosen(records: Records, which: str) -> tuple[int, RunRecord]:
    """Return a record and its number.

    Raises:
        UnknownNameError: there is none of that number or key.
    """
    count = len(records.records)
    if which.isdecimal() and 1 <= int(which) <= count:
        return int(which), records.records[int(which) - 1]
    for number in range(count, 0, -1):
        record = records.records[number - 1]
        if which in (_LAST, record.key):
            return number, record
    known = [record.key for record in records.records]
    raise UnknownNameError(
        "record", which, known, hint="'elfatt-deploy results ls FILE' numbers the records"
    )


def _show_table(file: Path, records: Records) -> None:
    simulated = any(record.source == "simulated" for record in records.records)
    predicted = any(record.source == "predicted" for record in records.records)
    output.show_table(
        str(file),
        (
            "no.", "source", "cell", "p50 (ms)", "95 % (ms)", "images/s", "doubts",
        ),
        [_row(number, record) for number, record in enumerate(records.records, start=1)],
        "p50 is the median of the repetitions' medians, of one batch; 95 % is its bootstrap "
        "interval; - is absent. In a cell b1 is batch 1, t1 one thread, and the precision what is "
        "proved."
        + ("\nsimulated: from an emulated board, no measurement." if simulated else "")
        + ("\npredicted: from a model of the board, no measurement." if predicted else ""),
    )  # fmt: skip


def _row(number: int, record: RunRecord) -> tuple[str, ...]:
    from elfatt_deploy.results import tabular
    from elfatt_deploy.results.schema import Statistics

    found = record.statistics
    times = ("-", "-", "-")
    if isinstance(found, Statistics):
        times = (
            tabular.time_ms(found.p50_ms),
            tabular.span(found.p50_interval_ms, tabular.time_ms),
            tabular.rate(found.images_per_s),
        )
    return (
        str(number),
        record.source,
        dataclasses.replace(record.cell, precision=record.proof).label,
        *times,
        _doubts(record),
    )


def _doubts(record: RunRecord) -> str:
    from elfatt_deploy.results.schema import Statistics

    absent = () if isinstance(record.statistics, Statistics) else ("not timed",)
    quick = ("quick",) if record.quick else ()
    return " ".join((*absent, *quick, *record.validity)) or "none"


def _show_record(number: int, record: RunRecord) -> None:
    from elfatt_deploy.results import tabular

    document = to_document(record)
    document["repetitions"] = [
        f"{len(repetition.samples_ms)} samples" for repetition in record.repetitions
    ]
    lines = [f"record {number}: {record.source.upper()}"]
    lines += tabular.lines(document)
    output.show("\n".join(lines))
