"""Facts of a simulated board, from its board file and `profiles/sim/`."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.device import boards
from elfatt_deploy.device.sim.conf import SimMode
from elfatt_deploy.device.sim.facts import Cluster, Facts, Rule, SimRail
from elfatt_deploy.errors import SchemaError, UnknownNameError

_FOLDER = "sim"
#: fields of an entry from which fields of the facts are made
_MADE = ("clusters", "cpu_khz", "gpu_hz", "emc_low_hz", "rails", "tpc_masks")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimEntry:
    """An entry of `profiles/sim/boards.toml`; the fields are those of `Facts`, or are told there.

    Args:
        rails: a text each: chip and address (`1-0040`), channel, name, share at rest, share when
            busy, and the chip's name where it is another one than INA3221.
        clusters: a text each: name and cores, `CPU_A57:0,3-5`.
        tpc_masks: number of TPCs that are on -> mask, where it is not the lowest ones.
    """

    soc: str
    release: str
    cuda: str
    tensorrt: str
    gpu_name: str
    tegrastats: Literal["t210", "t186", "t194", "t234", "t264"]
    clusters: tuple[str, ...]
    cpu_khz: tuple[int, ...]
    gpu_hz: tuple[int, ...]
    emc_low_hz: int
    gpu_folder: str
    gpu_links: tuple[str, ...]
    gpu_power: str
    emc_cap: str
    emc_layout: Literal["bwmgr", "bpmp"]
    fan: str
    zones: tuple[str, ...]
    zone_words: tuple[str, ...]
    governor: str
    model: str
    compatible: tuple[str, ...]
    memory_mib: int
    idle_w: float
    max_w: float
    voltage_mv: float
    rails: tuple[str, ...]
    build: str = ""
    always_on: int = 0
    tpc_mask_file: str = ""
    mask_needs_reboot: bool = False
    counters: tuple[str, ...] = ()
    tpc_masks: dict[str, int] = dataclasses.field(default_factory=dict)


@functools.cache
def entries() -> dict[str, SimEntry]:
    """Return the entries of all boards that can be simulated, by name.

    Raises:
        SchemaError: an entry lacks a field or has one of the wrong type.
    """
    path = recipes.profiles_folder() / _FOLDER / "boards.toml"
    document = recipes.read_toml(path)
    return {
        name: from_document(SimEntry, _fields(document, name), f"{path} [{name}]")
        for name, entry in document.items()
        if "model" in _fields(document, name) and "extends" in entry
    }


def _fields(document: dict[str, Any], name: str) -> dict[str, Any]:
    own = dict(document[name])
    above = own.pop("extends", None)
    return {**(_fields(document, above) if above else {}), **own}


def rule() -> Rule:
    """Return the rule of times, power and temperature.

    Raises:
        SchemaError: a constant is missing or is not a number.
    """
    path = recipes.profiles_folder() / _FOLDER / "rule.toml"
    groups = recipes.read_toml(path)
    return from_document(Rule, {k: v for g in groups.values() for k, v in g.items()}, str(path))


def names() -> tuple[str, ...]:
    """Return the boards that can be simulated: those with a board file and an entry here."""
    return tuple(name for name in entries() if name in boards.boards())


def facts_of(name: str) -> Facts:
    """Return the facts of a board.

    Raises:
        UnknownNameError: there is no such board.
        SchemaError: its files do not fit each other.
    """
    if name not in names():
        raise UnknownNameError("simulated board", name, names())
    entry, board = entries()[name], boards.board(name)
    peak = board.gpu_peak
    budgets = {str(m.id): m.budget_w for m in board.modes if m.budget_w is not None}
    taken = {
        field.name: getattr(entry, field.name)
        for field in dataclasses.fields(SimEntry)
        if field.name not in _MADE
    }
    clusters = tuple(_cluster(text) for text in entry.clusters)
    if sum(len(cluster.cores) for cluster in clusters) != board.cores:
        raise SchemaError(
            f"profiles/sim/boards.toml [{name}] has other cores than the board file",
            hint="make the clusters fit the board file",
        )
    return Facts(
        board=name,
        sm=board.sm,
        ops=recipes.target(board.target).ops,
        tpcs=peak.tpcs,
        tpc_bits=peak.die_tpcs,
        sms_per_tpc=peak.sms_per_tpc,
        cores_per_sm=peak.cores_per_sm,
        bandwidth_bytes_per_s=peak.bandwidth_bytes_per_s,
        clusters=clusters,
        cpu_khz=_steps(entry.cpu_khz, board.cpu_max_hz / 1000),
        gpu_hz=_steps(entry.gpu_hz, peak.gpu_max_hz),
        emc_hz=(entry.emc_low_hz, round(board.emc_max_hz)),
        rails=_rails(entry),
        budgets_w=budgets,
        rule=rule(),
        **taken,
    )


def modes_of(name: str, facts: Facts) -> tuple[tuple[SimMode, ...], int]:
    """Return the power modes of a board and the id of the default.

    Raises:
        SchemaError: the board file has no mode.
    """
    entry, board = entries()[name], boards.board(name)
    modes = tuple(
        SimMode(
            id=mode.id,
            name=mode.name,
            cores=mode.cores if isinstance(mode.cores, int) else facts.cores,
            cpu_max_hz=_cap(mode.cpu_max_hz),
            gpu_max_hz=_cap(mode.gpu_max_hz),
            emc_max_hz=_cap(mode.emc_max_hz),
            tpc_mask=_mask(entry, facts, mode.tpcs_on),
        )
        for mode in board.modes
    )
    if not modes:
        raise SchemaError(f"no power mode is known of {name}", hint="add modes to its board file")
    return modes, next((mode.id for mode in board.modes if mode.default), modes[0].id)


def sensor_links(name: str) -> dict[str, str]:
    """Return second paths of sensor folders, as the I2C bus lists them."""
    links = {}
    for text in entries()[name].rails:
        address, chip = text.split()[0], (text.split()[5:] or ["ina3221"])[0]
        folder = _folder(entries()[name], address)
        if not folder.startswith("/sys/bus/"):
            number = folder.rpartition("/")[2]
            links[f"/sys/bus/i2c/drivers/{chip}/{address}/hwmon/{number}"] = folder
    return links


def _cap(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _mask(entry: SimEntry, facts: Facts, tpcs_on: object) -> int | None:
    """Return the mask of TPCs that are off: the highest ones, but where the entry says which."""
    if not facts.tpc_mask_file or not isinstance(tpcs_on, int):
        return None
    off = (1 << facts.tpc_bits) - (1 << tpcs_on)
    return entry.tpc_masks.get(str(tpcs_on), off)


def _steps(steps: tuple[int, ...], highest: float) -> tuple[int, ...]:
    """Return the clock steps below the board's highest clock, and that."""
    top = round(highest)
    return (*(step for step in steps if step < top), top)


