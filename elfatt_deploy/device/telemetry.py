"""Samplers of a board: rails, temperatures, clocks and counters, stamped with the board's clock.

Three sources behind one interface. `SysfsSampler` reads files by `scripts/sample.sh` and needs
nothing on the board; `TegrastatsSampler` runs NVIDIA's tool; `JtopSampler` (in `jetson_stats.py`)
asks the service of jetson-stats, on this machine alone. The first two write on the board and are
fetched in pieces, so that a lost connection loses no sample.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import secrets
from collections.abc import Sequence
from importlib import resources
from types import TracebackType
from typing import Literal, Protocol

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import tegrastats
from elfatt_deploy.device.records import ClockReading, Counter, RailChannel, ThermalZone
from elfatt_deploy.device.trace import Sample, Trace
from elfatt_deploy.errors import DeviceError, ProbeError
from elfatt_deploy.transport.base import Transport

#: a sampler ends by itself after so long, whatever becomes of this program
LIFE_S = 4 * 3600.0
_STEP_S = 30.0
#: below this the pace of a shell loop is mostly its own work
_SHORTEST_S = 0.02
#: puts the script, its standard input, into a folder of the board and runs it there
_LAUNCH = """\
root=${ELFATT_DEPLOY_ROOT:-}
at=$root${1#"$root"}
verb=$2
shift 2
umask 077
mkdir -p "$at" && cat >"$at/sample.sh" && exec sh "$at/sample.sh" "$verb" "$at" "$@"
"""


class Sampler(Protocol):
    """Records a board from `start` to `stop`; used with `with` it stops by itself."""

    def start(self) -> None:
        """Begin.

        Raises:
            DeviceError: it cannot begin.
        """

    def read_new(self) -> tuple[Sample, ...]:
        """Return the samples that came since the last call.

        Raises:
            ConnectError: the board cannot be reached; a later call gets them.
        """

    def stop(self) -> Trace:
        """End, and return all samples.

        Raises:
            DeviceError: what is left on the board cannot be fetched.
        """


class _Remote(abc.ABC):
    """What the samplers share that write on the board."""

    _source: Literal["sysfs", "tegrastats"]

    def __init__(
        self, transport: Transport, *, rate_hz: float, work_folder: str, life_s: float
    ) -> None:
        self._transport = transport
        self._period_s = max(1.0 / rate_hz, _SHORTEST_S)
        self._folder = f"{work_folder.rstrip('/')}/elfatt-deploy-samples-{secrets.token_hex(6)}"
        self._life_s = life_s
        self._next_byte = 1
        self._samples: list[Sample] = []
        self._notes: list[str] = []
        self._running = False

    @abc.abstractmethod
    def _command(self) -> tuple[str, ...]:
        """Return the verb that starts it, and its arguments after folder, pace and life."""

    @abc.abstractmethod
    def _sample(self, line: str) -> Sample | None:
        """Return the sample of a line; None for one that was torn."""

    def __enter__(self) -> _Remote:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._running:
            with contextlib.suppress(DeviceError):  # it ends by itself
                self.stop()

    def start(self) -> None:
        """Begin; see `Sampler`.

        Raises:
            ProbeError: there is nothing to sample, or no room for the samples.
        """
        verb, *arguments = self._command()
        pause = f"{self._period_s:.3f}"
        command = (
            *("sh", "-c", _LAUNCH, "sh", self._folder, verb, pause, f"{self._life_s:.0f}"),
            *arguments,
        )
        answer = self._transport.run(command, timeout_s=_STEP_S, input=_script())
        words = dict(line.partition(" ")[::2] for line in answer.stdout.splitlines())
        if "started" not in words:
            raise ProbeError(
                f"no sampler could be started on {self._transport.name} in {self._folder}",
                hint="make room there, or name another work folder",
            )
        if float(words.get("pause", pause)) > float(pause):
            self._period_s = float(words["pause"])
            self._notes.append(
                f"the board's sleep takes whole seconds: {1 / self._period_s:g} samples a second"
            )
        self._running = True

    def read_new(self) -> tuple[Sample, ...]:
        """Return the samples that came since the last call; see `Sampler`."""
        answer = self._run("read", self._folder, str(self._next_byte))
        head, _, text = answer.partition(f"from {self._next_byte}\n")
        if not text and "absent" in head.split():
            self._note("the samples are gone from the board: it was started again, or cleaned")
            return ()
        whole = text[: text.rfind("\n") + 1]
        self._next_byte += len(whole.encode())
        new = []
        for line in whole.splitlines():
            if line.startswith("#"):
                self._note(f"the sampler ended before it was stopped: {line[1:].strip()}")
                continue
            sample = self._sample(line)
            if sample is not None:
                new.append(sample)
        self._samples += new
        return tuple(new)

    def stop(self) -> Trace:
        """End, and return all samples; see `Sampler`."""
        self._running = False
        self._run("stop", self._folder)
        self.read_new()
        self._run("forget", self._folder)
        return Trace(
            source=self._source,
            period_s=self._period_s,
            samples=tuple(self._samples),
            notes=tuple(self._notes),
        )

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    def _run(self, verb: str, *arguments: str) -> str:
        """Run a verb of the script and return what it wrote."""
        command = ("sh", "-s", "--", verb, *arguments)
        return self._transport.run(command, timeout_s=_STEP_S, input=_script()).stdout


class SysfsSampler(_Remote):
    """Reads the files of rails, zones, clocks and counters.

    Args:
        transport: to the board.
        channels: where rails are read.
        zones: temperatures.
        clocks: clocks, by their folders.
        counters: counters of events.
        rate_hz: samples a second; the reading itself makes it a little less.
        work_folder: folder on the board in which it may write.
        life_s: when it ends by itself.
    """

    _source = "sysfs"

    def __init__(
        self,
        transport: Transport,
        channels: Sequence[RailChannel] = (),
        zones: Sequence[ThermalZone] = (),
        clocks: Sequence[ClockReading] = (),
        counters: Sequence[Counter] = (),
        *,
        rate_hz: float = 10.0,
        work_folder: str = "/tmp",
        life_s: float = LIFE_S,
    ) -> None:
        """Nothing is started yet."""
        super().__init__(transport, rate_hz=rate_hz, work_folder=work_folder, life_s=life_s)
        self._columns = _columns(channels, zones, clocks, counters)

    def _command(self) -> tuple[str, ...]:
        if not self._columns:
            raise ProbeError(f"there is nothing to sample on {self._transport.name}")
        return ("start", *(path for column in self._columns for path in column.paths))

    def _sample(self, line: str) -> Sample | None:
        words = line.split(" ")
        if len(words) != 1 + sum(len(column.paths) for column in self._columns):
            self._note("a line was torn, which leaves a gap")
            return None
        groups: dict[str, dict[str, float | None]] = {kind: {} for kind in _KINDS}
        position = 1
        for column in self._columns:
            texts = words[position : position + len(column.paths)]
            position += len(texts)
            groups[column.kind][column.name] = _value(texts, column.factor)
        return Sample(
            uptime_s=float(words[0]),
            power_mw=groups["rail"],
            temperature_c=groups["zone"],
            clock_hz=groups["clock"],
            counters={
                name: None if value is None else int(value)
                for name, value in groups["counter"].items()
            },
        )


class TegrastatsSampler(_Remote):
    """Runs NVIDIA's tegrastats, which knows the rails of its board.

    Args:
        transport: to the board.
        rate_hz: lines a second.
        work_folder: folder on the board in which it may write.
        life_s: when it ends by itself.
    """

    _source = "tegrastats"

    def __init__(
        self,
        transport: Transport,
        *,
        rate_hz: float = 10.0,
        work_folder: str = "/tmp",
        life_s: float = LIFE_S,
    ) -> None:
        """Nothing is started yet."""
        super().__init__(transport, rate_hz=rate_hz, work_folder=work_folder, life_s=life_s)

    def _command(self) -> tuple[str, ...]:
        return ("start-tegrastats",)

    def _sample(self, line: str) -> Sample | None:
        stamp, _, text = line.partition(" ")
        try:
            parsed = tegrastats.parse_line(text)
        except ProbeError as error:
            self._note(error.message)
            return None
        gpu = parsed.engine("GR3D_FREQ")
        return Sample(
            uptime_s=float(stamp),
            power_mw={rail.name: rail.now_mw for rail in parsed.rails if rail.name != "NC"},
            temperature_c={zone.name: _known(zone.value_c) for zone in parsed.temperatures},
            clock_hz={"gpu": gpu.clocks_hz[0]} if gpu is not None and gpu.clocks_hz else {},
        )


_KINDS = ("rail", "zone", "clock", "counter")


@dataclasses.dataclass(frozen=True, slots=True)
class _Column:
    """One value of a sample: the product of the words of its files, times a factor."""

    kind: str
    name: str
    paths: tuple[str, ...]
    factor: float


def _columns(
    channels: Sequence[RailChannel],
    zones: Sequence[ThermalZone],
    clocks: Sequence[ClockReading],
    counters: Sequence[Counter],
) -> tuple[_Column, ...]:
    return (
        *(_rail(channel) for channel in channels),
        *(_Column("zone", zone.name, (zone.path,), 1e-3) for zone in zones),
        *(_clock(clock) for clock in clocks),
        *(_Column("counter", counter.name, (counter.path,), 1.0) for counter in counters),
    )


def _rail(channel: RailChannel) -> _Column:
    folder, number = channel.folder, channel.index
    if channel.layout == "iio":
        return _Column("rail", channel.name, (f"{folder}/in_power{number}_input",), 1.0)
    # millivolts times milliamperes are microwatts
    paths = (f"{folder}/in{number}_input", f"{folder}/curr{number}_input")
    return _Column("rail", channel.name, paths, 1e-3)


def _clock(clock: ClockReading) -> _Column:
    if clock.name.startswith("cpu"):
        return _Column("clock", clock.name, (f"{clock.folder}/scaling_cur_freq",), 1e3)
    emc = "clk_rate" if clock.folder.endswith("override.emc") else "rate"  # JetPack 4; later ones
    name = emc if clock.name == "emc" else "cur_freq"
    return _Column("clock", clock.name, (f"{clock.folder}/{name}",), 1.0)


def _value(texts: Sequence[str], factor: float) -> float | None:
    """Return the product of some readings; None where one is missing."""
    product = factor
    for text in texts:
        number = as_float(text)
        if number is None:
            return None
        product *= number
    return product


def as_float(value: object) -> float | None:
    """Return a number; None for what is none."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _known(value: float | Unavailable) -> float | None:
    return None if isinstance(value, Unavailable) else value


@functools.cache
def _script() -> str:
    return (resources.files(__package__) / "scripts" / "sample.sh").read_text(encoding="utf-8")
