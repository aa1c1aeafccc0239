"""A program that runs on this machine, its streams read as they come: what `Local` and `Ssh` share.

Everything it leaves is cleared at its end: the process group, the threads and the pipes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO

#: between asking a program to end and ending it
GRACE_S = 3.0
#: how often a program that is silent is looked after
_POLL_S = 0.2

#: a line and the stream that it came from; None in place of the line at the stream's end
_Lines = queue.SimpleQueue[tuple[str, str | None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """A limit in time, counted from when it is made.

    Args:
        timeout_s: how long; None for no limit.
        began_s: monotonic clock at its start.
    """

    timeout_s: float | None
    began_s: float = dataclasses.field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        """Time since its start."""
        return time.monotonic() - self.began_s

    @property
    def left_s(self) -> float | None:
        """Time until it; 0 when it is over, None where there is no limit."""
        return None if self.timeout_s is None else max(0.0, self.timeout_s - self.elapsed_s)


class Process:
    """A program, started at once as the leader of a process group that ends with it.

    Args:
        command: the program and its arguments.
        environment: all its variables; None for those of this process.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        """Start it with a pipe on each of its streams."""
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # so that all it starts can be ended with it
        )
        self._threads: list[threading.Thread] = []

    @property
    def stdout(self) -> IO[bytes]:
        """What it writes, for a caller that wants bytes and not lines."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def feed(self, chunks: Iterable[bytes], *, close: bool = True) -> None:
        """Write its standard input beside what goes on; one that does not read it is no failure.

        Args:
            chunks: what to write.
            close: end its input after them; otherwise it stays open until the program ends.
        """
        self._begin(self._feed, chunks, close)

    def write(self, text: str) -> None:
        """Write to its standard input now; one that does not read it any more is no failure."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            stdin.write(text.encode("utf-8", errors="replace"))
            stdin.flush()

    def lines(
        self, deadline: Deadline, *, streams: Sequence[str], idle: Callable[[], None]
    ) -> Iterator[tuple[str, str]]:
        """Yield the name of a stream and a line of it until these streams have ended.

        Args:
            deadline: when to give up.
            streams: "stdout", "stderr" or both.
            idle: called now and then while nothing comes.

        Raises:
            TimeoutError: the time is over.
        """
        lines: _Lines = queue.SimpleQueue()
        for name in streams:
            self._begin(_read, getattr(self._process, name), name, lines)
        missing = len(streams)
        while missing:
            left = deadline.left_s
            if left == 0:
                raise TimeoutError
            try:
                name, line = lines.get(timeout=min(_POLL_S, left or _POLL_S))
            except queue.Empty:
                idle()
                continue
            if line is None:
                missing -= 1
            else:
                yield name, line

    def wait(self, deadline: Deadline) -> int:
        """Return its exit status; 128 + n after signal n, as a shell tells it.

        Raises:
            TimeoutError: the time is over.
        """
        try:
            status = self._process.wait(deadline.left_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return status if status >= 0 else 128 - status

    def kill_group(self) -> None:
        """End all that it started, at once."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Leave no process, no thread and no open pipe behind."""
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            self._signal(signal.SIGKILL)
            self._process.wait()
        for thread in self._threads:
            thread.join(GRACE_S)
        if any(thread.is_alive() for thread in self._threads):
            return  # one that left the group holds a pipe: closing it would wait for ever
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _feed(self, chunks: Iterable[bytes], close: bool) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(OSError, ValueError):
            for chunk in chunks:
                stdin.write(chunk)
            stdin.flush()
        if close:
            with contextlib.suppress(OSError):
                stdin.close()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def _read(stream: IO[bytes], name: str, lines: _Lines) -> None:
    """Pass the lines of a stream on."""
    with contextlib.suppress(ValueError):  # the stream was closed under us, at the end
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace")
        for line in text:
            lines.put((name, line))
        text.detach()  # who owns the pipe closes it
    lines.put((name, None))
