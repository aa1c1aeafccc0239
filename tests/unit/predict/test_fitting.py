"""Fitting and judging the constants; the shipped ones are what the fit gives."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from elfatt_deploy.pipeline import predicting
from elfatt_deploy.predict import fitting
from elfatt_deploy.predict.constants import Fitted, constants
from elfatt_deploy.predict.fitting import Point


@pytest.fixture(scope="module")
def parts():
    return predicting.study_parts()


@pytest.fixture(scope="module")
def refitted(parts):
    return fitting.fit(parts[0], constants())


def test_the_study_has_84_points_of_which_12_are_fitted(parts):
    fitted, tested = parts
    assert (len(fitted), len(tested)) == (12, 72)
    assert {point.model for point in fitted} == set(predicting.FITTED_MODELS)
    assert {point.machine.board for point in fitted} == {"agx-orin-64gb"}
    assert {point.machine.mode for point in fitted} == {"MODE_15W", "MAXN"}
    keys = [(p.model, p.precision, p.machine.board, p.machine.mode) for p in (*fitted, *tested)]
    assert len(set(keys)) == 84


def test_the_fitted_models_are_the_slowest_the_median_and_the_fastest_of_table_viii():
    from elfatt_deploy.report.published import speed_table

    rows = sorted(speed_table(8).rows, key=lambda row: row.images_per_s("fp32"))
    chosen = (rows[0].model, rows[len(rows) // 2].model, rows[-1].model)
    assert chosen == predicting.FITTED_MODELS


def test_the_shipped_constants_are_what_the_fit_gives(refitted):
    shipped = dataclasses.asdict(constants().fitted)
    for name, value in dataclasses.asdict(refitted.fitted).items():
        assert value == pytest.approx(shipped[name], rel=0.02), name


def test_the_shipped_bands_are_those_of_the_points_that_were_not_fitted(parts):
    _, tested = parts
    for band in constants().bands:
        here = [p for p in tested if not band.sms or p.machine.sm in band.sms]
        found = fitting.band(here, constants(), boards=band.boards, sms=band.sms)
        assert (found.points, found.level) == (band.points, band.level)
        assert found.low == pytest.approx(band.low, abs=0.005)
        assert found.high == pytest.approx(band.high, abs=0.005)


def test_the_errors_are_those_that_the_documentation_tells(parts):
    """Median of a tenth over all tests, and rank correlations of 0.9 and more per panel."""
    _, tested = parts
    every = fitting.errors(tested, constants())
    assert (every.points, round(every.median, 2)) == (72, 0.10)
    orin = fitting.errors([p for p in tested if p.machine.sm == 87], constants())
    nano = fitting.errors([p for p in tested if p.machine.sm == 53], constants())
    assert (round(orin.median, 2), round(orin.worst, 2)) == (0.06, 0.28)
    assert (round(nano.median, 2), round(nano.worst, 2)) == (0.48, 0.76)
    for precision in ("fp32", "fp16"):
        panel = [p for p in tested if p.precision == precision]
        assert fitting.errors(panel, constants()).rank > 0.9


def test_a_fit_finds_the_constants_that_made_the_points(parts):
    true = dataclasses.replace(
        constants(),
        fitted=Fitted(dense=0.3, tensor=0.2, attention=0.3, depthwise=0.05, memory=0.6),
    )
    made = [
        dataclasses.replace(point, images_per_s=fitting.predicted(point, true))
        for point in parts[0]
    ]
    found = fitting.fit(made, constants())
    assert fitting.errors(made, found).worst < 0.01
    for name, value in dataclasses.asdict(found.fitted).items():
        assert value == pytest.approx(getattr(true.fitted, name), rel=0.05), name


def test_errors_are_shares_of_the_published_value(parts):
    ours = [fitting.predicted(point, constants()) for point in parts[0]]
    twice = [
        dataclasses.replace(point, images_per_s=value / 2)
        for point, value in zip(parts[0], ours, strict=True)
    ]
    found = fitting.errors(twice, constants())
    assert (found.median, found.worst, found.bias) == pytest.approx((1.0, 1.0, 1.0))
    assert found.rank == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("first", "second", "rank"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        # Spearman with a tie: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4
        ([1, 5, 5, 9], [1, 2, 3, 4], 0.9486833),
    ],
)
def test_the_rank_correlation_is_spearmans(first, second, rank):
    found = fitting.rank_correlation(np.array(first, float), np.array(second, float))
    assert found == pytest.approx(rank)


def test_a_band_holds_the_published_shares_of_the_predictions(parts):
    point: Point = parts[0][0]
    value = fitting.predicted(point, constants())
    shares = np.linspace(0.5, 1.5, 101)
    spread = [dataclasses.replace(point, images_per_s=value * share) for share in shares]
    band = fitting.band(spread, constants(), boards="one", sms=())
    assert (band.low, band.high, band.points) == pytest.approx((0.55, 1.45, 101))