def _cluster(text: str) -> Cluster:
    """Read `CPU_A57:0,3-5`."""
    name, _, listed = text.partition(":")
    cores: list[int] = []
    for part in listed.split(","):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return Cluster(name=name, cores=tuple(cores))


def _rails(entry: SimEntry) -> tuple[SimRail, ...]:
    rails = []
    for text in entry.rails:
        address, index, name, at_rest, busy, *chip = text.split()
        folder = _folder(entry, address)
        rails.append(
            SimRail(
                name=name,
                layout="iio" if "iio" in address else "hwmon",
                folder=folder,
                index=int(index),
                at_rest=float(at_rest),
                when_busy=float(busy),
                chip=(chip or ["ina3221x" if "iio" in address else "ina3221"])[0],
            )
        )
    return tuple(rails)


def _folder(entry: SimEntry, address: str) -> str:
    """Return the folder of a chip: old kernels list it on the bus alone, newer ones as hwmon."""
    if "iio" in address:
        return f"/sys/bus/i2c/drivers/ina3221x/{address}"
    chips = list(dict.fromkeys(text.split()[0] for text in entry.rails))
    numbers = (1, 2, 4, 5)  # 0 is the fan, 3 counts over-current
    return f"/sys/class/hwmon/hwmon{numbers[chips.index(address)]}"
