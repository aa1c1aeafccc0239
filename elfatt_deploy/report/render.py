"""Tables as text, Markdown, comma-separated values, LaTeX and JSON: the same rows in each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

from elfatt_deploy.artifacts import Interval, to_document
from elfatt_deploy.report.assembling import Report
from elfatt_deploy.report.tables import Column, Entry, Table

SCHEMA = "report"


def heading(table: Table) -> str:
    """Return a table's title with its watermark before it."""
    return f"{table.watermark}: {table.title}" if table.watermark else table.title


def text(report: Report) -> str:
    """Return all tables as plain text, columns aligned."""
    blocks = [_text(table) for table in report.tables]
    return "\n\n".join(["\n".join(_above(report)), *blocks, *_said(report)]) + "\n"


def _above(report: Report) -> list[str]:
    mark = f"{report.watermark}: " if report.watermark else ""
    return [f"{mark}{report.title}, {report.records} records"]


def _said(report: Report) -> list[str]:
    return ["\n".join(report.notes)] if report.notes else []


def _text(table: Table) -> str:
    cells = [[entry.text for entry in row.entries] for row in table.rows]
    titles = [column.title for column in table.columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    right = [column.kind == "number" for column in table.columns]

    def line(parts: Sequence[str]) -> str:
        padded = (
            part.rjust(width) if to_right else part.ljust(width)
            for part, width, to_right in zip(parts, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([heading(table), line(titles), rule, *map(line, cells), *table.notes])


def markdown(report: Report) -> str:
    """Return all tables as Markdown."""
    lines = [f"# {_markdown(_above(report)[0])}", ""]
    for table in report.tables:
        lines += [f"## {_markdown(heading(table))}", ""]
        lines.append(_markdown_line([column.title for column in table.columns]))
        rules = ["---:" if column.kind == "number" else "---" for column in table.columns]
        lines.append("| " + " | ".join(rules) + " |")
        lines += [_markdown_line([entry.text for entry in row.entries]) for row in table.rows]
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes), ""]
    lines += [f"- {_markdown(note)}" for note in report.notes]
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown_line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown, parts)) + " |"


def _markdown(part: str) -> str:
    """Return a text that Markdown shows as it is."""
    escaped = part.replace("\\", "\\\\").replace("\n", " ")
    for sign in "|<>*_`[]":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def csv_text(table: Table) -> str:
    """Return a table as comma-separated values: not rounded, intervals in two columns.

    The first column says what the numbers are; what is absent is an empty field.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    own = any(column.name == "source" for column in table.columns)
    names = [name for column in table.columns for name in _csv_names(column)]
    writer.writerow(names if own else ["source", *names])
    source = "+".join(table.sources)
    for row in table.rows:
        values = [
            value
            for column, entry in zip(table.columns, row.entries, strict=True)
            for value in _csv_values(column, entry)
        ]
        writer.writerow(values if own else [source, *values])
    return out.getvalue()


def _csv_names(column: Column) -> tuple[str, ...]:
    if column.kind == "interval":
        return f"{column.name}_low", f"{column.name}_high"
    return (column.name,)


def _csv_values(column: Column, entry: Entry) -> tuple[str | float, ...]:
    if column.kind == "interval":
        found = entry.value
        return (found.low, found.high) if isinstance(found, Interval) else ("", "")
    value = entry.value
    if value is None or isinstance(value, Interval):
        return ("",)
    if isinstance(value, float) and value.is_integer() and entry.text.isdecimal():
        return (int(value),)
    return (value,)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "|": r"\textbar{}",
}  # fmt: skip


def latex(report: Report) -> str:
    r"""Return all tables as LaTeX with `booktabs`; notes stand below each in `\footnotesize`."""
    head = r"% needs \usepackage{booktabs}, and \usepackage{graphicx} for \resizebox"
    return "\n\n".join([head, *map(_latex_table, report.tables)]) + "\n"


def _latex_table(table: Table) -> str:
    kinds = "".join("r" if column.kind == "number" else "l" for column in table.columns)
    titles = [column.title for column in table.columns]
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(heading(table))}}}",
        rf"\label{{tab:{table.name}}}",
        r"\centering",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        _latex_line(titles),
        r"\midrule",
        *(_latex_line([entry.text for entry in row.entries]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\footnotesize\raggedright {_latex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines)


def _latex_line(parts: Sequence[str]) -> str:
    return " & ".join(map(_latex, parts)) + r" \\"


def _latex(part: str) -> str:
    escaped = "".join(_LATEX.get(sign, sign) for sign in part.replace("\n", " "))
    escaped = escaped.replace("--", "-{}-")  # of an option: LaTeX makes one dash of two
    return re.sub(r"(?<=\d)\.\.(?=\d)", "--", escaped)


def document(report: Report) -> dict[str, Any]:
    """Return a report as one JSON document, without the points of its charts.

    A row is an object from the names of the columns to values that are not rounded; what is absent
    is `{"reason": "..."}`.
    """
    return {
        "title": report.title,
        "watermark": report.watermark,
        "sources": list(report.sources),
        "records": report.records,
        "verdicts": [to_document(verdict) for verdict in report.verdicts],
        "tables": [
            {
                "name": table.name,
                "title": table.title,
                "watermark": table.watermark,
                "sources": list(table.sources),
                "columns": [to_document(column) for column in table.columns],
                "rows": [
                    {
                        column.name: _json_value(entry)
                        for column, entry in zip(table.columns, row.entries, strict=True)
                    }
                    for row in table.rows
                ],
                "notes": list(table.notes),
            }
            for table in report.tables
        ],
        "charts": [{"name": chart.name, "title": chart.title} for chart in report.charts],
        "notes": list(report.notes),
    }


def _json_value(entry: Entry) -> Any:
    if entry.value is None:
        return {"reason": entry.reason or "none"}
    return to_document(entry.value) if isinstance(entry.value, Interval) else entry.value
