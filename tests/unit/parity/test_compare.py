"""A runner is held against golden outputs, and nothing incomplete is a pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from elfatt_deploy.artifacts import Tolerance
from elfatt_deploy.errors import InputFileError, RunnerError
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance

FP32 = tolerance("fp32")


@pytest.mark.parametrize(("batch", "sizes"), [(1, (1,)), (8, (8,)), ("dynamic", (1, 3))])
def test_a_dynamic_batch_is_proved_at_two_sizes(batch, sizes):
    assert compare.batches_of(batch) == sizes


def test_there_is_a_row_for_each_set_and_batch_size(golden, runner_of):
    report = compare.compare(runner_of(), golden, "dynamic", FP32)
    assert [(row.inputs, row.batch, row.images) for row in report.rows] == [
        ("photographs", 1, 3),
        ("photographs", 3, 3),
        ("noise", 1, 2),
        ("noise", 3, 2),
    ]
    assert report.passed
    assert (report.candidate, report.tolerance) == ("fake", FP32)
    assert {row.max_abs for row in report.rows} == {0.0}


def test_the_last_batch_is_filled_by_repetition(golden, runner_of):
    runner = runner_of()
    rows = compare.compare(runner, golden, 2, FP32).rows
    used = [
        [int((golden.images == image).all((1, 2, 3)).argmax()) for image in batch]
        for batch in runner.batches
    ]
    assert used == [[0, 1], [2, 0], [3, 4]]
    assert [(row.images, row.values) for row in rows] == [(3, 28), (2, 14)]


def test_images_reach_the_runner_as_they_are(golden, runner_of):
    runner = runner_of()
    compare.compare(runner, golden, 1, FP32)
    np.testing.assert_array_equal(np.concatenate(runner.batches), golden.images)
    assert all(batch.flags.c_contiguous for batch in runner.batches)


def test_zero_images_are_a_failure(golden, runner_of):
    empty = dataclasses.replace(
        golden, images=golden.images[:0], logits=golden.logits[:0], names=(), sets=()
    )
    with pytest.raises(InputFileError, match="holds no image"):
        compare.compare(runner_of(), empty, 1, FP32)


def test_zero_comparisons_are_no_pass(golden, runner_of):
    assert not compare.compare(runner_of(), dataclasses.replace(golden, sets=()), 1, FP32).passed


@pytest.mark.parametrize(
    "change",
    [lambda x: x[:, :-1], lambda x: x[:, :, None], lambda x: x.astype(np.float64)],
    ids=["classes", "rank", "dtype"],
)
def test_logits_of_another_shape_or_type_cannot_be_compared(change, golden, runner_of, logits_of):
    runner = runner_of(lambda images: {"logits": change(logits_of(images))})
    with pytest.raises(RunnerError, match=r"logits are .*, the reference is float32 \(4, 7\)"):
        compare.compare(runner, golden, 2, FP32)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_of_another_size_names_the_frozen_batch(rows, golden, runner_of):
    runner = runner_of(lambda images: {"logits": np.zeros((rows, 7), np.float32)})
    told = f"fake gives {rows} rows of logits for a batch of 2 images"
    with pytest.raises(RunnerError, match=told) as caught:
        compare.compare(runner, golden, 2, FP32)
    assert "frozen" in caught.value.hint


def test_an_output_of_another_name_is_never_taken_for_the_logits(golden, runner_of, logits_of):
    runner = runner_of(lambda images: {"output": logits_of(images), "aux": images})
    with pytest.raises(RunnerError, match="fake gives no 'logits', only output, aux"):
        compare.compare(runner, golden, 1, FP32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_fails_its_row_alone(value, golden, runner_of, logits_of):
    def spoilt(images):
        logits = logits_of(images)
        logits[(images == golden.images[4]).all((1, 2, 3)), 2] = value
        return {"logits": logits}

    report = compare.compare(runner_of(spoilt), golden, 1, FP32)
    assert [(row.inputs, row.nonfinite, row.passed) for row in report.rows] == [
        ("photographs", 0, True),
        ("noise", 1, False),
    ]
    assert not report.passed


def test_a_frozen_batch_fails_although_the_traced_size_is_right(golden, runner_of, logits_of):
    def frozen(images):
        batch = images if len(images) == 2 else np.roll(images, 1, axis=-1)
        return {"logits": logits_of(batch)}

    assert compare.compare(runner_of(frozen), golden, 2, FP32).passed
    report = compare.compare(runner_of(frozen), golden, "dynamic", FP32)
    assert not any(row.passed for row in report.rows)


def test_a_batch_that_mixes_its_images_fails_at_the_larger_size(golden, runner_of, logits_of):
    runner = runner_of(lambda images: {"logits": np.roll(logits_of(images), 1, axis=0)})
    report = compare.compare(runner, golden, "dynamic", FP32)
    assert {(row.batch, row.passed) for row in report.rows} == {(1, True), (3, False)}


@pytest.mark.parametrize(("error", "passed"), [(0.5, True), (2.0, False)])
def test_the_largest_error_is_held_against_the_largest_logit(error, passed):
    reference = np.array([[1000.0, -10.0, 3.0]], np.float32)
    allowed = FP32.max_abs * 1000
    candidate = (reference + np.float32([0, 0, error * allowed])).astype(np.float32)
    wide = dataclasses.replace(FP32, relative_l2=1.0, cosine=0.0)
    row = compare.parity_row("x", 1, 1, reference, candidate, wide)
    assert row.scale == 1000
    assert row.max_abs == pytest.approx(error * allowed, rel=1e-3)
    assert row.passed is passed


@pytest.mark.parametrize("bound", ["max_abs", "relative_l2", "cosine"])
def test_each_bound_of_the_tolerance_is_enough_to_fail_a_row(bound):
    reference = np.array([[1.0, 0.5, 0.25]], np.float32)
    candidate = np.array([[1.0, 0.5, 0.3]], np.float32)
    loose = Tolerance(max_abs=1.0, relative_l2=1.0, cosine=0.0)
    tight = dataclasses.replace(loose, **{bound: getattr(FP32, bound)})
    assert compare.parity_row("x", 1, 1, reference, candidate, loose).passed
    assert not compare.parity_row("x", 1, 1, reference, candidate, tight).passed


def test_small_logits_are_not_held_to_less_than_the_tolerance():
    reference = np.array([[0.1, -0.1]], np.float32)
    row = compare.parity_row("x", 1, 1, reference, reference + np.float32(5e-5), FP32)
    assert row.scale == 1.0
    assert row.max_abs <= FP32.max_abs
    assert not row.passed  # relative L2 is what such an error fails


def test_the_row_keeps_every_figure():
    reference = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    candidate = np.array([[4.0, 3.0, 2.0, 1.5]], np.float32)
    row = compare.parity_row("noise", 2, 1, reference, candidate, FP32)
    assert (row.inputs, row.batch, row.images, row.values) == ("noise", 2, 1, 4)
    assert (row.max_abs, row.mean_abs, row.p99_abs) == (0.5, 0.125, 0.5)
    assert row.relative_l2 == pytest.approx(0.5 / np.sqrt(30))
    assert (row.top1, row.top5, row.passed) == (1.0, 1.0, False)
