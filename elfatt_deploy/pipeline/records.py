"""What an export is asked for, and what an export or a check came to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import (
    Bundle,
    Counts,
    ModelIdentity,
    ParityReport,
    PrecisionMap,
    Preprocessing,
    Weights,
)
from elfatt_deploy.engine.rtx import KernelCount
from elfatt_deploy.parity.locate import TensorError
from elfatt_deploy.recipes import Target

Progress = Callable[[str], None]


def silent(stage: str) -> None:
    """Show nothing."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export.

    Args:
        model: a registered name, `package.module:function`, `timm/NAME`, or an ONNX file.
        settings: `key=value` texts that change its configuration.
        height: input rows; None means the model's own size.
        width: input columns; None means the model's own size.
        batch: a fixed batch size, or `dynamic`; None means 1, or what an ONNX file has.
        precision: `fp32`, or `fp16` for mixed precision.
        precision_map: a saved map of the nodes that stay FP32; None means they are searched.
        target: a name of `profiles/targets.toml`.
        weights: a checkpoint; None means seeded random weights, or those of your own module.
        pretrained: whether the published weights are fetched.
        key_map: `package.module:function` from a key of the checkpoint to one of the model.
        swap_halves: whether the checkpoint has the halves of ELFATT in the other order.
        seed: seed of the random weights.
        plugin: `elfatt` for its node in place of the attention blocks that it covers; None for
            plain ops.
        images: folder of images for parity; None means the sample photographs.
        output: folder in which the bundle's folder is made.
    """

    model: str
    settings: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None
    batch: int | str | None = None
    precision: str = "fp32"
    precision_map: Path | None = None
    target: str = "jp6"
    weights: Path | None = None
    pretrained: bool = False
    key_map: str | None = None
    swap_halves: bool = False
    seed: int = 0
    plugin: str | None = None
    images: Path | None = None
    output: Path = Path("bundles")

    @property
    def is_onnx(self) -> bool:
        """Whether the model is an ONNX file from elsewhere."""
        return self.model.endswith(".onnx")

    def folder(self, height: int, width: int, batch: int | str) -> Path:
        """Return the folder of the bundle."""
        name = Path(self.model).stem if self.is_onnx else self.model
        folder = bundles.folder_name(
            name, self.settings, height, width, batch, self.precision, self.target
        )
        return self.output / (f"{folder}-plugin-{self.plugin}" if self.plugin else folder)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """Everything about an export but the module and its inputs; see `ExportRequest`."""

    folder: Path
    identity: ModelIdentity
    weights: Weights
    preprocessing: Preprocessing
    target: Target
    batch: int | str
    precision: str = "fp32"
    precision_map: PrecisionMap | None = None
    image_source: str = ""
    plugin: str | None = None
    counts: Counts | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an export or a check came to.

    Args:
        parity: the comparison with the reference.
        emulation: the same of emulated FP16, where the precision is `fp16`.
        bundle: the bundle; None where an export failed parity, for then none is left, and where an
            ONNX file was checked.
        findings: what does not fit the target, a line each.
        layers: how far each inner tensor is off, where that was asked for.
        engine: the same of a TensorRT plan, where one was given.
        kernels: what a builder makes of the graph, where that was asked for.
        compared: which two runners `layers` compares; empty for the golden outputs.
    """

    parity: ParityReport
    bundle: Bundle | None
    findings: tuple[str, ...] = ()
    layers: tuple[TensorError, ...] = ()
    compared: str = ""
    engine: ParityReport | None = None
    kernels: KernelCount | None = None
    emulation: ParityReport | None = None

    @property
    def passed(self) -> bool:
        """Whether parity holds, also of emulated FP16 and a plan, and the file fits its target."""
        reports = (self.parity, self.emulation, self.engine)
        return all(report is None or report.passed for report in reports) and not self.findings
