"""Clocks, temperatures, rails, counters and the fan, out of the answer of `scripts/snapshot.sh`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.answer import Answer, Reading
from elfatt_deploy.device.records import ClockReading, Counter, Rail, RailChannel, ThermalZone

_DEBUG = "/sys/kernel/debug"
#: folder, and the files of the clock now, its lowest and its highest: TX2 and later, then Nano
_EMC = (
    (
        f"{_DEBUG}/bpmp/debug/clk/emc",
        tuple(f"{_DEBUG}/bpmp/debug/clk/emc/{file}" for file in ("rate", "min_rate", "max_rate")),
    ),
    (
        f"{_DEBUG}/tegra_bwmgr",
        (
            f"{_DEBUG}/clk/override.emc/clk_rate",
            f"{_DEBUG}/tegra_bwmgr/emc_min_rate",
            f"{_DEBUG}/tegra_bwmgr/emc_max_rate",
        ),
    ),
)
_CHANNEL = re.compile(r"(?P<folder>/.*)/(?:in(?P<hwmon>\d+)_label|rail_name_(?P<iio>\d+))")


def number(reading: Reading, malformed: list[str], scale: float = 1.0) -> float | Unavailable:
    """Return the value of a reading as a number; one that is none is named in `malformed`."""
    if isinstance(reading.value, Unavailable):
        return reading.value
    try:
        return float(reading.value) * scale
    except ValueError:
        malformed.append(f"{reading.path}: {reading.value}")
        return Unavailable(reason=f"{reading.path} says: {reading.value[:80]}")


def clocks(answer: Answer, malformed: list[str]) -> tuple[ClockReading, ...]:
    """Return the clocks of the cores, the GPU and the memory controller, those that are there.

    Cores: cpufreq (kHz), absent where the core is off. GPU: devfreq (Hz), by whichever of its paths
    the kernel has. Memory controller: debugfs (Hz), which only root may read.
    """
    found = []
    folders = {
        r.path.rpartition("/")[0] for r in answer.all("/sys/devices/system/cpu/cpu*/cpufreq/*")
    }
    for folder in sorted(folders, key=lambda f: int(re.sub(r"\D", "", f))):
        name = folder.split("/")[-2]
        found.append(_clock(answer, malformed, name, folder, 1e3, "scaling_", "scaling_governor"))
    gpus = (r.path.rpartition("/") for r in answer.readings)
    if folder := next((f for f, _, file in gpus if file in ("cur_freq", "max_freq")), ""):
        found.append(_clock(answer, malformed, "gpu", folder, 1.0, "", "governor"))
    found.extend(_memory_clock(answer, malformed))
    return tuple(found)


def _memory_clock(answer: Answer, malformed: list[str]) -> Iterator[ClockReading]:
    """Yield the clock of the memory controller where debugfs has it, or is there and closed."""
    debug = answer.first("/sys/kernel/debug").value
    closed = debug if isinstance(debug, Unavailable) and "denied" in debug.reason else None
    for folder, files in _EMC:
        readings = [answer.first(path) for path in files]
        if closed or any(isinstance(r.value, str) for r in readings):
            now, lowest, highest = (closed or number(r, malformed) for r in readings)
            yield ClockReading(
                name="emc",
                now_hz=now,
                min_hz=lowest,
                max_hz=highest,
                governor=Unavailable(reason="the memory controller has none"),
                folder=folder,
            )
            return


def _clock(
    answer: Answer,
    malformed: list[str],
    name: str,
    folder: str,
    unit_hz: float,
    prefix: str,
    governor: str,
) -> ClockReading:
    now, lowest, highest = (
        number(answer.first(f"{folder}/{prefix}{which}_freq"), malformed, unit_hz)
        for which in ("cur", "min", "max")
    )
    return ClockReading(
        name=name,
        now_hz=now,
        min_hz=lowest,
        max_hz=highest,
        governor=answer.first(f"{folder}/{governor}").value,
        folder=folder,
    )


def locked(clocks: tuple[ClockReading, ...], online: frozenset[int]) -> bool | Unavailable:
    """Whether the GPU and every running core have no range left, as `jetson_clocks` leaves them.

    Args:
        clocks: of the board.
        online: numbers of the cores that run; the files of one that does not may still be there.
    """
    if not any(clock.name == "gpu" for clock in clocks):
        return Unavailable(reason="the GPU's clock cannot be read")
    names = {"gpu", *(f"cpu{number}" for number in online)}
    standing = True
    for clock in clocks:
        if clock.name not in names:
            continue
        if isinstance(clock.min_hz, Unavailable):
            return clock.min_hz
        if isinstance(clock.max_hz, Unavailable):
            return clock.max_hz
        standing = standing and clock.min_hz == clock.max_hz
    return standing


def zones(answer: Answer, malformed: list[str]) -> tuple[ThermalZone, ...]:
    """Return the temperatures; a zone that is switched off with its unit fails with EAGAIN."""
    return tuple(
        ThermalZone(
            name=_named(answer.first(f"{r.path.rpartition('/')[0]}/type"), r.path),
            value_c=number(r, malformed, 1e-3),
            path=r.path,
        )
        for r in answer.all("/sys/class/thermal/thermal_zone*/temp")
    )


def _named(reading: Reading, path: str) -> str:
    """Return the value of a reading, or the name of the folder of a path."""
    return reading.value if isinstance(reading.value, str) else path.split("/")[-2]


def _labels(answer: Answer) -> Iterator[tuple[Reading, RailChannel]]:
    """Yield each labelled channel of a power monitor, once, with the reading of its label."""
    seen = set()
    for reading in answer.readings:
        found = _CHANNEL.fullmatch(reading.path)
        if not found or not isinstance(reading.value, str) or reading.value == "NC":
            continue
        layout: Literal["hwmon", "iio"] = "hwmon" if found["hwmon"] else "iio"
        index = int(found["hwmon"] or found["iio"])
        # The same chip is there by its class and by its driver, or by two names of its folder.
        folder = found["folder"]
        chip = folder.split("/")[-1 if layout == "hwmon" else -2]
        if (layout, chip, index) not in seen:
            seen.add((layout, chip, index))
            yield (
                reading,
                RailChannel(name=reading.value, layout=layout, folder=folder, index=index),
            )


def channels(answer: Answer, malformed: list[str]) -> tuple[RailChannel, ...]:
    """Return where rails can be read: every labelled channel that has both of its values.

    INA3221 in either layout of its driver, and INA238; on any number of hwmon, for these change
    from start to start. The sum of shunt voltages of an INA3221 has a label and no current.
    """
    found: list[RailChannel] = []
    for label, channel in _labels(answer):
        names = _files(channel)
        if channel.layout == "hwmon" and answer.first(names[1]).path not in _paths(answer):
            continue
        if any(channel.name == other.name for other in found):
            malformed.append(f"{label.path}: a second rail {channel.name}")
            continue
        found.append(channel)
    return tuple(found)


def _paths(answer: Answer) -> set[str]:
    return {reading.path for reading in answer.readings}


def _files(channel: RailChannel) -> tuple[str, str]:
    """Return the files of voltage and current of a channel."""
    folder, index = channel.folder, channel.index
    if channel.layout == "hwmon":
        return f"{folder}/in{index}_input", f"{folder}/curr{index}_input"
    return f"{folder}/in_voltage{index}_input", f"{folder}/in_current{index}_input"


def rails(answer: Answer, malformed: list[str]) -> tuple[Rail, ...]:
    """Return one reading of each rail: mW, mV, mA.

    With hwmon power is voltage times current, read one after the other; iio tells it by itself.
    """
    found = []
    for channel in channels(answer, []):
        voltage, current = (number(answer.first(p), malformed) for p in _files(channel))
        power: float | Unavailable
        if channel.layout == "iio":
            path = f"{channel.folder}/in_power{channel.index}_input"
            power = number(answer.first(path), malformed)
        elif isinstance(voltage, Unavailable):
            power = voltage
        elif isinstance(current, Unavailable):
            power = current
        else:
            power = voltage * current / 1e3
        found.append(
            Rail(
                name=channel.name,
                power_mw=power,
                voltage_mv=voltage,
                current_ma=current,
                path=channel.folder,
            )
        )
    return tuple(found)


def counters(answer: Answer, malformed: list[str]) -> tuple[Counter, ...]:
    """Return the counts of over-current alarms, and how far thermal alerts throttle.

    Files: oc*_event_cnt of the hwmon `soctherm_oc` (seen: Orin Nano R36.4.4), and cur_state of the
    cooling devices whose type ends in `-alert`. A fan is a cooling device too, and no throttling.
    """
    sources = [
        (r.path.rpartition("/")[2].removesuffix("_event_cnt"), r)
        for r in answer.all("*/oc*_event_cnt")
    ]
    for reading in answer.all("/sys/class/thermal/cooling_device*/cur_state"):
        kind = answer.first(f"{reading.path.rpartition('/')[0]}/type").value
        if isinstance(kind, str) and kind.endswith("-alert"):
            sources.append((f"thermal-{kind}", reading))
    found = []
    for name, reading in sources:
        value = number(reading, malformed)
        count = value if isinstance(value, Unavailable) else int(value)
        found.append(Counter(name=name, value=count, path=reading.path))
    return tuple(found)


def fan(answer: Answer) -> str | Unavailable:
    """Return how the fan is driven: its PWM value of 255, its speed, and who decides."""
    parts = []
    for pattern, what in (
        ("/sys/class/hwmon/*/pwm1", "pwm {} of 255"),
        ("/sys/devices/pwm-fan/cur_pwm", "pwm {} of 255"),
        ("/sys/devices/pwm-fan/target_pwm", "target {}"),
        ("/sys/class/hwmon/*/rpm", "{} rpm"),
    ):
        value = answer.first(pattern).value
        if isinstance(value, str):
            parts.append(what.format(value))
    if any(r.value == "nvfancontrol" for r in answer.all("/proc/*/comm")):
        parts.append("by nvfancontrol")
    return ", ".join(parts) or Unavailable(reason="no fan that can be read")
