"""Tensors to trtexec and back: raw input files, and its `--exportOutput` file.

An input file holds the bytes of the array and nothing else. Outputs come as text with 6 significant
digits: an error of at most 5e-6 of each value, far below every tolerance.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elfatt_deploy.errors import EngineError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: how C++ writes what JSON has no word for, as a whole value
_WORDS = re.compile(r"(?<=[\s,\[])(-?)(nan|inf)(?=[\s,\]])", re.IGNORECASE)
_AGAIN = "run the cell again; report the file with this message where it happens twice"


def write_input(path: Path, values: NDArray[np.float32]) -> None:
    """Write an input for `--loadInputs`: float32, little-endian, in C order.

    Raises:
        EngineError: the values are of another type, or the file cannot be written.
    """
    if values.dtype != np.float32:
        raise EngineError(f"the input is {values.dtype}, and the plan takes float32")
    try:
        path.write_bytes(np.ascontiguousarray(values, dtype="<f4").tobytes())
    except OSError as error:
        raise EngineError(
            f"cannot write {path}: {error.strerror or error}",
            hint="make room for the input, or choose another folder for temporary files (TMPDIR)",
        ) from error


def parse_outputs(text: str, origin: str) -> dict[str, NDArray[np.float32]]:
    """Parse an `--exportOutput` file into arrays by tensor name.

    Raises:
        EngineError: it is torn or no such file, or the number of values is not that of the shape.
    """
    try:
        document = json.loads(_WORDS.sub(_json_word, text))
    except ValueError as error:
        raise EngineError(
            f"{origin} is torn or no JSON: {error}",
            hint="the disk may be full, or trtexec was ended before its end: run the cell again",
        ) from error
    if not isinstance(document, list) or not document:
        raise EngineError(f"{origin} holds no outputs", hint=_AGAIN)
    return dict(_tensor(entry, origin) for entry in document)


def _json_word(match: re.Match[str]) -> str:
    # JSON as Python reads it has words for these; a NaN has no sign
    return "NaN" if match[2].lower() == "nan" else f"{match[1]}Infinity"


def _tensor(entry: Any, origin: str) -> tuple[str, NDArray[np.float32]]:
    """Return name and values; `dimensions` is a text such as `1x1000` or `(1, 1000)`."""
    try:
        name, dimensions, values = (entry[key] for key in ("name", "dimensions", "values"))
        shape = tuple(int(size) for size in re.findall(r"\d+", dimensions))
        array = np.array(values, dtype=np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"{origin} holds an output that is none: {error}", hint=_AGAIN) from error
    if array.ndim != 1 or array.size != int(np.prod(shape, dtype=np.int64)):
        raise EngineError(
            f"{origin}: '{name}' has {array.size} values, and its shape is {dimensions}",
            hint=_AGAIN,
        )
    return str(name), array.reshape(shape)
