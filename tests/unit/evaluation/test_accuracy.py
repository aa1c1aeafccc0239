"""Best classes, counts and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from elfatt_deploy.evaluation import accuracy


def test_the_best_classes_are_in_order_and_ties_go_to_the_lower_index():
    logits = np.array([[0, 5, 1, 4, 2, 3, -1], [1, 1, 1, 1, 1, 1, 1]], np.float32)
    assert accuracy.best_classes(logits) == ((1, 3, 5, 4, 2), (0, 1, 2, 3, 4))


def test_fewer_classes_than_five_give_as_many_as_there_are():
    assert accuracy.best_classes(np.array([[0, 2, 1]], np.float32)) == ((1, 2, 0),)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_predicts_nothing(value):
    logits = np.zeros((2, 7), np.float32)
    logits[0, 6] = value
    assert accuracy.best_classes(logits) == ((), (0, 1, 2, 3, 4))


def test_hits_count_labels_among_the_best():
    best = ((3, 1, 2), (1, 3, 2), (), (0, 1, 2))
    assert accuracy.hits(best, (3, 3, 0, 2), 1) == 1
    assert accuracy.hits(best, (3, 3, 0, 2), 2) == 2
    assert accuracy.hits(best, (3, 3, 0, 2), 3) == 3


def test_agreement_is_of_sets_and_never_of_nothing_with_nothing():
    ours = ((3, 1, 2), (1, 3, 2), (), ())
    theirs = ((3, 2, 1), (3, 1, 2), (), (1, 2, 3))
    assert accuracy.agreeing(ours, theirs, 1) == 1
    assert accuracy.agreeing(ours, theirs, 2) == 1
    assert accuracy.agreeing(ours, theirs, 3) == 2


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        # Wilson's interval without continuity correction, from the formula of 1927 by hand
        (8, 10, 0.490162, 0.943318),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (40000, 50000, 0.796471, 0.803483),
    ],
)
def test_the_interval_is_wilsons(count, total, low, high):
    found = accuracy.share(count, total)
    assert (found.count, found.total, found.value) == (count, total, count / total)
    assert found.low == pytest.approx(low, abs=5e-7)
    assert found.high == pytest.approx(high, abs=5e-7)
    assert 0 <= found.low <= found.value <= found.high <= 1
