"""What is said to a shell, proved by shells of this machine in place of those behind ssh."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from elfatt_deploy.transport.ssh_shell import RemoteCommand, quoted

SHELLS = {
    "sh": ("sh", "-c"),
    "dash": ("dash", "-c"),
    "bash": ("bash", "-c"),
    "busybox": ("busybox", "sh", "-c"),
    "zsh": ("zsh", "-c"),
    "fish": ("fish", "-c"),
    "tcsh": ("tcsh", "-c"),
}
ODD = ("a b", "$HOME", "'", "\\'", "\\\\", '"', "*", "", "!x", "two\nlines", "`id`", "ünï", "-n")


def _run(shell, remote, given=b""):
    """Give a shell what sshd gives it; return its status and what is the command's own."""
    process = subprocess.Popen(
        (*shell, remote.line),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out, err = process.communicate(remote.header + given, timeout=20)
    texts = tuple(
        "".join(remote.text_of(name, line) for line in text.decode().splitlines(keepends=True))
        for name, text in (("stdout", out), ("stderr", err))
    )
    return process, *texts


@pytest.fixture(params=SHELLS)
def shell(request):
    """Each shell that somebody may log in with."""
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"{request.param} is not installed")
    return SHELLS[request.param]


def test_arguments_reach_the_program_as_they_are(shell):
    remote = RemoteCommand(
        (sys.executable, "-c", "import sys; print(sys.argv[1:])", *ODD), has_input=True
    )
    assert _run(shell, remote)[1:] == (f"{list(ODD)}\n", "")
    assert remote.status == 0


def test_a_command_longer_than_one_argument_may_be():
    big = ["x" * 70_000] * 2
    remote = RemoteCommand(
        (sys.executable, "-c", "import sys; print(len(''.join(sys.argv[1:])))", *big),
        has_input=True,
    )
    assert _run(SHELLS["sh"], remote)[1] == "140000\n"


def test_what_follows_the_script_is_the_input_byte_for_byte(shell):
    given = b"\n1\nabc\n" * 50_000
    remote = RemoteCommand(("cat",), has_input=True)
    assert _run(shell, remote, given)[1] == given.decode()


def test_markers_tell_the_process_and_the_status_and_are_no_output(shell):
    remote = RemoteCommand(("sh", "-c", "printf half >&2; exit 255"), has_input=True)
    process, out, err = _run(shell, remote)
    assert (out, err) == ("", "half")
    assert (remote.status, process.returncode, remote.refused) == (255, 0, "")
    assert remote.pid == process.pid


@pytest.mark.parametrize("word", ["A=1", "no-such-program", "/no/such/program"])
def test_a_program_that_is_not_there_is_missing(word):
    remote = RemoteCommand((word,), has_input=True)
    _run(SHELLS["sh"], remote)
    assert (remote.refused, remote.status) == ("missing", None)


@pytest.mark.parametrize("word", ["if", "{", "while"])
def test_a_word_of_the_shell_is_no_program(word):
    remote = RemoteCommand((word, "true"), has_input=True)
    _, _, err = _run(SHELLS["sh"], remote)
    assert remote.status == 127
    assert remote.word not in err


def test_a_file_that_is_no_program_is_denied(tmp_path):
    (tmp_path / "data").write_text("x")
    for path in (tmp_path / "data", tmp_path):
        remote = RemoteCommand((str(path),), has_input=True)
        _run(SHELLS["sh"], remote)
        assert remote.refused == "denied"


def test_a_greeting_before_the_command_is_not_its_output():
    remote = RemoteCommand(("true",), has_input=True)
    assert [
        remote.text_of("stdout", "Welcome!\n"),
        remote.text_of("stderr", "no locale\n"),
        remote.text_of("stdout", f"no line break{remote.word} begun 7\n"),
        remote.text_of("stdout", "mine\n"),
        remote.text_of("stderr", f"{remote.word} begun 7\n"),
        remote.text_of("stderr", f"mine{remote.word} ended 3\n"),
    ] == ["", "", "", "mine\n", "", "mine"]
    assert (remote.before, remote.pid, remote.status) == (["no locale\n"], 7, 3)


def test_a_list_of_processes_that_shows_the_marker_is_output():
    remote = RemoteCommand(
        ("sh", "-c", "cat /proc/$PPID/cmdline | tr '\\0' ' '; echo"), has_input=True
    )
    assert _run(SHELLS["sh"], remote)[1].endswith(f"sh {remote.word} \n")
    assert remote.status == 0


def test_a_null_byte_is_refused_and_not_dropped():
    with pytest.raises(ValueError, match="null byte"):
        quoted(("a\0b",))
