"""Commands on this machine."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from elfatt_deploy.errors import CommandError, CommandTimeout, DeviceError
from elfatt_deploy.transport.base import CommandResult, shown

#: between asking a command to end and ending it
_GRACE_S = 3.0
#: how often a command that is silent is looked after
_POLL_S = 0.2

#: a line and the stream that it came from; None in place of the line at the stream's end
_Lines = queue.SimpleQueue[tuple[str, str | None]]


class Local:
    """This machine. Every command is the leader of a process group that ends with it."""

    name = "this machine"

    def __enter__(self) -> Local:
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
        """Run a command to its end; see `Transport.run`.

        Raises:
            CommandError: there is no such program, or it may not be run.
            CommandTimeout: it did not end in time.
        """
        began = time.monotonic()
        process = _start(command)
        lines: _Lines = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_read, args=(stream, name, lines), daemon=True)
            for stream, name in ((process.stdout, "stdout"), (process.stderr, "stderr"))
        ]
        threads.append(threading.Thread(target=_feed, args=(process, input or ""), daemon=True))
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        try:
            for thread in threads:
                thread.start()
            for name, line in _until_closed(process, lines, began, timeout_s):
                texts[name].append(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            status = process.wait(_left(began, timeout_s))
        except subprocess.TimeoutExpired as error:
            raise CommandTimeout(
                f"{command[0]} did not end within {timeout_s:g} s: {shown(command)}",
                command=tuple(command),
                stderr="".join(texts["stderr"]),
            ) from error
        finally:
            _end(process, threads)
        return CommandResult(
            command=tuple(command),
            status=status if status >= 0 else 128 - status,
            stdout="".join(texts["stdout"]),
            stderr="".join(texts["stderr"]),
            seconds=time.monotonic() - began,
        )

    def push(self, local: Path, remote: str) -> None:
        """Copy a file on this machine.

        Raises:
            DeviceError: it cannot be read or written.
        """
        _copy(local, Path(remote))

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file on this machine.

        Raises:
            DeviceError: it cannot be read or written.
        """
        _copy(Path(remote), local)

    def read_text(self, remote: str) -> str:
        """Return the text of a file.

        Raises:
            DeviceError: it cannot be read.
        """
        try:
            return Path(remote).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DeviceError(f"cannot read {remote}: {error.strerror}") from error

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give a new folder where TMPDIR says, and remove it at the end.

        Raises:
            DeviceError: it cannot be made.
        """
        try:
            folder = tempfile.mkdtemp(prefix="elfatt-deploy-")
        except OSError as error:
            raise DeviceError(
                f"cannot make a temporary folder: {error.strerror}",
                hint="make room, or name a folder with room in TMPDIR",
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # so that all it starts can be ended with it
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise CommandError(
            f"cannot run {command[0]} on this machine: {error.strerror}",
            hint=f"install {command[0]}, or add its folder to PATH"
            if missing
            else f"check that {command[0]} is a program for this machine, and executable",
            command=tuple(command),
            status=127 if missing else 126,  # as a shell tells it
        ) from error


def _read(stream: TextIO, name: str, lines: _Lines) -> None:
    """Pass the lines of a stream on."""
    with contextlib.suppress(ValueError):  # the stream was closed under us, at the end
        for line in stream:
            lines.put((name, line))
    lines.put((name, None))


def _feed(process: subprocess.Popen[str], text: str) -> None:
    """Write its standard input; one that ends without reading it is no failure."""
    assert process.stdin is not None
    with contextlib.suppress(OSError, ValueError):
        process.stdin.write(text)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _left(began: float, timeout_s: float | None) -> float | None:
    return None if timeout_s is None else max(0.0, began + timeout_s - time.monotonic())


def _until_closed(
    process: subprocess.Popen[str], lines: _Lines, began: float, timeout_s: float | None
) -> Iterator[tuple[str, str]]:
    """Yield lines until both streams have ended.

    Raises:
        subprocess.TimeoutExpired: the time is over.
    """
    streams = 2
    while streams:
        left = _left(began, timeout_s)
        if left == 0:
            raise subprocess.TimeoutExpired(process.args, timeout_s or 0)
        try:
            name, line = lines.get(timeout=min(_POLL_S, left or _POLL_S))
        except queue.Empty:
            if process.poll() is not None:  # what it left running holds the streams open
                _signal(process, signal.SIGKILL)
            continue
        if line is None:
            streams -= 1
        else:
            yield name, line


def _end(process: subprocess.Popen[str], threads: list[threading.Thread]) -> None:
    """Leave no process, no thread and no open pipe behind."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        _signal(process, signal.SIGKILL)
        process.wait()
    for thread in threads:
        if thread.is_alive():
            thread.join(_GRACE_S)
    if any(thread.is_alive() for thread in threads):
        return  # a process that left the group holds a pipe: closing it here would wait for ever
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DeviceError(
            f"cannot copy {source} to {target}: {error.strerror or error}",
            hint="check that the file is there, and that there is room and permission to write",
        ) from error
