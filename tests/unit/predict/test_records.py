"""Predicted records: whole, and not to be taken for measured ones."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Interval, Unavailable, to_document
from elfatt_deploy.device import boards
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.predict import records
from elfatt_deploy.predict.roofline import estimate
from elfatt_deploy.results import store
from elfatt_deploy.results.parts import Repetition
from elfatt_deploy.results.schema import records_from_documents


@pytest.fixture
def made(machine, ideal, table_of, kernel):
    """Return a function that makes the record of 1 ms of arithmetic."""

    def make(regime="eager", *, flops=1e9):
        board = boards.board("nano")
        mode = board.modes[0]
        table = table_of(kernel(flops=flops))
        guess = estimate(table, machine, ideal, regime=regime, precision="fp32", batch=2)
        cell = records.predicted_cell(
            table, board, mode, method=ideal.method, precision="fp32", regime=regime, batch=2
        )
        return records.predicted_record(
            cell,
            guess,
            records.uncertainty(ideal, machine, regime, guess),
            records.uncertainty_words(ideal, machine, regime),
            board,
            mode,
            started="2026-01-01T00:00:00+00:00",
            command=("predict",),
            git=Unavailable(reason="a test"),
            versions={},
        )

    return make


def test_a_predicted_record_says_so_and_has_no_sample(made):
    record = made()
    assert (record.source, record.cell.runner) == ("predicted", "roofline/1")
    assert (record.cell.variant, record.cell.contract) == ("eager", "paper/1")
    assert (record.repetitions, record.statistics.count) == ((), 0)
    assert record.statistics.p50_ms == pytest.approx(2.001)
    assert record.statistics.images_per_s == pytest.approx(2000 / 2.001)
    for absent in (record.parity, record.power, record.power_mode, record.protocol):
        assert absent == Unavailable(reason="predicted: nothing ran")


def test_the_band_is_that_of_the_tested_points_with_cheap_and_dear_launches(made):
    found = made().statistics
    rate, time = found.images_per_s_interval, found.p50_interval_ms
    assert isinstance(rate, Interval)
    # 2 ms of arithmetic, and a launch of 0.5 to 3 us
    assert (rate.low, rate.high) == pytest.approx((0.8 * 2000 / 2.003, 1.1 * 2000 / 2.0005))
    assert (time.low, time.high) == pytest.approx((2.0005 / 1.1, 2.003 / 0.8))
    assert "90 % of 9 published points" in made().prediction.band
    assert "0.5 to 3 times" in made().prediction.band


def test_the_band_is_wide_where_launches_are_all_there_is(made):
    rate = made(flops=1.0).statistics.images_per_s_interval
    assert rate.high / rate.low == pytest.approx(3 / 0.5 * 1.1 / 0.8, rel=1e-3)


def test_a_compiled_engine_has_no_band(made):
    record = made("fused")
    assert "no published time" in record.statistics.images_per_s_interval.reason
    assert record.statistics.p50_interval_ms == record.statistics.images_per_s_interval
    assert record.prediction.band.startswith("none: ")


def test_the_prediction_names_what_each_level_waits_for(made):
    found = made().prediction
    assert (found.method, found.regime) == ("roofline/1", "eager")
    assert found.levels_ms == {"1": pytest.approx(2.001)}
    assert found.limits == {"1": "compute"}


def test_a_predicted_record_survives_the_results_file(made, tmp_path):
    path = tmp_path / "results.jsonl"
    for regime in ("eager", "fused"):
        store.append(path, made(regime))
    found = store.read(path)
    assert (found.records, found.warnings) == ((made("eager"), made("fused")), ())
    assert len(found.latest) == 2


def test_a_predicted_record_cannot_pass_for_a_measured_one(made):
    document = to_document(made())
    document["source"] = "measured"
    with pytest.raises(SchemaError, match="measured numbers without a sample"):
        records_from_documents([("here", document)])
    sample = Repetition(samples_ms=(1.0,), wall_ms=1.0, warm_up_runs=1, steady=True)
    with pytest.raises(SchemaError, match="predicted numbers with a sample"):
        dataclasses.replace(made(), repetitions=(sample,))
