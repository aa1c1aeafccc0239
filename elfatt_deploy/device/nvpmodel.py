"""nvpmodel: its configuration, what it answers, and which power mode a label means.

`parse_config` reads `/etc/nvpmodel.conf` and the same content as `nvpmodel -p --verbose` prints it.
Seen: configurations of L4T 32 to 36 from Jetson Nano to Orin Super; `-p --verbose` and
`-q --verbose` of Nano, TX2 and AGX Xavier (L4T 32); `-q` of Nano, Xavier NX and AGX Orin.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.records import (
    ModeNow,
    ModeParameter,
    ModeSetting,
    NvpmodelConfig,
    NvpmodelMode,
)
from elfatt_deploy.errors import PowerModeError, ProbeError

#: what a configuration writes for "no cap": INT_MAX, or -1 which nvpmodel takes as it
_NO_CAP = (-1, 2**31 - 1)
_PARAM = re.compile(r"PARAM\s+TYPE=(\S+)\s+NAME=(\S+)")
_MODE = re.compile(r"POWER_MODEL:?\s+(?=.*\bID=(\d+))(?=.*\bNAME=(\S+)).*")
_DEFAULT = re.compile(r"PM_CONFIG:?\s+DEFAULT=(?:\S+\()?(\d+)\)?")
_READING = re.compile(
    r"PARAM (?P<param>\S+): ARG (?P<argument>\S+): PATH (?P<path>\S+): "
    r"REAL_VAL: (?P<real>\S*) CONF_VAL: (?P<configured>\S*)"
)
_WATTS = re.compile(r"(?:MODE_)?(\d+(?:\.\d+)?)W(?:_.*)?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModeReading:
    """One line of `nvpmodel -q --verbose`: what stands in a file, and what the mode would write."""

    param: str
    argument: str
    path: str
    real: str
    configured: str


def parse_config(text: str) -> NvpmodelConfig:
    """Return the configuration that a text holds; see the module for its two spellings.

    Lines that cannot be understood are named in `malformed` and do not stop the rest.
    """
    parameters: list[ModeParameter] = []
    modes: list[tuple[int, str, list[ModeSetting]]] = []
    default: int | Unavailable = Unavailable(reason="the configuration names no default")
    unknown: list[str] = []
    malformed: list[str] = []
    section = ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip().removeprefix("NVPM VERB:").strip()
        if not line or line.startswith("#"):
            continue
        header = line.strip("<>").strip()
        words = line.split()
        if found := _PARAM.fullmatch(header):
            section = "parameter"
            parameters.append(ModeParameter(name=found[2], kind=found[1], paths=()))
        elif found := _MODE.fullmatch(header):
            section = "mode"
            modes.append((int(found[1]), found[2], []))
        elif found := _DEFAULT.fullmatch(header):
            default = int(found[1])
        elif line.startswith("<"):
            section = "unknown"
            unknown.append(header)
        elif section == "parameter" and len(words) > 1 and words[1].startswith("/"):
            last = parameters[-1]
            paths = (*last.paths, (words[0], " ".join(words[1:])))
            parameters[-1] = dataclasses.replace(last, paths=paths)
        elif section == "mode" and len(words) == 3:
            modes[-1][2].append(ModeSetting(param=words[0], argument=words[1], value=words[2]))
        elif section != "unknown":
            malformed.append(f"line {number}: {raw.strip()}")
    cores = {s.argument for _, _, settings in modes for s in settings if s.param == "CPU_ONLINE"}
    return NvpmodelConfig(
        modes=tuple(
            _mode(id, name, tuple(settings), cores, malformed) for id, name, settings in modes
        ),
        default_id=default,
        parameters=tuple(parameters),
        unknown=tuple(unknown),
        malformed=tuple(malformed),
    )


def _mode(
    id: int,
    name: str,
    settings: tuple[ModeSetting, ...],
    cores: set[str],
    malformed: list[str],
) -> NvpmodelMode:
    """Read what a mode's lines mean; a value that is no number is named in `malformed`."""
    cpus = {s.param for s in settings if s.param.startswith("CPU_") and s.argument == "MAX_FREQ"}

    def numbers(params: Iterable[str], argument: str) -> list[int]:
        found = []
        for setting in settings:
            if setting.param in params and setting.argument == argument:
                try:
                    found.append(int(setting.value, 0))
                except ValueError:
                    malformed.append(
                        f"mode {id} {name}: {setting.param} {argument} {setting.value}"
                    )
        return found

    masks = numbers(("TPC_POWER_GATING",), "TPC_PG_MASK")
    return NvpmodelMode(
        id=id,
        name=name,
        settings=settings,
        cores=_cores(settings, cores),
        cpu_max_hz=_cap(numbers(cpus, "MAX_FREQ"), "CPU", 1e3, _NO_CAP),  # cpufreq counts in kHz
        gpu_max_hz=_cap(numbers(("GPU",), "MAX_FREQ"), "GPU", 1.0, _NO_CAP),
        emc_max_hz=_cap(numbers(("EMC",), "MAX_FREQ"), "EMC", 1.0, (*_NO_CAP, 0)),
        tpc_mask=masks[-1] if masks else None,
    )


def _cap(
    values: Sequence[int], what: str, unit_hz: float, no_cap: Sequence[int]
) -> float | None | Unavailable:
    if not values:
        return Unavailable(reason=f"the mode does not set {what} MAX_FREQ")
    return None if any(v in no_cap for v in values) else max(values) * unit_hz


