"""Board files: which board a machine is, its power modes, and which rail is its total.

A file in `profiles/boards` or, before it, in the folder that ELFATT_DEPLOY_BOARDS names. What the
board says of itself wins over its file; the file fills what it lacks.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Unavailable, from_document
from elfatt_deploy.device import nvpmodel
from elfatt_deploy.device.records import NvpmodelMode, Snapshot
from elfatt_deploy.errors import SchemaError, UnknownNameError

#: what the source of a fact begins with that nobody has checked
NOT_VERIFIED = "not verified"
#: share of a board's memory that Linux has: the firmware of those captured keeps 2 to 8 %
_MEMORY_SHARE = (0.85, 1.0)
#: facts that a file must name a source for
_SOURCED = (
    "modules", "memory_bytes", "cores", "cpu_max_hz", "gpu_max_hz", "emc_max_hz", "tpcs",
    "bandwidth_bytes_per_s", "modes", "total", "counters",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GpuPeak:
    """What bounds the GPU.

    Args:
        cores_per_sm: CUDA cores of a streaming multiprocessor: FP32 multiply-adds in a cycle.
        sms_per_tpc: multiprocessors of a TPC.
        tpcs: TPCs that this board has in use at most.
        die_tpcs: TPCs that a mask of the modes counts; those above `tpcs` are always off.
        gpu_max_hz: clock where no mode caps it.
        bandwidth_bytes_per_s: of the memory at its full clock.
    """

    cores_per_sm: int
    sms_per_tpc: int
    tpcs: int
    die_tpcs: int
    gpu_max_hz: float
    bandwidth_bytes_per_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoardMode:
    """One power mode of a board; a cap of None says that it sets none.

    Args:
        id: its number.
        name: its name as the board writes it.
        cores: processor cores that run.
        cpu_max_hz: cap of the fastest cluster.
        gpu_max_hz: cap of the GPU.
        emc_max_hz: cap of the memory controller.
        tpcs_on: TPCs of the GPU that run.
        reboot: whether going there can demand a reboot, for it switches other TPCs.
        budget_w: watts that the mode is called by; no measure of what it draws.
        default: whether a fresh system starts in it.
    """

    id: int
    name: str
    cores: int | Unavailable
    cpu_max_hz: float | None | Unavailable = None
    gpu_max_hz: float | None | Unavailable = None
    emc_max_hz: float | None | Unavailable = None
    tpcs_on: int | Unavailable
    reboot: bool = False
    budget_w: float | None = None
    default: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TotalRule:
    """Which rails are the total power.

    Args:
        rails: their names; one that is missing on a board leaves it without a total.
        sum: whether several are added.
        note: what the total covers, in words.
    """

    rails: tuple[str, ...]
    sum: bool = False
    note: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoardFile:
    """A board as we know it without asking it.

    Args:
        name: its name on the command line.
        title: its name in a table.
        modules: numbers of its modules.
        model_words: regular expressions, one of which is in the device tree's name of the board.
        mode_marks: power modes that only this one of several boards with the same module has.
        soc: `tegra234`.
        sm: compute capability, 87 for 8.7.
        memory_bytes: memory of the module.
        cores: processor cores.
        cpu_max_hz: clock of the cores where no mode caps it.
        emc_max_hz: clock of the memory controller where no mode caps it.
        target: name of the deployment target that fits it.
        trtexec: where JetPack puts it.
        gpu_peak: what bounds the GPU.
        modes: its power modes.
        total: which rails are the total power; None where none is known.
        counters: patterns of the files that count what slows it down.
        sources: where each fact comes from, by the fact's name.
    """

    name: str
    title: str
    modules: tuple[str, ...]
    model_words: tuple[str, ...]
    mode_marks: tuple[str, ...] = ()
    soc: str
    sm: int
    memory_bytes: int
    cores: int
    cpu_max_hz: float
    emc_max_hz: float
    target: str
    trtexec: str
    gpu_peak: GpuPeak
    modes: tuple[BoardMode, ...]
    total: TotalRule | None = None
    counters: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...]

    def source(self, fact: str) -> str:
        """Return where a fact comes from; empty for one that needs no source."""
        return dict(self.sources).get(fact, "")

    @property
    def unverified(self) -> tuple[str, ...]:
        """Names of the facts that nobody has checked: to be shown with anything made of them."""
        return tuple(fact for fact, source in self.sources if source.startswith(NOT_VERIFIED))


def boards() -> dict[str, BoardFile]:
    """Return all boards by name; a user's file takes the place of ours.

    Raises:
        InputFileError: a file cannot be read or is not TOML.
        SchemaError: a file lacks a fact or its source, or has one of the wrong type.
    """
    return _boards(os.environ.get("ELFATT_DEPLOY_BOARDS", ""))


@functools.cache
def _boards(users: str) -> dict[str, BoardFile]:
    found = {}
    for folder in (recipes.profiles_folder() / "boards", *((Path(users),) if users else ())):
        for path in sorted(folder.glob("*.toml")):
            board = read_board(path)
            found[board.name] = board
    return found


def read_board(path: Path) -> BoardFile:
    """Read one board file; see `boards`.

    Raises:
        InputFileError: it cannot be read or is not TOML.
        SchemaError: it lacks a fact or its source, or has one of the wrong type.
    """
    document: dict[str, Any] = recipes.read_toml(path)
    sources = document.get("sources", {})
    fields = {**document, "name": path.stem, "sources": tuple(sources.items())}
    try:
        board = from_document(BoardFile, fields, str(path))
    except SchemaError as error:
        hint = "correct it; the files in profiles/boards show every field"
        raise SchemaError(error.message, hint=hint) from error
    bare = [fact for fact in _SOURCED if not sources.get(fact)]
    if bare:
        raise SchemaError(
            f"{path} names no source for {', '.join(bare)}",
            hint=f"add them to [sources]; '{NOT_VERIFIED}' is one, and is shown as such",
        )
    if len({mode.id for mode in board.modes}) < len(board.modes):
        raise SchemaError(f"{path} has two power modes of one id", hint="give each its own id")
    return board


def board(name: str) -> BoardFile:
    """Return the board of that name.

    Raises:
        UnknownNameError: there is none.
    """
    known = boards()
    if name not in known:
        raise UnknownNameError(
            "board", name, known, hint="a file of yours is found with ELFATT_DEPLOY_BOARDS=FOLDER"
        )
    return known[name]


def identify(snapshot: Snapshot) -> BoardFile | Unavailable:
    """Return which board a machine is: by its module, else by the name in its device tree.

    Where several boards share that, its power modes, its cores and its memory part them. Never a
    guess: where several boards fit, their names are the reason that there is none; a module of a
    known family that is in no file is not taken for its sister.
    """
    known = tuple(boards().values())
    found = [b for b in known if snapshot.module in b.modules]
    named = not found and _family(snapshot.module) not in {
        _family(m) for b in known for m in b.modules
    }
    if named and isinstance(snapshot.model, str):
        model = snapshot.model
        found = [b for b in known if any(re.search(w, model, re.I) for w in b.model_words)]
    found = _by_cores(_by_modes(found, snapshot), snapshot)
    if named or len(found) > 1:
        found = _by_memory(found, snapshot)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(sorted(b.name for b in found))
        return Unavailable(reason=f"it can be {names}: nothing it tells parts them")
    if not snapshot.jetson:
        return Unavailable(reason="it is no Jetson")
    told = [str(v) for v in (snapshot.module, snapshot.model) if not isinstance(v, Unavailable)]
    return Unavailable(reason=f"no board file fits {' or '.join(told) or 'what it tells'}")


def _family(module: str | Unavailable) -> str:
    """Return the first part of a module's number: all of `p3701-...` have one layout of pins."""
    return "" if isinstance(module, Unavailable) else module.partition("-")[0]


