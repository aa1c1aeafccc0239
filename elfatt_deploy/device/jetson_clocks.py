"""What `jetson_clocks --show` tells: clocks, cores, active TPCs, the fan. It needs root.

Seen: Nano and TX2 (JetPack 4), AGX Orin (JetPack 5), Orin Nano Super (R36.4.3).
"""

from __future__ import annotations

import dataclasses
import re

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import ProbeError

_SOC = re.compile(r"SOC family:(\S+)\s+Machine:(.*)")
_CLOCK = re.compile(
    r"(?P<name>[\w-]+?):?\s+(?:Online=(?P<online>[01]) )?(?:Governor=(?P<governor>\S+) )?"
    r"MinFreq=(?P<min>\d+) MaxFreq=(?P<max>\d+) CurrentFreq=(?P<now>\d+)"
    r"(?: FreqOverride=(?P<override>[01]))?(?:\s+IdleStates: (?P<idle>.*))?"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownClock:
    """One clock.

    Args:
        name: `cpu0`, `GPU`, `EMC`, `DLA0_CORE` ...
        online: whether its unit runs.
        governor: who decides its clock; empty where the line does not tell.
        min_hz: lowest that it may be set to.
        max_hz: highest that it may be set to.
        now_hz: what it runs at.
        override: whether it is pinned beside its limits; None where the line does not tell.
        idle_states: states of rest of a core, and whether each is allowed.
    """

    name: str
    online: bool
    governor: str
    min_hz: float
    max_hz: float
    now_hz: float
    override: bool | None = None
    idle_states: tuple[tuple[str, bool], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClocksShown:
    """All of `jetson_clocks --show`.

    Args:
        soc: `tegra234`.
        machine: name of the board.
        clocks: all clocks in the order of the text.
        active_tpcs: TPCs of the GPU that run.
        fan: the line about the fan, without its first word.
        mode_name: name of the power mode.
        unknown: lines that nothing here knows.
    """

    soc: str
    machine: str
    clocks: tuple[ShownClock, ...]
    active_tpcs: int | Unavailable
    fan: str | Unavailable
    mode_name: str | Unavailable
    unknown: tuple[str, ...]

    def clock(self, name: str) -> ShownClock | None:
        """Return a clock by its name; None where there is none of that name."""
        return next((clock for clock in self.clocks if clock.name == name), None)


def parse_show(text: str) -> ClocksShown:
    """Return what `jetson_clocks --show` wrote.

    Raises:
        ProbeError: it does not begin by naming the SoC: refused without root, or no such program.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = _SOC.fullmatch(lines[0]) if lines else None
    if first is None:
        said = lines[0][:120] if lines else "nothing"
        raise ProbeError(
            f"'jetson_clocks --show' does not name the SoC; it says: {said}",
            hint="it needs root: try 'sudo jetson_clocks --show' on the board",
        )
    clocks, unknown = [], []
    tpcs: int | Unavailable = Unavailable(reason="this version does not tell")
    fan: str | Unavailable = Unavailable(reason="no fan that it knows")
    mode: str | Unavailable = Unavailable(reason="it does not tell the power mode")
    for line in lines[1:]:
        if found := _CLOCK.fullmatch(line):
            clocks.append(_clock(found))
        elif found := re.fullmatch(r"Active GPU TPCs: (\d+)", line):
            tpcs = int(found[1])
        elif found := re.fullmatch(r"FAN (.*)|Fan: (.*)", line):
            fan = found[1] or found[2]
        elif found := re.fullmatch(r"NV Power Mode: (.*)", line):
            mode = found[1]
        elif not re.match(r"Online CPUs:|CPU Cluster Switching:", line):
            unknown.append(line)
    return ClocksShown(
        soc=first[1],
        machine=first[2].strip(),
        clocks=tuple(clocks),
        active_tpcs=tpcs,
        fan=fan,
        mode_name=mode,
        unknown=tuple(unknown),
    )


def _clock(found: re.Match[str]) -> ShownClock:
    unit_hz = 1e3 if found["name"].startswith("cpu") else 1.0  # cores are given in kHz
    states = (state.partition("=") for state in (found["idle"] or "").split())
    return ShownClock(
        name=found["name"],
        online=found["online"] != "0",
        governor=found["governor"] or "",
        min_hz=float(found["min"]) * unit_hz,
        max_hz=float(found["max"]) * unit_hz,
        now_hz=float(found["now"]) * unit_hz,
        override=None if found["override"] is None else found["override"] == "1",
        idle_states=tuple((name, allowed == "1") for name, _, allowed in states),
    )
