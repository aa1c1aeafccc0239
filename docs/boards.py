"""Writes docs/boards.md: what is known of each board, and by which capture of a real one.

    python docs/boards.py

Everything comes from the board files (`profiles/boards`) and from the captures that the tests of
the parsers run on (`tests/data/probes`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import boards
from elfatt_deploy.device.boards import BoardFile

HERE = Path(__file__).parent
PROBES = HERE.parent / "tests" / "data" / "probes"
#: column -> folder of its captures, and what of them a capture must have been seen to tell
COLUMNS = {
    "power modes": ("nvpmodel_config", ""),
    "`nvpmodel -q`": ("nvpmodel_query", ""),
    "`jetson_clocks`": ("jetson_clocks", ""),
    "tegrastats": ("tegrastats", ""),
    "rails": ("sysfs", "rails"),
    "clocks": ("sysfs", "clocks_mhz"),
    "temperatures": ("sysfs", "zones"),
    "over-current": ("sysfs", "counters"),
    "module number": ("module", ""),
    "GPU users": ("nvmap_clients", ""),
}
#: names of captures whose board is known less exactly, or under another name
ALIASES = {"agx-orin": "agx-orin-64gb", "nano-custom": "nano"}
INTRODUCTION = """\
# Boards

The tables are written by `python docs/boards.py`, from the board files and from the captures that
the parsers are tested on.

`elfatt-deploy device info` shows a board and how it stands, `device modes` its power modes; both
change nothing. One script (`elfatt_deploy/device/scripts/snapshot.sh`, POSIX shell, about 16
processes and one more for each file that cannot be read) is sent to the board, and its answer is
parsed here: nothing is installed there. A reading that fails is shown with its reason, never as 0.
Serial numbers are not read.

## Which board it is

By the module's number (`/etc/nv_boot_control.conf`, `/proc/device-tree/compatible`, or the name of
the device tree's source), else by the board's name in the device tree. Boards that share it are
parted by their power modes (`MAXN_SUPER`), their cores, their memory. Where several still fit, none
is taken, and their names are shown.

## Power modes

The board's own `/etc/nvpmodel.conf` always wins: clocks differ by a step between versions of Jetson
Linux. The board file fills what it lacks. A label is an id, a name with or without `MODE_`, or
watts; one that means several modes is refused with a list of them. A cap is not the clock that the
board then has: a Nano in mode 5W has caps of 918 and 640 MHz, and `jetson_clocks --show` tells
921.6 and 614.4 MHz, the steps next to them.

## Evidence

A cell names the versions of Jetson Linux (`r36.4.3`) or JetPack (`jp4`) that a capture of a real
board of this kind is from; each is a file in `tests/data/probes`, with its source. Power modes are
NVIDIA's files as other projects carry them, or what a board printed; `upstream` is the device tree
in Linux. `?` is a capture whose version was not told, `-` is none. All parsers are written for all
boards; a board without a capture is read as the nearest one that has it, and may differ.

Captures of boards that have no file: {others}.

{evidence}

Missing altogether: readings of one AGX Orin with its rails, over-current counters of boards before
Orin, what `nvpmodel` and `jetson_clocks` of AGX Thor write, and rails of Nano and Xavier but for
their names. The Super modes are read from files retyped from a listing.

## Total power

What is added up to the total power of a board is data of its file. A rail that is missing leaves
the board without a total; an unknown board has none. All are sensors of the module or its carrier,
not of the wall plug.

{totals}

## What nobody has checked

Every fact of a board file names its source. These are from memory, or carried over from a sister
board; `device info` and `predict` name them.

{unverified}

## Your own board

Put a file into a folder and name the folder in `ELFATT_DEPLOY_BOARDS`; a file with the name of one
of ours takes its place. It has the fields of those in `profiles/boards`, and needs a source for
each fact. Where the sensors or the modes of a board are read wrongly, its `device info --json` and
its `/etc/nvpmodel.conf` are what a report needs.
"""


def main() -> None:
    """Write the page."""
    (HERE / "boards.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """Return the page."""
    known = boards.boards()
    names = sorted(known, key=lambda name: (known[name].sm, known[name].memory_bytes, name))
    captures = evidence()
    return INTRODUCTION.format(
        evidence=table(
            ("board", *COLUMNS),
            [
                (name, *(", ".join(captures.get((name, c), ())) or "-" for c in COLUMNS))
                for name in names
            ],
        ),
        totals=table(("board", "total", "what it is", "source"), [total(known[n]) for n in names]),
        unverified=table(
            ("board", "fact", "value", "what is said of it"),
            [row for name in names for row in unverified(known[name])],
        ),
        others=", ".join(sorted({name for name, _ in captures} - set(known))),
    )


def evidence() -> dict[tuple[str, str], list[str]]:
    """Return the versions of the captures by board and column."""
    found: dict[tuple[str, str], list[str]] = {}
    for column, (folder, told) in COLUMNS.items():
        for path in sorted((PROBES / folder).glob("*.json")):
            if path.stem.startswith("synthetic"):
                continue
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if told and not document["expected"].get(told):
                continue
            name, _, version = path.stem.partition("_")
            key = (ALIASES.get(name, name), column)
            shown = version.partition("_")[0].replace("unknown", "?")
            if shown not in found.setdefault(key, []):
                found[key].append(shown)
    return found


def total(board: BoardFile) -> tuple[str, ...]:
    """Return a row on what the total power of a board is."""
    if board.total is None:
        return (board.name, "none", "", "")
    rails = " + ".join(f"`{rail}`" for rail in board.total.rails)
    return (board.name, rails, board.total.note, board.source("total"))


def unverified(board: BoardFile) -> list[tuple[str, ...]]:
    """Return a row for each fact of a board that nobody has checked."""
    rows = []
    for fact in board.unverified:
        holder = board.gpu_peak if hasattr(board.gpu_peak, fact) else board
        said = board.source(fact).removeprefix(boards.NOT_VERIFIED).lstrip(": ")
        rows.append((board.name, fact, shown(fact, getattr(holder, fact)), said))
    for mode in board.modes:
        reasons = [getattr(mode, cap) for cap in ("cpu_max_hz", "gpu_max_hz", "emc_max_hz")]
        unknown = [r.reason for r in reasons if isinstance(r, Unavailable)]
        if unknown:
            rows.append((board.name, f"caps of mode {mode.name}", "not known", unknown[0]))
    return rows


def shown(fact: str, value: Any) -> str:
    """Return a fact's value as a text, with its unit."""
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    if fact.endswith("_hz"):
        return f"{units.megahertz(value)} MHz"
    return f"{value / 1e9:g} GB/s" if fact.endswith("_bytes_per_s") else str(value)


def table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
