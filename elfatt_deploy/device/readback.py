"""What a board is in, read back before and after a change, and what it should show.

Paths are those of a real board. Clocks of cores are kHz in `cpufreq`, those of the GPU Hz in
`devfreq`, those of the memory Hz in a debug file that only root reads.
"""

from __future__ import annotations

import dataclasses
import re

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.records import ClockReading, ModeNow, NvpmodelMode

#: files that say whether the memory clock is pinned, by generation of the SoC; only root reads them
EMC_LOCKS = (
    "/sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked",
    "/sys/kernel/debug/clk/override.emc/clk_state",
)
_EMC = {
    "now": (
        "/sys/kernel/debug/bpmp/debug/clk/emc/rate",
        "/sys/kernel/debug/clk/override.emc/clk_rate",
    ),
    "min": (
        "/sys/kernel/debug/bpmp/debug/clk/emc/min_rate",
        "/sys/kernel/debug/tegra_bwmgr/emc_min_rate",
    ),
    "max": (
        "/sys/kernel/debug/bpmp/debug/clk/emc/max_rate",
        "/sys/kernel/debug/tegra_bwmgr/emc_max_rate",
    ),
}
#: what is read besides the files that the script finds by itself
WATCHED = (*EMC_LOCKS, *(path for paths in _EMC.values() for path in paths))
#: a cap between two clocks of a table becomes the one above it: a TX2 in a mode that says 2000 MHz
#: shows 2035.2 MHz. The largest steps of a table: 153.6 MHz (TX2's cores), 102 MHz (Orin's GPU)
_CPU_STEP_HZ, _GPU_STEP_HZ = 154e6, 103e6
_CORE = re.compile(r"/sys/devices/system/cpu/cpu(\d+)/cpufreq/")
_CPU = re.compile(r"(/sys/devices/system/cpu/(cpu\d+)/cpufreq)/scaling_(min|max|cur)_freq")
_GPU = re.compile(
    r"(.*/(?:[0-9a-f]+\.(?:gpu|g[av]1\db|gp10b)(?:/devfreq_dev)?|gpu-gpc-\d+))/(min|max|cur)_freq"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoardState:
    """What a board is in, read in one round trip.

    Args:
        boot_id: identity of its last start; empty where it tells none.
        uptime_s: time since then; unavailable where it is not told.
        mode: its power mode.
        online: cores that run, as the kernel lists them: `0-3`.
        files: path and first line of the files of its clocks and of all that were asked for.
        fan_service: state of nvfancontrol; empty where the board has no such service.
    """

    boot_id: str
    uptime_s: float | Unavailable
    mode: ModeNow | Unavailable
    online: str
    files: tuple[tuple[str, str], ...]
    fan_service: str

    @property
    def cores(self) -> int | Unavailable:
        """Number of cores that run."""
        cores = running_cores(self.online)
        return Unavailable(reason=f"cores online: {self.online!r}") if cores is None else len(cores)

    @property
    def lasting(self) -> tuple[tuple[str, str], ...]:
        """The files that a restored board must show again: limits, governors, masks, locks."""
        return tuple(
            (path, value)
            for path, value in self.files
            if not _fleeting(path) and self._running(path)
        )

    @property
    def clocks(self) -> tuple[ClockReading, ...]:
        """The clocks of the running cores, the GPU and, where root can read it, the memory."""
        return _clocks({path: value for path, value in self.files if self._running(path)})

    def _running(self, path: str) -> bool:
        """Whether a file is not that of a core that stands still: it shows what was once."""
        core = _CORE.match(path)
        cores = running_cores(self.online)
        return core is None or cores is None or int(core[1]) in cores


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadBack:
    """What a board says after a change.

    Args:
        mode: its power mode.
        clocks: of running cores, GPU and memory.
        cores: number of running cores.
    """

    mode: ModeNow
    clocks: tuple[ClockReading, ...]
    cores: int | Unavailable


def running_cores(online: str) -> frozenset[int] | None:
    """Return the numbers that a list such as `0,3-5` names; None where it is no such list."""
    found: set[int] = set()
    for part in online.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            return None
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _fleeting(path: str) -> bool:
    """Whether a file changes by itself, or is of a unit that nothing here pins."""
    if path in EMC_LOCKS:
        return False
    if path in WATCHED or path.endswith("cur_freq"):
        return True
    folder, _, name = path.rpartition("/")
    if "/devfreq" in path and name in ("min_freq", "max_freq", "governor", "target_freq"):
        return name == "target_freq" or not _GPU.fullmatch(f"{folder}/min_freq")
    return False


def _clocks(files: dict[str, str]) -> tuple[ClockReading, ...]:
    folders: dict[str, str] = {}
    for path in files:
        core, gpu = _CPU.fullmatch(path), _GPU.fullmatch(path)
        if core:
            folders[core[2]] = core[1]
        elif gpu and "gpu" not in folders:
            folders["gpu"] = gpu[1]
    return (
        *(
            _reading(name, folder, files)
            for name, folder in sorted(folders.items(), key=lambda item: _number(item[0]))
        ),
        *([_emc(files)] if any(path in files for path in _EMC["now"]) else []),
    )


def _number(name: str) -> int:
    return int(name[3:]) if name.startswith("cpu") else 1_000_000


def _reading(name: str, folder: str, files: dict[str, str]) -> ClockReading:
    core = name.startswith("cpu")
    prefix, factor = ("scaling_", 1e3) if core else ("", 1.0)
    return ClockReading(
        name=name,
        now_hz=_hz(files, f"{folder}/{prefix}cur_freq", factor),
        min_hz=_hz(files, f"{folder}/{prefix}min_freq", factor),
        max_hz=_hz(files, f"{folder}/{prefix}max_freq", factor),
        governor=files.get(f"{folder}/{prefix}governor", Unavailable(reason="not read")),
        folder=folder,
    )


def _emc(files: dict[str, str]) -> ClockReading:
    path, low, high = (
        next((path for path in _EMC[key] if path in files), _EMC[key][0])
        for key in ("now", "min", "max")
    )
    return ClockReading(
        name="emc",
        now_hz=_hz(files, path, 1.0),
        min_hz=_hz(files, low, 1.0),
        max_hz=_hz(files, high, 1.0),
        governor=Unavailable(reason="the memory controller has none"),
        folder=path.rpartition("/")[0],
    )


def _hz(files: dict[str, str], path: str, factor: float) -> float | Unavailable:
    value = files.get(path, "")
    return int(value) * factor if value.isdecimal() else Unavailable(reason=f"{path}: not read")


def unpinned(state: BoardState) -> tuple[str, ...]:
    """Return which clocks are not pinned, a text each; empty where all that are read are."""
    found = []
    for clock in state.clocks:
        low, high = clock.min_hz, clock.max_hz
        if clock.name == "emc":
            continue  # its limits do not move: it is pinned by a lock
        if isinstance(low, Unavailable) or isinstance(high, Unavailable):
            found.append(f"{clock.name} cannot be read")
        elif low != high:
            found.append(f"{clock.name} may move between {low / 1e6:g} and {high / 1e6:g} MHz")
    if not any(clock.name == "gpu" for clock in state.clocks):
        found.append("no clock of the GPU can be read")
    files = dict(state.files)
    found += [f"{path} is 0" for path in EMC_LOCKS if files.get(path) == "0"]
    return tuple(found)


def beyond(state: BoardState, mode: NvpmodelMode) -> tuple[str, ...]:
    """Return in what a board does not show the settings of a mode, a text each."""
    found = []
    cores = state.cores
    if isinstance(mode.cores, int) and isinstance(cores, int) and cores != mode.cores:
        found.append(f"{cores} cores run, the mode has {mode.cores}")
    for clock in state.clocks:
        cap = mode.gpu_max_hz if clock.name == "gpu" else mode.cpu_max_hz
        if clock.name == "emc" or not isinstance(cap, float | int):
            continue
        step = _GPU_STEP_HZ if clock.name == "gpu" else _CPU_STEP_HZ
        if isinstance(clock.max_hz, float | int) and clock.max_hz > cap + step:
            found.append(
                f"{clock.name} goes up to {clock.max_hz / 1e6:g} MHz, the mode caps it at "
                f"{cap / 1e6:g} MHz"
            )
    return tuple(found)
