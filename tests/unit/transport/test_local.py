"""Commands on this machine: what they leave, how they are ended, what goes wrong."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from elfatt_deploy.errors import CommandError, CommandTimeout, DeviceError
from elfatt_deploy.transport.base import shown
from elfatt_deploy.transport.local import Local


@pytest.fixture
def here():
    with Local() as transport:
        yield transport


def _gone(number):
    """Whether a process is gone, or only waits to be reaped by whoever adopted it."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def _until_gone(number):
    for _ in range(500):
        if _gone(number):
            return True
        time.sleep(0.01)
    return False


def test_a_command_leaves_status_both_streams_and_its_lines(here):
    lines = []
    script = "echo one; echo two >&2; printf three; exit 3"
    result = here.run(("sh", "-c", script), on_line=lines.append)
    assert (result.status, result.stdout, result.stderr) == (3, "one\nthree", "two\n")
    assert sorted(lines) == ["one", "three", "two"]
    assert result.command == ("sh", "-c", script)


def test_arguments_reach_the_program_as_they_are(here):
    odd = ("a b", "$HOME", "'", '"', "*", "")
    result = here.run((sys.executable, "-c", "import sys; print(sys.argv[1:])", *odd))
    assert result.stdout == f"{list(odd)}\n"
    assert shown(("a b", "$x")) == "'a b' '$x'"


def test_lines_come_while_the_command_runs(here, tmp_path):
    go = tmp_path / "go"
    script = f"echo begun; while [ ! -e {go} ]; do sleep 0.01; done; echo done"
    result = here.run(("sh", "-c", script), timeout_s=60, on_line=lambda line: go.touch())
    assert result.stdout == "begun\ndone\n"


def test_input_is_given_and_is_empty_without_one(here):
    assert here.run(("cat",), input="text\n" * 50_000).stdout == "text\n" * 50_000
    assert here.run(("cat",)).stdout == ""


def test_a_command_that_does_not_read_its_input_is_no_failure(here):
    assert here.run(("true",), input="x" * 1_000_000).status == 0


def test_bytes_that_are_no_text_do_not_end_the_run(here):
    assert here.run(("printf", r"a\377b\n")).stdout == "a\ufffdb\n"


def test_a_signal_is_a_status_as_a_shell_tells_it(here):
    assert here.run(("sh", "-c", "kill -9 $$")).status == 128 + signal.SIGKILL


def test_a_timeout_ends_the_command_and_what_it_started(here, tmp_path):
    pid = tmp_path / "pid"
    script = f"echo hello >&2; sleep 60 & echo $! > {pid}; wait"
    with pytest.raises(CommandTimeout, match="did not end within 1 s: sh -c") as caught:
        here.run(("sh", "-c", script), timeout_s=1)
    assert (caught.value.stderr, caught.value.exit_code) == ("hello\n", 4)
    assert _until_gone(int(pid.read_text()))


def test_a_command_that_closes_its_streams_and_goes_on_is_timed_too(here):
    with pytest.raises(CommandTimeout):
        here.run(("sh", "-c", "exec >&- 2>&-; sleep 60"), timeout_s=0.3)


def test_what_a_command_leaves_running_is_ended_with_it(here, tmp_path):
    pid = tmp_path / "pid"
    result = here.run(("sh", "-c", f"sleep 60 & echo $! > {pid}"), timeout_s=60)
    assert result.status == 0
    assert _until_gone(int(pid.read_text()))


def test_ctrl_c_ends_the_command_and_is_raised_again(here, tmp_path):
    pid = tmp_path / "pid"

    def interrupt(line):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        here.run(("sh", "-c", f"echo $$ > {pid}; echo begun; exec sleep 60"), on_line=interrupt)
    assert _until_gone(int(pid.read_text()))


def test_no_thread_is_left_behind(here):
    before = threading.active_count()
    here.run(("echo", "x"))
    assert threading.active_count() == before


def test_a_missing_program_says_what_to_do(here):
    with pytest.raises(CommandError, match="cannot run no-such-program") as caught:
        here.run(("no-such-program", "x"))
    assert (caught.value.status, caught.value.command) == (127, ("no-such-program", "x"))
    assert "install no-such-program" in caught.value.hint


def test_a_file_that_is_no_program_is_told_apart_from_a_missing_one(here, tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(CommandError, match="Permission denied") as caught:
        here.run((str(tmp_path / "data"),))
    assert caught.value.status == 126


def test_files_go_there_and_back(here, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"\x00data")
    with here.temporary_folder() as folder:
        here.push(source, f"{folder}/there")
        here.pull(f"{folder}/there", tmp_path / "back")
        assert here.run(("test", "-s", f"{folder}/there")).status == 0
    assert (tmp_path / "back").read_bytes() == b"\x00data"
    assert not Path(folder).exists()


def test_the_text_of_a_file(here, tmp_path):
    (tmp_path / "f").write_bytes(b"a\xffb")
    assert here.read_text(str(tmp_path / "f")) == "a\ufffdb"


@pytest.mark.parametrize(
    "move",
    [
        lambda here, none: here.push(none, str(none) + ".copy"),
        lambda here, none: here.pull(str(none), none.with_name("copy")),
        lambda here, none: here.read_text(str(none)),
    ],
    ids=["push", "pull", "read"],
)
def test_a_missing_file_is_a_device_error(move, here, tmp_path):
    with pytest.raises(DeviceError, match="No such file"):
        move(here, tmp_path / "none")


def test_a_temporary_folder_that_cannot_be_made_is_a_device_error(here, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(DeviceError, match="temporary folder") as caught, here.temporary_folder():
        pass
    assert "TMPDIR" in caught.value.hint


def test_a_machine_can_have_a_name_and_variables_of_its_own(tmp_path):
    program = tmp_path / "nvpmodel"
    program.write_text('#!/bin/sh\necho "$ELFATT_DEPLOY_ROOT $HOME"\n')
    program.chmod(0o755)
    path = os.pathsep.join((str(tmp_path), os.environ["PATH"]))
    board = Local({"PATH": path, "ELFATT_DEPLOY_ROOT": "/root-of-it"}, name="sim:nano")
    assert board.run(("nvpmodel",)).stdout == f"/root-of-it {os.environ['HOME']}\n"
    with pytest.raises(CommandError, match="cannot run nvpmodel on this machine"):
        Local({"PATH": str(tmp_path / "none")}).run(("nvpmodel",))
    with pytest.raises(CommandError, match="on sim:nano: No such file"):
        board.run(("no-such-program",))


def test_a_copy_that_fails_leaves_the_old_file_and_nothing_else(here, tmp_path, monkeypatch):
    source, target = tmp_path / "new", tmp_path / "there"
    source.write_text("new")
    target.write_text("old")

    def full(source, partial):
        partial.write_text("n")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(DeviceError, match="there: No space left on device"):
        here.push(source, str(target))
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]
