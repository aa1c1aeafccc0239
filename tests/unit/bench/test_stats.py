"""Statistics against hand-made values, numpy, and what must hold for any samples."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.bench import stats

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        (1, 99, 1),
        (2, 50, 1),  # the lower of the two in the middle: int(0.5 * 2) = 1 is left out
        (10, 90, 9),
        (11, 90, 10),
        (20, 90, 18),
        (100, 99, 100),  # 1 - 0.99 in float32 is below 0.01: no sample is left out
        (101, 99, 100),
        (200, 99, 199),
        (309, 99, 306),
        (100, 0, 1),
        (100, 100, 100),
    ],
)
def test_percentile_is_the_sample_that_trtexec_takes(count, percent, expected):
    samples = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert stats.percentile(samples.tolist(), percent) == expected


@given(TIMES, st.integers(0, 100))
def test_percentile_is_a_sample_with_the_right_share_above(samples, percent):
    found = stats.percentile(samples, percent)
    assert found in samples
    above = sum(value > found for value in samples)
    assert above <= (100 - percent) / 100 * len(samples)
    assert sum(value >= found for value in samples) > (100 - percent) / 100 * len(samples) - 1


@given(TIMES)
def test_percentiles_rise_and_end_at_the_maximum(samples):
    found = [stats.percentile(samples, percent) for percent in range(0, 101, 5)]
    assert found == sorted(found)
    assert found[0] == min(samples)
    assert found[-1] == max(samples)


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_of_nothing_or_beyond_is_refused(samples, percent):
    with pytest.raises(ValueError, match="percentile"):
        stats.percentile(samples, percent)


@pytest.mark.parametrize(("percent", "needed"), [(90, 50), (99, 500), (50, 10)])
def test_a_tail_needs_samples_above_it(percent, needed):
    assert stats.samples_for(percent) == needed
    missing = stats.tail_percentile([1.0] * (needed - 1), percent)
    assert missing == Unavailable(reason=f"needs {needed} samples, there are {needed - 1}")
    assert stats.tail_percentile([1.0] * needed, percent) == 1.0


@given(TIMES)
def test_median_and_mad_are_those_of_the_standard_library(samples):
    middle = statistics.median(samples)
    assert stats.median(samples) == pytest.approx(middle)
    deviations = [abs(value - middle) for value in samples]
    assert stats.mad(samples) == pytest.approx(statistics.median(deviations), abs=1e-9)


def test_mad_does_not_move_with_an_outlier():
    assert stats.mad([1, 2, 3, 4, 5]) == 1
    assert stats.mad([1, 2, 3, 4, 1e9]) == 1


def test_medians_by_round_keep_the_order_of_the_rounds():
    found = stats.by_round([5.0, 1.0, 3.0, 9.0, 7.0], [0, 0, 0, 1, 1])
    assert found.tolist() == [3.0, 8.0]


@given(st.lists(st.floats(0.1, 100), min_size=5, max_size=40))
def test_the_interval_lies_within_the_samples_and_around_the_median(medians):
    found = stats.median_interval(np.array(medians))
    assert isinstance(found, Interval)
    assert min(medians) <= found.low <= found.high <= max(medians)
    # low and high are means of two samples where their number is even, as the median is
    assert found.low <= np.median(medians) * (1 + 1e-12)
    assert found.high >= np.median(medians) * (1 - 1e-12)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        medians = generator.lognormal(0.0, 0.3, size=21)
        found = stats.median_interval(medians, seed)
        hits += found.low <= 1.0 <= found.high
    assert 180 <= hits <= 199


def test_four_rounds_give_no_interval():
    found = stats.median_interval(np.ones(4))
    assert found == Unavailable(reason="needs 5 rounds, there are 4")


def test_many_rounds_are_resampled_in_pieces(monkeypatch):
    medians = np.random.default_rng(0).normal(10, 1, size=50)
    whole = stats.median_interval(medians)
    monkeypatch.setattr(stats, "_CHUNK", 70)
    assert stats.median_interval(medians) == whole


def test_a_summary_holds_every_sample():
    samples = [float(n) for n in range(1, 601)]
    found = stats.summarize(samples, [n // 100 for n in range(600)])
    assert (found.count, found.rounds, found.min_ms, found.max_ms) == (600, 6, 1.0, 600.0)
    assert found.p50_ms == 300.5
    assert found.mad_ms == 150.0
    assert (found.p90_ms, found.p99_ms) == (540.0, 595.0)


@given(
    st.floats(0.0, 3.0),
    st.floats(1e-6, 1e3),
    st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True),
)
def test_growth_finds_the_exponent_of_a_power_law(exponent, gain, tokens):
    points = [(n, np.full(5, gain * n**exponent)) for n in tokens]
    found = stats.growth(points)
    near = [n for n in tokens if 16 * n >= max(tokens)]
    if len(near) < 2:
        assert isinstance(found, Unavailable)
    else:
        assert found.exponent == pytest.approx(exponent, abs=1e-6)
        assert found.interval.low == pytest.approx(exponent, abs=1e-6)
        assert found.tokens == tuple(sorted(near))


def test_growth_looks_at_the_largest_sizes():
    """A fixed cost that hides the growth of small sizes does not enter."""
    sizes = (1, 16, 196, 784, 3136, 12544)
    points = [(n, np.full(5, 1.0 if n < 784 else n / 784)) for n in sizes]
    found = stats.growth(points)
    assert found.tokens == (784, 3136, 12544)
    assert found.exponent == pytest.approx(1.0)


def test_growth_is_the_least_squares_fit_of_numpy():
    generator = np.random.default_rng(2)
    points = [(n, generator.uniform(1, 9, size=7)) for n in (100, 250, 900, 1600)]
    logs = [np.log(np.median(medians)) for _, medians in points]
    slope, _ = np.polyfit(np.log([n for n, _ in points]), logs, 1)
    assert stats.growth(points).exponent == pytest.approx(slope)


def test_noise_that_all_sizes_share_in_a_round_does_not_widen_the_interval():
    """Rounds are resampled together: a slow round is slow at every size."""
    slow = np.array([1.0, 1.0, 3.0, 1.0, 2.0, 1.0, 5.0])
    found = stats.growth([(n, slow * n) for n in (100, 400, 1600)])
    assert found.interval.high - found.interval.low < 1e-9
    apart = stats.growth([(n, np.roll(slow, i) * n) for i, n in enumerate((100, 400, 1600))])
    assert apart.interval.high - apart.interval.low > 0.1


def test_growth_of_sizes_of_equal_tokens_is_absent():
    points = [(784, np.ones(5)), (784, np.full(5, 2.0))]
    assert isinstance(stats.growth(points), Unavailable)
    assert isinstance(stats.growth([]), Unavailable)


def test_growth_takes_the_rounds_that_all_sizes_have():
    found = stats.growth([(100, np.array([1.0] * 5 + [9.0])), (400, np.full(5, 4.0))])
    assert found.exponent == pytest.approx(1.0)
    few = stats.growth([(100, np.ones(4)), (400, np.full(6, 4.0))])
    assert few.exponent == pytest.approx(1.0)
    assert few.interval == Unavailable(reason="needs 5 rounds, there are 4")


def test_a_paired_ratio_cancels_what_meets_both():
    base = (10.0, 20.0, 40.0, 10.0, 15.0)
    found = stats.paired_ratio([1.5 * time / time for time in base])
    assert isinstance(found, stats.Ratio)
    assert found.value == pytest.approx(1.5)
    assert isinstance(found.interval, Interval)
    assert (found.interval.low, found.interval.high) == pytest.approx((1.5, 1.5))
    assert found.differs(0.02)


def test_few_repetitions_have_a_ratio_without_interval_and_none_have_no_ratio():
    found = stats.paired_ratio([2.0, 3.0])
    assert isinstance(found, stats.Ratio)
    assert (found.repetitions, found.value) == (2, 2.5)
    assert isinstance(found.interval, Unavailable)
    assert not found.differs(0.0)
    assert isinstance(stats.paired_ratio([]), Unavailable)


@given(
    factor=st.floats(0.1, 10),
    turns=st.lists(
        st.tuples(st.floats(0.5, 50), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=9
    ),
    alone=st.integers(0, 4),
)
def test_what_changes_from_turn_to_turn_cancels(factor, turns, alone):
    """Each turn has a speed of its own; the one cell has turns that nobody shares."""
    base = [speed for speed, count, _ in turns for _ in range(count)]
    ours = [factor * speed for speed, _, count in turns for _ in range(count)]
    ratio = stats.turn_ratio(
        [*ours, *[1e6] * alone], [*(count for *_, count in turns), *[1] * alone],
        base, [count for _, count, _ in turns],
    )  # fmt: skip
    assert ratio == pytest.approx(factor)


def test_a_disturbed_turn_moves_the_ratio_of_turns_less_than_that_of_all_runs():
    quiet, slowed = [10.0, 10.0], [20.0, 20.0]
    a = [*quiet, *quiet, *quiet, *slowed, *slowed]
    b = [*quiet, *quiet, *slowed, *slowed, *slowed]
    assert stats.turn_ratio(b, [2] * 5, a, [2] * 5) == 1.0
    assert stats.median(b) / stats.median(a) == 2.0


@pytest.mark.parametrize("turns", [(), (2,), (2, 2), (3, 0)])
def test_turns_that_do_not_divide_the_samples_are_refused(turns):
    with pytest.raises(ValueError, match="do not divide 3 samples"):
        stats.turn_ratio([1.0, 2.0, 3.0], turns, [1.0], [1])


@pytest.mark.parametrize(
    ("low", "high", "differs"),
    [(1.03, 1.04, True), (1.01, 1.04, False), (0.95, 0.97, True), (0.99, 1.01, False)],
)
def test_a_ratio_differs_where_its_whole_interval_does(low, high, differs):
    ratio = stats.Ratio(value=1.0, interval=Interval(low=low, high=high), repetitions=5)
    assert ratio.differs(0.02) is differs
