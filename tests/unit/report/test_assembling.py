"""A whole report: what is in it, apart by kind of number, and what stands over all of it."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.report import assembling
from elfatt_deploy.report.assembling import Asked, Given


@pytest.fixture(scope="module")
def mixed(damaged, laptop, runs, made, report_of):
    """A report of measured, simulated and predicted records."""
    predicted = [
        runs.changed(runs.predicted(), model=f"cswin_t_{name}") for name in ("global", "elfatt")
    ]
    return report_of([*predicted, *damaged, *laptop])


def test_measured_simulated_and_predicted_numbers_never_share_a_table_or_chart(mixed):
    assert mixed.sources == ("measured", "simulated", "predicted")
    assert mixed.watermark == "SIMULATED + PREDICTED"
    for one in (*mixed.tables, *mixed.charts):
        assert len(one.sources) == 1
    by_name = {table.name: table for table in mixed.tables}
    assert len(by_name) == len(mixed.tables)
    counts = {name: len(table.rows) for name, table in by_name.items() if table.topic == "speed"}
    assert counts == {"speed": 12, "speed-simulated": 83, "speed-predicted": 2}
    assert by_name["speed"].watermark == ""
    assert by_name["speed-predicted"].watermark == "PREDICTED"
    assert len({chart.name for chart in mixed.charts}) == len(mixed.charts)


def test_an_interval_of_a_prediction_is_not_called_one_of_95_percent(mixed):
    by_name = {table.name: table for table in mixed.tables}
    titles = {
        name: [column.title for column in by_name[name].columns if column.kind == "interval"]
        for name in ("speed", "speed-predicted")
    }
    assert titles == {"speed": ["95 %", "95 % (ms)"], "speed-predicted": ["interval (ms)"]}
    text = "interval of a prediction: 80 % of the points of the study"
    assert text in by_name["speed-predicted"].notes


def test_a_report_says_what_is_doubtful_about_its_records(mixed, laptop, runs, report_of):
    assert "1 of 97 records: throttled: the board slowed itself down" in mixed.notes
    assert "1 of 97 records: quick: too short to be quoted" in mixed.notes
    sound = report_of(laptop)
    assert sound.notes == ("random weights: times do not depend on them, classes mean nothing",)
    weights = dataclasses.replace(runs.record().weights, source="model.pth")
    given = [dataclasses.replace(record, weights=weights) for record in laptop]
    assert report_of(given).notes == ()


def test_only_what_was_asked_for_is_made(damaged, report_of):
    report = report_of(damaged, "9", "energy")
    assert [table.topic for table in report.tables] == ["IX", "energy"]
    assert report.charts == report.verdicts == ()
    report = report_of(damaged, figures=("pareto",))
    assert (report.tables, [chart.topic for chart in report.charts]) == ((), ["pareto"])


def test_names_that_are_none_are_refused():
    with pytest.raises(UnknownNameError, match="unknown table 'VII'"):
        Asked(tables=("VII",))
    with pytest.raises(UnknownNameError, match="unknown figure '3'"):
        Asked(figures=("3",))


def test_simulated_records_are_refused_unless_they_are_asked_for(sweeps):
    with pytest.raises(UsageError, match="are simulated"):
        assembling.assemble(Given(records=sweeps), Asked())
