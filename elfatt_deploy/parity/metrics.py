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
    """Return the share of rows whose k best classes are the same set; k is cut to the classes."""
    k = min(k, reference.shape[-1])
    best = [np.sort(np.argsort(-x, axis=-1, kind="stable")[:, :k]) for x in (reference, candidate)]
    return float((best[0] == best[1]).all(-1).mean())


def top_1_forced(reference: Logits, candidate: Logits) -> bool:
    """Whether every row keeps its first class wherever the error cannot excuse a change.

    A row is excused where the reference's margin between its two best classes is at most twice the
    row's largest error.
    """
    if reference.shape[-1] < 2:
        return True
    ordered = np.sort(reference, axis=-1)
    margin = ordered[:, -1] - ordered[:, -2]
    error = np.abs(candidate - reference).max(-1)
    same = reference.argmax(-1) == candidate.argmax(-1)
    return bool((same | (margin <= 2 * error)).all())
