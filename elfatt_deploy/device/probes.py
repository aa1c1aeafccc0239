"""What a board is and how it stands: one script there, a pure parser for each part of its answer.

The script is `scripts/snapshot.sh`; docs/boards.md tells on which boards each part was seen.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import nvpmodel, sensors
from elfatt_deploy.device.answer import Answer, Reading, parse_answer
from elfatt_deploy.device.records import ModeNow, NvpmodelConfig, Snapshot
from elfatt_deploy.errors import ProbeError
from elfatt_deploy.transport.base import Transport

#: a slow board needs a second; nvpmodel under load may need ten
_TIMEOUT_S = 60.0
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
_MODULE = re.compile(r"(?<![0-9])p(\d{4})-(\d{4})(?![0-9])")
_TNSPEC = re.compile(r"TNSPEC (\d{4})-[^-]*-(\d{4})-")
_DISPLAYS = ("Xorg", "Xwayland", "gnome-shell", "weston", "sway", "kwin_wayland")


def snapshot(transport: Transport) -> Snapshot:
    """Read all of a machine in one round trip; not to be called inside a timed window.

    Raises:
        ConnectError: the machine cannot be reached.
        CommandTimeout: it did not answer in time.
        ProbeError: what it answered is not what the script writes.
    """
    result = transport.run(("sh", "-s"), input=script("snapshot.sh"), timeout_s=_TIMEOUT_S)
    try:
        return parse_snapshot(result.stdout)
    except ProbeError as error:
        said = result.stderr.strip()[-300:]
        detail = f" (status {result.status}{', stderr: ' + said if said else ''})"
        raise ProbeError(f"{transport.name}: {error.message}{detail}", hint=error.hint) from error


@functools.cache
def script(name: str) -> str:
    """Return the text of one of the scripts that run on a board."""
    folder = importlib.resources.files("elfatt_deploy.device") / "scripts"
    return (folder / name).read_text(encoding="utf-8")


def parse_snapshot(text: str) -> Snapshot:
    """Return what the script's answer tells.

    Raises:
        ProbeError: it is not the script's answer, or it ends early.
    """
    answer = parse_answer(text)
    malformed = list(answer.malformed)
    memory = _memory(answer, malformed)
    l4t = parse_l4t(answer)
    clocks = sensors.clocks(answer, malformed)
    online = _cores(answer.first("/sys/devices/system/cpu/online"), malformed)
    config = _config(answer)
    return Snapshot(
        taken_uptime_s=_uptime(answer),
        simulated=answer.first("simulated").value == "1",
        root=answer.first("root").value in ("self", "sudo"),
        machine=_text(answer, "/proc/sys/kernel/arch", "uname"),
        kernel=_text(answer, "/proc/sys/kernel/osrelease"),
        model=answer.first("/proc/device-tree/model").value,
        module=parse_module(answer),
        compatible=_compatible(answer),
        soc=_soc(answer),
        l4t=l4t,
        jetpack=l4t if isinstance(l4t, Unavailable) else jetpack_of(l4t),
        cuda=parse_cuda(answer),
        tensorrt=parse_tensorrt(answer),
        trtexec=answer.first("trtexec").value,
        python=_python(answer),
        memory_total_bytes=memory["MemTotal"],
        memory_free_bytes=memory["MemAvailable"],
        swap_total_bytes=memory["SwapTotal"],
        swap_used_bytes=_difference(memory["SwapTotal"], memory["SwapFree"]),
        work_folder=_text(answer, "work"),
        disk_free_bytes=_disk(answer, malformed),
        cores_present=_count(_cores(answer.first("/sys/devices/system/cpu/present"), malformed)),
        cores_online=_count(online),
        load=sensors.number(_word(answer.first("/proc/loadavg"), 0), malformed),
        clocks=clocks,
        zones=sensors.zones(answer, malformed),
        rails=sensors.channels(answer, malformed),
        readings=sensors.rails(answer, malformed),
        counters=sensors.counters(answer, malformed),
        nvpmodel=config,
        mode=_mode(answer),
        clocks_locked=online if isinstance(online, Unavailable) else sensors.locked(clocks, online),
        fan=sensors.fan(answer),
        display_server=_display(answer),
        gpu_users=_gpu_users(answer),
        malformed=(*malformed, *(() if isinstance(config, Unavailable) else config.malformed)),
    )


def _text(answer: Answer, *paths: str) -> str:
    """Return the first of these that was read; empty where none was."""
    values = (answer.first(path).value for path in paths)
    return next((v for v in values if isinstance(v, str)), "")


def _word(reading: Reading, index: int) -> Reading:
    """Return a reading with one word of its value in place of all."""
    if isinstance(reading.value, Unavailable):
        return reading
    words = reading.value.split()
    value = words[index] if index < len(words) else reading.value
    return Reading(path=reading.path, value=value)


def _uptime(answer: Answer) -> float:
    malformed: list[str] = []
    value = sensors.number(_word(answer.first("/proc/uptime"), 0), malformed)
    if isinstance(value, Unavailable):
        raise ProbeError(f"the board does not tell its uptime: {value.reason}")
    return value


def parse_l4t(answer: Answer) -> str | Unavailable:
    """Return the version of Jetson Linux: `# R36 (release), REVISION: 4.3` is `36.4.3`.

    File: /etc/nv_tegra_release. Seen: R32.3.1 (TX2), R36.4.3 (Orin Nano), R38.4.0 (AGX Thor).
    """
    reading = answer.first("/etc/nv_tegra_release")
    if isinstance(reading.value, Unavailable):
        return reading.value
    found = _RELEASE.match(reading.value)
    if not found:
        return Unavailable(reason=f"/etc/nv_tegra_release says: {reading.value[:80]}")
    return f"{found[1]}.{found[2]}"


@functools.cache
def _jetpacks() -> dict[str, str]:
    table: dict[str, str] = recipes.read_toml(recipes.profiles_folder() / "jetpack.toml")["l4t"]
    return table


def jetpack_of(l4t: str) -> str | Unavailable:
    """Return the version of JetPack that brings a version of Jetson Linux."""
    known = _jetpacks().get(l4t) or _jetpacks().get(f"{l4t}.0")
    return known or Unavailable(reason=f"no JetPack is known for Jetson Linux {l4t}")


def _compatible(answer: Answer) -> tuple[str, ...]:
    value = answer.first("/proc/device-tree/compatible").value
    return () if isinstance(value, Unavailable) else tuple(value.split())


def _soc(answer: Answer) -> str | Unavailable:
    names = _compatible(answer)
    found = next((m[0] for n in reversed(names) if (m := re.search(r"tegra\d+", n))), None)
    said = ", ".join(names) or "there is no /proc/device-tree/compatible"
    return found or Unavailable(reason=f"the device tree names no Tegra: {said}")


def parse_module(answer: Answer) -> str | Unavailable:
    """Return the number of the module, `p3701-0005`.

    Files, the surest first: /etc/nv_boot_control.conf (`TNSPEC 3767-300-0005-...`),
    /proc/device-tree/compatible (`nvidia,p3737-0000+p3701-0000`, the module after the `+`), and
    the name of the device tree's source (`tegra210-p3448-0000-...`).
    """
    for reading in answer.all("/etc/nv_boot_control.conf"):
        if isinstance(reading.value, str) and (found := _TNSPEC.match(reading.value)):
            return f"p{found[1]}-{found[2]}"
    for name in _compatible(answer):
        board, _, after = name.partition("+")
        if found := _MODULE.search(after or board):
            return found[0]
    source = answer.first("/proc/device-tree/nvidia,dtsfilename").value
    if isinstance(source, str) and (found := _MODULE.search(source.rpartition("/")[2])):
        return found[0]
    return Unavailable(reason="neither the device tree nor /etc/nv_boot_control.conf names it")


def parse_cuda(answer: Answer) -> str | Unavailable:
    """Return the version of the CUDA toolkit: by its version file, else by its folder."""
    document = "".join(answer.first("/usr/local/cuda/version.json").lines)
    if document:
        try:
            return str(json.loads(document)["cuda"]["version"])
        except (ValueError, LookupError, TypeError):
            return Unavailable(reason="/usr/local/cuda/version.json is not understood")
    value = answer.first("/usr/local/cuda/version.txt").value
    if isinstance(value, str) and (found := re.search(r"\d+(\.\d+)+", value)):
        return found[0]
    folders = {str(r.value).rpartition("cuda-")[2] for r in answer.all("cuda")}
    folders = {f for f in folders if "." in f} or folders
    if len(folders) == 1:
        return folders.pop()
    several = f"several: {', '.join(sorted(folders))}" if folders else "there is no /usr/local/cuda"
    return Unavailable(reason=several)


def parse_tensorrt(answer: Answer) -> str | Unavailable:
    """Return the version of TensorRT: the longest that a file name of libnvinfer tells."""
    versions = [str(r.value).rpartition(".so.")[2] for r in answer.all("libnvinfer")]
    known = [v for v in versions if re.fullmatch(r"\d+(\.\d+)*", v)]
    longest = max(known, key=lambda v: (v.count("."), [int(n) for n in v.split(".")]), default=None)
    return longest or Unavailable(reason="there is no libnvinfer.so under /usr/lib")


def _python(answer: Answer) -> str | Unavailable:
    found = [str(r.value).rpartition("python")[2] for r in answer.all("python")]
    newest = max(found, key=lambda v: [int(n) for n in v.split(".") if n.isdecimal()], default=None)
    return newest or Unavailable(reason="there is no /usr/bin/python3")


def _memory(answer: Answer, malformed: list[str]) -> dict[str, int | Unavailable]:
    """Return the lines of /proc/meminfo in bytes, by name."""
    memory: dict[str, int | Unavailable] = {
        name: Unavailable(reason=f"/proc/meminfo has no {name}")
        for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
    }
    for reading in answer.all("/proc/meminfo"):
        found = re.fullmatch(r"(\w+):\s+(\d+) kB", str(reading.value))
        if found:
            memory[found[1]] = int(found[2]) * 1024
        else:
            malformed.append(f"/proc/meminfo: {reading.value}")
    return memory


def _difference(total: int | Unavailable, free: int | Unavailable) -> int | Unavailable:
    if isinstance(total, Unavailable):
        return total
    return free if isinstance(free, Unavailable) else total - free


def _disk(answer: Answer, malformed: list[str]) -> int | Unavailable:
    """Return the fourth column of `df -Pk`: KiB that are left."""
    reading = answer.first("df")
    rows = [line.split() for line in reading.lines[1:]]
    if reading.value != "0" or not rows:
        return Unavailable(reason=f"df says: {' '.join(reading.lines)[:120] or 'nothing'}")
    try:
        return int(rows[-1][3]) * 1024
    except (ValueError, IndexError):
        malformed.append(f"df: {reading.lines[-1]}")
        return Unavailable(reason=f"df says: {reading.lines[-1]}")


def _cores(reading: Reading, malformed: list[str]) -> frozenset[int] | Unavailable:
    """Return the numbers of a list of cores such as `0,3-5`."""
    if isinstance(reading.value, Unavailable):
        return reading.value
    numbers: set[int] = set()
    for part in reading.value.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if not found:
            malformed.append(f"{reading.path}: {reading.value}")
            return Unavailable(reason=f"{reading.path} says: {reading.value}")
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(numbers)


def _count(numbers: frozenset[int] | Unavailable) -> int | Unavailable:
    return numbers if isinstance(numbers, Unavailable) else len(numbers)


def _config(answer: Answer) -> NvpmodelConfig | Unavailable:
    reading = answer.first("/etc/nvpmodel.conf")
    if isinstance(reading.value, Unavailable):
        return reading.value
    return nvpmodel.parse_config("\n".join(reading.lines))


def _mode(answer: Answer) -> ModeNow | Unavailable:
    reading = answer.first("nvpmodel -q")
    if isinstance(reading.value, Unavailable):
        return Unavailable(reason="there is no program nvpmodel")
    if reading.value == "124":
        return Unavailable(reason="'nvpmodel -q' did not answer within 10 s")
    try:
        return nvpmodel.parse_query("\n".join(reading.lines))
    except ProbeError as error:
        return Unavailable(reason=error.message)


def _display(answer: Answer) -> str:
    names = {str(r.value) for r in answer.all("/proc/*/comm")}
    return ", ".join(name for name in _DISPLAYS if name in names) or "none"


def _gpu_users(answer: Answer) -> tuple[str, ...] | Unavailable:
    """Read nvmap's table of clients; its columns are CLIENT, PROCESS, PID, SIZE.

    File: /sys/kernel/debug/nvmap/iovmm/clients, which only root may read. Seen on AGX Orin.
    """
    reading = answer.first("/sys/kernel/debug/nvmap/iovmm/clients")
    if isinstance(reading.value, Unavailable):
        debug = answer.first("/sys/kernel/debug").value
        refused = isinstance(debug, Unavailable) and "denied" in debug.reason
        return Unavailable(reason="only root may read it") if refused else reading.value
    rows = (line.split() for line in reading.lines)
    return tuple(
        f"{' '.join(row[1:-2])} ({row[-2]})" for row in rows if len(row) > 3 and row[-2].isdecimal()
    )
