"""Files beside the results that a record names: the power trace, the time of each layer.

They are named from the results file and the cell, so that a sweep never writes over another cell's.
`report.traces` reads them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.device.trace import TRACE_SCHEMA, Trace
from elfatt_deploy.pipeline.files import write_whole


def write_trace(results: Path, key: str, started: str, trace: Trace) -> dict[str, str]:
    """Write all samples of a cell; returns the file's name and its SHA-256.

    Raises:
        ExportError: it cannot be written.
    """
    document = {"schema": TRACE_SCHEMA, "version": 1, "key": key, **to_document(trace)}
    name = f"{results.name}.traces/{_name(key, started)}.json"
    return _write(results, name, json.dumps(document).encode() + b"\n")


def write_layers(results: Path, key: str, started: str, text: str) -> dict[str, str]:
    """Write what trtexec wrote of the layers of a cell's plan; returns name and SHA-256.

    Raises:
        ExportError: it cannot be written.
    """
    name = f"{results.name}.layers/{_name(key, started)}.profile.json"
    return _write(results, name, text.encode())


def _name(key: str, started: str) -> str:
    return hashlib.sha256(f"{key} {started}".encode()).hexdigest()[:16]


def _write(results: Path, name: str, data: bytes) -> dict[str, str]:
    hint = "make room, or name another file with --results FILE; earlier records are kept"
    write_whole(results.parent / name, data, hint=hint)
    return {name: hashlib.sha256(data).hexdigest()}
