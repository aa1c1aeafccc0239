"""How each version of trtexec spells what we ask: `profiles/trtexec.toml`, and its banner.

Option names come and go between versions, and one that is unknown ends the run. They are data here,
by the oldest version that takes them.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.errors import EngineError

#: the number in the banner: 8201 is 8.2.1, 8412 is 8.4.12; from 10 on 100300 is 10.3.0
_BANNER = re.compile(r"&&&& \w+ TensorRT\.trtexec \[TensorRT v(\d+)\]")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one line of TensorRT versions spells the options that differ.

    Args:
        name: the oldest version of the line, `8.5`.
        workspace: option whose value is the workspace in MiB, up to its value.
        build_only: option that builds and saves without running inference.
        plugins: option that loads one plugin library, up to its value.
        fp16: option that allows FP16 for an FP32 file; empty where there is none.
        typed: option for a strongly typed network; empty where there is none.
        always_typed: whether every network is strongly typed.
        constraints: option that enforces the precisions of layers; empty where they have none.
        layer_precisions: option that lists them, up to its value; empty where there is none.
        layer_output_types: the same for what layers give.
        graph: option that launches by a CUDA graph; empty where that is so without one.
        no_graph: option that does not; empty likewise, as are the next four.
        spin: option that waits for the GPU in a loop.
        no_spin: option that waits asleep.
        transfers: option that copies in and out with every inference.
        no_transfers: option that does not.
        times_with_warm_up: whether `--exportTimes` holds the warm-up, too.
    """

    name: str
    workspace: str
    build_only: str
    plugins: str
    fp16: str = ""
    typed: str = ""
    always_typed: bool = False
    constraints: str = ""
    layer_precisions: str = ""
    layer_output_types: str = ""
    graph: str = ""
    no_graph: str = ""
    spin: str = ""
    no_spin: str = ""
    transfers: str = ""
    no_transfers: str = ""
    times_with_warm_up: bool = False


@functools.cache
def dialects() -> dict[str, Dialect]:
    """Return all dialects by name, the oldest first.

    Raises:
        SchemaError: an entry lacks a field or has one of the wrong type.
    """
    path = recipes.profiles_folder() / "trtexec.toml"
    entries = recipes.read_toml(path)
    found = [
        from_document(Dialect, {**_fields(entries, name), "name": name}, f"{path} [{name}]")
        for name in entries
    ]
    return {dialect.name: dialect for dialect in sorted(found, key=lambda d: numbers(d.name))}


def _fields(entries: dict[str, Any], name: str) -> dict[str, Any]:
    own = dict(entries[name])
    above = own.pop("extends", None)
    return {**(_fields(entries, above) if above else {}), **own}


def dialect_of(version: str) -> Dialect:
    """Return the dialect of a TensorRT version, such as `10.3.0`.

    Raises:
        EngineError: the version is older than all of them.
    """
    known = dialects()
    fitting = [d for d in known.values() if numbers(d.name) <= numbers(version)]
    if not fitting:
        raise EngineError(
            f"trtexec of TensorRT {version} is older than {next(iter(known))}, the oldest that "
            "this program speaks to",
            hint="update the board's JetPack to 4.6 or newer",
        )
    return fitting[-1]


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare it."""
    return tuple(int(part) for part in version.split("."))


def version_from_banner(text: str) -> str | None:
    """Return the version in the first banner line of trtexec, such as `8.2.1`; None without one."""
    match = _BANNER.search(text)
    if match is None:
        return None
    number = int(match[1])
    major, rest = divmod(number, 10_000 if number >= 100_000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"
