"""The files of a simulated board: sysfs, procfs and the rest, as that generation has them."""

from __future__ import annotations

import json
import os
import random

from elfatt_deploy.device.sim import machine as machines
from elfatt_deploy.device.sim.conf import CPU_FOLDER
from elfatt_deploy.device.sim.host import write_whole
from elfatt_deploy.device.sim.machine import Machine

#: its presence, and nothing else, makes all records of a board `simulated`
MARK_PATH = "/etc/elfatt-deploy-simulated"
_KERNELS = {"t210": "4.9.253-tegra", "t186": "4.9.253-tegra", "t194": "5.10.120-tegra"}
_PYTHONS = {"t210": "3.6", "t186": "3.6", "t194": "3.8", "t234": "3.10", "t264": "3.12"}


def write_tree(machine: Machine) -> None:
    """Write all files of a board that has none yet, at rest and without a power mode."""
    for folder in ("/tmp", "/root", "/home/nvidia", "/usr/src/tensorrt/bin", "/var/lib/nvpmodel"):
        machine.path(folder).mkdir(parents=True, exist_ok=True)
    machine.path("/tmp").chmod(0o1777)
    _software(machine)
    _proc(machine)
    _cores(machine)
    _gpu(machine)
    _memory_clock(machine)
    write_rails(machine)
    _zones(machine)
    _fan_and_counters(machine)


def _software(machine: Machine) -> None:
    facts = machine.facts
    machine.write(MARK_PATH, f"{facts.board}: an emulated board of elfatt-deploy, no real one")
    machine.write("/etc/nv_tegra_release", facts.release)
    cuda = facts.cuda.rpartition(".")[0]
    machine.path(f"/usr/local/cuda-{cuda}").mkdir(parents=True, exist_ok=True)
    _link(machine, "/usr/local/cuda", f"/usr/local/cuda-{cuda}")
    if cuda == "10.2":
        machine.write("/usr/local/cuda-10.2/version.txt", f"CUDA Version {facts.cuda}")
    else:
        inside = {"name": "CUDA SDK", "version": facts.cuda}
        text = json.dumps({"cuda": inside}, indent=3, separators=(",", " : "))
        machine.write(f"/usr/local/cuda-{cuda}/version.json", text)
    libraries = "/usr/lib/aarch64-linux-gnu"
    machine.write(f"{libraries}/libnvinfer.so.{facts.tensorrt}", "simulated")
    major = facts.tensorrt.partition(".")[0]
    _link(
        machine, f"{libraries}/libnvinfer.so.{major}", f"{libraries}/libnvinfer.so.{facts.tensorrt}"
    )
    python = f"/usr/bin/python{_PYTHONS[facts.tegrastats]}"
    machine.write(python, "#!/bin/sh\n# the board's Python, which nothing may need\nexit 1")
    machine.path(python).chmod(0o755)


def _proc(machine: Machine) -> None:
    facts = machine.facts
    for name, values in (("model", (facts.model,)), ("compatible", facts.compatible)):
        text = "".join(f"{value}\0" for value in values)
        write_whole(machine.path(f"/proc/device-tree/{name}"), text)
    _link(machine, "/sys/firmware/devicetree/base", "/proc/device-tree")
    total = facts.memory_mib * 1024
    machine.write(
        "/proc/meminfo",
        f"MemTotal:       {total} kB\nMemFree:        {total * 7 // 10} kB\n"
        f"MemAvailable:   {total * 4 // 5} kB\nSwapTotal:      {total // 2} kB\n"
        f"SwapFree:       {total // 2} kB",
    )
    machine.write("/proc/loadavg", "0.08 0.05 0.01 1/300 4000")
    machine.write("/proc/sys/kernel/osrelease", _KERNELS.get(facts.tegrastats, "5.15.148-tegra"))
    machine.write("/proc/sys/kernel/arch", "aarch64")
    seed = machine.state().seed
    machine.write(machines.BOOT_ID_PATH, machines.uuid_of(random.Random(f"{seed}:boot:1")))
    # Its clock must move: a board's time since its start is that of this machine.
    uptime = machine.path("/proc/uptime")
    if not uptime.is_symlink():
        uptime.symlink_to("/proc/uptime")


