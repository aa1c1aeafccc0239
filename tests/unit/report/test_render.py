"""The same rows in every format, escaped as each format needs it, and marked in each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess

import pytest

from elfatt_deploy.artifacts import Interval
from elfatt_deploy.report import render, tables
from elfatt_deploy.report.assembling import Report
from elfatt_deploy.report.tables import Column, Entry, Row, Table


@pytest.fixture
def odd():
    """Return a report of a table with texts that every format has to escape."""
    columns = (
        Column(name="model", title="model"),
        Column(name="p50_ms", title="p50 (ms)", kind="number"),
        Column(name="p50_interval_ms", title="95 % (ms)", kind="interval"),
    )
    spread = Interval(low=1.0, high=2.0)
    rows = (
        Row(
            entries=(
                tables.text("a_b|c & 100 % <b>"),
                Entry(text="1.23", value=1.2345),
                tables.interval(spread, lambda value: f"{value:.1f}"),
            )
        ),
        Row(entries=(tables.text("x"), tables.gap("no memory"), tables.gap("no memory"))),
    )
    table = Table(
        name="odd", title="Odd & ends", sources=("simulated",), columns=columns, rows=rows,
        notes=("50 % of it",),
    )  # fmt: skip
    return Report(
        title="R", sources=("simulated",), records=2, tables=(table,), charts=(), verdicts=(),
        notes=(),
    )  # fmt: skip


def test_text_is_aligned(odd):
    lines = render.text(odd).splitlines()
    assert lines[0] == "SIMULATED: R, 2 records"
    start = lines.index("SIMULATED: Odd & ends")
    assert lines[start + 1 : start + 5] == [
        "model              p50 (ms)  95 % (ms)",
        "-----------------  --------  ---------",
        "a_b|c & 100 % <b>      1.23  1.0..2.0",
        "x                         -  -",
    ]


def test_markdown_escapes_what_would_end_a_cell_or_become_html(odd):
    text = render.markdown(odd)
    assert "## SIMULATED: Odd & ends" in text
    assert r"| a\_b\|c & 100 % \<b\> | 1.23 | 1.0..2.0 |" in text
    assert "| --- | ---: | --- |" in text


def test_csv_is_not_rounded_and_has_intervals_in_two_columns(odd):
    rows = list(csv.reader(io.StringIO(render.csv_text(odd.tables[0]))))
    assert rows == [
        ["source", "model", "p50_ms", "p50_interval_ms_low", "p50_interval_ms_high"],
        ["simulated", "a_b|c & 100 % <b>", "1.2345", "1.0", "2.0"],
        ["simulated", "x", "", "", ""],
    ]


def test_latex_escapes_its_own_signs_and_uses_booktabs(odd):
    text = render.latex(odd)
    assert r"\caption{SIMULATED: Odd \& ends}" in text
    assert r"a\_b\textbar{}c \& 100 \% \textless{}b\textgreater{} & 1.23 & 1.0--2.0 \\" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert not re.search(
        r"(?<!\\)[%_#]", text.split("\n", 1)[1].replace(r"{r}", "").replace("{%", "")
    )


def test_json_has_values_and_the_reasons_of_gaps(odd):
    found = json.loads(json.dumps(render.document(odd)))
    (table,) = found["tables"]
    assert (found["watermark"], table["watermark"]) == ("SIMULATED", "SIMULATED")
    assert table["rows"] == [
        {
            "model": "a_b|c & 100 % <b>",
            "p50_ms": 1.2345,
            "p50_interval_ms": {"low": 1.0, "high": 2.0, "level": 0.95},
        },
        {
            "model": "x",
            "p50_ms": {"reason": "no memory"},
            "p50_interval_ms": {"reason": "no memory"},
        },
    ]


def test_every_format_has_every_row_of_a_real_report(damaged, report_of):
    report = report_of(damaged, "VIII")
    (table,) = report.tables
    shown = [entry.text for row in table.rows for entry in row.entries]
    assert all(text in render.text(report) for text in shown)
    markdown = render.markdown(report).replace("\\", "")
    assert sum(line.startswith(("| fp32", "| mixed")) for line in markdown.splitlines()) == 14
    latex = render.latex(report).replace("\\", "")
    assert sum(line.startswith(("fp32 &", "mixed &")) for line in latex.splitlines()) == 14
    rows = list(csv.DictReader(io.StringIO(render.csv_text(table))))
    assert [row["paper_images_per_s"] for row in rows] == [
        str(row["paper_images_per_s"]).removesuffix(".0")
        for row in render.document(report)["tables"][0]["rows"]
    ]


def test_the_watermark_stands_in_every_format_and_over_every_table(damaged, report_of):
    report = report_of(damaged)
    assert report.watermark == "SIMULATED"
    assert {table.watermark for table in report.tables} == {"SIMULATED"}
    assert {chart.watermark for chart in report.charts} == {"SIMULATED"}
    count = len(report.tables)
    assert render.text(report).count("SIMULATED: ") == count + 1
    assert render.markdown(report).count("# SIMULATED: ") == count + 1
    assert render.latex(report).count(r"\caption{SIMULATED: ") == count
    for table in report.tables:
        rows = list(csv.DictReader(io.StringIO(render.csv_text(table))))
        assert {row["source"] for row in rows} == {"simulated"}


def test_measured_numbers_have_no_watermark(laptop, report_of):
    report = report_of(laptop)
    assert report.watermark == ""
    assert "SIMULATED" not in render.text(report)


def test_a_column_that_says_the_same_everywhere_becomes_a_note():
    columns = (
        Column(name="source", title="source"),
        Column(name="batch", title="batch", kind="number", condition=True),
        Column(name="p50_ms", title="p50 (ms)", kind="number"),
    )
    row = Row(entries=(tables.text("measured"), tables.count(1), Entry(text="2.0", value=2.0)))
    table = Table(name="t", title="t", sources=("measured",), columns=columns, rows=(row, row))
    found = tables.compact(table)
    # the source and what came out stay, even where they are the same
    assert [column.name for column in found.columns] == ["source", "p50_ms"]
    assert found.notes == ("in every row: batch 1",)
    alone = dataclasses.replace(table, rows=(row,))
    assert tables.compact(alone) == alone


def test_latex_keeps_the_two_dashes_of_an_option_and_makes_one_of_a_range():
    assert render._latex("next: --builder rtx, 1.0..2.0 of 3") == (
        r"next: -{}-builder rtx, 1.0--2.0 of 3"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(odd, tmp_path):
    (tmp_path / "tables.tex").write_text(render.latex(odd))
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    body = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{tables}}\end{{document}}"
    (tmp_path / "doc.tex").write_text(body)
    command = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "doc.tex")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