def _by_modes(found: Sequence[BoardFile], snapshot: Snapshot) -> list[BoardFile]:
    """Part boards of one module by the power modes that the machine has, where it tells them."""
    if isinstance(snapshot.nvpmodel, Unavailable) or len(found) < 2:
        return list(found)
    names = {mode.name for mode in snapshot.nvpmodel.modes}
    marked = [b for b in found if names.intersection(b.mode_marks)]
    return marked or [b for b in found if not b.mode_marks]


def _by_cores(found: Sequence[BoardFile], snapshot: Snapshot) -> list[BoardFile]:
    """Part boards of one name by their cores. Before memory: a module comes with more than one."""
    if isinstance(snapshot.cores_present, Unavailable) or len(found) < 2:
        return list(found)
    return [b for b in found if b.cores == snapshot.cores_present]


def _by_memory(found: Sequence[BoardFile], snapshot: Snapshot) -> list[BoardFile]:
    """Leave the boards whose memory the machine has; all of them where it does not tell."""
    total = snapshot.memory_total_bytes
    if isinstance(total, Unavailable):
        return list(found)
    low, high = _MEMORY_SHARE
    return [b for b in found if low * b.memory_bytes <= total <= high * b.memory_bytes]


def modes_of(snapshot: Snapshot, board: BoardFile | Unavailable) -> tuple[BoardMode, ...]:
    """Return the power modes that a machine has now.

    Its own configuration, with what the file knows beyond it; the file's modes where it has none.
    """
    if isinstance(snapshot.nvpmodel, Unavailable):
        return () if isinstance(board, Unavailable) else board.modes
    config = snapshot.nvpmodel
    filed = {} if isinstance(board, Unavailable) else {(m.id, m.name): m for m in board.modes}
    here = config.default_id if isinstance(snapshot.mode, Unavailable) else snapshot.mode.id
    masks = {mode.id: mode.tpc_mask for mode in config.modes}
    mask = None if isinstance(here, Unavailable) else masks.get(here)
    return tuple(
        _merged(mode, filed.get((mode.id, mode.name)), board, mask, mode.id == config.default_id)
        for mode in config.modes
    )


