import sys
import types

import pytest

from elfatt_deploy.device.jetson_stats import JtopSampler, sample_from_jtop
from elfatt_deploy.errors import MissingDependency


def test_jetson_stats_gives_rails_and_no_total_of_its_own():
    rail = {"VDD_GPU_SOC": {"power": 2793, "volt": 19000}, "VDD_CPU_CV": {"power": None}}
    temperature = {"cpu": {"temp": 34.6, "online": True}, "cv0": {"temp": -256, "online": False}}
    sample = sample_from_jtop({"rail": rail, "tot": {"power": 99999}}, temperature, 5.0)
    assert sample.power_mw == {"VDD_GPU_SOC": 2793.0, "VDD_CPU_CV": None}
    assert sample.temperature_c == {"cpu": 34.6, "cv0": None}
    named = sample_from_jtop({"rail": rail, "tot": {"power": 4761, "name": "VDD_IN"}}, {}, 5.0)
    assert named.power_mw["VDD_IN"] == 4761.0


def test_jetson_stats_is_optional_and_sampled_where_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "jtop", None)
    with pytest.raises(MissingDependency, match="'jtop'"):
        JtopSampler().start()

    class Client:
        def __init__(self, interval):
            self.left, self.closed = 3, False
            self.power = {"rail": {}, "tot": {"name": "VDD_IN", "power": 5000}}
            self.temperature = {}

        def start(self):
            pass

        def ok(self):
            self.left -= 1
            return self.left >= 0

        def close(self):
            self.closed = True

    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=lambda interval: Client(1)))
    with JtopSampler(rate_hz=100) as running:
        running._thread.join(timeout=60)
        assert len(running.read_new()) == 3
        assert running.read_new() == ()
        trace = running.stop()
    assert [sample.power_mw for sample in trace.samples] == [{"VDD_IN": 5000.0}] * 3
    assert trace.notes == ("the service of jetson-stats ended before it was stopped",)
