"""Reads `profiles/` into typed records and validates them.

Targets and published numbers are data with sources: a new one is an entry there, not a branch in
code. The folder lies inside the installed package, or beside it in a checkout.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any, Literal

from elfatt_deploy.artifacts import Counts, from_document
from elfatt_deploy.errors import InputFileError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # what became tomllib, for Python 3.10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a deployment target reads.

    Args:
        name: its name on the command line.
        summary: boards and TensorRT version.
        opset: opset that an export writes.
        opset_min: oldest opset that the target's parser takes.
        opset_max: newest opset that it takes.
        max_rank: highest tensor rank; None where there is no limit.
        ops: ops of the default domain that it imports; None means all.
        fp16: `typed` where the file's types decide the precision; `flags` where an FP32 file is
            built with the builder's FP16 flag and precision constraints.
        trtexec: dialect of its trtexec; empty where it has none.
        sm: compute capabilities of its boards, 87 for 8.7.
        local: how a depthwise convolution of tokens is written: `convolution` or `shifts`.
    """

    name: str
    summary: str
    opset: int
    opset_min: int
    opset_max: int
    max_rank: int | None = None
    ops: tuple[str, ...] | None = None
    fp16: Literal["typed", "flags"] = "typed"
    trtexec: str = ""
    sm: tuple[int, ...] = ()
    local: Literal["convolution", "shifts"] = "convolution"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One row of Tables I to V of the paper, numbers as printed.

    Args:
        method: the row's name in the paper.
        resolution: side of the input in pixels.
        params: millions of parameters, as printed.
        gflops_nfa: giga multiply-accumulates, as printed.
        gflops_fa: the same without softmax attention's products; empty where the paper has a dash.
        model: our model of that row; empty where this version has none.
        settings: `--set` texts that make it that row.
        note: what distinguishes the row, or had to be inferred.
    """

    method: str
    resolution: int
    params: str
    gflops_nfa: str
    gflops_fa: str = ""
    model: str = ""
    settings: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """One table of the paper."""

    number: int
    title: str
    source: str
    rows: tuple[PublishedRow, ...]


def profiles_folder() -> Path:
    """Return the folder of shipped data.

    Raises:
        InputFileError: the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "profiles", package.parent / "profiles"):
        if (folder / "targets.toml").is_file():
            return folder
    raise InputFileError(
        f"the data folder 'profiles' is missing beside {package}",
        hint="install elfatt-deploy again",
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputFileError: it is missing, or not TOML.
    """
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise InputFileError(f"{path} is not TOML: {error}") from error
    return document


@functools.cache
def targets() -> dict[str, Target]:
    """Return all targets by name.

    Raises:
        SchemaError: an entry lacks a field or has one of the wrong type.
    """
    path = profiles_folder() / "targets.toml"
    entries = read_toml(path)
    return {
        name: from_document(
            Target,
            {
                "name": name,
                **{key: value for key, value in entry.items() if key not in ("extends", "ops")},
                "ops": _ops(entries, name),
            },
            f"{path} [{name}]",
        )
        for name, entry in entries.items()
    }


def _ops(entries: dict[str, Any], name: str) -> tuple[str, ...] | None:
    entry = entries[name]
    if "ops" not in entry and "extends" not in entry:
        return None
    inherited = _ops(entries, entry["extends"]) or () if "extends" in entry else ()
    return tuple(sorted({*inherited, *entry.get("ops", ())}))


def target(name: str) -> Target:
    """Return the target of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in targets():
        raise UnknownNameError("target", name, targets())
    return targets()[name]


def published_numbers() -> tuple[int, ...]:
    """Return the numbers of the paper's tables whose data is shipped."""
    folder = profiles_folder() / "tables"
    return tuple(sorted(int(p.stem.removeprefix("table")) for p in folder.glob("table*.toml")))


def published_table(number: int) -> PublishedTable:
    """Return Table `number` of the paper.

    Raises:
        UnknownNameError: the data of that table is not shipped.
    """
    if number not in published_numbers():
        raise UnknownNameError("table", str(number), map(str, published_numbers()))
    path = profiles_folder() / "tables" / f"table{number}.toml"
    return from_document(PublishedTable, read_toml(path), str(path))


@functools.cache
def stored_counts() -> dict[str, Counts]:
    """Return the counts of registered models and the paper's rows, by `count_key`.

    They are written by `python -m elfatt_deploy.models.counting` from the models themselves, and a
    test counts them again; they let `models` answer without torch.

    Raises:
        InputFileError: the file is missing or torn.
    """
    path = profiles_folder() / "counts.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputFileError(f"cannot read {path}: {error}") from error
    return {key: from_document(Counts, value, f"{path} [{key}]") for key, value in entries.items()}


def count_key(model: str, settings: tuple[str, ...], height: int, width: int) -> str:
    """Return the key under which the counts of a model at a size are stored."""
    return f"{model}@{height}x{width}" + "".join(f",{item}" for item in sorted(settings))
