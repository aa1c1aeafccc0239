"""The protocol of all transports, and what a command leaves.

A command is a list of arguments, never a line for a shell: a transport that needs a shell on the
other side quotes each argument itself. Paths on the other side are texts, paths here are `Path`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command left.

    Args:
        command: the program and its arguments.
        status: its exit status; 128 + n after signal n, as a shell tells it.
        stdout: all it wrote there.
        stderr: all it wrote there.
        seconds: wall-clock time from start to end.
    """

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str
    seconds: float


class Transport(Protocol):
    """Runs commands and moves files, here or elsewhere; used with `with`."""

    #: the machine, in a message: "this machine", "user@board"
    name: str

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command to its end; a status other than 0 is the caller's to judge.

        Args:
            command: the program and its arguments.
            timeout_s: end it, and all that it started, after so many seconds; None for no limit.
            input: text for its standard input; None for an empty one.
            on_line: called with each line of both streams as it comes, without its line break.

        Raises:
            CommandError: it could not be started.
            CommandTimeout: it did not end in time.
            ConnectError: the machine cannot be reached, or was lost before the command's end; the
                next call connects anew.
        """

    def push(self, local: Path, remote: str) -> None:
        """Copy a file from here to there; nothing partial is ever there under its name.

        Raises:
            DeviceError: it cannot be read here or written there.
        """

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there to here; nothing partial is ever here under its name.

        Raises:
            DeviceError: it cannot be read there or written here.
        """

    def read_text(self, remote: str) -> str:
        """Return the text of a file there.

        Raises:
            DeviceError: it cannot be read.
        """

    def temporary_folder(self) -> AbstractContextManager[str]:
        """Return a context whose value is a new folder there; it is removed at the end.

        Raises:
            DeviceError: it cannot be made.
        """

    def __enter__(self) -> Transport:
        """Connect."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""


def shown(command: Sequence[str]) -> str:
    """Return a command as one could type it into a shell."""
    return shlex.join(command)
