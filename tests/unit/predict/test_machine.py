"""What a board can do in a power mode."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import boards
from elfatt_deploy.predict.machine import machine_of


@pytest.mark.parametrize(
    ("name", "label", "sms", "gpu_hz", "cpu_hz", "bandwidth", "tflops"),
    [
        ("agx-orin-64gb", "MAXN", 16, 1300.5e6, 2201.6e6, 204.8e9, 5.327),
        ("agx-orin-64gb", "15W", 6, 408e6, 1113.6e6, 136.6e9, 0.627),
        ("agx-orin-64gb", "30W", 8, 612e6, 1728e6, 204.8e9, 1.253),
        ("nano", "5W", 1, 640e6, 918e6, 25.6e9, 0.164),
        ("nano", "MAXN", 1, 921.6e6, 1479e6, 25.6e9, 0.236),
    ],
)
def test_clocks_multiprocessors_and_bandwidth_follow_the_mode(
    name, label, sms, gpu_hz, cpu_hz, bandwidth, tflops
):
    board = boards.board(name)
    found = machine_of(board, boards.find_mode(board.modes, label))
    assert (found.sms, found.gpu_hz, found.cpu_hz) == (sms, gpu_hz, cpu_hz)
    assert found.bandwidth_bytes_per_s == pytest.approx(bandwidth, rel=1e-3)
    assert found.fp32_flops / 1e12 == pytest.approx(tflops, abs=1e-3)


@pytest.mark.parametrize("field", ["gpu_max_hz", "cpu_max_hz", "emc_max_hz", "tpcs_on"])
def test_a_clock_that_is_not_known_leaves_no_machine(field):
    board = boards.board("nano")
    mode = dataclasses.replace(board.modes[0], **{field: Unavailable(reason="nobody knows")})
    assert machine_of(board, mode) == Unavailable(reason="nobody knows")


def test_a_cap_above_the_hardware_is_no_more_than_the_hardware():
    board = boards.board("nano")
    mode = dataclasses.replace(board.modes[0], gpu_max_hz=5e9)
    assert machine_of(board, mode).gpu_hz == board.gpu_peak.gpu_max_hz
