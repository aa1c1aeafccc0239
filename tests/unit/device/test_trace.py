"""The hottest sensor: of invented readings, and of every real line of tegrastats."""

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import tegrastats
from elfatt_deploy.device.trace import hottest_c


def test_the_hottest_leaves_out_what_was_not_read_and_what_is_no_sensor():
    assert hottest_c({"cpu-thermal": 41.5, "gpu-thermal": None, "PMIC-Die": 100.0}) == 41.5
    assert hottest_c({"PMIC-Die": 50.0, "gpu-thermal": None}) is None
    assert hottest_c({}) is None


def test_no_captured_board_is_as_hot_as_its_constant_zone_says(tegrastats_capture):
    for text in tegrastats_capture["output"]:
        found = {
            t.name: None if isinstance(t.value_c, Unavailable) else t.value_c
            for t in tegrastats.parse_line(text).temperatures
        }
        if not found:
            continue
        hottest = hottest_c(found)
        assert hottest is not None
        assert hottest < 80.0, "all of these boards were idle or lightly used"
        assert hottest in found.values()
