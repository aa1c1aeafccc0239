"""Runs every image through a runner, and through the torch model where there is one.

What an image came to is in the log before the next batch runs, so that a run that stops goes on
where it stopped. All counting is done on the log's lines, whichever run wrote them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import units
from elfatt_deploy.errors import InputFileError, RunnerError
from elfatt_deploy.evaluation import accuracy, imagefolder, loading, log, tally
from elfatt_deploy.evaluation.log import EvalLog, Prediction
from elfatt_deploy.evaluation.records import EvalOutcome, Unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from elfatt_deploy.evaluation.imagefolder import LabelledImage
    from elfatt_deploy.evaluation.loading import Loaded
    from elfatt_deploy.evaluation.plan import EvalPlan
    from elfatt_deploy.runners.base import Runner


class EvalInterrupted(KeyboardInterrupt):
    """Ctrl-C during an evaluation; says what is kept and how to go on."""


def evaluate(
    plan: EvalPlan,
    runner: Runner,
    reference: Runner | None,
    progress: Callable[[str], None],
) -> EvalOutcome:
    """Evaluate what the log lacks, then count over all images.

    Args:
        plan: what to evaluate.
        runner: what runs the model; opened and closed here.
        reference: the FP32 torch model, or None; opened and closed here.
        progress: called with the state after each batch.

    Raises:
        EvalInterrupted: on Ctrl-C; finished images are in the log.
        InputFileError: not one image could be read.
        RunnerError: a runner fails, or gives no logits of the right shape.
        SchemaError: the log of an earlier run cannot be gone on with.
        ExportError: the log cannot be written.
    """
    chosen = imagefolder.spread(plan.folder.images, plan.limit)
    header = plan.header(runner.name, reference.name if reference else None)
    with ExitStack() as stack:
        stack.enter_context(runner)
        if reference is not None:
            stack.enter_context(reference)
        book = stack.enter_context(log.opened(plan.output, header))
        todo = [image for image in chosen if not _is_finished(image, book, plan.folder.root)]
        started = time.perf_counter()
        with _resumable(book, chosen):
            failed = _run(plan, runner, reference, book, todo, len(chosen), progress)
        wall_s = time.perf_counter() - started
    missing = {entry.image for entry in failed}
    counted = [image.path for image in chosen if image.path not in missing]
    if not counted:
        raise InputFileError(
            f"none of the {len(chosen)} images of {plan.folder.root} could be read; the first: "
            f"{failed[0].reason}"
        )
    notes = []
    if plan.subject.random:
        notes.append(f"the weights are {plan.subject.weights}: accuracy is that of chance")
    if book.torn:
        notes.append(f"the last line of {book.path} was cut off: its image was run again")
    return tally.outcome(
        plan,
        header,
        [book.finished[path] for path in counted],
        unreadable=failed,
        resumed=len(chosen) - len(todo),
        wall_s=wall_s,
        path=book.path,
        notes=tuple(notes),
    )


def _is_finished(image: LabelledImage, book: EvalLog, root: Path) -> bool:
    line = book.finished.get(image.path)
    return line is not None and line.size_bytes == loading.size_bytes(root / image.path)


@contextmanager
def _resumable(book: EvalLog, chosen: Sequence[LabelledImage]) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        kept = sum(image.path in book.finished for image in chosen)
        raise EvalInterrupted(
            f"{kept} of {len(chosen)} images are kept in {book.path}; the same command goes on "
            "from there"
        ) from stop


def _run(
    plan: EvalPlan,
    runner: Runner,
    reference: Runner | None,
    book: EvalLog,
    todo: Sequence[LabelledImage],
    total: int,
    progress: Callable[[str], None],
) -> tuple[Unreadable, ...]:
    """Run what is left, batch after batch; returns the images that could not be read."""
    unreadable: list[Unreadable] = []
    seen = correct = 0
    recipe, root = plan.subject.preprocessing, plan.folder.root
    with closing(loading.batches(root, todo, recipe, plan.batch)) as batches:
        for loaded in batches:
            lines = _predictions(plan, runner, reference, loaded)
            book.append(lines)
            failed = [line for line in lines if line.error]
            unreadable += (Unreadable(image=line.image, reason=line.error) for line in failed)
            seen += len(lines) - len(failed)
            correct += sum(line.label in line.top[:1] for line in lines)
            done = total - len(todo) + seen + len(unreadable)
            progress(
                f"{done} of {total} images"
                + (f", top-1 of this run {units.percent(correct / seen)} %" if seen else "")
            )
    return tuple(unreadable)


def _predictions(
    plan: EvalPlan, runner: Runner, reference: Runner | None, loaded: Sequence[Loaded]
) -> list[Prediction]:
    """Return a line for each image of one batch."""
    lines = [
        Prediction(
            image=entry.image.path,
            label=entry.image.label,
            size_bytes=entry.size_bytes,
            error=entry.error,
        )
        for entry in loaded
        if entry.pixels is None
    ]
    readable = [entry for entry in loaded if entry.pixels is not None]
    if not readable:
        return lines
    images = np.stack([entry.pixels for entry in readable if entry.pixels is not None])
    logits = _logits(plan, runner, images)
    best = accuracy.best_classes(logits)
    theirs: Sequence[tuple[int, ...] | None] = [None] * len(readable)
    if reference is not None:
        theirs = accuracy.best_classes(_logits(plan, reference, images))
    lines += [
        Prediction(
            image=entry.image.path,
            label=entry.image.label,
            size_bytes=entry.size_bytes,
            top=top,
            # the shortest text that reads back as the same float32
            values=tuple(float(str(row[index])) for index in top),
            reference=other,
        )
        for entry, top, row, other in zip(readable, best, logits, theirs, strict=True)
    ]
    return lines


def _logits(plan: EvalPlan, runner: Runner, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return logits [B, classes]; a batch that a fixed graph finds too small is filled up."""
    subject, count = plan.subject, len(images)
    if subject.batch is not None:
        images = images[np.minimum(np.arange(subject.batch), count - 1)]
    outputs = runner.infer({subject.input_name: images})
    if subject.output_name not in outputs:
        raise RunnerError(
            f"{runner.name} gives no '{subject.output_name}', only {', '.join(outputs)}"
        )
    logits = outputs[subject.output_name]
    if logits.shape != (len(images), subject.classes):
        raise RunnerError(
            f"{runner.name} gives logits {logits.shape} for {len(images)} images of "
            f"{subject.classes} classes"
        )
    return logits[:count].astype(np.float32, copy=False)
