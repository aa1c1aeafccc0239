"""The small parts of a simulated board: its clock steps, its files, its state."""

import subprocess
import sys

import pytest

from elfatt_deploy.device.sim import conf, host, machine, profile
from elfatt_deploy.device.sim.conf import SimMode


@pytest.mark.parametrize(
    ("value", "step"), [(-1, 30), (2**31 - 1, 30), (0, 10), (14, 10), (16, 20), (99, 30)]
)
def test_a_clock_goes_to_the_nearest_step(value, step):
    assert machine.nearest((10, 20, 30), value) == step


@pytest.mark.parametrize(
    ("cores", "text"), [([], ""), ([0], "0"), ([0, 1, 2], "0-2"), ([0, 3, 4, 5], "0,3-5")]
)
def test_cores_are_listed_as_the_kernel_does(cores, text):
    assert machine.ranges(cores) == text


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    host.write_whole(tmp_path / "a" / "b", "one\n")
    host.write_whole(tmp_path / "a" / "b", "two\n")
    assert [(p.name, p.read_text()) for p in (tmp_path / "a").iterdir()] == [("b", "two\n")]


def test_several_processes_change_the_state_in_turn(make_board):
    board = make_board("nano")
    code = f"""
from pathlib import Path
from elfatt_deploy.device.sim.machine import Machine
machine = Machine(Path({str(board.folder)!r}))
for _ in range(40):
    with machine.changing() as state:
        state.boots += 1
"""
    before = board.machine.state().boots
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert board.machine.state().boots == before + 120


def test_a_configuration_reads_back_as_it_was_written():
    facts = profile.facts_of("agx-orin-64gb")
    mode = SimMode(id=4, name="OWN", cores=4, cpu_max_hz=1.1136e9, gpu_max_hz=None, tpc_mask=248)
    found = conf.parse_conf(conf.conf_text(facts, [mode], 4))
    assert (found.default, [m.name for m in found.modes]) == (4, ["OWN"])
    assert found.mode(4).value("CPU_A78_0", "MAX_FREQ") == "1113600"
    assert found.mode(4).value("CPU_A78_1", "MAX_FREQ") is None  # none of its cores runs
    assert found.mode(4).value("GPU", "MAX_FREQ") == "-1"
    assert found.mode(4).value("EMC", "MAX_FREQ") == "0"
    assert found.mode(3) is None
