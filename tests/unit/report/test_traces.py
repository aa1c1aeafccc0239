"""Traces and layer profiles beside the results: drawn as read, refused where they are not ours."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest

from elfatt_deploy.errors import SchemaError
from elfatt_deploy.report import assembling, traces
from elfatt_deploy.report.assembling import Asked, Given
from elfatt_deploy.report.traces import Layer, Layers, Traced


@pytest.fixture
def files(tmp_path, runs, made):
    """Return a record, its trace and its layers, by way of the files."""
    record = made.attach_trace(runs.board(), tmp_path)
    read = {name: json.loads((tmp_path / name).read_text()) for name in record.attachments}
    return (
        record,
        traces.trace_from_document(read["r.traces/one.json"], record.key, "one.json"),
        traces.layers_from_document(read["one.profile.json"], "one.profile.json"),
    )


def test_a_trace_is_drawn_against_the_time_since_its_start(files):
    record, trace, _ = files
    (chart,) = traces.trace_charts([Traced(record=record, trace=trace)])
    assert chart.watermark == "SIMULATED"
    assert [panel.title for panel in chart.panels] == ["power", "temperature", "clocks"]
    (power,) = chart.panels[0].series  # the other rail has no reading
    assert power.name == "VDD_GPU_SOC"
    assert len(power.points) == 120
    assert [(point.x, point.y) for point in power.points[:2]] == [(0.0, 5.0), (0.1, 5.04)]
    (clock,) = chart.panels[2].series
    assert {point.y for point in clock.points} == {1300.0}


def test_two_networks_stand_side_by_side_by_part(files, runs):
    record, _, layers = files
    assert layers[0] == Layer(name="/net/stage1.0/attns.0/MatMul", mean_ms=0.1)
    other = (Layer(name="/net/stage1.0/x", mean_ms=0.3), Layer(name="reformat", mean_ms=0.05))
    second = runs.changed(record, model="cswin_t_global")
    given = Given(
        records=(record, second),
        layers=(Layers(record=record, layers=layers), Layers(record=second, layers=other)),
    )
    report = assembling.assemble(given, Asked(tables=("layers",)), include_simulated=True)
    (table,) = report.tables
    assert [[entry.text for entry in row.entries] for row in table.rows] == [
        ["level 1", "0.1000", "0.3000"],
        ["level 2", "0.2000", "-"],
        ["level 3", "0.3000", "-"],
        ["level 4", "0.4000", "-"],
        ["elsewhere", "-", "0.0500"],
    ]
    assert table.watermark == "SIMULATED"


@pytest.mark.parametrize(
    "document",
    [{}, {"schema": "elfatt-deploy/trace", "version": 2}, {"schema": "elfatt-deploy/run"}],
    ids=str,
)
def test_another_document_is_no_trace(document):
    with pytest.raises(SchemaError, match="is no trace of version 1"):
        traces.trace_from_document(document, "key", "x.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"key": "another"}, "is the trace of another record"), ({"samples": None}, "samples")],
    ids=str,
)
def test_a_trace_of_another_record_or_shape_is_refused(change, said):
    document = {
        "schema": traces.TRACE_SCHEMA, "version": 1, "key": "key", "source": "sysfs",
        "period_s": 0.1, "samples": [],
    }  # fmt: skip
    assert traces.trace_from_document(document, "key", "x").samples == ()
    with pytest.raises(SchemaError, match=said):
        traces.trace_from_document({**document, **change}, "key", "x")


def test_a_line_ends_where_a_reading_failed(files):
    record, trace, _ = files
    power = {"VDD_GPU_SOC": None}
    samples = [
        dataclasses.replace(sample, power_mw=power) if number == 50 else sample
        for number, sample in enumerate(trace.samples)
    ]
    broken = dataclasses.replace(trace, samples=tuple(samples))
    (chart,) = traces.trace_charts([Traced(record=record, trace=broken)])
    assert [len(series.points) for series in chart.panels[0].series] == [50, 69]


def test_attachments_are_told_apart_by_their_names():
    assert traces.is_trace("sweep.jsonl.traces/0123.json")
    assert not traces.is_trace("times.json")
    assert traces.is_profile("plans/0123.profile.json")
    assert not traces.is_profile("sweep.jsonl.traces/0123.json")


@pytest.mark.parametrize("document", [{}, [{"name": "a"}], [3]], ids=str)
def test_another_document_is_no_layer_profile(document):
    with pytest.raises(SchemaError, match="is no layer profile"):
        traces.layers_from_document(document, "x.json")


def test_a_layer_belongs_where_its_nodes_do_whatever_its_name_says():
    document = [
        {"count": 1},
        {"name": "__myl_Add_myl0_7", "averageMs": 1.0, "nodes": ["/net/stage3.1/Add"]},
        {"name": "/net/stage3.2/MatMul_myl0_8", "averageMs": 2.0},
        {"name": "__myl_Mul_myl0_9", "averageMs": 4.0},
    ]
    one = SimpleNamespace(layers=traces.layers_from_document(document, "the file"))
    assert traces._by_part(one) == {"elsewhere": 4.0, "level 3": 3.0}
