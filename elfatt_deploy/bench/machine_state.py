"""How the machine is at one moment: clocks, temperatures, load, swap, who else uses it.

Every probe reads files of Linux, and `nvidia-smi` where there is one. What this system does not
show is `Unavailable`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import time
from pathlib import Path

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine
from elfatt_deploy.errors import DeviceError
from elfatt_deploy.transport.local import Local

_CPUS = Path("/sys/devices/system/cpu")
_THERMAL = Path("/sys/class/thermal")
_MEMINFO = Path("/proc/meminfo")
_STAT = Path("/proc/stat")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_SMI = (
    "nvidia-smi",
    "--query-compute-apps=pid,process_name,used_memory",
    "--format=csv,noheader",
)
_SMI_TIMEOUT_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How the machine is.

    Args:
        load: load average of the last minute.
        governor: who chooses the CPU's clock; several where the cores differ.
        clock_hz: mean clock of the cores now.
        clock_min_hz: the lowest that the governor may choose.
        clock_max_hz: the highest that it may choose.
        temperatures_c: thermal zone -> temperature.
        throttle_events: counter -> how often the CPU was slowed down since it started.
        free_bytes: memory that can be taken without swapping.
        swap_used_bytes: swap in use.
        huge_pages: whether large memory is mapped in huge pages, as `huge_pages` words it.
        gpu_processes: programs that compute on the GPU, a line each.
    """

    load: float | Unavailable
    governor: str | Unavailable
    clock_hz: float | Unavailable
    clock_min_hz: float | Unavailable
    clock_max_hz: float | Unavailable
    temperatures_c: dict[str, float] | Unavailable
    throttle_events: dict[str, int] | Unavailable
    free_bytes: int | Unavailable
    swap_used_bytes: int | Unavailable
    huge_pages: str | Unavailable
    gpu_processes: tuple[str, ...] | Unavailable


def read_state() -> State:
    """Read the state of this machine."""
    return State(
        load=machine.load_average(),
        governor=_governor(),
        clock_hz=_clock("scaling_cur_freq"),
        clock_min_hz=_clock("scaling_min_freq"),
        clock_max_hz=_clock("scaling_max_freq"),
        temperatures_c=_temperatures(),
        throttle_events=_throttle_events(),
        free_bytes=machine.available_bytes(),
        swap_used_bytes=swap_used(_text(_MEMINFO)),
        huge_pages=huge_pages(_text(_HUGE_PAGES), os.environ.get("GLIBC_TUNABLES", "")),
        gpu_processes=_gpu_processes(),
    )


