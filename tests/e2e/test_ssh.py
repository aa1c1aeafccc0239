"""A machine behind a real OpenSSH server on loopback: commands, files, and what goes wrong."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from elfatt_deploy.errors import (
    CommandError,
    CommandTimeout,
    ConnectError,
    DeviceError,
    MissingDependency,
)
from elfatt_deploy.transport import ssh_connection, ssh_files
from elfatt_deploy.transport.ssh import Ssh
from elfatt_deploy.transport.ssh_target import SshTarget, parse_target

MIB = 1 << 20
# Stands before the real `cat` there; it fails as on a full disk while the file FULL exists.
_CAT = """\
#!/bin/sh
if [ -e {full} ] && [ $# -eq 0 ]; then
  head -c 1000
  echo 'cat: write error: No space left on device' >&2
  exit 1
fi
exec {cat} "$@"
"""


@pytest.fixture(scope="module")
def tools(fake):
    module = fake("sshd")
    reason = module.missing()
    if reason:
        pytest.skip(reason)
    return module


@pytest.fixture(scope="module")
def server(tools, tmp_path_factory):
    """Return a server whose logins see an emulated tree, and a `cat` that can fail."""
    folder = tmp_path_factory.mktemp("sshd")
    boot = folder / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    boot.write_text("first\n")
    (folder / "bin").mkdir()
    (folder / "bin/cat").write_text(_CAT.format(full=folder / "FULL", cat=shutil.which("cat")))
    (folder / "bin/cat").chmod(0o755)
    path = os.pathsep.join((str(folder / "bin"), os.environ["PATH"]))
    environment = {"PATH": path, "ELFATT_DEPLOY_ROOT": folder / "root", "MARK": "a b"}
    with tools.Sshd(folder, environment) as running:
        yield running


@pytest.fixture
def board(server):
    with Ssh(parse_target(server.device), config=server.config) as transport:
        yield transport


def _gone(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def _refused(server, match, *, config=None, target=None):
    """Return the error of a connection that cannot be made."""
    transport = Ssh(target or parse_target(server.device), config=config or server.config)
    with pytest.raises(ConnectError, match=match) as caught, transport:
        pass
    return caught.value


# --- commands


@pytest.mark.parametrize("status", [0, 3, 255])
def test_a_command_leaves_status_both_streams_and_its_lines(board, status):
    lines = []
    script = f"echo one; echo two >&2; printf three; exit {status}"
    result = board.run(("sh", "-c", script), on_line=lines.append)
    assert (result.status, result.stdout, result.stderr) == (status, "one\nthree", "two\n")
    assert sorted(lines) == ["one", "three", "two"]
    assert result.command == ("sh", "-c", script)


def test_the_machine_has_its_user_and_port_for_a_name(board, server):
    assert board.name == f"{server.user}@127.0.0.1:{server.port}"


def test_arguments_and_variables_reach_the_program_as_they_are(board):
    odd = ("a b", "$HOME", "'", "\\'", "\\\\", '"', "*", "", "two\nlines", "ünï")
    result = board.run((sys.executable, "-c", "import sys; print(sys.argv[1:])", *odd))
    assert result.stdout == f"{list(odd)}\n"
    assert board.run(("printenv", "MARK")).stdout == "a b\n"


def test_lines_come_while_the_command_runs(board, tmp_path):
    go = tmp_path / "go"
    script = f"echo begun; while [ ! -e {go} ]; do sleep 0.01; done; echo done"
    result = board.run(("sh", "-c", script), timeout_s=20, on_line=lambda line: go.touch())
    assert result.stdout == "begun\ndone\n"


def test_input_is_given_and_is_empty_without_one(board):
    assert board.run(("cat",), input="text\n" * 50_000).stdout == "text\n" * 50_000
    assert board.run(("wc", "-c")).stdout.strip() == "0"
    assert board.run(("true",), input="x" * 1_000_000).status == 0


def test_long_scripts_and_long_commands(board):
    script = "# " + "x" * 300_000 + "\necho done\n"
    assert board.run(("sh", "-s"), input=script).stdout == "done\n"
    big = ("x" * 70_000,) * 2  # sshd takes no more than 128 KiB as a command
    done = board.run((sys.executable, "-c", "import sys; print(len(''.join(sys.argv)))", *big))
    assert done.stdout == "140002\n"


def test_a_signal_is_a_status_as_a_shell_tells_it(board):
    assert board.run(("sh", "-c", "kill -9 $$")).status == 128 + signal.SIGKILL


def test_programs_that_cannot_run(board, tmp_path):
    with pytest.raises(CommandError, match="cannot run no-such-program on .*@127") as caught:
        board.run(("no-such-program", "x"))
    assert (caught.value.status, caught.value.command) == (127, ("no-such-program", "x"))
    (tmp_path / "data").write_text("x")
    with pytest.raises(CommandError, match="Permission denied") as caught:
        board.run((str(tmp_path / "data"),))
    assert caught.value.status == 126


@pytest.mark.parametrize("given", [None, ""], ids=["no input", "input"])
def test_a_timeout_ends_the_command_and_what_it_started(board, tools, tmp_path, given):
    pid = tmp_path / "pid"
    script = f"echo hello >&2; sleep 60 & echo $! > {pid}; wait"
    with pytest.raises(CommandTimeout, match="did not end within 0.5 s: sh -c") as caught:
        board.run(("sh", "-c", script), timeout_s=0.5, input=given)
    assert caught.value.stderr == "hello\n"
    tools.until(lambda: _gone(int(pid.read_text())), "the command's child ends")


def test_a_command_that_does_not_want_to_end_is_ended(board, tools, tmp_path):
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {pid}; while :; do sleep 1; done"
    with pytest.raises(CommandTimeout):
        board.run(("sh", "-c", script), timeout_s=0.5)
    tools.until(lambda: _gone(int(pid.read_text())), "the stubborn command ends")


def test_what_a_command_leaves_running_is_ended_with_it(board, tools, tmp_path):
    pid = tmp_path / "pid"
    assert board.run(("sh", "-c", f"sleep 60 & echo $! > {pid}"), timeout_s=20).status == 0
    tools.until(lambda: _gone(int(pid.read_text())), "what was left ends")


def test_what_a_command_detaches_goes_on(board, tmp_path):
    pid = tmp_path / "pid"
    script = f"setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $! > {pid}"
    board.run(("sh", "-s"), input=script)
    assert board.run(("sh", "-c", f"kill $(cat {pid})")).status == 0


def test_ctrl_c_ends_the_command_and_is_raised_again(board, tools, tmp_path):
    pid = tmp_path / "pid"

    def interrupt(line):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        board.run(("sh", "-c", f"echo $$ > {pid}; echo begun; exec sleep 60"), on_line=interrupt)
    tools.until(lambda: _gone(int(pid.read_text())), "the command ends")
    assert board.run(("echo", "on")).stdout == "on\n"


def test_a_command_ends_when_we_are_killed(server, tools, tmp_path):
    pid = tmp_path / "pid"
    ours = (
        "import pathlib, sys; from elfatt_deploy.transport.ssh import Ssh\n"
        "from elfatt_deploy.transport.ssh_target import parse_target\n"
        "board = Ssh(parse_target(sys.argv[1]), config=pathlib.Path(sys.argv[2]))\n"
        "board.run(('sh', '-c', 'echo $$ > ' + sys.argv[3] + '; exec sleep 60'))"
    )
    with tempfile.TemporaryDirectory() as run:  # where what is killed leaves its socket
        process = subprocess.Popen(
            (sys.executable, "-c", ours, server.device, server.config, pid),
            env={**os.environ, "XDG_RUNTIME_DIR": run},
        )
        tools.until(lambda: pid.exists() and pid.read_text(), "the command begins")
        process.kill()
        process.wait()
        tools.until(lambda: _gone(int(pid.read_text())), "the command ends")


def test_several_commands_share_one_connection(board, server, tmp_path):
    accepted = server.log.read_text().count("Accepted publickey")
    done = []

    def meet(mine, other):
        script = f"touch {tmp_path / mine}; while [ ! -e {tmp_path / other} ]; do sleep 0.01; done"
        done.append(board.run(("sh", "-c", script), timeout_s=20).status)

    threads = [threading.Thread(target=meet, args=names) for names in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [0, 0]
    assert server.log.read_text().count("Accepted publickey") == accepted


def test_no_thread_and_no_process_is_left_behind(server, tools):
    threads, before = threading.active_count(), len(server.sessions())
    with Ssh(parse_target(server.device), config=server.config) as board:
        board.run(("echo", "x"))
    assert threading.active_count() == threads
    tools.until(lambda: len(server.sessions()) <= before, "the connection is closed")


# --- lost connections


def test_a_dropped_connection_is_told_and_the_next_command_connects_anew(
    board, server, tools, tmp_path
):
    pid = tmp_path / "pid"
    script = f"echo $$ > {pid}; echo begun; while :; do sleep 1; done"
    with pytest.raises(ConnectError, match="was lost while it ran sh -c") as caught:
        board.run(("sh", "-c", script), on_line=lambda line: server.drop())
    assert "connects anew" in caught.value.hint
    assert board.run(("echo", "again")).stdout == "again\n"
    tools.until(lambda: _gone(int(pid.read_text())), "what was cut off is ended")


def test_a_status_is_not_believed_if_a_stream_was_lost_after_it(board, monkeypatch):
    # stderr, with the status, may arrive before the rest of stdout; then ssh ends with 255
    monkeypatch.setattr("elfatt_deploy.transport.process.Process.wait", lambda self, left: 255)
    with pytest.raises(ConnectError, match="while it ran echo x"):
        board.run(("echo", "x"))


def test_a_connection_that_drops_between_commands_is_made_anew_silently(board, server, tools):
    server.drop()
    tools.until(lambda: not board._connection.stands(), "ssh notices")
    assert board.run(("echo", "again")).stdout == "again\n"


def test_a_silent_link_is_noticed(server, monkeypatch):
    monkeypatch.setattr(ssh_connection, "_ALIVE_S", 1)
    with Ssh(parse_target(server.device), config=server.config) as board:
        thaw = []
        try:
            with pytest.raises(ConnectError, match="was lost"):
                board.run(
                    ("sh", "-c", "echo begun; sleep 60"),
                    timeout_s=20,
                    on_line=lambda line: thaw.append(server.freeze()),
                )
        finally:
            for undo in thaw:
                undo()
        assert board.run(("echo", "again")).stdout == "again\n"


def test_waiting_for_a_machine_that_restarts(board, server):
    told = []

    def progress(line):
        told.append(line)
        if len(told) == 1:
            server.start()

    board.run(("true",))
    server.stop()
    board.wait_until_back(20, progress)
    assert board.run(("echo", "back")).stdout == "back\n"
    assert len(told) == 1
    assert "takes no SSH connections" in told[0]


def test_waiting_lasts_until_the_machine_has_really_restarted(board, server):
    boot = server.folder / "root/proc/sys/kernel/random/boot_id"
    before, told = board.boot_id(), []

    def progress(line):
        told.append(line)
        boot.write_text(f"not {before}\n")

    board.wait_until_back(20, progress, boot_id=before)
    assert board.boot_id() == f"not {before}"
    assert len(told) == 1
    assert "has not restarted yet" in told[0]


def test_a_machine_that_stays_away(board, server):
    server.stop()
    try:
        with pytest.raises(ConnectError, match="did not come back within 0.2 s") as caught:
            board.wait_until_back(0.2)
    finally:
        server.start()
    assert "systemctl enable --now ssh" in caught.value.hint


# --- no connection


def test_a_host_that_was_never_accepted(server):
    config = server.client_config("unknown", known_hosts="nobody")
    error = _refused(server, "is not known to this machine yet", config=config)
    assert f"type 'ssh -p {server.port} {server.user}@127.0.0.1' once" in error.hint


def test_a_host_whose_key_changed(server):
    server.know("other_key", "changed")
    error = _refused(
        server, "another host key", config=server.client_config("c", known_hosts="changed")
    )
    assert f"ssh-keygen -R '[127.0.0.1]:{server.port}'" in error.hint


def test_a_key_that_is_refused(server):
    error = _refused(server, "refuses the key", config=server.client_config("k", key="other_key"))
    assert f"ssh-copy-id -p {server.port} {server.user}@127.0.0.1" in error.hint


def test_a_name_that_is_none(server):
    target = SshTarget(host="x" * 64, user="me")  # longer than a name may be: nobody is asked
    assert "check how xxx" in _refused(server, "cannot resolve", target=target).hint


def test_a_port_where_nothing_listens(server, tools):
    target = SshTarget(host="127.0.0.1", user="me", port=tools.free_port())
    assert "check the port" in _refused(server, "takes no SSH connections", target=target).hint


def test_a_machine_that_does_not_answer(server, monkeypatch):
    monkeypatch.setattr(ssh_connection, "_CONNECT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = SshTarget(host="127.0.0.1", user="me", port=silent.getsockname()[1])
        assert "ping 127.0.0.1" in _refused(server, "does not answer", target=target).hint


def test_no_ssh_client(server, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with (
        pytest.raises(MissingDependency, match="no 'ssh' on this machine") as caught,
        Ssh(parse_target(server.device)),
    ):
        pass
    assert "openssh-client" in caught.value.hint


def test_a_connection_that_takes_no_more_sessions(tools, tmp_path):
    with tools.Sshd(tmp_path / "one") as server:
        text = (tmp_path / "one/sshd_config").read_text()
        (tmp_path / "one/sshd_config").write_text(text + "MaxSessions 1\n")
        server.stop()
        server.start()
        go = tmp_path / "go"

        def second(line):
            with pytest.raises(ConnectError, match="takes no further session") as caught:
                board.run(("echo", "x"))
            assert "MaxSessions" in caught.value.hint
            go.touch()

        with Ssh(parse_target(server.device), config=server.config) as board:
            script = f"echo first; while [ ! -e {go} ]; do sleep 0.01; done"
            assert board.run(("sh", "-c", script), timeout_s=20, on_line=second).status == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "fish", "tcsh"])
def test_any_login_shell_and_its_greeting(shell, tools, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    greeting = "echo Welcome; echo careful >&2; printf half"
    forced = f"""{greeting}; exec {shell} -c "$SSH_ORIGINAL_COMMAND\""""
    with (
        tools.Sshd(tmp_path / "s", command=forced) as server,
        Ssh(parse_target(server.device), config=server.config) as board,
    ):
        done = board.run(("sh", "-c", 'cat; printf "%s\\n" "$1" >&2', "sh", "\\\\ '"), input="in\n")
    assert (done.stdout, done.stderr) == ("in\n", "\\\\ '\n")


# --- files


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(os.urandom(3 * MIB + 17))
    return path


def _partials(folder):
    return sorted(path for path in Path(folder).iterdir() if path.name.endswith(".part"))


def test_files_go_there_and_back(board, source, tmp_path):
    with board.temporary_folder() as folder:
        board.push(source, f"{folder}/a file's name")
        board.pull(f"{folder}/a file's name", tmp_path / "back")
        assert [path.name for path in Path(folder).iterdir()] == ["a file's name"]
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert not Path(folder).exists()
    assert _partials(tmp_path) == []


def test_an_empty_file(board, tmp_path):
    (tmp_path / "empty").touch()
    board.push(tmp_path / "empty", str(tmp_path / "there"))
    board.pull(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_what_is_already_there_is_not_sent_again(board, source, tmp_path, monkeypatch):
    board.push(source, str(tmp_path / "there"))
    board.pull(str(tmp_path / "there"), tmp_path / "back")
    monkeypatch.setattr(ssh_files, "_read", None)
    monkeypatch.setattr(ssh_files, "_fetch", None)
    board.push(source, str(tmp_path / "there"))
    board.pull(str(tmp_path / "there"), tmp_path / "back")


def test_a_push_goes_on_after_a_drop(board, server, tools, source, tmp_path, monkeypatch):
    read, offsets = ssh_files._read, []

    def interrupted(local, offset):
        chunks = read(local, offset)
        yield next(chunks)
        tools.until(lambda: _partials(tmp_path), "something arrives")
        tools.until(lambda: _partials(tmp_path)[0].stat().st_size >= MIB, "a chunk arrives")
        server.drop()

    def watched(local, offset):
        offsets.append(offset)
        return read(local, offset)

    monkeypatch.setattr(ssh_files, "_read", interrupted)
    with pytest.raises(ConnectError, match="was lost"):
        board.push(source, str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()
    monkeypatch.setattr(ssh_files, "_read", watched)
    board.push(source, str(tmp_path / "there"))
    assert (tmp_path / "there").read_bytes() == source.read_bytes()
    assert offsets == [MIB]
    assert _partials(tmp_path) == []


def test_a_pull_goes_on_after_a_drop(board, server, source, tmp_path, monkeypatch):
    exchange, brought = board.exchange, []
    source.write_bytes(os.urandom(20 * MIB))  # more than the pipes on the way hold

    def dropping(command, *, chunks=None, sink=None):
        def first(chunk):
            server.drop()
            sink(chunk)

        return exchange(command, chunks=chunks, sink=sink and first)

    def watched(command, *, chunks=None, sink=None):
        def count(chunk):
            brought.append(len(chunk))
            sink(chunk)

        return exchange(command, chunks=chunks, sink=sink and count)

    monkeypatch.setattr(board, "exchange", dropping)
    with pytest.raises(ConnectError, match="was lost"):
        board.pull(str(source), tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (partial,) = _partials(tmp_path)
    had = partial.stat().st_size
    monkeypatch.setattr(board, "exchange", watched)
    board.pull(str(source), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert 0 < had < 20 * MIB
    assert sum(brought) == 20 * MIB - had


@pytest.mark.parametrize("way", ["push", "pull"])
def test_a_partial_file_of_something_else_is_not_believed(way, board, source, tmp_path):
    digest = ssh_files._measure(source)[1]
    target = tmp_path / "there"
    (tmp_path / f".there.{digest[:16]}.part").write_bytes(b"x" * MIB)
    if way == "push":
        board.push(source, str(target))
    else:
        board.pull(str(source), target)
    assert target.read_bytes() == source.read_bytes()


def test_a_full_disk_there_leaves_the_old_file_and_nothing_partial(board, server, source, tmp_path):
    target = tmp_path / "there"
    target.write_text("old")
    (server.folder / "FULL").touch()
    try:
        with pytest.raises(DeviceError, match="No space left on device") as caught:
            board.push(source, str(target))
    finally:
        (server.folder / "FULL").unlink()
    assert str(target) in caught.value.message
    assert board.name in caught.value.message
    assert caught.value.hint == f"make room on {board.name}"
    assert target.read_text() == "old"
    assert _partials(tmp_path) == []


def test_a_full_disk_here_leaves_the_old_file_and_nothing_partial(
    board, source, tmp_path, monkeypatch
):
    target = tmp_path / "here"
    target.write_text("old")

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError, match="here on this machine .*No space left on device"):
        board.pull(str(source), target)
    assert target.read_text() == "old"
    assert _partials(tmp_path) == []


@pytest.mark.parametrize(
    ("move", "reason"),
    [
        (lambda board, at: board.push(at / "none", str(at / "x")), "No such file"),
        (lambda board, at: board.push(at / "file", str(at / "none/x")), "nonexistent|No such"),
        (lambda board, at: board.push(at / "file", str(at)), "Is a directory"),
        (lambda board, at: board.pull(str(at / "none"), at / "x"), "No such file"),
        (lambda board, at: board.pull(str(at), at / "x"), "Is a directory"),
        (lambda board, at: board.pull(str(at / "file"), at / "none/x"), "No such file"),
        (lambda board, at: board.read_text(str(at / "none")), "No such file"),
    ],
    ids=["push none", "push to none", "push to folder", "pull none", "pull folder", "pull to none",
         "read"],
)  # fmt: skip
def test_files_that_cannot_be_copied(move, reason, board, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DeviceError, match=reason) as caught:
        move(board, tmp_path)
    assert str(tmp_path) in caught.value.message
    assert _partials(tmp_path) == []


def test_the_text_of_a_file(board, tmp_path):
    (tmp_path / "f").write_bytes(b"a\xffb")
    assert board.read_text(str(tmp_path / "f")) == "a\ufffdb"


def test_a_temporary_folder_goes_even_if_the_connection_was_lost(board, server):
    with contextlib.suppress(ConnectError), board.temporary_folder() as folder:
        board.run(("sh", "-c", "echo x; sleep 60"), on_line=lambda line: server.drop())
    assert not Path(folder).exists()
