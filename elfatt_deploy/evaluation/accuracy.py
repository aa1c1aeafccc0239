"""Logits to best classes, and counts to shares with intervals; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.evaluation.records import Share

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: five of five classes hold every label: top-5 says nothing below one more
TOP5_CLASSES = 6
_BEST = 5
_Z = 1.959963984540054  # 97.5 % quantile of the normal distribution


def best_classes(logits: NDArray[np.float32]) -> tuple[tuple[int, ...], ...]:
    """Return the best five classes of each row of logits [B, classes], best first.

    Of equal logits the class of lower index is first. A row with NaN or Inf has no best class: its
    tuple is empty.
    """
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :_BEST]
    return tuple(
        tuple(int(index) for index in best) if np.isfinite(row).all() else ()
        for best, row in zip(order, logits, strict=True)
    )


def hits(predicted: Sequence[tuple[int, ...]], labels: Sequence[int], k: int) -> int:
    """Return for how many rows the label is among the k best classes."""
    return sum(label in best[:k] for best, label in zip(predicted, labels, strict=True))


def agreeing(first: Sequence[tuple[int, ...]], second: Sequence[tuple[int, ...]], k: int) -> int:
    """Return for how many rows both have the same set of k best classes, and have one at all."""
    return sum(bool(a) and set(a[:k]) == set(b[:k]) for a, b in zip(first, second, strict=True))


def share(count: int, total: int) -> Share:
    """Return a share with its 95 % interval.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    1927; unlike the normal approximation it holds near 0 and 1, where accuracies lie.
    """
    p, z2 = count / total, _Z**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * ((p * (1 - p) + z2 / (4 * total)) / total) ** 0.5
    # At the ends the bound is the share itself, which rounding may miss by a little.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == total else centre + half
    return Share(count=count, total=total, value=p, low=low, high=high)
