"""A recording answers as the machine did, and only that."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy.errors import (
    CommandError,
    CommandTimeout,
    ConnectError,
    DeviceError,
    InputFileError,
    SchemaError,
)
from elfatt_deploy.transport.local import Local
from elfatt_deploy.transport.replay import Recorder, Replay


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recording.jsonl"


@pytest.fixture
def recorder(path):
    with Recorder(Local(name="orin"), path) as transport:
        yield transport


def test_commands_answer_as_they_did(recorder, path):
    script = ("sh", "-c", "cat; echo out; echo err >&2; exit 3")
    done = recorder.run(script, input="in\n")
    lines = []
    with Replay(path) as replay:
        assert replay.name == "orin"
        assert replay.run(script, input="in\n", on_line=lines.append) == done
    assert lines == ["in", "out", "err"]


def test_the_same_command_answers_in_its_order(recorder, path, tmp_path):
    for text in ("1", "2"):
        (tmp_path / "f").write_text(text)
        recorder.run(("cat", str(tmp_path / "f")))
        recorder.run(("echo", text))
    replay = Replay(path)
    assert [replay.run(("cat", str(tmp_path / "f"))).stdout for _ in range(2)] == ["1", "2"]
    assert replay.run(("echo", "2")).stdout == "2\n"


def test_a_call_that_is_not_there_is_named(recorder, path):
    recorder.run(("cat",), input="a")
    replay = Replay(path)
    with pytest.raises(DeviceError, match="no answer to run nvpmodel -q: it is not there"):
        replay.run(("nvpmodel", "-q"))
    with pytest.raises(DeviceError, match="no answer to run cat: only with another input"):
        replay.run(("cat",), input="b")
    replay.run(("cat",), input="a")
    with pytest.raises(DeviceError, match="not so often"):
        replay.run(("cat",), input="a")
    with pytest.raises(DeviceError, match="no answer to read_text /etc/nv_tegra_release"):
        replay.read_text("/etc/nv_tegra_release")
    with (
        pytest.raises(DeviceError, match="no answer to temporary_folder: "),
        replay.temporary_folder(),
    ):
        pass


def test_files_and_folders(recorder, path, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"\x00\xff" * 1000)
    with recorder.temporary_folder() as folder:
        recorder.push(source, f"{folder}/x")
        recorder.pull(f"{folder}/x", tmp_path / "back")
        assert recorder.read_text("/proc/self/comm")
    replay = Replay(path)
    with replay.temporary_folder() as again:
        assert again == folder
        replay.push(source, f"{again}/x")
        replay.pull(f"{again}/x", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == source.read_bytes()
    assert replay.read_text("/proc/self/comm")


def test_another_file_is_not_taken_for_the_one_that_was_copied(recorder, path, tmp_path):
    (tmp_path / "a").write_text("a")
    recorder.push(tmp_path / "a", str(tmp_path / "b"))
    (tmp_path / "a").write_text("other")
    with pytest.raises(DeviceError, match="another file than .*a was copied"):
        Replay(path).push(tmp_path / "a", str(tmp_path / "b"))


class _Failing(Local):
    """A machine on which every command fails in a way of its own."""

    def __init__(self, error):
        super().__init__()
        self._error = error

    def run(self, command, **more):
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("gone", hint="go"),
        CommandError("none", hint="install", command=("x",), status=127, stderr="?"),
        CommandTimeout("late", command=("x",), stderr="so far"),
        DeviceError("else"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_raised_again(error, path):
    with pytest.raises(type(error)):
        Recorder(_Failing(error), path).run(("x",))
    with pytest.raises(DeviceError) as caught:
        Replay(path).run(("x",))
    assert type(caught.value) is type(error)
    assert vars(caught.value) == vars(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no recording"),
        ('{"schema": "other"}\n', "is no recording"),
        ('{"schema": "elfatt-deploy/recording", "version": 2}\n', "has version 2"),
        ('{"schema": "elfatt-deploy/recording", "version": 1}\n{"call": "r', "line 2 .* no JSON"),
        ("[]\n", "line 1 .* no JSON object"),
    ],
)
def test_a_file_that_is_no_recording(text, message, path):
    path.write_text(text)
    with pytest.raises(SchemaError, match=message) as caught:
        Replay(path)
    assert "record it again" in caught.value.hint


def test_a_torn_copy_is_no_file(path, tmp_path):
    header = {"schema": "elfatt-deploy/recording", "version": 1, "name": "x"}
    line = {"call": "pull", "remote": "/x", "content": "eJw="}
    path.write_text(f"{json.dumps(header)}\n{json.dumps(line)}\n")
    with pytest.raises(SchemaError, match="torn copy of /x"):
        Replay(path).pull("/x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_recordings_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(InputFileError, match="cannot read the recording"):
        Replay(tmp_path / "none")
    with pytest.raises(DeviceError, match="cannot write the recording"):
        Recorder(Local(), tmp_path / "none" / "file")
