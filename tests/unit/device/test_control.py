import json
import os
import time
import types
from pathlib import Path

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.control import Answer, Controls
from elfatt_deploy.device.readback import BoardState, running_cores, unpinned
from elfatt_deploy.errors import CommandError, PowerModeError
from elfatt_deploy.transport.local import Local

CAPTURES = Path(__file__).parents[2] / "data" / "probes" / "nvpmodel_set"
CPU = "sys/devices/system/cpu"


@pytest.fixture
def board(tmp_path):
    """Return a tree with a few programs, as a board's own scripts see it, and the steps on it."""

    class Board(Controls):
        root = tmp_path / "root"

        def write(self, path, text):
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

        def program(self, name, text):
            file = tmp_path / "bin" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(f"#!/bin/sh\n{text}\n")
            file.chmod(0o755)

    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    made = Board(Local({"ELFATT_DEPLOY_ROOT": str(tmp_path / "root"), "PATH": path}, name="orin"))
    made.program("id", "echo 1000")
    made.program("sudo", 'shift; exec "$@"')
    made.program("systemctl", "echo active")
    made.write("proc/uptime", "1234.56 99.0\n")
    made.write("proc/sys/kernel/random/boot_id", "boot-1\n")
    made.write(f"{CPU}/online", "0,2-3\n")
    for core in range(4):
        made.write(f"{CPU}/cpu{core}/cpufreq/scaling_max_freq", "2201600\n")
        made.write(f"{CPU}/cpu{core}/cpufreq/scaling_min_freq", "729600\n")
    made.write("sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    made.write("sys/class/devfreq/15340000.vic/min_freq", "115200000\n")
    return made


def test_the_state_of_a_board(board):
    board.program("nvpmodel", "echo 'NV Power Mode: MODE_30W'; echo 2; echo trouble >&2; exit 3")
    board.write("sys/devices/gpu.0/tpc_pg_mask", "240\n")
    state = board.state(("/sys/devices/gpu.0/tpc_pg_mask", "/sys/not/there"))
    assert (state.mode.id, state.mode.name) == (2, "MODE_30W")
    assert (state.boot_id, state.uptime_s, state.online) == ("boot-1", 1234.56, "0,2-3")
    assert (state.cores, state.fan_service) == (3, "active")
    files = dict(state.lasting)
    assert files["/sys/devices/gpu.0/tpc_pg_mask"] == "240"
    assert files["/sys/class/devfreq/17000000.gpu/min_freq"] == "306000000"
    assert "/sys/not/there" not in files
    # neither a core that stands still nor a unit that nothing here pins
    assert not [path for path in files if "cpu1/" in path or ".vic" in path]
    assert [clock.name for clock in state.clocks] == ["cpu0", "cpu2", "cpu3", "gpu"]
    assert unpinned(state)[0] == "cpu0 may move between 729.6 and 2201.6 MHz"


def test_a_board_that_names_no_mode(board):
    board.program("nvpmodel", "echo 'NVPM ERROR: no power mode' >&2; exit 255")
    assert board.state().mode == Unavailable(reason="nvpmodel -q: NVPM ERROR: no power mode")


def test_a_question_finds_no_answer(board):
    board.program("nvpmodel", 'read -r answer || echo "nobody answers"; echo "heard:$answer"')
    assert board.set_mode(3).said == "nobody answers\nheard:"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("pmode:0002\n", "pmode:0000\n"),
        ("pmode:0002 fmode:quiet\n", "pmode:0000 fmode:quiet\n"),
        ("pmode:0002\nfmode:cool\n", "pmode:0000\nfmode:cool\n"),
        ("", "pmode:0000\n"),
    ],
)
def test_the_mode_of_the_next_start_leaves_the_rest_of_the_file(board, before, after):
    board.write("var/lib/nvpmodel/status", before)
    board.set_pending(0)
    assert (board.root / "var/lib/nvpmodel/status").read_text() == after


