"""What a call has measured so far, beside the results file: `RESULTS.1a2b3c4d5e6f.partial`.

JSON Lines, only ever appended to, each line on the disk before the next cell is measured. The name
holds a digest of all that makes the call what it is, so the same call finds its file again and goes
on; the file is removed when the records are in the results. A torn last line is skipped.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elfatt_deploy.artifacts import from_document, to_document
from elfatt_deploy.bench.cells import Measured
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.errors import ExportError, SchemaError, UsageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SCHEMA = "elfatt-deploy/bench-partial"
VERSION = 1
#: an older file is only continued where that is asked for: the machine has changed since
FRESH = datetime.timedelta(hours=24)
_DIGITS = 12
_ANEW = "remove the file, and measure anew"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """One run of the program on a call: when it began, and how the machine was then."""

    number: int
    started: str
    before: State


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One repetition of one cell, measured.

    Args:
        cell: number of the cell.
        repetition: number of the repetition.
        started: when it began, UTC.
        duration_s: time that its process took.
        measured: what it measured.
    """

    cell: int
    repetition: int
    started: str
    duration_s: float
    measured: Measured


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A line of the file: one of the two."""

    schema: str
    version: int
    sitting: Sitting | None = None
    visit: Visit | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    lines: tuple[_Line, ...]


class Partial:
    """The file of one call, open and locked.

    Args:
        path: the file.
        handle: its descriptor.
    """

    def __init__(self, path: Path, handle: int) -> None:
        """Read what is there."""
        self.path, self._handle = path, handle
        self.sittings: tuple[Sitting, ...] = ()
        self.visits: tuple[Visit, ...] = ()
        self._read()

    def begin(self, started: str, before: State) -> Sitting:
        """Note that the program begins, or goes on.

        Raises:
            ExportError: the file cannot be written.
        """
        sitting = Sitting(number=len(self.sittings), started=started, before=before)
        self._append({"sitting": to_document(sitting)})
        self.sittings = (*self.sittings, sitting)
        return sitting

    def keep(self, visit: Visit) -> None:
        """Keep what was measured, and wait until it is on the disk.

        Raises:
            ExportError: the file cannot be written; what was kept before still is.
        """
        self._append({"visit": to_document(visit)})
        self.visits = (*self.visits, visit)

    def clear(self) -> None:
        """Forget all that was measured.

        Raises:
            ExportError: the file cannot be written.
        """
        with _explained(self.path):
            os.ftruncate(self._handle, 0)
        self.sittings, self.visits = (), ()

    def is_fresh(self, now: str) -> bool:
        """Whether the last sitting began not long ago."""
        if not self.sittings:
            return True
        age = _moment(now) - _moment(self.sittings[-1].started)
        return age <= FRESH

    def _append(self, content: dict[str, Any]) -> None:
        document = {"schema": SCHEMA, "version": VERSION, **content}
        line = json.dumps(document, allow_nan=False).encode() + b"\n"
        with _explained(self.path):
            size = os.fstat(self._handle).st_size
            torn = size and os.pread(self._handle, 1, size - 1) != b"\n"
            data = b"\n" + line if torn else line
            try:
                while data:
                    data = data[os.write(self._handle, data) :]
                os.fsync(self._handle)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._handle, size)
                raise

    def _read(self) -> None:
        content = os.pread(self._handle, os.fstat(self._handle).st_size, 0)
        documents = []
        for number, text in enumerate(content.split(b"\n"), start=1):
            try:
                document = json.loads(text)
            except ValueError:  # torn, or the empty end
                continue
            documents.append(_own(document, f"line {number} of {self.path}"))
        try:
            # All at once: to prepare the validation takes longer than to validate a line.
            lines = from_document(_Lines, {"lines": documents}, str(self.path)).lines
        except SchemaError as error:
            raise SchemaError(error.message, hint=_ANEW) from error
        self.sittings = tuple(line.sitting for line in lines if line.sitting is not None)
        self.visits = tuple(line.visit for line in lines if line.visit is not None)


def path_of(results: Path, call: Mapping[str, Any]) -> Path:
    """Return the file of a call, by all that makes it what it is."""
    text = json.dumps(call, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
    return results.with_name(f"{results.name}.{digest}.partial")


def remove(path: Path) -> None:
    """Remove the file of a call: its records are in the results."""
    with suppress(OSError):  # a file that stays is found complete, and its records come out again
        path.unlink()


@contextmanager
def opened(path: Path) -> Iterator[Partial]:
    """Open the file of a call, new or not, and keep others from it meanwhile.

    Raises:
        ExportError: it cannot be written, or the system has no file locks.
        UsageError: another process is measuring the same call.
        SchemaError: a newer version of this program wrote it, or it is foreign.
    """
    if fcntl is None:
        raise ExportError(
            f"cannot write {path}: this system has no file locks of the POSIX kind",
            hint="use Linux (on Windows, WSL), or measure without --results",
        )
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(path)
        while os.fstat(handle).st_nlink == 0:  # another process has just removed it
            os.close(handle)
            handle = _locked(path)
    try:
        yield Partial(path, handle)
    finally:
        os.close(handle)


def _locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UsageError(
            f"another process is measuring the same: it holds {path}",
            hint="wait for it, or name another file with --results",
        ) from error
    except OSError:  # a file system without locks
        os.close(handle)
        raise
    return handle


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"cannot keep what is measured in {path}: {error.strerror or error}",
            hint="make room, then give the same command again: it goes on where it stopped",
        ) from error


def _own(document: Any, origin: str) -> dict[str, Any]:
    ours = isinstance(document, dict) and document.get("schema") == SCHEMA
    if not ours or document.get("version") != VERSION:
        raise SchemaError(f"{origin} is none that this version of the program wrote", hint=_ANEW)
    own: dict[str, Any] = document
    return own


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
