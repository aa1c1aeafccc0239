"""The temperature gate of a cell, with invented readings and an invented clock."""

from __future__ import annotations

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