def _cores(settings: Sequence[ModeSetting], known: set[str]) -> int | Unavailable:
    """Count the cores that run, of those that any mode sets.

    CORE_0 always runs, and some boards set it in no mode. A core that is declared and set in no
    mode is not there: the file of AGX Orin 32 GB declares the cores of its larger sister.
    """
    asked = {s.argument: s.value for s in settings if s.param == "CPU_ONLINE"}
    if not asked:
        return Unavailable(reason="the mode does not set CPU_ONLINE")
    silent = sorted(known - asked.keys() - {"CORE_0"})
    if silent:
        return Unavailable(reason=f"the mode leaves {', '.join(silent)} as it finds it")
    return len({core for core, value in asked.items() if value == "1"} | {"CORE_0"})


def parse_query(text: str) -> ModeNow:
    """Return the mode that `nvpmodel -q` names: its line, then the next one that is a number.

    Warnings before it, and the errors that follow where it runs without root, are passed over.

    Raises:
        ProbeError: the text names no mode.
    """
    lines = [line.strip() for line in text.splitlines()]
    for index, line in enumerate(lines):
        name = line.partition("NV Power Mode:")[2].strip()
        id = next((int(later) for later in lines[index + 1 :] if later.isdecimal()), None)
        if name and id is not None:
            return ModeNow(id=id, name=name)
    shown = " / ".join(line for line in lines if line)[:200] or "nothing"
    raise ProbeError(f"'nvpmodel -q' names no power mode; it says: {shown}")


def parse_readings(text: str) -> tuple[ModeReading, ...]:
    """Return the files that `nvpmodel -q --verbose` lists, in its order."""
    return tuple(ModeReading(**found.groupdict()) for found in _READING.finditer(text))


def needs_reboot(text: str) -> bool:
    """Whether what `nvpmodel -m` wrote says that this mode needs a reboot."""
    return "Reboot required for changing to this power mode" in text


def errors_in(text: str) -> tuple[str, ...]:
    """Return the errors that nvpmodel wrote, without its prefix."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(line[len("NVPM ERROR:") :].strip() for line in lines if "NVPM ERROR:" in line)


def resolve_mode(
    config: NvpmodelConfig, label: str, budgets: Sequence[tuple[int, float]] = ()
) -> NvpmodelMode:
    """Return the mode that a label means.

    In this order: its id, its name, its name without `MODE_`, the watts in its name. `15W` means
    every mode of 15 W, `MODE_15W` only the one of this name.

    Args:
        config: the modes of the board.
        label: what the user wrote, in any case.
        budgets: id and watts of modes whose name does not tell them (`MAXN` of a 10 W board).

    Raises:
        PowerModeError: the label means no mode of the board, or several.
    """
    watts_of = dict(budgets)
    names = [(mode.id, mode.name, watts_of.get(mode.id)) for mode in config.modes]
    ids = matching(label, names)
    found = [mode for mode in config.modes if mode.id in ids]
    if len(found) == 1:
        return found[0]
    raise refused(label, [describe(m) for m in found], [describe(m) for m in config.modes])


def matching(label: str, modes: Sequence[tuple[int, str, float | None]]) -> tuple[int, ...]:
    """Return the ids of the modes that a label means; the rules are those of `resolve_mode`.

    Args:
        label: what the user wrote.
        modes: id, name, and watts where something else than the name tells them.
    """
    label = label.strip().casefold()
    if label.isdecimal():
        return tuple(id for id, _, _ in modes if id == int(label))
    asked = watts_in(label)
    if asked is not None and "_" not in label:
        return tuple(id for id, name, watts in modes if asked in (watts_in(name), watts))
    exact = tuple(id for id, name, _ in modes if name.casefold() == label)
    return exact or tuple(
        id for id, name, _ in modes if name.casefold().removeprefix("mode_") == label
    )


def watts_in(name: str) -> float | None:
    """Return the watts that a name of a mode begins with; None where it does not."""
    found = _WATTS.fullmatch(name.strip())
    return float(found[1]) if found else None


def refused(label: str, found: Sequence[str], modes: Sequence[str]) -> PowerModeError:
    """Return the error for a label that means no mode, or several.

    Args:
        label: what the user wrote.
        found: the modes that it means, each in a line.
        modes: all modes of the board, each in a line.
    """
    shown = "".join(f"\n    {line}" for line in found or modes) or "\n    none"
    if not found:
        return PowerModeError(f"the board has no power mode '{label}'; it has:{shown}", asked=label)
    return PowerModeError(
        f"power mode '{label}' means {len(found)} modes of the board:{shown}",
        hint=f"name one by its id, say --power {found[0].split()[0]}",
        asked=label,
    )


def describe(mode: NvpmodelMode) -> str:
    """Return a mode in one line: id, name, cores and caps."""
    cores = "?" if isinstance(mode.cores, Unavailable) else mode.cores
    caps = (("CPU", mode.cpu_max_hz), ("GPU", mode.gpu_max_hz), ("EMC", mode.emc_max_hz))
    return f"{mode.id} {mode.name}: {cores} cores, " + ", ".join(
        f"{what} {shown_cap(value)}" for what, value in caps
    )


def shown_cap(value: float | None | Unavailable) -> str:
    """Return a cap as text: `612 MHz`, `no cap`, or `?` where the mode does not set it."""
    if isinstance(value, Unavailable):
        return "?"
    return "no cap" if value is None else f"{units.megahertz(value)} MHz"
