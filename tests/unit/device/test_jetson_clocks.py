import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import jetson_clocks
from elfatt_deploy.errors import ProbeError


def _mhz(clock):
    return [clock.min_hz / 1e6, clock.max_hz / 1e6, clock.now_hz / 1e6]


def test_every_capture_is_understood_whole(jetson_clocks_capture):
    expected = jetson_clocks_capture["expected"]

    shown = jetson_clocks.parse_show(jetson_clocks_capture["output"])

    assert shown.unknown == ()
    tpcs = None if isinstance(shown.active_tpcs, Unavailable) else shown.active_tpcs
    cpu0 = shown.clock("cpu0")
    assert {
        "soc": shown.soc,
        "machine": shown.machine,
        "clocks": len(shown.clocks),
        "offline": [clock.name for clock in shown.clocks if not clock.online],
        "cpu0": _mhz(cpu0),
        "gpu": _mhz(shown.clock("GPU")),
        "emc": _mhz(shown.clock("EMC")),
        "override": shown.clock("EMC").override,
        "tpcs": tpcs,
        "fan": shown.fan,
        "mode": shown.mode_name,
        "idle": [list(state) for state in cpu0.idle_states],
    } == expected
    assert cpu0.governor == "schedutil"


def test_an_unknown_line_survives():
    shown = jetson_clocks.parse_show("SOC family:tegra999  Machine:X\nWARP MinFactor=1\n")

    assert shown.unknown == ("WARP MinFactor=1",)
    assert isinstance(shown.mode_name, Unavailable)
    assert shown.clock("GPU") is None


@pytest.mark.parametrize("text", ["", "Error: Can't access EMC!\n"])
def test_a_refusal_says_what_was_said(text):
    with pytest.raises(ProbeError, match="it says: (nothing|Error: Can't access EMC!)") as caught:
        jetson_clocks.parse_show(text)
    assert "sudo" in caught.value.hint
