"""One line of tegrastats, in all its spellings from JetPack 4 to JetPack 7.

Seen: Nano, TX1, TX2, Xavier NX, AGX Xavier, Orin Nano, Orin NX, AGX Orin and AGX Thor, with and
without root. Without root clocks and rails are missing from the line; that is no failure.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import ProbeError

#: what a sensor reads whose unit is switched off
_OFF_C = -256.0
_LOAD = r"(?:(?P<load>\d+)%)?(?:@(?:\[(?P<list>[\d,]*)\]|(?P<clock>\d+)))?"
_END = r"(?=\s|$)"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CoreLoad:
    """One processor core; both are None where it is switched off."""

    load_percent: float | None
    clock_hz: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """One engine: `EMC_FREQ`, `GR3D_FREQ` (the GPU), `NVENC`, `APE` ...

    Args:
        name: as tegrastats writes it.
        on: whether it runs.
        load_percent: share of time in use; None where the line does not tell.
        clocks_hz: its clocks, one for each part; empty where the line does not tell.
    """

    name: str
    on: bool
    load_percent: float | None = None
    clocks_hz: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """One temperature."""

    name: str
    value_c: float | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RailPower:
    """One rail; a channel that is not connected is named `NC`.

    Args:
        name: as tegrastats writes it.
        now_mw: at this moment.
        mean_mw: since tegrastats started.
        max_mw: since tegrastats started; None before JetPack 7.
    """

    name: str
    now_mw: float
    mean_mw: float
    max_mw: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TegrastatsLine:
    """What one line tells.

    Args:
        stamp: date and time as written; empty before JetPack 5.
        ram_used_bytes: memory in use.
        ram_total_bytes: memory that Linux has.
        swap_used_bytes: swap in use; None where the line has none.
        swap_total_bytes: size of the swap space; None where the line has none.
        cores: the processor cores in their order.
        engines: the memory controller, the GPU and the other engines, in the order of the line.
        temperatures: in the order of the line.
        rails: in the order of the line.
        unknown: words that no spelling knows, in the order of the line.
        malformed: words that begin a known field and do not go on as it does.
    """

    stamp: str
    ram_used_bytes: int
    ram_total_bytes: int
    swap_used_bytes: int | None
    swap_total_bytes: int | None
    cores: tuple[CoreLoad, ...]
    engines: tuple[EngineLoad, ...]
    temperatures: tuple[Temperature, ...]
    rails: tuple[RailPower, ...]
    unknown: tuple[str, ...]
    malformed: tuple[str, ...]

    def engine(self, name: str) -> EngineLoad | None:
        """Return an engine by its name; None where the line has none of that name."""
        return next((e for e in self.engines if e.name == name), None)


class _Fields:
    """Collects the fields of a line; a method for each kind of field."""

    def __init__(self) -> None:
        self.stamp = ""
        self.ram: tuple[int, int] | None = None
        self.swap: tuple[int, int] | None = None
        self.cores: list[CoreLoad] = []
        self.engines: list[EngineLoad] = []
        self.temperatures: list[Temperature] = []
        self.rails: list[RailPower] = []

    def take_stamp(self, found: re.Match[str]) -> None:
        self.stamp = found[0]

    def take_ram(self, found: re.Match[str]) -> None:
        self.ram = (int(found[1]) * 2**20, int(found[2]) * 2**20)

    def take_swap(self, found: re.Match[str]) -> None:
        self.swap = (int(found[1]) * 2**20, int(found[2]) * 2**20)

    def take_nothing(self, found: re.Match[str]) -> None:
        """Pass over a field that nothing here needs: on-chip memory, and the boot processor."""

    def take_cores(self, found: re.Match[str]) -> None:
        for core in found[1].split(","):
            load, _, clock = core.partition("%@")
            off = core == "off"
            self.cores.append(
                CoreLoad(
                    load_percent=None if off else float(load),
                    clock_hz=None if off else float(clock) * 1e6,
                )
            )

    def take_temperature(self, found: re.Match[str]) -> None:
        value: float | Unavailable = float(found[2])
        if value == _OFF_C:
            value = Unavailable(reason="its unit is switched off: it reads -256 degC")
        self.temperatures.append(Temperature(name=found[1], value_c=value))

    def take_rail(self, found: re.Match[str]) -> None:
        self.rails.append(
            RailPower(
                name=found["name"],
                now_mw=float(found["now"]),
                mean_mw=float(found["mean"]),
                max_mw=None if found["max"] is None else float(found["max"]),
            )
        )

    def take_engine(self, found: re.Match[str]) -> None:
        clocks = found["list"].split(",") if found["list"] else [found["clock"] or found["bare"]]
        self.engines.append(
            EngineLoad(
                name=found["name"],
                on=found["off"] is None,
                load_percent=None if found["load"] is None else float(found["load"]),
                clocks_hz=tuple(float(clock) * 1e6 for clock in clocks if clock),
            )
        )


#: tried in this order at each place of the line: `CPU` begins the list of cores and names a rail
_KINDS: tuple[tuple[re.Pattern[str], Callable[[_Fields, re.Match[str]], None]], ...] = (
    (re.compile(r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d" + _END), _Fields.take_stamp),
    (re.compile(r"RAM (\d+)/(\d+)MB\s*\(lfb \d+x\d+[kM]B\)"), _Fields.take_ram),
    (re.compile(r"SWAP (\d+)/(\d+)MB\s*\(cached \d+MB\)"), _Fields.take_swap),
    (re.compile(r"IRAM \d+/\d+kB\s*\(lfb \d+kB\)"), _Fields.take_nothing),
    (re.compile(r"MTS fg \d+% bg \d+%"), _Fields.take_nothing),
    (re.compile(r"CPU \[((?:\d+%@\d+|off)(?:,(?:\d+%@\d+|off))*)\]"), _Fields.take_cores),
    (re.compile(r"([\w.-]+)@(-?\d+(?:\.\d+)?)C" + _END), _Fields.take_temperature),
    (
        re.compile(
            r"(?!RAM|SWAP|IRAM|MTS)(?P<name>\w+)\s+(?P<now>\d+)(?P<unit>mW)?/(?P<mean>\d+)(?(unit)mW)"
            rf"(?:/(?P<max>\d+)(?(unit)mW))?{_END}"
        ),
        _Fields.take_rail,
    ),
    (
        re.compile(
            r"(?P<name>(?!RAM|SWAP|IRAM|CPU|MTS)[A-Z][A-Z0-9_]+)\s+"
            rf"(?:(?P<off>off)|(?P<bare>\d+)|(?=[\d@]){_LOAD}){_END}"
        ),
        _Fields.take_engine,
    ),
)
_KNOWN = re.compile(r"RAM|SWAP|IRAM|CPU|MTS|\w+_FREQ")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"\S+")


def parse_line(text: str) -> TegrastatsLine:
    """Return what one line of tegrastats tells.

    Raises:
        ProbeError: it is no line of tegrastats: it does not tell the memory in use.
    """
    fields = _Fields()
    unknown: list[str] = []
    malformed: list[str] = []
    place = 0
    text = text.strip()
    while place < len(text):
        for pattern, take in _KINDS:
            if found := pattern.match(text, place):
                take(fields, found)
                break
        else:
            found = _WORD.match(text, place)
            assert found is not None  # there is no space at this place
            (malformed if _KNOWN.fullmatch(found[0]) else unknown).append(found[0])
        spaces = _SPACE.match(text, found.end())
        place = spaces.end() if spaces else len(text)
    if fields.ram is None:
        raise ProbeError(f"this is no line of tegrastats: {text[:120] or 'it is empty'}")
    used, total = fields.ram
    swap_used, swap_total = fields.swap or (None, None)
    return TegrastatsLine(
        stamp=fields.stamp,
        ram_used_bytes=used,
        ram_total_bytes=total,
        swap_used_bytes=swap_used,
        swap_total_bytes=swap_total,
        cores=tuple(fields.cores),
        engines=tuple(fields.engines),
        temperatures=tuple(fields.temperatures),
        rails=tuple(fields.rails),
        unknown=tuple(unknown),
        malformed=tuple(malformed),
    )
