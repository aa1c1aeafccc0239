"""Distances between two sets of logits; pure numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Logits = NDArray[np.floating]


def relative_l2(reference: Logits, candidate: Logits) -> float:
    """Return |candidate - reference| / |reference| over all values; inf where that is undefined."""
    norm = float(np.linalg.norm(reference.astype(np.float64)))
    with np.errstate(invalid="ignore"):  # a difference of two infinities
        distance = float(np.linalg.norm(candidate.astype(np.float64) - reference))
    if norm == 0.0:
        return 0.0 if distance == 0.0 else float("inf")
    return distance / norm


def cosine(reference: Logits, candidate: Logits) -> float:
    """Return the smallest cosine between two rows; nan where a row is zero."""
    a, b = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        return float(((a * b).sum(-1) / norms).min())


def top_k_agreement(reference: Logits, candidate: Logits, k: int) -> float:
    """Return the share of rows whose k best classes are the same set, of all where k is more."""
    best = [np.sort(np.argsort(-x, axis=-1, kind="stable")[:, :k]) for x in (reference, candidate)]
    return float((best[0] == best[1]).all(-1).mean())


def unexplained_flips(reference: Logits, candidate: Logits, errors: Logits) -> int:
    """Count rows whose best class changes although it leads by more than the row's largest error.

    Args:
        reference: logits [M, classes].
        candidate: logits [M, classes].
        errors: largest absolute error of each row, [M].
    """
    if reference.shape[-1] < 2:
        return 0
    second, first = np.partition(reference, -2, axis=-1)[:, -2:].T
    changed = reference.argmax(-1) != candidate.argmax(-1)
    return int((changed & (first - second > errors)).sum())
