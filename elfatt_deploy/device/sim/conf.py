"""The configuration of nvpmodel on a simulated board: written from its modes, and read again.

The emulated nvpmodel has a reader of its own, so that a fault of the real parser shows.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from elfatt_deploy.device.sim.facts import Cluster, Facts

CPU_FOLDER = "/sys/devices/system/cpu"
_SECTION = re.compile(r"<\s*(\w+)\s+(.*?)\s*>")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimMode:
    """One power mode; a cap of None is the hardware's own maximum."""

    id: int
    name: str
    cores: int
    cpu_max_hz: float | None = None
    gpu_max_hz: float | None = None
    emc_max_hz: float | None = None
    tpc_mask: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConfMode:
    """A mode as the file has it: lines of parameter, argument and value."""

    id: int
    name: str
    lines: tuple[tuple[str, str, str], ...]

    def value(self, param: str, argument: str) -> str | None:
        """Return what a parameter is set to; None where this mode does not name it."""
        return next((v for p, a, v in self.lines if (p, a) == (param, argument)), None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """A configuration: parameters (name, kind, argument -> path), modes and the default."""

    params: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
    modes: tuple[ConfMode, ...]
    default: int

    def mode(self, number: int) -> ConfMode | None:
        """Return the mode of that id."""
        return next((mode for mode in self.modes if mode.id == number), None)


def online_cores(facts: Facts, cores: int) -> tuple[int, ...]:
    """Return which cores run where so many do: whole clusters first, in their order."""
    order = [core for cluster in facts.clusters for core in cluster.cores]
    return tuple(sorted(order[:cores]))


def conf_text(facts: Facts, modes: Iterable[SimMode], default: int) -> str:
    """Return the text of `/etc/nvpmodel.conf`."""
    parts = [_params(facts), *(_mode(facts, mode) for mode in modes)]
    return "\n".join([*parts, f"< PM_CONFIG DEFAULT={default} >", ""])


def _params(facts: Facts) -> str:
    lines = ["< PARAM TYPE=FILE NAME=CPU_ONLINE >"]
    named = sorted(core for cluster in facts.clusters for core in cluster.cores)
    lines += [f"CORE_{core} {CPU_FOLDER}/cpu{core}/online" for core in named[facts.always_on :]]
    if facts.tpc_mask_file:
        lines += ["", "< PARAM TYPE=FILE NAME=TPC_POWER_GATING >"]
        lines.append(f"TPC_PG_MASK {facts.tpc_mask_file}")
    for word, short in (("ENABLE", "EN"), ("DISABLE", "DIS")):
        lines += ["", f"< PARAM TYPE=FILE NAME=GPU_POWER_CONTROL_{word} >"]
        lines.append(f"GPU_PWR_CNTL_{short} {facts.gpu_power}/power/control")
    for cluster in facts.clusters:
        folder = f"{CPU_FOLDER}/cpu{cluster.cores[0]}/cpufreq/scaling"
        lines += ["", f"< PARAM TYPE=CLOCK NAME={cluster.name} >"]
        lines += _clock(
            f"{folder}_available_frequencies", f"{folder}_max_freq", f"{folder}_min_freq"
        )
    folder = facts.gpu_folder
    lines += ["", "< PARAM TYPE=CLOCK NAME=GPU >"]
    lines += _clock(f"{folder}/available_frequencies", f"{folder}/max_freq", f"{folder}/min_freq")
    lines += ["", "< PARAM TYPE=CLOCK NAME=EMC >"]
    lines += [f"MAX_FREQ {facts.emc_cap}", f"MAX_FREQ_KNEXT {facts.emc_cap}", ""]
    return "\n".join(lines)


def _clock(table: str, highest: str, lowest: str) -> list[str]:
    """Return the lines of a clock: the same files for both kernels."""
    files = (("FREQ_TABLE", table), ("MAX_FREQ", highest), ("MIN_FREQ", lowest))
    return [f"{word}{end} {path}" for end in ("", "_KNEXT") for word, path in files]


def _mode(facts: Facts, mode: SimMode) -> str:
    running = online_cores(facts, mode.cores)
    named = sorted(core for cluster in facts.clusters for core in cluster.cores)
    lines = [f"< POWER_MODEL ID={mode.id} NAME={mode.name} >"]
    lines += [f"CPU_ONLINE CORE_{core} {int(core in running)}" for core in named[facts.always_on :]]
    if facts.tpc_mask_file and mode.tpc_mask is not None:
        lines.append(f"TPC_POWER_GATING TPC_PG_MASK {mode.tpc_mask}")
    lines.append("GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on")
    for cluster in facts.clusters:
        if set(cluster.cores) & set(running):
            lines += [f"{cluster.name} MIN_FREQ 0"]
            lines += [f"{cluster.name} MAX_FREQ {_cap(mode.cpu_max_hz, 1000)}"]
    lines += ["GPU MIN_FREQ 0", f"GPU MAX_FREQ {_cap(mode.gpu_max_hz)}"]
    lines += ["GPU_POWER_CONTROL_DISABLE GPU_PWR_CNTL_DIS auto"]
    lines += [f"EMC MAX_FREQ {round(mode.emc_max_hz or 0)}", ""]
    return "\n".join(lines)


def _cap(hz: float | None, unit: int = 1) -> int:
    return -1 if hz is None else round(hz / unit)


def parse_conf(text: str) -> Conf:
    """Read a configuration; lines that belong to no section are left out."""
    params: list[tuple[str, str, list[tuple[str, str]]]] = []
    modes: list[tuple[int, str, list[tuple[str, str, str]]]] = []
    default, kind = 0, ""
    for line in text.splitlines():
        section = _SECTION.match(line.strip())
        if section:
            kind = section[1]
            words = dict(word.split("=", 1) for word in section[2].split() if "=" in word)
            if kind == "PARAM":
                params.append((words["NAME"], words["TYPE"], []))
            elif kind == "POWER_MODEL":
                modes.append((int(words["ID"]), words["NAME"], []))
            elif kind == "PM_CONFIG":
                default = int(words["DEFAULT"])
            continue
        fields = line.split()
        if kind == "PARAM" and len(fields) == 2:
            params[-1][2].append((fields[0], fields[1]))
        elif kind == "POWER_MODEL" and len(fields) == 3:
            modes[-1][2].append((fields[0], fields[1], fields[2]))
    return Conf(
        params=tuple((name, type_, tuple(paths)) for name, type_, paths in params),
        modes=tuple(ConfMode(id=n, name=name, lines=tuple(rows)) for n, name, rows in modes),
        default=default,
    )


def with_wrong_labels(modes: tuple[SimMode, ...]) -> tuple[SimMode, ...]:
    """Return the modes with the names of the first two that have watts in them exchanged."""
    watts = [n for n, mode in enumerate(modes) if re.search(r"\d+W", mode.name)]
    if len(watts) < 2:
        return modes
    first, second = watts[:2]
    names = {first: modes[second].name, second: modes[first].name}
    return tuple(
        dataclasses.replace(mode, name=names.get(n, mode.name)) for n, mode in enumerate(modes)
    )


def cluster_of(facts: Facts, name: str) -> Cluster | None:
    """Return the cores behind a parameter; None where it is no cluster."""
    return next((cluster for cluster in facts.clusters if cluster.name == name), None)
