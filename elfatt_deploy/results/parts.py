"""The parts of a run record; see `schema.RunRecord`.

What was not measured is `Unavailable` with the reason: never 0, never nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Literal
from urllib.parse import quote

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.errors import SchemaError

#: what may be wrong with a measurement
Validity = Literal["throttled", "off-clock", "disturbed", "unwatched", "not-steady", "unstable"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Everything that was asked for: what a sweep counts, skips and repeats.

    Args:
        model: its name, or that of an ONNX file.
        settings: `key=value` texts that change its configuration, sorted.
        height: input rows.
        width: input columns.
        batch: images in a run.
        precision: `fp32`, `tf32` or `fp16`, as asked; what ran is in `RunRecord.proof`.
        target: target of the bundle; empty where no bundle ran.
        runner: `torch`, `ort`, `trt`, `trtexec`; for a prediction the method.
        provider: on what: `cpu`, `cuda`, `tensorrt`.
        contract: timing contract and its version, such as `single-stream/1`.
        device: as given to `--device`, such as `local` or `ssh://orin`.
        power: power mode as asked; empty where it was left as found.
        threads: of the runner; 0 is its own choice.
        variant: what else tells two cells apart, such as `compile` for torch.
    """

    model: str
    settings: tuple[str, ...] = ()
    height: int
    width: int
    batch: int
    precision: str
    target: str = ""
    runner: str
    provider: str
    contract: str
    device: str = "local"
    power: str = ""
    threads: int = 0
    variant: str = ""

    @property
    def key(self) -> str:
        """One text that differs wherever two cells differ."""
        words = (
            self.precision,
            self.target,
            self.runner,
            self.provider,
            self.contract,
            self.device,
            self.power,
            f"t{self.threads}",
            self.variant,
        )
        return ",".join(
            (
                _quoted(self.model),
                ";".join(map(_quoted, self.settings)),
                f"{self.height}x{self.width}",
                f"b{self.batch}",
                *map(_quoted, words),
            )
        )

    @property
    def label(self) -> str:
        """The same for people: what was left open is left out."""
        size = str(self.height) if self.height == self.width else f"{self.height}x{self.width}"
        words = (
            self.model,
            *self.settings,
            size,
            f"b{self.batch}",
            self.precision,
            self.target,
            self.runner,
            self.provider,
            self.variant,
            f"t{self.threads}" if self.threads else "",
            self.contract,
            self.device,
            self.power,
        )
        return " ".join(filter(None, words))