def _text(path: Path) -> str:
    """Return a file's text without the white space around it; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cpu_files(name: str) -> list[str]:
    found = sorted(_CPUS.glob(f"cpu[0-9]*/{name}"))
    return [text for text in map(_text, found) if text]


def _governor() -> str | Unavailable:
    found = sorted(set(_cpu_files("cpufreq/scaling_governor")))
    return " ".join(found) or Unavailable(reason="this system shows no clock governor")


def _clock(name: str) -> float | Unavailable:
    clocks = [1e3 * int(text) for text in _cpu_files(f"cpufreq/{name}") if text.isdecimal()]
    if not clocks:
        return Unavailable(reason="this system shows no CPU clocks")
    return sum(clocks) / len(clocks)


def _temperatures() -> dict[str, float] | Unavailable:
    found = {}
    for zone in sorted(_THERMAL.glob("thermal_zone*")):
        with contextlib.suppress(ValueError):  # a zone that is off has no number
            found[f"{zone.name.removeprefix('thermal_')} {_text(zone / 'type')}".strip()] = (
                int(_text(zone / "temp")) / 1e3
            )
    return found or Unavailable(reason="this system shows no temperatures")


def _throttle_events() -> dict[str, int] | Unavailable:
    found = {}
    for name in ("core_throttle_count", "package_throttle_count"):
        counts = [int(t) for t in _cpu_files(f"thermal_throttle/{name}") if t.isdecimal()]
        if counts:
            found[name] = sum(counts)
    return found or Unavailable(reason="this system counts no throttling")


def swap_used(meminfo: str) -> int | Unavailable:
    """Parse the swap in use, in bytes, from /proc/meminfo."""
    lines = (line.partition(":") for line in meminfo.splitlines())
    fields = {name: value.split() for name, _, value in lines}
    try:
        return 1024 * (int(fields["SwapTotal"][0]) - int(fields["SwapFree"][0]))
    except (KeyError, IndexError, ValueError):
        return Unavailable(reason="this system has no /proc/meminfo with swap")


def huge_pages(enabled: str, tunables: str) -> str | Unavailable:
    """Parse how memory is mapped: the kernel's rule, and `by malloc` where malloc asks for it.

    Large weights in small pages are slower, and how much differs from process to process
    (docs/measuring.md): it is a condition of the number.

    Args:
        enabled: text of the kernel's `transparent_hugepage/enabled`.
        tunables: value of GLIBC_TUNABLES.
    """
    rule = re.search(r"\[(\w+)\]", enabled)
    if rule is None:
        return Unavailable(reason="this system shows no rule for huge pages")
    asks = re.search(r"(^|:)glibc\.malloc\.hugetlb=[1-9]", tunables) is not None
    return f"{rule[1]}, by malloc" if asks else rule[1]


def gpu_bytes_of(pid: int) -> int | Unavailable:
    """Return the GPU memory that a process has in use, as `nvidia-smi` tells it."""
    lines = _gpu_processes()
    if isinstance(lines, Unavailable):
        return lines
    for line in lines:
        number, _, rest = line.partition(",")
        used = rest.rpartition(",")[2].split()
        if number.strip() == str(pid) and len(used) == 2 and used[1] == "MiB":
            return int(used[0]) * 2**20
    return Unavailable(reason="nvidia-smi does not list the process, as in a container")


def _gpu_processes() -> tuple[str, ...] | Unavailable:
    if shutil.which(_SMI[0]) is None:
        return Unavailable(reason="there is no nvidia-smi")
    try:
        result = Local().run(_SMI, timeout_s=_SMI_TIMEOUT_S)
    except DeviceError as error:
        return Unavailable(reason=error.message)
    if result.status:
        return Unavailable(reason=f"nvidia-smi ended with status {result.status}")
    return tuple(line.strip() for line in result.stdout.splitlines() if line.strip())


class ForeignWork:
    """How much of the CPU other programs used since this object was made, but for its pauses.

    The kernel's busy time of all cores, less that of this process. Stolen time of a virtual machine
    counts as foreign.
    """

    def __init__(self) -> None:
        """Read the counters."""
        self._foreign_s, self._elapsed_s, self._seen = 0.0, 0.0, True
        self.resume()

    def resume(self) -> None:
        """Count from now on."""
        self._busy, self._own, self._began = busy_seconds(_text(_STAT)), _own(), time.monotonic()

    def pause(self) -> None:
        """Count what was, and nothing until `resume`."""
        busy, elapsed_s = busy_seconds(_text(_STAT)), time.monotonic() - self._began
        if isinstance(busy, Unavailable) or isinstance(self._busy, Unavailable):
            self._seen = False
            return
        self._foreign_s += busy - self._busy - (_own() - self._own)
        self._elapsed_s += elapsed_s

    def cores(self) -> float | Unavailable:
        """Return the mean number of cores that others kept busy, and end the counting."""
        self.pause()
        if not self._seen or self._elapsed_s <= 0:
            return Unavailable(reason="this system has no /proc/stat")
        return max(0.0, self._foreign_s / self._elapsed_s)


def busy_seconds(stat: str, ticks: int | None = None) -> float | Unavailable:
    """Parse the busy time of all cores since the start, in seconds, from /proc/stat.

    Args:
        stat: its text.
        ticks: the kernel's ticks a second; None means those of this system.
    """
    first = stat.partition("\n")[0].split()
    if len(first) < 9 or first[0] != "cpu":
        return Unavailable(reason="this system has no /proc/stat")
    user, nice, system, _idle, _wait, interrupt, soft, stolen = map(int, first[1:9])
    return (user + nice + system + interrupt + soft + stolen) / (ticks or os.sysconf("SC_CLK_TCK"))


def _own() -> float:
    times = os.times()
    return times.user + times.system
