"""What is measured together, and what each measurement came to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from elfatt_deploy.artifacts import Bundle, ParityReport, Unavailable
from elfatt_deploy.bench.contracts import Contract
from elfatt_deploy.bench.protocol import BenchPlan, Timed, WarmUp
from elfatt_deploy.bench.stability import StabilityWarning
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.errors import UsageError

NO_GPU = Unavailable(reason="no GPU was used")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What to measure.

    Args:
        models: names, each looked up among the bundles and exported where there is none.
        bundles: folders of bundles; with `plans`, those that the plans were built from.
        plans: folders of TensorRT plans, measured in place of bundles.
        plugins: plugin libraries to load before a plan.
        folder: where bundles are looked up and exported.
        height: input rows of the models; None means each model's own.
        width: input columns of the models; None means each model's own.
        runner: `ort`, `torch`, `trt` or `trtexec`.
        provider: `cpu`, `cuda` or `tensorrt`.
        precision: `fp32`, `tf32` or `fp16`; bundles that are looked up have it, but for `tf32` and
            for torch, which run those of FP32.
        variant: `compile` for a module that `torch.compile` rewrote; empty otherwise.
        batch: images in a run; None means what the bundle or plan has, 1 (of a plan: the batch it
            is tuned for) where that is open.
        threads: threads within an op; 0 is the runner's own choice.
        contract: the timing contract.
        plan: how long.
        baseline: name of the cell that the others are compared with; None for no comparison.
        seed: seed of the order.
        device: where it is measured.
        power: power mode of that device; empty leaves it as found.
    """

    models: tuple[str, ...] = ()
    bundles: tuple[Path, ...] = ()
    plans: tuple[Path, ...] = ()
    plugins: tuple[Path, ...] = ()
    folder: Path = Path("bundles")
    height: int | None = None
    width: int | None = None
    runner: str = "ort"
    provider: str = "cpu"
    precision: str = "fp32"
    variant: str = ""
    batch: int | None = None
    threads: int = 0
    contract: Contract
    plan: BenchPlan
    baseline: str | None = None
    seed: int = 0
    device: str = "local"
    power: str = ""

    def __post_init__(self) -> None:
        """Reject what cannot be measured.

        Raises:
            UsageError: nothing is named, or a number is out of range.
        """
        if not self.models and not self.bundles and not self.plans:
            raise UsageError("there is no model, no bundle and no plan to measure")
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"--batch {self.batch}", hint="use a number from 1")
        if self.threads < 0:
            raise UsageError(f"--threads {self.threads} is negative")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BenchCell:
    """One bundle, or a plan of it, as it is measured.

    Args:
        name: the model's name; `NAME#2` where a call names a model twice.
        bundle: the bundle.
        batch: images in a run.
        precision: what it is to run in; that of the bundle where nothing else was asked for.
        plan: the plan that runs; None where the bundle itself does.
    """

    name: str
    bundle: Bundle
    batch: int
    precision: str = "fp32"
    plan: Plan | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one fresh process measured.

    Args:
        runner: what ran, as the runner names itself.
        version: version of the package that ran it.
        parity: one batch against the golden logits, before anything was timed.
        warm_up: its warm-up.
        timed: all timed runs.
        host_peak_bytes: largest memory of the process.
        device_peak_bytes: largest memory on the GPU.
        foreign_cores: mean number of cores that other programs kept busy meanwhile.
        position: place in the order of all visits of the call.
        sitting: number of the sitting, one more for each time that a call was continued.
        gpu: the GPU's name.
        phases_ms: other times of the same runs: `h2d`, `compute`, `d2h`.
        notes: what else is to be known of it, a line each.
    """

    runner: str
    version: str
    parity: ParityReport
    warm_up: WarmUp
    timed: Timed
    host_peak_bytes: int | Unavailable
    device_peak_bytes: int | Unavailable
    foreign_cores: float | Unavailable
    position: int = 0
    sitting: int = 0
    gpu: str | Unavailable = NO_GPU
    phases_ms: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Why a process measured nothing.

    Args:
        reason: in words.
        parity: the comparison that failed; None where something else did.
    """

    reason: str
    parity: ParityReport | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a process came to.

    Args:
        outcome: what it measured, or why nothing.
        started: when it began, UTC.
        duration_s: time that it took, without the turns of others.
    """

    outcome: Measured | Failed
    started: str
    duration_s: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What a cell came to.

    Args:
        cell: the cell.
        repetitions: number of the repetition -> what it measured.
        failed: why the cell was given up; None where it was not.
        warnings: what is doubtful about it.
        started: when its first repetition began, UTC.
        duration_s: time that its processes took together.
    """

    cell: BenchCell
    repetitions: dict[int, Measured]
    failed: Failed | None
    warnings: tuple[StabilityWarning, ...] = ()
    started: str = ""
    duration_s: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """The same cell measured before and after all others.

    Args:
        name: of the cell.
        first_ms: its median before.
        last_ms: its median after.
    """

    name: str
    first_ms: float
    last_ms: float

    @property
    def drift(self) -> float:
        """How much longer it took after, as a share."""
        return self.last_ms / self.first_ms - 1
