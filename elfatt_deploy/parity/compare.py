"""A runner against golden outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.artifacts import ParityReport, ParityRow, Tolerance
from elfatt_deploy.errors import InputFileError, RunnerError
from elfatt_deploy.golden import Golden, GoldenBatch
from elfatt_deploy.parity import metrics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from elfatt_deploy.runners.base import Runner

#: batch sizes at which a dynamic batch is proved; the exporter traces with another one
DYNAMIC_BATCHES = (1, 3)


def batches_of(batch: int | str) -> tuple[int, ...]:
    """Return the batch sizes at which a graph with this batch is compared."""
    return DYNAMIC_BATCHES if isinstance(batch, str) else (batch,)


def compare(runner: Runner, golden: Golden, batch: int | str, tolerance: Tolerance) -> ParityReport:
    """Run every set of golden images at every batch size and compare the logits.

    A set that does not fill a batch is repeated, so that images never lie alone in a batch of their
    own only.

    Raises:
        RunnerError: the runner fails, or gives no `logits`.
        InputFileError: the golden file holds no image.
    """
    if not len(golden.images):
        raise InputFileError("the golden file holds no image: there is nothing to compare")
    rows = []
    for name in dict.fromkeys(golden.sets):
        chosen = [i for i, owner in enumerate(golden.sets) if owner == name]
        for size in batches_of(batch):
            order = np.resize(chosen, -(-len(chosen) // size) * size)
            outputs = [
                _logits(runner, golden.images[order[start : start + size]])
                for start in range(0, len(order), size)
            ]
            rows.append(
                parity_row(
                    name,
                    size,
                    len(chosen),
                    golden.logits[order],
                    np.concatenate(outputs),
                    tolerance,
                )
            )
    return ParityReport(
        reference=golden.reference, candidate=runner.name, tolerance=tolerance, rows=tuple(rows)
    )


def _logits(runner: Runner, images: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = runner.infer({"images": np.ascontiguousarray(images)})
    if "logits" not in outputs:
        raise RunnerError(f"{runner.name} gives no 'logits', only {', '.join(outputs)}")
    logits = outputs["logits"]
    if len(logits) != len(images):
        raise RunnerError(
            f"{runner.name} gives {len(logits)} rows of logits for a batch of {len(images)} images",
            hint="the batch size was frozen when the model was traced: compute shapes in whole "
            "numbers (a // b), never as int(a / b)",
        )
    return logits


def batch_report(
    golden: GoldenBatch, logits: NDArray[np.float32], candidate: str, tolerance: Tolerance
) -> ParityReport:
    """Compare the logits that a candidate gave for one batch of golden images.

    Args:
        golden: the batch.
        logits: of the candidate, [B, classes].
        candidate: what gave them.
        tolerance: what is allowed.
    """
    row = parity_row(
        golden.sets, len(golden.images), golden.count, golden.logits, logits, tolerance
    )
    return ParityReport(
        reference=golden.reference, candidate=candidate, tolerance=tolerance, rows=(row,)
    )


def parity_row(
    inputs: str,
    batch: int,
    images: int,
    reference: NDArray[np.float32],
    candidate: NDArray[np.float32],
    tolerance: Tolerance,
) -> ParityRow:
    """Measure one pair of logits [M, classes] and judge it.

    Raises:
        RunnerError: the shapes or dtypes differ, so that nothing can be compared.
    """
    if candidate.shape != reference.shape or candidate.dtype != reference.dtype:
        raise RunnerError(
            f"logits are {candidate.dtype} {candidate.shape}, the reference is "
            f"{reference.dtype} {reference.shape}"
        )
    nonfinite = int((~np.isfinite(candidate)).sum())
    with np.errstate(invalid="ignore"):
        error = np.abs(candidate.astype(np.float64) - reference)
    error = np.where(np.isfinite(error), error, np.inf)
    scale = max(1.0, float(np.abs(reference).max()))
    relative = metrics.relative_l2(reference, candidate)
    similarity = metrics.cosine(reference, candidate)
    max_abs = float(error.max())
    flips = metrics.unexplained_flips(reference, candidate, error.max(-1))
    return ParityRow(
        inputs=inputs,
        batch=batch,
        images=images,
        values=reference.size,
        max_abs=max_abs,
        mean_abs=float(error.mean()),
        p99_abs=float(np.quantile(error, 0.99, method="higher")),
        relative_l2=relative,
        cosine=similarity,
        scale=scale,
        top1=metrics.top_k_agreement(reference, candidate, 1),
        top5=metrics.top_k_agreement(reference, candidate, 5),
        nonfinite=nonfinite,
        passed=max_abs <= tolerance.max_abs * scale  # inf where a value is not finite
        and relative <= tolerance.relative_l2
        and similarity >= tolerance.cosine
        and flips == 0,
        flips=flips,
    )