def test_a_mode_that_is_not_taken_for_the_next_start_is_told(board):
    board.write("var/lib/nvpmodel/status", "pmode:0002\n")
    board.program("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(PowerModeError, match="did not take mode 0 for its next start") as caught:
        board.set_pending(0)
    assert "NOPASSWD" in caught.value.hint


def test_stored_clocks(board):
    board.program(
        "jetson_clocks",
        'case $1 in --store) [ -e "$2" ] && exit 1; echo x:1 >"$2" ;; esac; exit 0',
    )
    path = "/var/tmp/elfatt-deploy/clocks-1.conf"
    assert not board.has(path)
    assert board.store_clocks(path) == (Answer(status=0, said=""), True)
    assert board.has(path)
    assert board.store_clocks(path)[1]  # one that is there is replaced: the tool would ask
    board.forget(path)
    assert not board.has(path)
    (board.root.parent / "bin" / "jetson_clocks").unlink()
    answer, stored = board.store_clocks(path)
    assert (answer.missing, stored) == (True, False)


def test_a_board_that_was_started_a_moment_ago_is_waited_for(board, monkeypatch):
    waited = []
    # its own clock alone: other threads of this process sleep, too
    clock = types.SimpleNamespace(sleep=waited.append, monotonic=time.monotonic)
    monkeypatch.setattr("elfatt_deploy.device.control.time", clock)
    board.program(
        "jetson_clocks",
        f"if [ -e {board.root}/up ]; then echo pinned; exit; fi; : >{board.root}/up; "
        'echo "Error: Please run the script after 41 Seconds, otherwise ..."; exit 255',
    )
    assert board.pin_clocks().said == "pinned"
    assert waited == [42]


def test_a_reboot_that_is_refused(board):
    board.program(
        "reboot", "echo 'Call to Reboot failed: Interactive authentication required.'; exit 1"
    )
    with pytest.raises(PowerModeError, match="cannot be rebooted: Call to Reboot failed"):
        board.reboot()


def test_a_board_without_a_shell_that_works_is_told(board):
    board.program("sh", "echo 'out of memory' >&2; exit 137")
    with pytest.raises(CommandError, match="'boot' did not come to its end on orin: out of memory"):
        board.boot_id()


@pytest.mark.parametrize(
    ("name", "reboot", "rights"),
    [
        ("orin_accepted", True, False),
        ("orin_declined", True, False),
        ("synthetic_nonroot", False, True),
    ],
)
def test_what_nvpmodel_says(name, reboot, rights):
    capture = json.loads((CAPTURES / f"{name}.json").read_text())
    answer = Answer(status=0, said=capture["output"])
    assert (answer.wants_reboot, answer.lacks_rights) == (reboot, rights)


@pytest.mark.parametrize(
    ("said", "rights", "complaint"),
    [
        ("sudo: a password is required", True, "sudo: a password is required"),
        ("nvidia is not in the sudoers file.", True, "nvidia is not in the sudoers file."),
        ("Error: Run this script(jetson_clocks) as a root user", True, None),
        ("NVPM ERROR: Error writing 8 to /x/fbp_pg_mask: 19\nNVPM ERROR: failed to set power mode!",
         False, "NVPM ERROR: failed to set power mode!"),
        ("", False, "it ended with status 1"),
    ],
)  # fmt: skip
def test_what_goes_wrong(said, rights, complaint):
    answer = Answer(status=1, said=said)
    assert answer.lacks_rights is rights
    assert answer.complaint == (complaint or said)


@pytest.mark.parametrize(
    ("online", "cores"),
    [
        ("0-7", set(range(8))),
        ("0", {0}),
        ("0,3-5", {0, 3, 4, 5}),
        ("", None),
        ("a", None),
    ],
)
def test_which_cores_run(online, cores):
    assert running_cores(online) == cores


def test_without_any_clock_of_a_gpu_nothing_is_called_pinned():
    state = BoardState(
        boot_id="", uptime_s=1.0, mode=Unavailable(reason=""), online="0", files=(), fan_service=""
    )
    assert unpinned(state) == ("no clock of the GPU can be read",)
