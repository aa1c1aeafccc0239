"""The log of an evaluation: JSON Lines, a header, then a line for each image.

A run of the same model on the same listing, with the same preprocessing, runner and package
versions has the same file name, and goes on where the log ends. With any of them changed it is
another file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from elfatt_deploy.artifacts import from_document, to_document
from elfatt_deploy.errors import ExportError, SchemaError

LOG_SCHEMA = "elfatt-deploy/eval-log"
LOG_VERSION = 1
_AWAY = "move the file away: the run then starts anew"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogHeader:
    """The first line of a log: everything that a prediction depends on.

    Args:
        schema: `LOG_SCHEMA`.
        version: `LOG_VERSION` of the program that wrote it.
        model: the bundle's folder or the file.
        model_sha256: digest of the ONNX file.
        weights: where the weights came from.
        precision: precision of what runs.
        runner: what runs it.
        reference: the torch model that sees the same images; None where none does.
        data: name of the data folder.
        data_sha256: digest of its listing.
        images: images in the listing.
        classes: classes of the model.
        preprocessing: every field of it.
        versions: package -> version.
    """

    schema: str = LOG_SCHEMA
    version: int = LOG_VERSION
    model: str
    model_sha256: str
    weights: str
    precision: str
    runner: str
    reference: str | None
    data: str
    data_sha256: str
    images: int
    classes: int
    preprocessing: dict[str, Any]
    versions: dict[str, str]

    @property
    def file_name(self) -> str:
        """Name of the log: readable parts, then a digest of all fields."""
        text = json.dumps(to_document(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        words = (self.model, self.runner.split()[0], digest)
        return ".".join(re.sub(r"[^\w.-]+", "-", word) for word in words) + ".jsonl"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What one image came to.

    Args:
        image: its path within the data folder.
        label: its class.
        size_bytes: size of its file; another size is another image.
        top: the best five classes, best first; empty where a logit is NaN or Inf.
        values: their logits.
        reference: the best five classes of the torch model, where it saw the image.
        error: why the image could not be read; it is tried again by the next run.
    """

    image: str
    label: int
    size_bytes: int
    top: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    reference: tuple[int, ...] | None = None
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LogContent:
    """A log as read: its header and lines, and how many bytes of the file are whole lines."""

    header: LogHeader
    predictions: tuple[Prediction, ...]
    whole_bytes: int
    torn: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    lines: tuple[Prediction, ...]


def read_log(path: Path) -> LogContent:
    """Read a log of any version; a torn last line is left out.

    Raises:
        SchemaError: the file cannot be read, is no log, is of a newer version, or is damaged in
            another place than its end.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SchemaError(f"cannot read {path}: {error.strerror}", hint=_AWAY) from error
    *lines, rest = content.split(b"\n")
    documents: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            document = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not rest:  # a crash can leave a block of zeros
                rest = line + b"\n"
                break
            raise SchemaError(
                f"line {number} of {path} is not a JSON document: {error}", hint=_AWAY
            ) from error
        documents.append(document)
    header = _header(documents[0] if documents else None, path)
    try:
        read = from_document(_Lines, {"lines": documents[1:]}, str(path))
    except SchemaError as error:
        raise SchemaError(error.message, hint=_AWAY) from error
    return LogContent(
        header=header,
        predictions=read.lines,
        whole_bytes=len(content) - len(rest),
        torn=bool(rest),
    )


def _header(document: Any, path: Path) -> LogHeader:
    found = document.get("schema") if isinstance(document, dict) else None
    if found != LOG_SCHEMA:
        raise SchemaError(f"{path} has schema {found!r}, not {LOG_SCHEMA!r}", hint=_AWAY)
    if document.get("version") != LOG_VERSION:
        raise SchemaError(
            f"{path} has schema version {document.get('version')}; this program reads version "
            f"{LOG_VERSION}",
            hint="use the elfatt-deploy version that wrote it, or another -o FOLDER",
        )
    try:
        return from_document(LogHeader, document, str(path))
    except SchemaError as error:
        raise SchemaError(error.message, hint=_AWAY) from error


class EvalLog:
    """A log that is written to.

    Args:
        path: its file.
        file: the same, open at its end.
        predictions: what it holds already.
        torn: whether its last line was torn and left out.
    """

    def __init__(
        self, path: Path, file: BinaryIO, predictions: Sequence[Prediction], torn: bool
    ) -> None:
        """Index by image what earlier runs finished; of two lines the later one counts."""
        self.path, self.torn = path, torn
        self.finished = {line.image: line for line in predictions if not line.error}
        self._file = file

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Write lines through to the disk.

        Raises:
            ExportError: the file cannot be written, say because its disk is full.
        """
        _write(self._file, [to_document(line) for line in predictions], self.path)
        self.finished.update((line.image, line) for line in predictions if not line.error)


@contextmanager
def opened(folder: Path, header: LogHeader) -> Iterator[EvalLog]:
    """Open the log of a run for more lines; make it where there is none.

    Raises:
        ExportError: the folder or the file cannot be written.
        SchemaError: the file of that name cannot be gone on with.
    """
    path = folder / header.file_name
    predictions: tuple[Prediction, ...] = ()
    whole, torn = 0, False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and b"\n" not in path.read_bytes()  # not even the header is whole
        if path.exists() and not torn:
            content = read_log(path)
            if content.header != header:
                raise SchemaError(f"{path} is the log of another run", hint=_AWAY)
            predictions, whole, torn = content.predictions, content.whole_bytes, content.torn
        file = path.open("ab")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        if torn:
            file.truncate(whole)
        if not whole:
            _write(file, [to_document(header)], path)
        yield EvalLog(path, file, predictions, torn)
    finally:
        with suppress(OSError):  # all lines are on the disk, or their failure was told
            file.close()


def _write(file: BinaryIO, documents: Sequence[dict[str, Any]], path: Path) -> None:
    text = "".join(json.dumps(document) + "\n" for document in documents)
    try:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ExportError:
    return ExportError(
        f"cannot write the log {path}: {error.strerror or error}",
        hint="make room or choose another folder with -o FOLDER; finished images are kept",
    )
