"""Lines of a log to shares: accuracy, agreement and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy.evaluation import accuracy
from elfatt_deploy.evaluation.imagefolder import ImageFolder
from elfatt_deploy.evaluation.log import LogHeader, Prediction
from elfatt_deploy.evaluation.plan import EvalPlan
from elfatt_deploy.evaluation.records import ClassAccuracy, EvalOutcome, Share, Unreadable


def outcome(
    plan: EvalPlan,
    header: LogHeader,
    lines: Sequence[Prediction],
    *,
    unreadable: tuple[Unreadable, ...],
    resumed: int,
    wall_s: float,
    path: Path,
    notes: tuple[str, ...],
) -> EvalOutcome:
    """Count over the lines of all readable images.

    Args:
        plan: what was evaluated.
        header: the first line of the log.
        lines: a line for each image that could be read; at least one.
        unreadable: the other images.
        resumed: how many lines an earlier run wrote.
        wall_s: wall-clock time of this run.
        path: the log.
        notes: what a user should know about the run besides.
    """
    subject = plan.subject
    labels = [line.label for line in lines]
    ours = [line.top for line in lines]
    theirs = [line.reference or () for line in lines] if header.reference else None
    has_top5 = subject.classes >= accuracy.TOP5_CLASSES

    def counted(predicted: Sequence[tuple[int, ...]] | None, k: int) -> Share | None:
        if predicted is None or (k > 1 and not has_top5):
            return None
        return accuracy.share(accuracy.hits(predicted, labels, k), len(lines))

    def agreed(k: int) -> Share | None:
        if theirs is None or (k > 1 and not has_top5):
            return None
        return accuracy.share(accuracy.agreeing(ours, theirs, k), len(lines))

    return EvalOutcome(
        name=subject.name,
        model_sha256=subject.sha256,
        weights=subject.weights,
        precision=subject.precision,
        runner=header.runner,
        reference=header.reference,
        data=header.data,
        class_order=plan.folder.order,
        classes=subject.classes,
        batch=plan.batch,
        preprocessing=subject.preprocessing,
        preprocessing_source=subject.preprocessing_source,
        top1=accuracy.share(accuracy.hits(ours, labels, 1), len(lines)),
        top5=counted(ours, 5),
        reference_top1=counted(theirs, 1),
        reference_top5=counted(theirs, 5),
        agreement_top1=agreed(1),
        agreement_top5=agreed(5),
        agreement_note=plan.agreement_note,
        nonfinite=sum(not top for top in ours),
        per_class=_per_class(plan.folder, lines),
        unreadable=unreadable,
        resumed=resumed,
        wall_s=wall_s,
        log=path,
        notes=notes,
    )


def _per_class(folder: ImageFolder, lines: Sequence[Prediction]) -> tuple[ClassAccuracy, ...]:
    """Return the top-1 of every class that has a line."""
    images = Counter(line.label for line in lines)
    correct = Counter(line.label for line in lines if line.label in line.top[:1])
    return tuple(
        ClassAccuracy(
            index=entry.index,
            folder=entry.folder,
            name=entry.name,
            correct=correct[entry.index],
            images=images[entry.index],
        )
        for entry in folder.classes
        if entry.index in images
    )
