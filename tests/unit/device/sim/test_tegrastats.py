"""The emulated tegrastats writes the line of each generation, and leaves no process behind."""

import re
import time

import pytest

from elfatt_deploy.device import tegrastats
from elfatt_deploy.errors import CommandTimeout


def _lines(board, *command, count=2):
    """Return the first lines of a tegrastats that is then ended."""
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == count:
            raise StopIteration

    with board.open() as transport, pytest.raises(StopIteration):
        transport.run((*command, "tegrastats", "--interval", "20"), timeout_s=60, on_line=stop)
    return lines


@pytest.mark.parametrize(
    "name", ["nano", "tx2", "xavier-nx", "agx-xavier", "agx-orin-64gb", "agx-thor"]
)
def test_the_real_parser_reads_each_generation(name, make_board):
    board = make_board(name)
    line = tegrastats.parse_line(_lines(board, "sudo", "-n")[-1])
    assert [rail.name for rail in line.rails] == [rail.name for rail in board.machine.facts.rails]
    total = sum(rail.now_mw for rail in line.rails)
    assert total > 1000
    assert len(line.cores) == board.machine.facts.cores
    assert len(line.temperatures) >= 5
    assert {"EMC_FREQ", "GR3D_FREQ"} <= {engine.name for engine in line.engines}


def test_without_root_there_is_no_memory_clock(make_board):
    assert "EMC_FREQ" not in _lines(make_board("agx-orin-64gb"), "env")[0]


def test_it_can_write_to_a_file(make_board, tmp_path):
    file = tmp_path / "log"
    with make_board("nano").open() as transport, pytest.raises(CommandTimeout):
        transport.run(("tegrastats", "--interval", "20", "--logfile", str(file)), timeout_s=1.5)
    assert all(re.match("RAM .*POM_5V_IN", line) for line in file.read_text().splitlines())


def test_it_ends_with_the_shell_that_started_it(make_board, tmp_path):
    file = tmp_path / "log"
    script = 'tegrastats --interval 50 --logfile "$0" </dev/null >/dev/null 2>&1 & echo $!; sleep 1'
    with make_board("nano").open() as transport:
        pid = transport.run(("setsid", "-w", "sh", "-c", script, str(file)), timeout_s=60).stdout
        for _ in range(100):
            if transport.run(("kill", "-0", pid.strip())).status != 0:
                return
            time.sleep(0.1)
    raise AssertionError("tegrastats runs on")


def test_an_unknown_option_is_an_error(make_board, say):
    assert say(make_board("nano"), "tegrastats", "--quick")[0] == 1