def _cores(machine: Machine) -> None:
    facts = machine.facts
    last = facts.cores - 1
    for name in ("present", "possible", "online"):
        machine.write(f"{CPU_FOLDER}/{name}", f"0-{last}" if last else "0")
    steps = " ".join(str(khz) for khz in facts.cpu_khz)
    for core in range(facts.cores):
        if core >= facts.always_on:
            machine.write(f"{CPU_FOLDER}/cpu{core}/online", 1)
        folder = f"{CPU_FOLDER}/cpu{core}/cpufreq"
        values = {
            "scaling_available_frequencies": steps,
            "scaling_governor": facts.governor,
            "scaling_min_freq": facts.cpu_khz[0],
            "scaling_max_freq": facts.cpu_khz[-1],
            "scaling_cur_freq": facts.cpu_khz[0],
            "cpuinfo_min_freq": facts.cpu_khz[0],
            "cpuinfo_max_freq": facts.cpu_khz[-1],
        }
        for name, value in values.items():
            machine.write(f"{folder}/{name}", value)


def _gpu(machine: Machine) -> None:
    facts = machine.facts
    values = {
        "available_frequencies": " ".join(str(hz) for hz in facts.gpu_hz),
        "min_freq": facts.gpu_hz[0],
        "max_freq": facts.gpu_hz[-1],
        "cur_freq": facts.gpu_hz[0],
        "governor": "nvhost_podgov",
    }
    for name, value in values.items():
        machine.write(f"{facts.gpu_folder}/{name}", value)
    for link in facts.gpu_links:
        _link(machine, link, facts.gpu_folder)
    machine.write(f"{facts.gpu_power}/power/control", "auto")
    machine.write(f"{facts.gpu_power}/load", 0)
    if facts.tpc_mask_file:
        machine.write(facts.tpc_mask_file, 0)


def _memory_clock(machine: Machine) -> None:
    facts = machine.facts
    lowest, highest = facts.emc_hz
    machine.write(facts.emc_cap, 0)
    machine.write(machines.EMC_RATE[facts.emc_layout], lowest)
    machine.write(machines.EMC_LOCK[facts.emc_layout], 0)
    if facts.emc_layout == "bwmgr":
        folder, names = "/sys/kernel/debug/tegra_bwmgr", ("emc_min_rate", "emc_max_rate")
    else:
        folder, names = "/sys/kernel/debug/bpmp/debug/clk/emc", ("min_rate", "max_rate")
    for name, value in zip(names, (lowest, highest), strict=True):
        machine.write(f"{folder}/{name}", value)


def write_rails(machine: Machine) -> None:
    """Write the files of all rails, with no current: also those that a fault took away."""
    volts = round(machine.facts.voltage_mv)
    for rail in machine.facts.rails:
        n = rail.index
        if rail.layout == "hwmon":
            values: dict[str, object] = {f"in{n}_label": rail.name, "name": rail.chip}
            values |= {f"in{n}_input": volts, f"curr{n}_input": 0}
        else:
            values = {f"rail_name_{n}": rail.name, "name": rail.chip, f"in_power{n}_input": 0}
            values |= {f"in_voltage{n}_input": volts, f"in_current{n}_input": 0}
        for name, value in values.items():
            machine.write(f"{rail.folder}/{name}", value)


def _zones(machine: Machine) -> None:
    facts = machine.facts
    for n, (zone, word) in enumerate(zip(facts.zones, facts.zone_words, strict=True)):
        folder = f"/sys/class/thermal/thermal_zone{n}"
        machine.write(f"{folder}/type", zone)
        if word:
            machine.write(f"{folder}/temp", round(1000 * facts.rule.ambient_c))
        else:  # a zone that is switched off: real ones answer EAGAIN, a folder cannot be read too
            machine.path(f"{folder}/temp").mkdir(parents=True, exist_ok=True)


def _fan_and_counters(machine: Machine) -> None:
    facts = machine.facts
    machine.write(facts.fan, 55)
    if "/hwmon/" in facts.fan:
        machine.write(f"{facts.fan.rpartition('/')[0]}/name", "pwmfan")
    for path in facts.counters:
        machine.write(path, 0)
        machine.write(f"{path.rpartition('/')[0]}/name", "soctherm_oc")


def _link(machine: Machine, link: str, target: str) -> None:
    """Make a link that stays inside the board's root."""
    path = machine.path(link)
    if path.is_symlink():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(machine.path(target), path.parent))


def link_sensors(machine: Machine, links: dict[str, str]) -> None:
    """Make the second paths of the sensors' folders, as the bus lists them.

    Args:
        machine: the board.
        links: path on the bus -> folder.
    """
    for link, folder in links.items():
        _link(machine, link, folder)
