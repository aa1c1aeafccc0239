"""Numbers leave in columns that name their unit; what is absent is empty; sources are shown."""

from __future__ import annotations

import csv
import io

import pytest

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.results import tabular
from elfatt_deploy.results.compare import compare
from elfatt_deploy.results.store import Records


@pytest.fixture
def rows(runs):
    records = [runs.record(), runs.board(), runs.predicted(), runs.refused('no, "never"\nmind')]
    return list(csv.DictReader(io.StringIO(tabular.csv_text(records), newline="")))


def test_every_record_is_a_row_with_its_source(rows):
    assert [row["source"] for row in rows] == ["measured", "simulated", "predicted", "measured"]
    assert [row["number"] for row in rows] == ["1", "2", "3", "4"]


def test_numbers_are_whole_and_absent_ones_empty(rows, runs):
    host, board, predicted, refused = rows
    found = runs.record().statistics
    assert float(host["p50_ms"]) == found.p50_ms
    assert float(host["p50_low_ms"]) == found.p50_interval_ms.low
    assert float(host["images_per_s_high"]) == found.images_per_s_interval.high
    assert (host["samples"], host["repetitions"]) == ("200", "10")
    assert (host["energy_mj_per_image"], host["p99_ms"]) == ("", "")
    assert (board["energy_mj_per_image"], board["total_mean_mw"]) == ("91.0", "9100.0")
    assert (board["validity"], board["warnings"]) == ("off-clock", "off-clock")
    assert (predicted["p50_ms"], predicted["samples"], predicted["p90_ms"]) == ("10.0", "0", "")
    assert (refused["p50_ms"], refused["not_timed_because"]) == ("", 'no, "never"\nmind')
    assert not any(
        "Unavailable" in value or value == "None" for row in rows for value in row.values()
    )


def test_units_stand_in_the_names_of_the_columns(rows):
    units = ("_ms", "_mw", "_mj_per_image", "_bytes", "_per_s", "_low", "_high")
    numbers = {
        name
        for row in rows
        for name, value in row.items()
        if value.replace(".", "", 1).isdecimal() and "." in value
    }
    assert len(numbers) > 10
    assert all(name.endswith(units) for name in numbers)


def test_without_records_there_is_a_header():
    assert tabular.csv_text([]) == "number,source\n"


def test_markdown_has_a_row_for_each_cell_and_what_is_missing(runs):
    one = runs.changed(runs.record(1), model="a|b")
    two = runs.changed(runs.record(1), batch=2)
    slow = runs.changed(runs.record(repetitions=runs.samples(2, ms=12.0)), model="a|b")
    report = compare(Records(records=(one, two)), Records(records=(slow,)))
    text = tabular.markdown(report, "old.jsonl", "new.jsonl")
    lines = text.splitlines()
    assert lines[0] == "### FAIL: new.jsonl against old.jsonl"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 3
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[2].startswith(
        "| **FAIL** | measured | a\\|b 224 b1 fp32 jp6 ort cpu t1 single-stream/1 local | "
    )
    assert f"- only in A: `{two.key}`" in lines
    assert "at or below 1.03" in text
    assert text.endswith("\n")


def test_the_rule_names_what_was_allowed(runs):
    one = Records(records=(runs.small(),))
    assert tabular.rule(compare(one, one, allowed=("cpu", "governor"))).endswith(
        "Allowed to differ: cpu, governor."
    )


def test_an_absent_number_is_a_dash():
    absent = Unavailable(reason="x")
    assert tabular.time_ms(absent) == tabular.rate(absent) == tabular.ratio(absent) == "-"
    assert (tabular.time_ms(10.0), tabular.rate(98.76), tabular.ratio(1.0321)) == (
        "10.00", "98.76", "1.032",
    )  # fmt: skip
    assert tabular.span(absent, tabular.ratio) == "-"
    assert tabular.span(Interval(low=0.5, high=1.0), tabular.ratio) == "0.500..1.000"


def test_lines_show_every_value_and_every_reason():
    document = {
        "a": 1,
        "b": {"reason": "lost"},
        "c": {"d": [1, 2]},
        "e": [{"f": ""}, {"f": 0}],
        "g": [],
    }
    assert tabular.lines(document) == [
        "  a: 1", "  b: - (lost)", "  c:", "    d: 1, 2", "  e:", "    f: none", "  e:", "    f: 0",
        "  g: none",
    ]  # fmt: skip
