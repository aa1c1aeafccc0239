"""What a board tells about itself.

Paths are those of a real board (`/sys/...`): on an emulated one the scripts put its root in front.
A reading that could not be had is `Unavailable` with the reason, never 0.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from elfatt_deploy.artifacts import Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModeSetting:
    """One line of a power mode: what it writes.

    Args:
        param: name of the parameter: `CPU_ONLINE`, `GPU`, `TPC_POWER_GATING`.
        argument: which file of the parameter: `CORE_0`, `MAX_FREQ`, `TPC_PG_MASK`.
        value: what is written there, as it stands in the file.
    """

    param: str
    argument: str
    value: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModeParameter:
    """One parameter that modes may set, and the files behind it.

    Args:
        name: its name: `CPU_ONLINE`, `GPU`.
        kind: `FILE`, `CLOCK`, or what the file says.
        paths: argument and path, in the order of the file.
    """

    name: str
    kind: str
    paths: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NvpmodelMode:
    """One power mode of a configuration of nvpmodel.

    A cap of None says that the mode sets none: the hardware's own maximum holds.

    Args:
        id: its number.
        name: its name as written: `MODE_15W`, `MAXN`, `5W`.
        settings: all its lines in the order of the file, also those that nothing here knows.
        cores: number of processor cores that run.
        cpu_max_hz: cap of the fastest cluster that the mode names.
        gpu_max_hz: cap of the GPU.
        emc_max_hz: cap of the memory controller.
        tpc_mask: bits of the GPU's TPCs that are switched off; None where the mode sets no mask.
    """

    id: int
    name: str
    settings: tuple[ModeSetting, ...]
    cores: int | Unavailable
    cpu_max_hz: float | None | Unavailable
    gpu_max_hz: float | None | Unavailable
    emc_max_hz: float | None | Unavailable
    tpc_mask: int | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NvpmodelConfig:
    """A configuration of nvpmodel.

    Args:
        modes: the power modes in the order of the file.
        default_id: the mode that a fresh system starts in.
        parameters: what modes may set, and the files behind it.
        unknown: headers of sections that are neither parameter, mode nor default.
        malformed: lines that could not be understood, with their number.
    """

    modes: tuple[NvpmodelMode, ...]
    default_id: int | Unavailable
    parameters: tuple[ModeParameter, ...]
    unknown: tuple[str, ...] = ()
    malformed: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModeNow:
    """The power mode that a board is in, as `nvpmodel -q` says it."""

    id: int
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One reading of one supply rail."""

    name: str
    power_mw: float | Unavailable
    voltage_mv: float | Unavailable
    current_ma: float | Unavailable
    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RailChannel:
    """Where a rail is read.

    Args:
        name: its label on the board; a chip without labels gives its own name.
        layout: `hwmon`: `in{index}_input` (mV) times `curr{index}_input` (mA);
            `iio`: `in_power{index}_input` (mW).
        folder: folder of those files on the board.
        index: number of the channel in the names of the files.
    """

    name: str
    layout: Literal["hwmon", "iio"]
    folder: str
    index: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThermalZone:
    """One temperature; `path` is the file that it was read from."""

    name: str
    value_c: float | Unavailable
    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """One clock.

    Args:
        name: `cpu0` ..., `gpu`, `emc`.
        now_hz: what it runs at.
        min_hz: the lowest that it may be set to now.
        max_hz: the highest that it may be set to now, which a power mode caps.
        governor: who decides in between.
        folder: folder of its files on the board: `cpufreq` of a core, `devfreq` of the GPU.
    """

    name: str
    now_hz: float | Unavailable
    min_hz: float | Unavailable
    max_hz: float | Unavailable
    governor: str | Unavailable
    folder: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """One count of what slows a board down.

    Args:
        name: `oc1`, `oc2`, `oc3`: over-current alarms of the SoC since the start;
            `thermal-gpu-throttle-alert` and the like: how far that alert throttles now, 0 for not.
        value: the count.
        path: its file on the board.
    """

    name: str
    value: int | Unavailable
    path: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that was read of a machine in one round trip. Serial numbers are never read.

    Args:
        taken_uptime_s: time since the machine's start, on the clock that samples are stamped with.
        simulated: whether it is an emulated board.
        root: whether commands can run as root there: as the user, or by `sudo -n`.
        machine: its architecture: `aarch64`.
        kernel: version of its kernel.
        model: name of the board in its device tree.
        module: number of the module: `p3701-0005`.
        compatible: all names by which the device tree calls the board and its SoC.
        soc: `tegra234`.
        l4t: version of Jetson Linux: `36.4.3`.
        jetpack: version of JetPack that brings this Jetson Linux: `6.2`.
        cuda: version of the CUDA toolkit.
        tensorrt: version of the TensorRT library.
        trtexec: path by which trtexec can be run there.
        python: version of its python3.
        memory_total_bytes: memory, without what firmware keeps.
        memory_free_bytes: memory that can be had without swapping.
        swap_total_bytes: size of the swap space.
        swap_used_bytes: what of it is in use.
        work_folder: folder for temporary files.
        disk_free_bytes: room left there.
        cores_present: processor cores that the machine has.
        cores_online: those that run.
        load: processes that want to run, mean of a minute.
        clocks: of the cores, the GPU and the memory controller, as far as they can be read.
        zones: temperatures.
        rails: where supply rails can be read. Channels labelled `NC` (not connected) are left out.
        readings: one reading of each rail.
        counters: events that slow the board down.
        nvpmodel: its power modes.
        mode: the power mode that it is in.
        clocks_locked: whether the GPU and all running cores stand still, as after `jetson_clocks`.
        fan: what drives the fan, and how fast.
        display_server: names of the display servers that run; `none`.
        gpu_users: processes that hold GPU memory, as `name (pid)`.
        malformed: what the answer held that could not be understood.
    """

    taken_uptime_s: float
    simulated: bool
    root: bool
    machine: str
    kernel: str
    model: str | Unavailable
    module: str | Unavailable
    compatible: tuple[str, ...]
    soc: str | Unavailable
    l4t: str | Unavailable
    jetpack: str | Unavailable
    cuda: str | Unavailable
    tensorrt: str | Unavailable
    trtexec: str | Unavailable
    python: str | Unavailable
    memory_total_bytes: int | Unavailable
    memory_free_bytes: int | Unavailable
    swap_total_bytes: int | Unavailable
    swap_used_bytes: int | Unavailable
    work_folder: str
    disk_free_bytes: int | Unavailable
    cores_present: int | Unavailable
    cores_online: int | Unavailable
    load: float | Unavailable
    clocks: tuple[ClockReading, ...]
    zones: tuple[ThermalZone, ...]
    rails: tuple[RailChannel, ...]
    readings: tuple[Rail, ...]
    counters: tuple[Counter, ...]
    nvpmodel: NvpmodelConfig | Unavailable
    mode: ModeNow | Unavailable
    clocks_locked: bool | Unavailable
    fan: str | Unavailable
    display_server: str | Unavailable
    gpu_users: tuple[str, ...] | Unavailable
    malformed: tuple[str, ...] = ()

    @property
    def jetson(self) -> bool:
        """Whether the machine is a Jetson, or an emulated one: its SoC or its L4T says so."""
        return not (isinstance(self.soc, Unavailable) and isinstance(self.l4t, Unavailable))
