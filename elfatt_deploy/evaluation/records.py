"""What an evaluation is asked for, and what it came to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from elfatt_deploy.artifacts import Preprocessing


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvalRequest:
    """What to evaluate, on which images.

    Args:
        model: a bundle's folder, or an ONNX file.
        data: folder with one sub-folder of images for each class.
        runner: `ort` or `torch`.
        provider: what it runs on, `cpu` or `cuda`.
        weights: the checkpoint behind the bundle, for the torch model.
        labels: file with a line for each class: folder name, then readable name.
        batch: images in one run; None means the graph's own, or 8 where that is dynamic.
        limit: evaluate this many images, spread evenly over the listing; None means all.
        agreement: whether the FP32 torch model sees the same images.
        height: input rows of an ONNX file that leaves them open.
        width: input columns of an ONNX file that leaves them open.
        preprocess: `key=value` texts that change the preprocessing of an ONNX file.
        output: folder of the logs.
    """

    model: Path
    data: Path
    runner: str = "ort"
    provider: str = "cpu"
    weights: Path | None = None
    labels: Path | None = None
    batch: int | None = None
    limit: int | None = None
    agreement: bool = True
    height: int | None = None
    width: int | None = None
    preprocess: tuple[str, ...] = ()
    output: Path = Path("evals")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of so many; `low` and `high` are the Wilson interval at 95 %."""

    count: int
    total: int
    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassAccuracy:
    """Top-1 of one class; only classes with an evaluated image have one."""

    index: int
    folder: str
    name: str
    correct: int
    images: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An image that could not be read: its path within the data folder, and why."""

    image: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EvalOutcome:
    """What an evaluation came to.

    Args:
        name: the bundle's folder or the file.
        model_sha256: digest of the ONNX file.
        weights: where the weights came from.
        precision: precision of what ran.
        runner: what ran it.
        reference: the torch model that saw the same images; None where none did.
        data: name of the data folder.
        class_order: how its sub-folders became classes.
        classes: classes of the model.
        batch: images in one run.
        preprocessing: how an image became an input.
        preprocessing_source: who said so.
        top1: images whose best class is theirs.
        top5: images whose five best classes hold theirs; None below six classes.
        reference_top1: the same of the reference.
        reference_top5: the same of the reference.
        agreement_top1: images for which both have the same best class.
        agreement_top5: images for which both have the same five best classes, in any order.
        agreement_note: why agreement was not measured; empty where it was.
        nonfinite: images with NaN or Inf among the logits: no prediction, counted as wrong.
        per_class: top-1 by class.
        unreadable: images left out of all shares.
        resumed: images taken from the log of an earlier run.
        wall_s: wall-clock time of this run, reading and preparing the images included.
        log: the file with every prediction.
        notes: what a user should know about the run besides.
    """

    name: str
    model_sha256: str
    weights: str
    precision: str
    runner: str
    reference: str | None
    data: str
    class_order: str
    classes: int
    batch: int
    preprocessing: Preprocessing
    preprocessing_source: str
    top1: Share
    top5: Share | None
    reference_top1: Share | None
    reference_top5: Share | None
    agreement_top1: Share | None
    agreement_top5: Share | None
    agreement_note: str
    nonfinite: int
    per_class: tuple[ClassAccuracy, ...]
    unreadable: tuple[Unreadable, ...]
    resumed: int
    wall_s: float
    log: Path
    notes: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Images that the shares are about."""
        return self.top1.total

    @property
    def images_per_s(self) -> float | None:
        """Images of this run per wall-clock second, no benchmark; None where it ran none."""
        ran = self.images - self.resumed
        return ran / self.wall_s if ran and self.wall_s > 0 else None

    @property
    def complete(self) -> bool:
        """Whether every image that was asked for could be read."""
        return not self.unreadable

    def worst(self, count: int) -> tuple[ClassAccuracy, ...]:
        """Return the classes of lowest top-1, worst first; none of those without an error."""
        wrong = [entry for entry in self.per_class if entry.correct < entry.images]
        return tuple(sorted(wrong, key=lambda entry: entry.correct / entry.images)[:count])
