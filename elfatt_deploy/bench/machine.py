"""The machine under a measurement: what it is, how busy, how much memory is free."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path

from elfatt_deploy.artifacts import Unavailable

_CPUINFO = Path("/proc/cpuinfo")
_MEMINFO = Path("/proc/meminfo")
#: control group versions 2 and 1: limit, use, and the statistics with the cache that can be freed
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
_CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a measurement ran on.

    Args:
        cpu: the processor's name.
        cores: logical processors that this process may use.
        virtual: whether a hypervisor is seen.
        system: operating system, its release and the architecture.
        load: load average of the last minute before the measurement.
    """

    cpu: str
    cores: int
    virtual: bool
    system: str
    load: float | Unavailable


def read_machine() -> Machine:
    """Read what this process runs on."""
    fields = cpu_fields(_CPUINFO.read_text(encoding="utf-8") if _CPUINFO.is_file() else "")
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        virtual="hypervisor" in fields.get("flags", "").split(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load=load_average(),
    )


def cpu_fields(text: str) -> dict[str, str]:
    """Parse the first processor of /proc/cpuinfo."""
    first = text.partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def available_bytes() -> int | Unavailable:
    """Return the memory that can be taken without swapping: of the machine and of our container."""
    free = _meminfo_available(_MEMINFO.read_text() if _MEMINFO.is_file() else "")
    if isinstance(free, Unavailable):
        return free
    room = _cgroup_room(_CGROUP_ROOT)
    return free if room is None else min(free, room)


def _meminfo_available(text: str) -> int | Unavailable:
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return Unavailable(reason="this system has no /proc/meminfo with MemAvailable")


def total_bytes() -> int | Unavailable:
    """Return all memory of the machine."""
    for line in (_MEMINFO.read_text() if _MEMINFO.is_file() else "").splitlines():
        if line.startswith("MemTotal:"):
            return 1024 * int(line.split()[1])
    return Unavailable(reason="this system has no /proc/meminfo with MemTotal")


def _cgroup_room(root: Path) -> int | None:
    """Return the bytes below the limit of our control group; None where there is no limit."""
    for limit_file, used_file, stat_file, cache_field in _CGROUPS:
        try:
            limit = (root / limit_file).read_text().strip()
            used = int((root / used_file).read_text())
            stat = (root / stat_file).read_text().splitlines()
        except OSError:
            continue
        if limit == "max":
            return None
        fields = dict(line.split(" ", 1) for line in stat if " " in line)
        return max(0, int(limit) - used + int(fields.get(cache_field, 0)))
    return None


def load_average() -> float | Unavailable:
    """Return the load average of the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return Unavailable(reason="this system tells no load average")
