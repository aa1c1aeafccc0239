"""Recordings of what a machine answered, and a transport that answers from one.

A recording is a JSON Lines file: a header, then a line for each call in the order of their ends,
with all that is needed to answer it again; files that were copied are in it whole. It holds what
the commands printed: look through it before you give it away.

    {"schema": "elfatt-deploy/recording", "version": 1, "name": "nvidia@orin"}
    {"call": "run", "command": ["nvpmodel", "-q"], "input": null, "status": 0, "stdout": ...}
    {"call": "pull", "remote": "/tmp/x.json", "content": "eJy..."}          zlib, then base64
    {"call": "run", "command": ["trtexec"], "input": null, "error": {"kind": "ConnectError", ...}}
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from elfatt_deploy.errors import (
    CommandError,
    CommandTimeout,
    ConnectError,
    DeviceError,
    ElfattDeployError,
    InputFileError,
    SchemaError,
)
from elfatt_deploy.transport.base import CommandResult, Transport, shown
from elfatt_deploy.transport.wrapped import Wrapped

SCHEMA = "elfatt-deploy/recording"
VERSION = 1

_ERRORS: Mapping[str, type[DeviceError]] = {
    kind.__name__: kind for kind in (DeviceError, ConnectError, CommandError, CommandTimeout)
}
_HINT = "record it again with this version"


class Recorder(Wrapped):
    """A transport that passes every call on and writes down what came of it.

    Args:
        transport: what really answers.
        path: the recording; a file that is there is replaced.

    Raises:
        DeviceError: the recording cannot be written.
    """

    def __init__(self, transport: Transport, path: Path) -> None:
        """Begin the recording."""
        super().__init__(transport)
        self._path = path
        header = {"schema": SCHEMA, "version": VERSION, "name": self.name}
        self._write("w", header)

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command; see `Transport.run`."""
        with self._recorded("run", command=list(command), input=input) as line:
            done = self.inner.run(command, timeout_s=timeout_s, input=input, on_line=on_line)
            line.update(
                status=done.status, stdout=done.stdout, stderr=done.stderr, seconds=done.seconds
            )
        return done

    def push(self, local: Path, remote: str) -> None:
        """Copy a file from here to there; see `Transport.push`."""
        with self._recorded("push", remote=remote) as line:
            self.inner.push(local, remote)
            line["sha256"] = hashlib.sha256(local.read_bytes()).hexdigest()

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there to here; see `Transport.pull`."""
        with self._recorded("pull", remote=remote) as line:
            self.inner.pull(remote, local)
            line["content"] = base64.b64encode(zlib.compress(local.read_bytes())).decode()

    def read_text(self, remote: str) -> str:
        """Return the text of a file there; see `Transport.read_text`."""
        with self._recorded("read_text", remote=remote) as line:
            text = self.inner.read_text(remote)
            line["text"] = text
        return text

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give a new folder there; see `Transport.temporary_folder`."""
        with contextlib.ExitStack() as stack:
            with self._recorded("temporary_folder") as line:
                folder = stack.enter_context(self.inner.temporary_folder())
                line["folder"] = folder
            yield folder

    @contextlib.contextmanager
    def _recorded(self, call: str, **asked: Any) -> Iterator[dict[str, Any]]:
        """Write a line when the call is over, however it ended; what interrupts us leaves none."""
        line: dict[str, Any] = {"call": call, **asked}
        try:
            yield line
        except DeviceError as error:
            line["error"] = _document(error)
            self._write("a", line)
            raise
        self._write("a", line)

    def _write(self, mode: str, line: Mapping[str, Any]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise DeviceError(
                f"cannot write the recording {self._path}: {error.strerror}",
                hint="check that its folder is there, and that there is room",
            ) from error


class Replay:
    """A machine that only knows a recording: calls of a kind are answered in their order.

    A command is answered by the first answer left for the same command with the same input. Lines
    come as they stand in the recording, those of stdout first.

    Args:
        path: the recording.

    Raises:
        InputFileError: it cannot be read.
        SchemaError: it is no recording, of a newer version, or torn.
    """

    def __init__(self, path: Path) -> None:
        """Read all of it."""
        self._path = path
        header, *self._lines = _read(path)
        if header.get("schema") != SCHEMA:
            raise SchemaError(f"{path} is no recording", hint=_HINT)
        if header.get("version") != VERSION:
            raise SchemaError(
                f"{path} has version {header.get('version')} of a recording, and {VERSION} is read",
                hint=_HINT,
            )
        self.name = str(header.get("name", "a recording"))

    def __enter__(self) -> Replay:
        """There is nothing to connect to."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """There is nothing to disconnect."""

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Give what the command left when it was recorded; see `Transport.run`.

        Raises:
            DeviceError: what was raised then, or the recording has no answer left for it.
        """
        line = self._take("run", shown(command), command=list(command), input=input)
        done = CommandResult(
            command=tuple(command),
            status=line["status"],
            stdout=line["stdout"],
            stderr=line["stderr"],
            seconds=line["seconds"],
        )
        if on_line is not None:
            for text in (done.stdout + done.stderr).splitlines():
                on_line(text)
        return done

    def push(self, local: Path, remote: str) -> None:
        """Do nothing if this very file was copied there; see `Transport.push`.

        Raises:
            DeviceError: what was raised then, or the recording has no answer left for it.
        """
        line = self._take("push", remote, remote=remote)
        try:
            digest = hashlib.sha256(local.read_bytes()).hexdigest()
        except OSError as error:
            raise DeviceError(f"cannot read {local} on this machine: {error.strerror}") from error
        if digest != line["sha256"]:
            raise DeviceError(
                f"another file than {local} was copied to {remote} in the recording {self._path}",
                hint=_HINT,
            )

    def pull(self, remote: str, local: Path) -> None:
        """Write the file that was copied from there; see `Transport.pull`.

        Raises:
            SchemaError: its copy in the recording is torn.
            DeviceError: what was raised then, or the recording has no answer left for it.
        """
        line = self._take("pull", remote, remote=remote)
        try:
            local.write_bytes(zlib.decompress(base64.b64decode(line["content"])))
        except OSError as error:
            raise DeviceError(f"cannot write {local} on this machine: {error.strerror}") from error
        except (binascii.Error, zlib.error) as error:
            raise SchemaError(f"{self._path} has a torn copy of {remote}", hint=_HINT) from error

    def read_text(self, remote: str) -> str:
        """Return the text as it was; see `Transport.read_text`.

        Raises:
            DeviceError: what was raised then, or the recording has no answer left for it.
        """
        text: str = self._take("read_text", remote, remote=remote)["text"]
        return text

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give the name of the folder as it was; see `Transport.temporary_folder`.

        Raises:
            DeviceError: what was raised then, or the recording has no answer left for it.
        """
        yield self._take("temporary_folder", "")["folder"]

    def _take(self, call: str, what: str, **asked: Any) -> dict[str, Any]:
        """Return the first line left that answers a call, and take it out."""
        for index, line in enumerate(self._lines):
            if line.get("call") == call and all(line.get(k) == v for k, v in asked.items()):
                del self._lines[index]
                break
        else:
            raise self._unanswered(call, what, asked)
        if "error" in line:
            raise _error(line["error"])
        return line

    def _unanswered(self, call: str, what: str, asked: Mapping[str, Any]) -> DeviceError:
        with_other_input = any(
            line.get("call") == "run" and line["command"] == asked.get("command")
            for line in self._lines
        )
        why = "only with another input" if with_other_input else "it is not there, or not so often"
        return DeviceError(
            f"the recording {self._path} has no answer to {call} {what}".rstrip() + f": {why}",
            hint=_HINT,
        )


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"cannot read the recording {path}: {error}") from error
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            document = json.loads(line)
        except ValueError as error:
            raise SchemaError(f"line {number} of {path} is no JSON: {error}", hint=_HINT) from error
        if not isinstance(document, dict):
            raise SchemaError(f"line {number} of {path} is no JSON object", hint=_HINT)
        lines.append(document)
    return lines or [{}]


def _document(error: ElfattDeployError) -> dict[str, Any]:
    kind = type(error).__name__ if type(error).__name__ in _ERRORS else "DeviceError"
    document: dict[str, Any] = {"kind": kind, "message": error.message, "hint": error.hint}
    if isinstance(error, CommandError):
        document.update(command=list(error.command), status=error.status, stderr=error.stderr)
    return document


def _error(document: Mapping[str, Any]) -> DeviceError:
    kind = _ERRORS.get(document["kind"], DeviceError)
    if issubclass(kind, CommandError):
        return kind(
            document["message"],
            hint=document["hint"],
            command=tuple(document["command"]),
            status=document["status"],
            stderr=document["stderr"],
        )
    return kind(document["message"], hint=document["hint"])
