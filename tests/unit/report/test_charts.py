"""Charts hold the numbers of the records, end their lines at gaps, and become pictures."""

from __future__ import annotations

from elfatt_deploy.report import figures, paper_charts, published
from elfatt_deploy.report.charts import Axis, Chart, Colours, Panel, Point, Series

SIZE = {"agx-orin-64gb": 128, "nano": 1}


def panels(records, settings):
    (chart,) = paper_charts.figure4(settings(records), Colours())
    return chart, {panel.title: panel for panel in chart.panels}


def test_figure_4_has_every_marker_of_the_paper_and_every_record(sweeps, settings):
    chart, found = panels(sweeps, settings)
    assert (chart.name, chart.watermark, len(found)) == ("figure4-simulated", "SIMULATED", 4)
    for title, precision, asked in (
        ("Images a second, FP32", "fp32", "fp32"),
        ("Images a second, mixed precision (FP16)", "mixed", "fp16"),
    ):
        points = {"ours": [], "paper": []}
        for series in found[title].series:
            points[series.origin] += series.points
        markers = published.figure4().panel(precision, "images_per_s")
        assert {(p.facets.model, p.x): p.y for p in points["paper"]} == {
            key: marker.value for key, marker in markers.items()
        }
        rates = {
            (r.cell.model, r.power_mode.name, r.device.board): r.statistics.images_per_s
            for r in sweeps
            if r.cell.precision == asked
        }
        assert {
            (p.facets.model, p.facets.mode, p.facets.board): p.y for p in points["ours"]
        } == rates


def test_no_line_crosses_from_one_board_to_the_other(sweeps, settings):
    _, found = panels(sweeps, settings)
    for panel in found.values():
        for series in panel.series:
            assert len({point.facets.board for point in series.points}) == 1
            assert [p.x for p in series.points] == sorted(p.x for p in series.points)


def test_a_line_ends_at_a_gap(damaged, settings):
    _, found = panels(damaged, settings)
    lines = [
        [point.x for point in series.points]
        for series in found["Images a second, FP32"].series
        if series.name == "cswin_t_global" and series.points[0].facets.board == "agx-orin-64gb"
    ]
    assert lines == [[15.0], [50.0, 60.0]]


def test_doubtful_records_are_ringed(damaged, settings):
    _, found = panels(damaged, settings)
    ringed = {
        (point.facets.model, point.x)
        for panel in found.values()
        for series in panel.series
        for point in series.points
        if point.doubtful
    }
    assert ringed == {("cswin_t_local", 60.0), ("cswin_t_agent", 10.0), ("cswin_t_effatt", 5.0)}


def test_without_a_record_of_the_papers_boards_there_is_no_figure_4(laptop, settings):
    assert paper_charts.figure4(settings(laptop), Colours()) == ()


def test_a_model_has_one_colour_in_a_whole_report(damaged, report_of):
    colours = {}
    for chart in report_of(damaged).charts:
        for panel in chart.panels:
            for series in panel.series:
                if series.origin == "ours":
                    colours.setdefault(series.name, set()).add(series.colour)
    assert len(colours) == 7
    assert all(len(found) == 1 for found in colours.values())


def test_every_record_has_its_row_in_the_chart_of_latencies(laptop, report_of):
    (chart,) = report_of(laptop, figures=("latency",)).charts
    (panel,) = chart.panels
    points = sorted((p for series in panel.series for p in series.points), key=lambda p: p.y)
    assert [point.y for point in points] == list(range(12))
    for point, name in zip(points, panel.y.names, strict=True):
        assert point.facets.model == name.split()[0]
        assert point.low <= point.box[0] <= 1.0 <= point.box[1] <= point.high


def test_every_chart_becomes_a_picture(damaged, laptop, report_of):
    charts = [*report_of(damaged[:40]).charts, *report_of(laptop, figures=("scaling",)).charts]
    assert {chart.topic for chart in charts} == {
        "4", "ratios", "scaling", "pareto", "energy", "latency",
    }  # fmt: skip
    for chart in charts:
        assert figures.picture(chart, "png").startswith(b"\x89PNG")


def test_a_picture_carries_the_watermark_and_is_the_same_each_time():
    series = Series(name="a", colour=0, points=(Point(x=1.0, y=2.0), Point(x=2.0, y=3.0)))
    panel = Panel(title="p", x=Axis(label="x"), y=Axis(label="y"), series=(series,))
    chart = Chart(name="c", title="c", sources=("simulated",), panels=(panel,))
    svg = figures.picture(chart, "svg")
    assert svg.count(b"<!-- SIMULATED") == 2  # the title, and across the picture
    assert svg == figures.picture(chart, "svg")
    real = Chart(name="c", title="c", sources=("measured",), panels=(panel,))
    assert b"SIMULATED" not in figures.picture(real, "svg")


def test_figure_4_shows_the_boards_that_there_are_records_of(sweeps, settings):
    nano = [record for record in sweeps if record.cell.batch == SIZE["nano"]]
    _, found = panels(nano, settings)
    for panel in found.values():
        assert {p.facets.board for series in panel.series for p in series.points} == {"nano"}
