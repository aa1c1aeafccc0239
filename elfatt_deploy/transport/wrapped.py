"""A transport around another one, for those that change or watch a part of its calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from elfatt_deploy.transport.base import CommandResult, Transport

_Self = TypeVar("_Self", bound="Wrapped")


class Wrapped:
    """Passes every call on, with its errors.

    Args:
        inner: what answers.
    """

    def __init__(self, inner: Transport) -> None:
        """Keep it; nothing is connected."""
        self.inner, self.name = inner, inner.name

    def __enter__(self: _Self) -> _Self:
        """Connect."""
        self.inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        self.inner.__exit__(kind, error, trace)

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command; see `Transport.run`."""
        return self.inner.run(command, timeout_s=timeout_s, input=input, on_line=on_line)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file there; see `Transport.push`."""
        self.inner.push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file here; see `Transport.pull`."""
        self.inner.pull(remote, local)

    def read_text(self, remote: str) -> str:
        """Return the text of a file there; see `Transport.read_text`."""
        return self.inner.read_text(remote)

    def temporary_folder(self) -> AbstractContextManager[str]:
        """Give a new folder there; see `Transport.temporary_folder`."""
        return self.inner.temporary_folder()
