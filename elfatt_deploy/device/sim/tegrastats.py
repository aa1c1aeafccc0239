"""The emulated tegrastats: a line each interval, in the form of the board's generation.

It ends when its output is closed, and within a second after the process that started it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from elfatt_deploy.device.sim.conf import CPU_FOLDER
from elfatt_deploy.device.sim.facts import SimRail
from elfatt_deploy.device.sim.machine import EMC_RATE, Machine

_LONGEST_SLEEP_S = 0.5
#: generations whose lines begin with date and time, and whose watts have a unit
_DATED = ("t234", "t264")


def main(machine: Machine, arguments: Sequence[str]) -> int:
    """Run it.

    Args:
        machine: the board.
        arguments: without the program's name: --interval MS, --logfile FILE.
    """
    interval_s, logfile = 1.0, ""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--interval" and rest and rest[0].isdecimal():
            interval_s = int(rest.pop(0)) / 1000.0
        elif word == "--logfile" and rest:
            logfile = rest.pop(0)
        elif word not in ("--start", "--verbose"):
            sys.stderr.write(f"tegrastats: unknown option {word}\n")
            return 1
    if not logfile:
        return _until_orphaned(_print, machine, interval_s)
    with Path(logfile).open("a", encoding="utf-8") as file:

        def write(text: str) -> None:
            file.write(text)
            file.flush()

        return _until_orphaned(write, machine, interval_s)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _until_orphaned(write: Callable[[str], None], machine: Machine, interval_s: float) -> int:
    parent, averages, count = os.getppid(), [0.0] * len(machine.facts.rails), 0
    due = time.monotonic()
    while os.getppid() == parent and not machine.is_down():
        powers = [_power_mw(machine, rail) for rail in machine.facts.rails]
        count += 1
        averages = [a + (p - a) / count for a, p in zip(averages, powers, strict=True)]
        try:
            write(line_of(machine, powers, averages) + "\n")
        except OSError:  # the reader is gone
            return 0
        due += interval_s
        while os.getppid() == parent and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, _LONGEST_SLEEP_S))
    return 0


def _power_mw(machine: Machine, rail: SimRail) -> int:
    if rail.layout == "iio":
        return machine.number(f"{rail.folder}/in_power{rail.index}_input")
    volts = machine.number(f"{rail.folder}/in{rail.index}_input")
    return volts * machine.number(f"{rail.folder}/curr{rail.index}_input") // 1000


def line_of(machine: Machine, powers_mw: Sequence[float], averages_mw: Sequence[float]) -> str:
    """Return the line of this moment.

    Args:
        machine: the board.
        powers_mw: of each rail, now.
        averages_mw: of each rail, since the start.
    """
    facts = machine.facts
    used, total = facts.memory_mib // 5, facts.memory_mib
    parts = [f"RAM {used}/{total}MB (lfb 4x4MB)", f"SWAP 0/{total // 2}MB (cached 0MB)"]
    if facts.tegrastats in _DATED:
        parts.insert(0, time.strftime("%m-%d-%Y %H:%M:%S"))
    if facts.tegrastats == "t210":
        parts.append("IRAM 0/252kB(lfb 252kB)")
    parts += [_cores(machine), *_clocks(machine), *_temperatures(machine)]
    unit = "mW" if facts.tegrastats in _DATED else ""
    parts += [
        f"{rail.name} {round(now)}{unit}/{round(mean)}{unit}"
        for rail, now, mean in zip(facts.rails, powers_mw, averages_mw, strict=True)
    ]
    return " ".join(parts)


def _cores(machine: Machine) -> str:
    load = machine.number(f"{machine.facts.gpu_power}/load")
    words = []
    for core in range(machine.facts.cores):
        khz = machine.number(f"{CPU_FOLDER}/cpu{core}/cpufreq/scaling_cur_freq")
        percent = (30 if core == 0 else 2) if load else 1
        words.append(f"{percent}%@{khz // 1000}" if machine.core_runs(core) else "off")
    return f"CPU [{','.join(words)}]"


def _clocks(machine: Machine) -> list[str]:
    """Return memory controller, GPU and audio; only root reads the first clock."""
    facts = machine.facts
    load = machine.number(f"{facts.gpu_power}/load") // 10
    gpu = machine.number(f"{facts.gpu_folder}/cur_freq") // 1_000_000
    emc = machine.number(EMC_RATE[facts.emc_layout]) // 1_000_000
    parts = [f"EMC_FREQ {load // 3}%@{emc}"] if machine.as_root else []
    if facts.tegrastats == "t234":
        parts.append(f"GR3D_FREQ {load}%@[{gpu}]")
    elif facts.tegrastats == "t264":
        parts.append(f"GR3D_FREQ @[{gpu},{gpu},{gpu}]")
    else:
        parts.append(f"GR3D_FREQ {load}%@{gpu}")
    return [*parts, "APE 25" if facts.tegrastats == "t210" else "APE 174"]


def _temperatures(machine: Machine) -> list[str]:
    values = (
        (word, machine.number(f"/sys/class/thermal/thermal_zone{n}/temp") / 1000.0)
        for n, word in enumerate(machine.facts.zone_words)
    )
    return [f"{word}@{value:g}C" for word, value in values if word]
