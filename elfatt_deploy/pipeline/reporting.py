"""`report`: results files -> tables, charts and pages; only what is asked for is written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elfatt_deploy.errors import ElfattDeployError, SchemaError, UsageError
from elfatt_deploy.pipeline.files import write_whole
from elfatt_deploy.report import assembling, figures, html, render, selection, traces
from elfatt_deploy.report.assembling import Asked, Given, Report
from elfatt_deploy.report.comparison import comparison_report
from elfatt_deploy.report.traces import Layers, Traced
from elfatt_deploy.results import store
from elfatt_deploy.results.compare import ComparisonReport
from elfatt_deploy.results.schema import RunRecord

#: format -> the ending of its files
ENDINGS = {
    "table": ".txt",
    "markdown": ".md",
    "csv": ".csv",
    "latex": ".tex",
    "json": ".json",
    "html": ".html",
    "png": ".png",
    "svg": ".svg",
}
_NAME = "report"
#: traces that a report draws, and those that it draws where they are asked for
_TRACES, _TRACES_ASKED = 6, 40


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A report, and what was passed over while its files were read, a line each."""

    report: Report
    warnings: tuple[str, ...]


def make(results: tuple[Path, ...], asked: Asked, *, include_simulated: bool) -> Made:
    """Read results files and make the report of all their records.

    Args:
        results: the files.
        asked: what the report shall hold.
        include_simulated: whether numbers of emulated boards may be in it.

    Raises:
        InputFileError: a file cannot be read.
        SchemaError: a file is none of results, or of a newer version.
        UsageError: a record is simulated and that was not asked for; there is no record; or none
            gives what was asked for.
    """
    records: list[RunRecord] = []
    warnings: list[str] = []
    attached: list[_Attached] = []
    for path in results:
        found = store.read(path)
        records += found.records
        warnings += found.warnings
        attached += [
            _Attached(folder=path.parent, record=record, name=name, digest=digest)
            for record in found.records
            for name, digest in record.attachments.items()
        ]
    if not records:
        raise UsageError(
            f"{', '.join(map(str, results))}: no record",
            hint="'elfatt-deploy bench --results FILE' appends one",
        )
    selection.refuse_simulated(records, include_simulated)
    given = Given(
        records=tuple(records),
        traces=_traces(attached, asked, warnings),
        layers=_layers(attached, asked, warnings),
    )
    report = assembling.assemble(given, asked, include_simulated=include_simulated)
    if not report.tables and not report.charts:
        names = ", ".join(
            (*(f"table {name}" for name in asked.tables), *(f"figure {n}" for n in asked.figures))
        )
        raise UsageError(
            f"the records give nothing for {names}",
            hint="leave that out to see all that they give",
        )
    return Made(report=report, warnings=tuple(warnings))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Attached:
    """A file that a record names, relative to the folder of the results."""

    folder: Path
    record: RunRecord
    name: str
    digest: str

    def read(self) -> Any:
        """Return its document.

        Raises:
            SchemaError: it lies elsewhere, or is not the file that the record speaks of.
            OSError: it cannot be read.
            ValueError: it is no JSON.
        """
        path = (self.folder / self.name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise SchemaError("it lies outside the folder of the results")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise SchemaError("its digest is not the one in the record")
        return json.loads(content)

    def left_out(self, error: Exception) -> str:
        return f"{self.record.cell.label}: {self.name} is left out: {error}"


def _traces(attached: Sequence[_Attached], asked: Asked, warnings: list[str]) -> tuple[Traced, ...]:
    """Read the traces that are drawn, those of doubtful records first."""
    if not (asked.everything or "trace" in asked.figures):
        return ()
    found = [one for one in attached if traces.is_trace(one.name)]
    most = _TRACES if asked.everything else _TRACES_ASKED
    found.sort(key=lambda one: not one.record.validity)
    if len(found) > most:
        more = f"; --figure trace draws {_TRACES_ASKED}" if asked.everything else ""
        warnings.append(f"{most} of {len(found)} traces are drawn, of doubtful records first{more}")
    drawn = []
    for one in found[:most]:
        try:
            trace = traces.trace_from_document(one.read(), one.record.key, one.name)
            drawn.append(Traced(record=one.record, trace=trace))
        except (OSError, ValueError, ElfattDeployError) as error:
            warnings.append(one.left_out(error))
    return tuple(drawn)


def _layers(attached: Sequence[_Attached], asked: Asked, warnings: list[str]) -> tuple[Layers, ...]:
    if not (asked.everything or "layers" in asked.tables):
        return ()
    found = []
    for one in attached:
        if traces.is_profile(one.name):
            try:
                layers = traces.layers_from_document(one.read(), one.name)
                found.append(Layers(record=one.record, layers=layers))
            except (OSError, ValueError, ElfattDeployError) as error:
                warnings.append(one.left_out(error))
    return tuple(found)


def format_of(out: Path) -> str | None:
    """Return the format that the ending of a file says; None for a folder.

    Raises:
        UsageError: no format has that ending.
    """
    if out.is_dir() or not out.suffix:
        return None
    for name, ending in ENDINGS.items():
        if out.suffix.lower() == ending:
            return name
    raise UsageError(
        f"-o {out} does not say which format",
        hint=f"end it in {', '.join(ENDINGS.values())}, or name a folder for all of them",
    )


def text_of(report: Report, kind: str) -> str:
    """Return a report as one text.

    Args:
        report: what it shows.
        kind: `table`, `markdown`, `csv`, `latex` or `json`.

    Raises:
        UsageError: the format holds one table and the report has several.
    """
    if kind == "csv":
        if len(report.tables) != 1:
            raise _several(len(report.tables), "tables", "csv")
        return render.csv_text(report.tables[0])
    if kind == "json":
        document = {"schema": f"elfatt-deploy/{render.SCHEMA}", "version": 1}
        return json.dumps({**document, **render.document(report)}, indent=1) + "\n"
    return {"table": render.text, "markdown": render.markdown, "latex": render.latex}[kind](report)


def files_of(report: Report, kinds: tuple[str, ...]) -> dict[str, bytes]:
    """Return a report as files: name -> content.

    Args:
        report: what it shows.
        kinds: keys of `ENDINGS`.

    Raises:
        MissingDependency: matplotlib or Jinja2 is needed, and absent or broken.
    """
    found: dict[str, bytes] = {}
    for kind in kinds:
        if kind == "csv":
            found |= {f"{t.name}.csv": render.csv_text(t).encode() for t in report.tables}
        elif kind in figures.FORMATS:
            found |= {f"{c.name}.{kind}": figures.picture(c, kind) for c in report.charts}
        elif kind == "html":
            found[f"{_NAME}.html"] = html.page(report).encode()
        else:
            found[f"{_NAME}{ENDINGS[kind]}"] = text_of(report, kind).encode()
    return found


def write(report: Report, kind: str | None, out: Path) -> tuple[Path, ...]:
    """Write a report to a file, or to a folder as one file a format, table and chart.

    Nothing is written before everything is made, and a file that was there stays whole until the
    new one takes its place.

    Args:
        report: what it shows.
        kind: a key of `ENDINGS`; None means that of the file's ending, and all in a folder.
        out: a file with one of the endings, or a folder.

    Returns:
        The files.

    Raises:
        UsageError: the ending says no format, or a file shall hold several tables or charts.
        MissingDependency: matplotlib or Jinja2 is needed, and absent or broken.
        ExportError: a file cannot be written.
    """
    if out.is_dir() or not out.suffix:
        made = files_of(report, tuple(ENDINGS) if kind is None else (kind,))
        contents = {out / name: content for name, content in made.items()}
    else:
        kind = kind or format_of(out) or "table"
        single = tuple(files_of(report, (kind,)).values())
        if len(single) != 1:
            raise _several(len(single), "tables" if kind == "csv" else "figures", kind)
        contents = {out: single[0]}
    for path, content in contents.items():
        write_whole(path, content)
    return tuple(contents)


def _several(count: int, what: str, kind: str) -> UsageError:
    option = "--table" if what == "tables" else "--figure"
    return UsageError(
        f"one file of format {kind} holds one of the {what}, and there are {count}",
        hint=f"name a folder with -o, or choose one with {option}",
    )


def comparison_page(comparison: ComparisonReport, a: str, b: str) -> bytes:
    """Return a comparison of two results files as one HTML file.

    Args:
        comparison: the comparison.
        a: name of what was compared with.
        b: name of what was judged.

    Raises:
        MissingDependency: Jinja2 is absent or broken.
    """
    report, card = comparison_report(comparison, a, b)
    return html.page(report, (card,)).encode()
