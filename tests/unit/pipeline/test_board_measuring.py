"""The temperature gate of a cell, with invented readings and clock; nodes beside layer times."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench.protocol import PLANS
from elfatt_deploy.pipeline import board_measuring


@pytest.fixture
def cooled(monkeypatch):
    """Return a function that lets a board of these temperatures, one a look, be waited for."""

    def call(plan, *temperatures):
        left, now, said = list(temperatures), [0.0], []

        def snapshot(transport):
            degrees = left.pop(0) if len(left) > 1 else left[0]
            zones = [
                SimpleNamespace(name="cpu-thermal", value_c=Unavailable(reason="off")),
                SimpleNamespace(name="gpu-thermal", value_c=degrees),
                SimpleNamespace(name="PMIC-Die", value_c=100.0),
            ]
            return SimpleNamespace(zones=zones)

        def sleep(seconds):
            now[0] += seconds

        monkeypatch.setattr(board_measuring.probes, "snapshot", snapshot)
        clock = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
        monkeypatch.setattr(board_measuring, "time", clock)
        run = SimpleNamespace(transport=None)
        _, words = board_measuring._cooled(run, PLANS[plan], said.append)
        return words, now[0], said

    return call


def test_a_cool_board_begins_at_once(cooled):
    assert cooled("default", 40.0) == ("", 0.0, [])


def test_a_hot_board_is_waited_for_until_it_is_cool(cooled):
    words, waited, said = cooled("default", 61.0, 58.0, 55.0)
    assert (words, waited) == ("", 10.0)
    assert said == ["cooling down: 61.0 degC", "cooling down: 58.0 degC"]


def test_a_board_that_stays_hot_is_measured_and_the_record_says_so(cooled):
    words, waited, _ = cooled("default", 70.0)
    assert (words, waited) == ("began at 70.0 degC after 60 s of cooling", 60.0)
    assert cooled("quick", 70.0) == ("began at 70.0 degC", 0.0, [])


def test_a_board_without_a_sensor_is_not_waited_for(cooled):
    assert cooled("strict", Unavailable(reason="none"))[:2] == ("", 0.0)


def test_layer_times_get_the_nodes_that_the_plan_tells(tmp_path):
    information = tmp_path / "layers.json"
    layer = {
        "Name": "__myl_Add_myl0_7", "LayerType": "kgen", "Inputs": [], "Outputs": [],
        "TacticName": "t", "Metadata": "[ONNX Layer: /stage1/a]\x1e[ONNX Layer: /stage1/b]",
    }  # fmt: skip
    information.write_text(json.dumps({"Layers": [layer], "Bindings": []}))
    times = [{"count": 3}, {"name": "__myl_Add_myl0_7", "averageMs": 1.0},
             {"name": "reformat", "averageMs": 2.0}]  # fmt: skip
    found = json.loads(board_measuring._with_nodes(json.dumps(times), information))
    assert found[1]["nodes"] == ["/stage1/a", "/stage1/b"]
    assert found[0] == times[0]
    assert found[2] == times[2]


@pytest.mark.parametrize("text", ["{}", '["a"]', "3"])
def test_layer_times_of_another_form_stay_as_they_are(text, tmp_path):
    information = tmp_path / "layers.json"
    information.write_text(json.dumps({"Layers": ["a"], "Bindings": []}))
    assert board_measuring._with_nodes(text, information) == text


@pytest.mark.parametrize("text", ['[{"name": "a"b"}]', "[]"])
def test_layer_times_stay_as_they_are_where_there_is_nothing_to_join(text, tmp_path):
    assert board_measuring._with_nodes(text, tmp_path / "none.json") == text
