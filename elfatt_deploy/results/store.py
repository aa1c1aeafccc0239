"""The results file: JSON Lines, a run record a line, only ever appended to.

A record is on the disk when `append` returns. A program that is killed while it appends leaves at
most a torn line, which is skipped with a warning and never joined with what follows. Several
programs may append to one file. Nothing here changes or removes a line that is whole.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.errors import ExportError, InputFileError, SchemaError
from elfatt_deploy.results.schema import RUN_SCHEMA, RunRecord, is_run, records_from_documents

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: how every line begins that we write
_BEGIN = f'{{"schema": "{RUN_SCHEMA}"'.encode()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """A results file as read.

    Args:
        records: in the order in which they were appended.
        warnings: what was skipped, a line each.
    """

    records: tuple[RunRecord, ...]
    warnings: tuple[str, ...] = ()

    @property
    def latest(self) -> dict[str, RunRecord]:
        """The last record of each cell, by key."""
        return {record.key: record for record in self.records}


def append(path: Path, record: RunRecord) -> None:
    """Append a record and wait until it is on the disk.

    Where that fails, what was there before is still there, and nothing of the record is.

    Raises:
        ExportError: the file cannot be written, say because its disk is full, or the system has no
            file locks.
        SchemaError: the file is there and is no results file.
    """
    line = json.dumps(to_document(record), allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            size = os.fstat(file).st_size
            last = _checked_end(file, size, path)
            # A torn line stays as it is, on a line of its own.
            data = line if last in (b"", b"\n") else b"\n" + line
            try:
                _write(file, data)
                os.fsync(file)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file, size)
                raise
        _sync_folder(path.parent)
    except OSError as error:
        raise ExportError(
            f"cannot append to the results {path}: {error.strerror or error}",
            hint="make room, or name another file with --results FILE; earlier records are kept",
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file for appending, and keep others from it until it is closed."""
    if fcntl is None:
        raise ExportError(
            f"cannot append to {path}: this system has no file locks of the POSIX kind",
            hint="use Linux (on Windows, WSL); the results can be read here",
        )
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        # Of the open file, not of the process: it holds between threads, too.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _checked_end(file: int, size: int, path: Path) -> bytes:
    """Return the last byte; refuse a file that is not ours."""
    begin = os.pread(file, len(_BEGIN), 0)
    if not (_BEGIN.startswith(begin) or not begin.strip(b"\0")):
        first = os.pread(file, size, 0).split(b"\n", 1)[0]
        if not is_run(_parsed(first)):
            raise SchemaError(
                f"{path} is no results file: it does not begin with a run record",
                hint="name another file with --results FILE",
            )
    return os.pread(file, 1, size - 1) if size else b""


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _sync_folder(folder: Path) -> None:
    """Bring the name of a new file to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: Path) -> Records:
    """Read all records of a results file.

    A line that is torn or foreign is skipped with a warning that names it.

    Raises:
        InputFileError: the file cannot be read.
        SchemaError: a record is of a newer version or does not match its schema, or no line of the
            file is a record.
    """
    content = _content(path)
    documents: list[tuple[str, dict[str, Any]]] = []
    warnings: list[str] = []
    foreign = ""
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        document, where = _parsed(line), f"line {number} of {path}"
        if is_run(document):
            documents.append((where, document))
        elif document is None and (line.startswith(_BEGIN[: len(line)]) or not line.strip(b"\0")):
            warnings.append(f"{where} is torn: its record is lost, measure that cell again")
        else:
            found = document.get("schema") if isinstance(document, dict) else None
            what = f"has schema {found!r}" if found else "is no JSON object with a schema"
            warnings.append(f"{where} is no run record (it {what}): left out")
            foreign = foreign or warnings[-1]
    if foreign and not documents:
        raise SchemaError(
            f"{path} is no results file: {foreign}",
            hint="name a file that 'elfatt-deploy bench --results FILE' wrote",
        )
    return Records(records=records_from_documents(documents), warnings=tuple(warnings))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks can be read all the same
                    fcntl.flock(file, fcntl.LOCK_SH)
            return file.read()
    except OSError as error:
        raise InputFileError(
            f"cannot read the results {path}: {error.strerror}",
            hint="'elfatt-deploy bench --results FILE' writes one",
        ) from error


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
