"""Distances by hand, and what must hold for any logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from elfatt_deploy.parity import metrics
from elfatt_deploy.parity.compare import parity_row
from elfatt_deploy.parity.tolerance import tolerance

LOGITS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6),
    elements=st.floats(-100, 100, width=32),
)


def _rows(*rows):
    return np.array(rows, np.float32)


@pytest.mark.parametrize(
    ("reference", "candidate", "distance"),
    [
        (_rows([3, 4]), _rows([3, 4]), 0.0),
        (_rows([3, 4]), _rows([3, 9]), 1.0),
        (_rows([3, 4]), _rows([0, 0]), 1.0),
        (_rows([1, 2], [2, 4]), _rows([1, 2], [2, 9]), 1.0),
        (_rows([0, 0]), _rows([0, 0]), 0.0),
        (_rows([0, 0]), _rows([0, 1]), math.inf),
    ],
)
def test_relative_l2(reference, candidate, distance):
    assert metrics.relative_l2(reference, candidate) == pytest.approx(distance)


@pytest.mark.parametrize(
    ("reference", "candidate", "similarity"),
    [
        (_rows([1, 0]), _rows([5, 0]), 1.0),
        (_rows([1, 0]), _rows([0, 2]), 0.0),
        (_rows([1, 0]), _rows([-1, 0]), -1.0),
        (_rows([1, 0], [1, 0]), _rows([1, 0], [1, 1]), 1 / math.sqrt(2)),
        (_rows([0, 0]), _rows([1, 0]), math.nan),
    ],
    ids=["scaled", "orthogonal", "opposite", "the worst row counts", "zero row"],
)
def test_cosine(reference, candidate, similarity):
    assert metrics.cosine(reference, candidate) == pytest.approx(similarity, nan_ok=True)


@pytest.mark.parametrize(
    ("reference", "candidate", "k", "share"),
    [
        (_rows([3, 2, 1]), _rows([3, 2, 1]), 1, 1.0),
        (_rows([3, 2, 1]), _rows([2, 3, 1]), 1, 0.0),
        (_rows([3, 2, 1]), _rows([2, 3, 1]), 2, 1.0),
        (_rows([3, 2, 1], [3, 2, 1]), _rows([3, 2, 1], [1, 2, 3]), 1, 0.5),
        (_rows([3, 2, 1]), _rows([1, 2, 3]), 5, 1.0),
    ],
    ids=["same", "swapped", "same set", "half", "k above the classes"],
)
def test_top_k_agreement(reference, candidate, k, share):
    assert metrics.top_k_agreement(reference, candidate, k) == share


@given(LOGITS)
def test_identical_logits_have_no_distance(logits):
    assert metrics.relative_l2(logits, logits) == 0.0
    assert all(metrics.top_k_agreement(logits, logits, k) == 1.0 for k in (1, 5))
    if np.linalg.norm(logits.astype(np.float64), axis=-1).all():
        assert metrics.cosine(logits, logits) == pytest.approx(1.0)


@given(LOGITS.filter(lambda x: np.linalg.norm(x.astype(np.float64), axis=-1).min() > 1e-3))
def test_identical_logits_pass(logits):
    row = parity_row("x", 1, len(logits), logits, logits.copy(), tolerance("fp32"))
    assert row.passed
    assert (row.max_abs, row.mean_abs, row.p99_abs, row.nonfinite) == (0, 0, 0, 0)


@given(LOGITS, st.data())
def test_a_value_that_is_not_finite_is_never_a_pass(logits, data):
    candidate = logits.copy()
    place = data.draw(st.integers(0, logits.size - 1))
    candidate.flat[place] = data.draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    row = parity_row("x", 1, len(logits), logits, candidate, tolerance("fp32"))
    assert not row.passed
    assert row.nonfinite == 1
    assert row.max_abs == math.inf


@given(LOGITS)
def test_a_reference_that_is_not_finite_is_never_a_pass(logits):
    logits = logits.copy()
    logits.flat[0] = math.nan
    assert not parity_row("x", 1, len(logits), logits, logits, tolerance("fp32")).passed