def _merged(
    mode: NvpmodelMode,
    filed: BoardMode | None,
    board: BoardFile | Unavailable,
    mask_now: int | None,
    default: bool,
) -> BoardMode:
    def cap(own: float | None | Unavailable, name: str) -> float | None | Unavailable:
        if not isinstance(own, Unavailable) or filed is None:
            return own
        value: float | None | Unavailable = getattr(filed, name)
        return value

    cores = filed.cores if filed and isinstance(mode.cores, Unavailable) else mode.cores
    watts = filed.budget_w if filed else None
    return BoardMode(
        id=mode.id,
        name=mode.name,
        cores=cores,
        cpu_max_hz=cap(mode.cpu_max_hz, "cpu_max_hz"),
        gpu_max_hz=cap(mode.gpu_max_hz, "gpu_max_hz"),
        emc_max_hz=cap(mode.emc_max_hz, "emc_max_hz"),
        tpcs_on=_tpcs_on(mode.tpc_mask, board),
        reboot=mode.tpc_mask is not None and mask_now is not None and mode.tpc_mask != mask_now,
        budget_w=nvpmodel.watts_in(mode.name) if watts is None else watts,
        default=default,
    )


def _tpcs_on(mask: int | None, board: BoardFile | Unavailable) -> int | Unavailable:
    if isinstance(board, Unavailable):
        return Unavailable(reason="how many TPCs an unknown board has is not known")
    peak = board.gpu_peak
    return peak.tpcs if mask is None else min(peak.tpcs, peak.die_tpcs - mask.bit_count())


def find_mode(modes: Sequence[BoardMode], label: str) -> BoardMode:
    """Return the power mode that a label means; the rules are those of `nvpmodel.resolve_mode`.

    Raises:
        PowerModeError: the label means no mode of the board, or several.
    """
    found = nvpmodel.matching(label, [(m.id, m.name, m.budget_w) for m in modes])
    chosen = [m for m in modes if m.id in found]
    if len(chosen) == 1:
        return chosen[0]
    raise nvpmodel.refused(label, [describe(m) for m in chosen], [describe(m) for m in modes])


def describe(mode: BoardMode) -> str:
    """Return a mode in one line: id, name, cores and caps."""
    cores = "?" if isinstance(mode.cores, Unavailable) else mode.cores
    caps = (("CPU", mode.cpu_max_hz), ("GPU", mode.gpu_max_hz), ("EMC", mode.emc_max_hz))
    return f"{mode.id} {mode.name}: {cores} cores, " + ", ".join(
        f"{what} {nvpmodel.shown_cap(value)}" for what, value in caps
    )
