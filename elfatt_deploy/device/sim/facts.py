"""What one simulated board is: written once into its folder, read by each of its programs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

FACTS_FILE = "machine.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SimRail:
    """A supply rail.

    Args:
        name: its label.
        layout: which files it has; see `records.RailChannel`.
        folder: folder of those files.
        index: its number in their names.
        at_rest: its watts at rest, as a share of the board's.
        when_busy: its share of the board's watts above those at rest.
        chip: what the sensor calls itself.
    """

    name: str
    layout: Literal["hwmon", "iio"]
    folder: str
    index: int
    at_rest: float
    when_busy: float
    chip: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Cores that share one clock; `name` is what a configuration of nvpmodel calls them."""

    name: str
    cores: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule of times, power and temperature: `profiles/sim/rule.toml` says what each one is."""

    query_us: float
    efficiency: float
    fp16_gain: float
    bandwidth_share: float
    launch_us: float
    graph_launch_us: float
    copy_share: float
    copy_latency_us: float
    noise: float
    transfer_share: float
    ambient_c: float
    rise_c: float
    time_constant_s: float
    trip_c: float
    trip_clock_share: float
    rate_hz: float
    reboot_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is fixed about a simulated board.

    Args:
        board: its name.
        soc: name of the SoC.
        model: its name in the device tree.
        compatible: what the device tree calls it.
        release: text of `/etc/nv_tegra_release`.
        cuda: version of the CUDA toolkit.
        tensorrt: version of TensorRT.
        build: build number in trtexec's banner; empty where that version has none.
        gpu_name: name of the GPU.
        sm: compute capability, 87 for 8.7.
        ops: operators that its TensorRT imports; None means all.
        memory_mib: its memory.
        tpcs: TPCs of the module.
        tpc_bits: bits of the mask that switches TPCs off.
        sms_per_tpc: SMs of each.
        cores_per_sm: CUDA cores of each.
        bandwidth_bytes_per_s: of the memory at its highest clock.
        clusters: processor cores.
        always_on: cores that no configuration names, from core 0 on.
        cpu_khz: clocks of the cores.
        gpu_hz: clocks of the GPU.
        emc_hz: lowest and highest clock of the memory controller.
        gpu_folder: folder of the GPU's clock files.
        gpu_links: other paths of that folder.
        gpu_power: folder of the GPU's power files.
        tpc_mask_file: file of the mask; empty where there is none.
        mask_needs_reboot: whether a change of the mask does.
        emc_cap: file of the memory controller's cap.
        emc_layout: files of its clock: `bwmgr` or `bpmp`.
        fan: file of the fan's speed.
        counters: files of over-current counters.
        zones: temperatures; those without a word in `zone_words` cannot be read.
        zone_words: their names in tegrastats.
        tegrastats: how its lines look: `t210`, `t186`, `t194`, `t234`, `t264`.
        governor: of the cores.
        rails: supply rails.
        voltage_mv: of the rails.
        idle_w: watts at rest.
        max_w: watts that the module may take at most.
        budgets_w: of the modes, by id; a mode that is not there may take `max_w`.
        rule: the constants of the rule.
    """

    board: str
    soc: str
    model: str
    compatible: tuple[str, ...]
    release: str
    cuda: str
    tensorrt: str
    build: str
    gpu_name: str
    sm: int
    ops: tuple[str, ...] | None
    memory_mib: int
    tpcs: int
    tpc_bits: int
    sms_per_tpc: int
    cores_per_sm: int
    bandwidth_bytes_per_s: float
    clusters: tuple[Cluster, ...]
    always_on: int
    cpu_khz: tuple[int, ...]
    gpu_hz: tuple[int, ...]
    emc_hz: tuple[int, int]
    gpu_folder: str
    gpu_links: tuple[str, ...]
    gpu_power: str
    tpc_mask_file: str
    mask_needs_reboot: bool
    emc_cap: str
    emc_layout: Literal["bwmgr", "bpmp"]
    fan: str
    counters: tuple[str, ...]
    zones: tuple[str, ...]
    zone_words: tuple[str, ...]
    tegrastats: str
    governor: str
    rails: tuple[SimRail, ...]
    voltage_mv: float
    idle_w: float
    max_w: float
    budgets_w: dict[str, float]
    rule: Rule

    @property
    def cores(self) -> int:
        """Number of cores that the module has."""
        return sum(len(cluster.cores) for cluster in self.clusters)

    @property
    def version(self) -> tuple[int, ...]:
        """Version of TensorRT, to compare it."""
        return tuple(int(part) for part in self.tensorrt.split("."))


def write_facts(folder: Path, facts: Facts) -> None:
    """Write them into the board's folder."""
    text = json.dumps(dataclasses.asdict(facts), indent=1)
    (folder / FACTS_FILE).write_text(text + "\n", encoding="utf-8")


def read_facts(folder: Path) -> Facts:
    """Read what `write_facts` wrote; the file is ours, so it is not validated again."""
    document: dict[str, Any] = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    fields: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in document.items()
    }
    fields["clusters"] = tuple(
        Cluster(name=entry["name"], cores=tuple(entry["cores"])) for entry in document["clusters"]
    )
    fields["rails"] = tuple(SimRail(**entry) for entry in document["rails"])
    fields["rule"] = Rule(**document["rule"])
    return Facts(**fields)
