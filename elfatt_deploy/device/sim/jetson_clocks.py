"""The emulated jetson_clocks: --show, --store, --restore, and pinning the clocks."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from elfatt_deploy.device.sim.conf import CPU_FOLDER
from elfatt_deploy.device.sim.machine import EMC_LOCK, EMC_RATE, Machine, ranges

_DEFAULT_FILE = "/root/.jetsonclocks_conf.txt"


def main(machine: Machine, arguments: Sequence[str]) -> int:
    """Run it.

    Args:
        machine: the board.
        arguments: without the program's name.
    """
    verb = arguments[0] if arguments else ""
    if verb not in ("", "--show", "--store", "--restore", "--fan"):
        sys.stdout.write(f"Unknown option: {verb}\n")
        return 1
    if not machine.as_root:
        sys.stdout.write("Error: Run this script(jetson_clocks) as a root user\n")
        return 1
    if verb == "--show":
        sys.stdout.write("\n".join(_shown(machine)) + "\n")
        return 0
    default = machine.path(_DEFAULT_FILE)
    file = Path(arguments[1]) if len(arguments) > 1 else default
    if verb == "--store":
        return _store(machine, file)
    if verb == "--restore":
        return _restore(machine, file)
    if not default.exists():
        _store(machine, default)
    _pin(machine, fan=verb == "--fan")
    return 0


def _files(machine: Machine) -> Iterator[str]:
    """Yield the files that are stored and restored."""
    facts = machine.facts
    for core in range(facts.cores):
        for word in ("min", "max"):
            yield f"{CPU_FOLDER}/cpu{core}/cpufreq/scaling_{word}_freq"
    for word in ("min", "max"):
        yield f"{facts.gpu_folder}/{word}_freq"
    yield EMC_LOCK[facts.emc_layout]
    yield facts.fan


def _store(machine: Machine, file: Path) -> int:
    lines = [f"{path}:{machine.read(path)}" for path in _files(machine)]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        sys.stdout.write(f"Error: cannot write {file}: {error.strerror}\n")
        return 1
    return 0


def _restore(machine: Machine, file: Path) -> int:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        sys.stdout.write(f"Error: Could not open {file}!\n")
        return 1
    for line in lines:
        path, _, value = line.rpartition(":")
        if path and value:
            machine.write(path, value)
    with machine.changing() as state:
        state.locked = machine.read(EMC_LOCK[machine.facts.emc_layout]) == "1"
    machine.write_at_rest()
    return 0


def _pin(machine: Machine, *, fan: bool) -> None:
    """Put each lowest clock to the highest of the power mode."""
    facts = machine.facts
    for core in range(facts.cores):
        folder = f"{CPU_FOLDER}/cpu{core}/cpufreq"
        machine.write(f"{folder}/scaling_min_freq", machine.read(f"{folder}/scaling_max_freq"))
    folder = facts.gpu_folder
    machine.write(f"{folder}/min_freq", machine.read(f"{folder}/max_freq"))
    machine.write(EMC_LOCK[facts.emc_layout], 1)
    if fan or facts.soc == "tegra210":
        machine.write(facts.fan, 255)
    with machine.changing() as state:
        state.locked = True
    machine.write_at_rest()


def _shown(machine: Machine) -> Iterator[str]:
    """Yield the lines of --show, as captured on Nano, TX2 and Orin."""
    facts, state = machine.facts, machine.state()
    yield f"SOC family:{facts.soc}  Machine:{facts.model}"
    yield f"Online CPUs: {ranges([c for c in range(facts.cores) if machine.core_runs(c)])}"
    if facts.soc in ("tegra210", "tegra186"):
        yield "CPU Cluster Switching: Disabled"
    idle = "C1=1 c7=1" if facts.soc == "tegra186" else "WFI=1 c7=1"
    idle = idle.replace("=1", "=0") if state.locked and facts.soc == "tegra210" else idle
    for core in sorted(range(facts.cores), key=str):
        folder = f"{CPU_FOLDER}/cpu{core}/cpufreq/scaling"
        yield (
            f"cpu{core}: Online={int(machine.core_runs(core))} Governor={facts.governor} "
            f"MinFreq={machine.read(f'{folder}_min_freq')} "
            f"MaxFreq={machine.read(f'{folder}_max_freq')} "
            f"CurrentFreq={machine.read(f'{folder}_cur_freq')} IdleStates: {idle} "
        )
    words = (("MinFreq", "min"), ("MaxFreq", "max"), ("CurrentFreq", "cur"))
    yield "GPU " + " ".join(
        f"{name}={machine.read(f'{facts.gpu_folder}/{word}_freq')}" for name, word in words
    )
    if facts.tegrastats == "t234":
        yield f"Active GPU TPCs: {machine.clocks().tpcs}"
    yield (
        f"EMC MinFreq={facts.emc_hz[0]} MaxFreq={facts.emc_hz[1]} "
        f"CurrentFreq={machine.read(EMC_RATE[facts.emc_layout])} FreqOverride={int(state.locked)}"
    )
    speed = machine.read(facts.fan)
    if facts.tegrastats in ("t234", "t264"):
        yield f"FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1={speed}"
    else:
        yield f"Fan: speed={speed}"
    mode = machine.conf().mode(state.mode)
    yield f"NV Power Mode: {mode.name if mode else '?'}"
