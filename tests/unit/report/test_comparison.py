"""A comparison as a page: verdict, table and chart of the comparison itself."""

from __future__ import annotations

import re

import pytest

from elfatt_deploy.report import html
from elfatt_deploy.report.comparison import comparison_report
from elfatt_deploy.results import compare
from elfatt_deploy.results.store import Records


@pytest.fixture
def comparison(runs):
    """Return a comparison in which one cell is slower, one is not, and one is in A alone."""
    other = {"model": "cswin_t_global"}
    a = Records(
        records=(
            runs.record(1),
            runs.changed(runs.record(2), **other),
            runs.changed(runs.record(3), batch=8),
        )
    )
    b = Records(
        records=(
            runs.record(4, repetitions=runs.samples(4, ms=12.0)),
            runs.changed(runs.record(5), **other),
        )
    )
    return compare.compare(a, b)


def test_a_page_says_what_the_comparison_says(comparison):
    report, card = comparison_report(comparison, "before.jsonl", "after.jsonl")
    assert (card.word, card.colour) == ("FAIL", "red")
    assert card.title == "1 PASS, 1 FAIL of 2 cells"
    (table,) = report.tables
    assert [row.entries[0].text for row in table.rows] == ["FAIL", "PASS"]
    assert [row.entries[5].value for row in table.rows] == [cell.ratio for cell in comparison.cells]
    (chart,) = report.charts
    points = {series.name: series.points for series in chart.panels[0].series}
    assert {name: len(found) for name, found in points.items()} == {"FAIL": 1, "PASS": 1}
    assert points["FAIL"][0].x == comparison.cells[0].ratio
    assert chart.panels[0].line == 1.03
    page = html.page(report, (card,))
    assert '<p class="word">FAIL</p>' in page
    assert re.search(r'<td class="v fail">FAIL', page)
    assert {row.facets.model for row in table.rows} == {"cswin_t_elfatt", "cswin_t_global"}
    assert '<details data-filter="model">' in page
    assert "only in A, not judged: cswin_t_elfatt" in page


def test_a_comparison_of_simulated_numbers_is_marked(runs):
    a, b = (Records(records=(runs.board(seed),)) for seed in (1, 2))
    report, card = comparison_report(compare.compare(a, b, allowed=("validity",)), "a", "b")
    page = html.page(report, (card,))
    assert 'role="note">SIMULATED' in page
    assert page.count('<span class="tag">SIMULATED</span>') == 2
