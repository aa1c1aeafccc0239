"""The first inner tensor that is off is named."""

from __future__ import annotations

import math

import numpy as np
import pytest

from elfatt_deploy.errors import RunnerError
from elfatt_deploy.parity import locate
from elfatt_deploy.parity.locate import TensorError

LIMIT = 1e-3


def _taps(stem=1.0, stage=2.0):
    """Return a function that gives the two taps as tokens [B*N, c], times their factors."""

    def run(images):
        tokens = images.reshape(-1, 3)
        return {"logits": images, "stage1.0": stage * tokens, "stem": stem * tokens}

    return run


@pytest.mark.parametrize("batch", [1, 3])
def test_taps_that_agree_have_no_error_at_any_batch(batch, golden, runner_of):
    errors = locate.tap_errors(runner_of(_taps()), golden, batch, LIMIT)
    assert [(e.name, e.relative_error, e.diverges) for e in errors] == [
        ("stem", 0.0, False),
        ("stage1.0", 0.0, False),
    ]


@pytest.mark.parametrize(
    ("factors", "first"),
    [((1.1, 2.5), "stem"), ((1.0, 2.5), "stage1.0"), ((1.0, math.nan), "stage1.0")],
    ids=["both", "the second", "NaN"],
)
def test_the_first_divergence_in_graph_order_is_named(factors, first, golden, runner_of):
    errors = locate.tap_errors(runner_of(_taps(*factors)), golden, 1, LIMIT)
    assert locate.first_divergence(errors).startswith(f"{first} (off by ")


def test_where_no_tap_diverges_the_fault_is_after_the_last(golden, runner_of):
    errors = locate.tap_errors(runner_of(_taps()), golden, 1, LIMIT)
    assert locate.first_divergence(errors) == "after stage1.0, the last named tensor"


def test_without_taps_the_fault_is_not_located():
    assert "no named inner tensors" in locate.first_divergence(())


@pytest.mark.parametrize(
    ("error", "diverges"), [(0.0, False), (LIMIT, False), (2e-3, True), (math.nan, True)]
)
def test_more_than_rounding_diverges(error, diverges):
    assert TensorError(name="x", relative_error=error, limit=LIMIT).diverges is diverges


def test_the_error_is_relative_to_the_spread_of_the_reference(golden, runner_of):
    def run(images):
        outputs = _taps()(images)
        return {**outputs, "stem": outputs["stem"] + np.float32(0.5)}

    error = locate.tap_errors(runner_of(run), golden, 1, LIMIT)[0].relative_error
    assert error == pytest.approx(0.5 / golden.taps["stem"].std(), rel=1e-5)


def test_a_tap_of_another_size_cannot_be_compared(golden, runner_of):
    def run(images):
        return {**_taps()(images), "stage1.0": images[:, :2]}

    with pytest.raises(RunnerError, match=r"'stage1\.0' has another size than in the reference"):
        locate.tap_errors(runner_of(run), golden, 1, LIMIT)


def test_a_missing_tap_is_named(golden, runner_of):
    with pytest.raises(RunnerError, match="fake gives no tensor 'stem'"):
        locate.tap_errors(runner_of(lambda images: {"logits": images}), golden, 1, LIMIT)


def _pair(reference, candidate, runner_of, images, names=("a", "b", "c")):
    runners = (runner_of(lambda x, given=given: given) for given in (reference, candidate))
    return locate.pair_errors(*runners, names, images, LIMIT)


def test_two_runners_are_compared_in_the_order_of_the_graph_where_they_share_tensors(
    golden, runner_of
):
    one = {"c": np.array([0.0, 2.0]), "a": np.array([1.0, 3.0]), "b": np.ones(2)}
    other = {"c": np.array([0.0, 2.5]), "a": np.array([1.0, 3.0])}
    errors = _pair(one, other, runner_of, golden.images)
    assert [(e.name, e.relative_error, e.diverges) for e in errors] == [
        ("a", 0.0, False),
        ("c", 0.5, True),
    ]


@pytest.mark.parametrize(
    ("expected", "found", "error"),
    [
        ([1.0, np.inf], [1.0, np.inf], 0.0),
        ([1.0, 2.0], [1.0, np.inf], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([1.0, np.inf], [1.0, -np.inf], np.inf),
        ([5.0, 5.0], [5.0, 6.0], 1.0),
        ([], [], 0.0),
    ],
)
def test_lost_values_are_infinitely_off_and_equal_infinities_are_not(
    expected, found, error, golden, runner_of
):
    one, other = ({"a": np.array(values)} for values in (expected, found))
    assert _pair(one, other, runner_of, golden.images)[0].relative_error == error


def test_runners_without_a_common_tensor_cannot_be_compared(golden, runner_of):
    with pytest.raises(RunnerError, match="share no tensor"):
        _pair({"a": np.ones(2)}, {"b": np.ones(2)}, runner_of, golden.images)
