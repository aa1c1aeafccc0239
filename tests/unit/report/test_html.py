"""The page: one file without network, texts harmless, marked, small."""

from __future__ import annotations

import dataclasses
import html as escaping
import json
import re

import pytest

from elfatt_deploy.report import html

NASTY = "<script>alert('x')</script>&\"</script><!--"


def data_of(page):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


def texts_of(page, name):
    """Return the texts of a table of a page, a list a row."""
    body = re.search(rf'<table data-name="{name}">.*?<tbody>(.*?)</tbody>', page, re.DOTALL)[1]
    return [
        [escaping.unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)", row)]
        for row in body.split("<tr ")[1:]
    ]


@pytest.fixture(scope="module")
def page(damaged, report_of):
    return html.page(report_of(damaged))


def test_a_page_loads_nothing(page):
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!#)\S""", page.split("<style>")[0])
    assert (
        re.findall(r'<(?:a|link|img|script|iframe)\b[^>]*\b(?:src|href)="([^"#][^"]*)', page) == []
    )
    assert "default-src 'none'" in page
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", page)
    # the name space of SVG is a name, and is not fetched
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) == {"http://www.w3.org/2000/svg"}


def test_the_rows_of_a_page_are_those_of_the_report(page, damaged, report_of):
    for table in report_of(damaged).tables:
        assert texts_of(page, table.name) == [
            [entry.text for entry in row.entries] for row in table.rows
        ]


def test_the_points_of_a_page_are_those_of_the_charts(page, damaged, report_of):
    charts = report_of(damaged).charts
    found = data_of(page)["charts"]
    assert [chart["name"] for chart in found] == [chart.name for chart in charts]
    for chart, ours in zip(found, charts, strict=True):
        for panel, our_panel in zip(chart["panels"], ours.panels, strict=True):
            for series, our_series in zip(panel["series"], our_panel.series, strict=True):
                assert [point[1] for point in series["points"]] == pytest.approx(
                    [point.y for point in our_series.points], rel=1e-4
                )


def test_a_name_with_markup_is_shown_and_does_nothing(runs, report_of):
    records = [runs.changed(runs.record(1), model=NASTY), runs.record(2)]
    records[0] = dataclasses.replace(
        records[0], device=dataclasses.replace(runs.DEVICE, name=NASTY)
    )
    records[1] = dataclasses.replace(records[1], device=records[0].device)
    page = html.page(report_of(records))
    assert NASTY not in page
    assert "<script>alert" not in page
    assert len(re.findall(r"<script\b", page)) == 2
    assert page.count("</script>") == 2
    assert any(NASTY in row for row in texts_of(page, "speed"))
    assert any(NASTY in facets for facets in data_of(page)["facets"])


def test_a_page_of_simulated_numbers_is_marked_all_over(page):
    assert "<title>SIMULATED: " in page
    assert 'class="banner" role="note">SIMULATED' in page
    heads = re.findall(r"<h3>(.*?)</h3>", page)
    figures = [head for head in heads if "Table" in head or "Figure" in head or "Every" in head]
    assert len(figures) >= 4
    assert all('<span class="tag">SIMULATED</span>' in head for head in figures)
    assert {chart["mark"] for chart in data_of(page)["charts"]} == {"SIMULATED"}
    assert page.count('<p class="word">SIMULATED: ') == 6


def test_a_page_of_measured_numbers_is_not_marked(laptop, report_of):
    page = html.page(report_of(laptop))
    assert "SIMULATED" not in page
    assert 'role="note"' not in page


def test_predictions_stand_apart_and_are_marked(runs, laptop, report_of):
    predicted = runs.predicted()
    report = report_of([*laptop, predicted], "VIII")
    assert {table.sources for table in report.tables} == {("measured",), ("predicted",)}
    page = html.page(report)
    assert 'class="banner" role="note">PREDICTED' in page
    assert page.count('<span class="tag">PREDICTED</span>') == 1


def test_filters_are_what_the_records_have_several_of(page):
    found = re.findall(r'<details data-filter="(\w+)">', page)
    assert found == ["board", "model", "precision", "mode"]


@pytest.mark.slow
def test_a_page_of_2000_records_is_well_under_3_mb(large):
    assert "<p>2000 records (simulated)" in large
    assert len(texts_of(large, "speed")) == 2000
    assert len(large.encode()) < 2.7e6
