"""What is built, and what came of it: the records that both builders share.

`builder.build` (in process, through the `tensorrt` package) and `trtexec.build` (a command, here or
on a board) take the same `BuildConfig` and return the same `BuiltPlan`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from elfatt_deploy.errors import UsageError

Precision = Literal["fp32", "tf32", "fp16"]
#: what a build leaves in its folder; `plan.write_manifest` adds the manifest
PLAN_FILE, LAYERS_FILE = "model.plan", "layers.json"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BatchProfile:
    """The optimization profile of a dynamic batch: `1 <= smallest <= best <= largest`."""

    smallest: int
    best: int
    largest: int

    def __post_init__(self) -> None:
        """Refuse a profile that no builder takes."""
        if not 1 <= self.smallest <= self.best <= self.largest:
            raise UsageError(
                f"an optimization profile of batches {self.smallest}, {self.best} and "
                f"{self.largest}",
                hint="give the smallest, the best and the largest batch, in that order, from 1",
            )

    def __str__(self) -> str:
        """Return it as the command line takes it: `1-1-8`."""
        return f"{self.smallest}-{self.best}-{self.largest}"


#: of a dynamic graph where no range is asked for: tuned for single images, as a camera sends them
DEFAULT_PROFILE = BatchProfile(smallest=1, best=1, largest=8)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildConfig:
    """How a plan is built.

    Args:
        precision: `fp32` is strict, TF32 off; `tf32` allows it; `fp16` is mixed precision.
        typed: whether the types of the file decide (a strongly typed network). Without it, `fp16`
            is the builder's flag, and `islands` stay FP32 by precision constraints.
        islands: names of the ONNX nodes that stay FP32; only without `typed`.
        profile: batches of a dynamic graph; None where the batch is fixed.
        workspace_bytes: limit of the workspace; None for the forecast of the board's memory.
        timing_cache: file that holds tactic timings from one build to the next; None for none.
        plugins: plugin libraries to load first.
    """

    precision: Precision
    typed: bool
    islands: tuple[str, ...] = ()
    profile: BatchProfile | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    plugins: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no builder can honour."""
        if self.typed and self.islands:
            raise UsageError(
                "a typed network takes its precisions from the file",
                hint="export the bundle with --precision fp16, which writes the islands into it",
            )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildDevice:
    """The GPU that a plan was built on, and is tied to.

    Args:
        name: as the driver calls it.
        sm: compute capability, 87 for 8.7.
        memory_bytes: its whole memory.
    """

    name: str
    sm: int
    memory_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """A plan on disk, and how it came about.

    Args:
        plan: the plan's file.
        layers: file of the layer information, JSON as this version of TensorRT writes it; None
            where the builder gave none.
        tensorrt: version, such as `10.3.0`.
        device: the GPU.
        method: `tensorrt` (in process) or `trtexec`.
        command: the command line of trtexec; empty in process.
        typed: whether the network was strongly typed.
        workspace_bytes: the limit that was in force.
        attempts: builds that were tried, one more for each halving of the workspace.
        seconds: wall-clock time of the last attempt.
        warnings: the builder's warnings, each once, in order.
    """

    plan: Path
    layers: Path | None
    tensorrt: str
    device: BuildDevice
    method: Literal["tensorrt", "trtexec"]
    command: tuple[str, ...] = ()
    typed: bool
    workspace_bytes: int
    attempts: int
    seconds: float
    warnings: tuple[str, ...] = ()