def _quoted(text: str) -> str:
    """Return a text without the separators of a key."""
    return quote(text, safe="=:/@+")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """The checkout of this program; `dirty` where it had changes of its own."""

    commit: str
    dirty: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The machine that ran it.

    Args:
        name: of the whole machine, or of its processor.
        board: a name of `profiles/boards`.
        cpu: the processor.
        cores: logical processors that could be used.
        memory_bytes: all of its memory.
        gpu: the GPU's name.
        system: operating system, its release and the architecture.
        virtual: whether a hypervisor is seen.
    """

    name: str
    board: str | Unavailable
    cpu: str
    cores: int
    memory_bytes: int | Unavailable
    gpu: str | Unavailable
    system: str
    virtual: bool | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PowerMode:
    """A power mode as read back from the board; `locked` where its clocks were."""

    id: int
    name: str
    locked: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A clock and its limits: `cpu`, `gpu`, `emc`."""

    name: str
    now_hz: float | Unavailable
    min_hz: float | Unavailable
    max_hz: float | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """The temperature of a thermal zone."""

    zone: str
    value_c: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """How the machine was at one moment.

    Args:
        load: load average of the last minute.
        governor: that of the CPU's clock.
        free_bytes: memory that could be taken without swapping.
        swap_used_bytes: swap in use.
        gpu_processes: foreign programs on the GPU.
        clocks: as read.
        temperatures: as read.
        throttle_events: counter -> its value: throttling, over-current.
        huge_pages: the rule by which memory is mapped in huge pages.
    """

    load: float | Unavailable
    governor: str | Unavailable
    free_bytes: int | Unavailable
    swap_used_bytes: int | Unavailable
    gpu_processes: tuple[str, ...] | Unavailable
    clocks: tuple[Clock, ...] | Unavailable
    temperatures: tuple[Temperature, ...] | Unavailable
    throttle_events: dict[str, int] | Unavailable
    huge_pages: str | Unavailable = Unavailable(reason="not recorded")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How it was measured.

    Args:
        name: `quick`, `default` or `strict`; numbers of a quick run are marked.
        min_seconds: least duration of a repetition.
        min_runs: least number of timed runs of a repetition.
        repetitions: number of repetitions that were planned.
        fresh_processes: whether each repetition had a process of its own.
        seed: of the order.
        order: how the repetitions of several cells follow each other, in words.
        warm_up: the rule of the warm-up, in words.
        note: where the contract is kept in another way than its definition says.
    """

    name: Literal["quick", "default", "strict"]
    min_seconds: float
    min_runs: int
    repetitions: int
    fresh_processes: bool
    seed: int
    order: str
    warm_up: str
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """One repetition: all of its samples.

    Args:
        samples_ms: time of each timed run of one batch, in order, by the contract.
        wall_ms: from the first timed run's start to the last one's end.
        warm_up_runs: runs before the first timed one.
        steady: whether the warm-up settled.
        position: place in the order of all repetitions of the call, from 0.
        phases_ms: other times of the same runs, such as `h2d`, `compute` and `d2h`.
        turns: number of samples of each turn, where cells took turns; none where they did not.
    """

    samples_ms: tuple[float, ...]
    wall_ms: float | Unavailable
    warm_up_runs: int | Unavailable
    steady: bool | Unavailable
    position: int = 0
    phases_ms: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    turns: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Reject turns that are not those of the samples.

        Raises:
            SchemaError: they do not add up to them.
        """
        if self.turns and (min(self.turns) < 1 or sum(self.turns) != len(self.samples_ms)):
            raise SchemaError(
                f"turns of {sum(self.turns)} samples, and {len(self.samples_ms)} samples",
                hint="measure the cell anew",
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What is shown of the samples; times are of one batch.

    Args:
        count: number of samples.
        repetitions: number of repetitions.
        p50_ms: median of the repetitions' medians.
        p50_interval_ms: its bootstrap interval over the repetitions.
        mean_ms: mean of all samples.
        mad_ms: median absolute deviation of all samples.
        p90_ms: 90th percentile of all samples, by trtexec's formula.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        min_ms: the smallest sample.
        max_ms: the largest one.
        images_per_s: by the rule of the contract.
        images_per_s_interval: its interval.
        images_per_s_rule: that rule.
    """

    count: int
    repetitions: int
    p50_ms: float
    p50_interval_ms: Interval | Unavailable
    mean_ms: float | Unavailable
    mad_ms: float | Unavailable
    p90_ms: float | Unavailable
    p95_ms: float | Unavailable
    p99_ms: float | Unavailable
    min_ms: float | Unavailable
    max_ms: float | Unavailable
    images_per_s: float | Unavailable
    images_per_s_interval: Interval | Unavailable
    images_per_s_rule: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """The power of one rail over the timed windows."""

    name: str
    mean_mw: float
    p95_mw: float
    max_mw: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PowerSummary:
    """Power and energy over the timed windows alone.

    Args:
        sampler: what read it: `sysfs`, `tegrastats`, `jtop`.
        rate_hz: samples a second.
        count: number of samples within the windows.
        window_ms: length of the windows together.
        rails: each rail.
        total_rule: which rail, or which sum, is the total.
        total_mean_mw: mean of the total.
        total_p95_mw: 95th percentile of the total.
        idle_mw: the total at rest, before.
        energy_mj: of all timed runs.
        energy_mj_per_image: the same for one image.
        sampler_overhead: share by which a repetition without sampler was faster.
        hottest_c: the highest temperature meanwhile of any zone that is a sensor.
    """

    sampler: str
    rate_hz: float
    count: int
    window_ms: float
    rails: tuple[Rail, ...]
    total_rule: str | Unavailable
    total_mean_mw: float | Unavailable
    total_p95_mw: float | Unavailable
    idle_mw: float | Unavailable
    energy_mj: float | Unavailable
    energy_mj_per_image: float | Unavailable
    sampler_overhead: float | Unavailable
    hottest_c: float | Unavailable = Unavailable(reason="it was not sampled")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Largest memory in use: of the process that ran the model, and on its device."""

    host_peak_bytes: int | Unavailable
    device_peak_bytes: int | Unavailable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How a predicted time came about.

    Args:
        method: such as `roofline/1`.
        regime: `eager` or `fused`.
        levels_ms: part of the network -> its time.
        limits: part of the network -> what limits it, such as `bandwidth`.
        band: what the interval of the statistics means here.
    """

    method: str
    regime: str
    levels_ms: dict[str, float]
    limits: dict[str, str]
    band: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunWarning:
    """What is doubtful, and what to do; `kind` is one word of a closed set."""

    kind: str
    message: str
