"""Tables of our own records: what they hold is what the records say."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.report import board_tables, our_tables


def only(tables):
    (table,) = tables
    return table


def ratios(records, settings):
    return our_tables.ratio_table(our_tables.ratio_groups(settings(records)))


def test_models_stand_against_global_attention_in_each_size(laptop, settings, values):
    table = only(ratios(laptop, settings))
    rows = values(table)
    assert [(row["model"].text, row["size"].text) for row in rows] == [
        (f"cswin_t_{name}", size)
        for size in ("224", "448")
        for name in ("local", "flatten", "agent", "effatt", "elfatt")
    ]
    assert rows[0]["speed_ratio"].value == pytest.approx(1.6, rel=0.02)
    assert rows[5]["speed_ratio"].value > 2.2
    assert any("baseline cswin_t_global" in note for note in table.notes)
    assert any("outcome faster" in note for note in table.notes)


def test_without_global_attention_the_slowest_is_the_baseline(laptop, settings):
    few = [one for one in laptop if one.cell.model != "cswin_t_global" and one.cell.height == 224]
    ((base, others),) = our_tables.ratio_groups(settings(few))
    assert base.cell.model == "cswin_t_local"
    assert len(others) == 4


def test_where_global_attention_failed_no_other_takes_its_place(laptop, settings):
    failed = [
        dataclasses.replace(one, repetitions=(), statistics=Unavailable(reason="no memory"))
        if one.cell.model == "cswin_t_global"
        else one
        for one in laptop
        if one.cell.height == 224
    ]
    table = only(ratios(failed, settings))
    assert len(table.rows) == 5
    assert "no times as fast: no memory" in table.notes
    assert any("baseline cswin_t_global" in note for note in table.notes)


def test_one_model_alone_has_no_ratio(runs, settings):
    assert ratios([runs.record()], settings) == ()


def test_time_grows_with_size_as_it_was_made_to(laptop, settings, values):
    rows = values(only(our_tables.scaling_table(settings(laptop))))
    growth = {row["model"].text: row["exponent"].value for row in rows}
    assert growth.pop("cswin_t_global") == pytest.approx(1.35, abs=0.01)
    assert list(growth.values()) == pytest.approx([1.05] * 5, abs=0.01)


def test_one_size_does_not_scale(laptop, settings):
    small = [one for one in laptop if one.cell.height == 224]
    assert our_tables.scaling_table(settings(small)) == ()


def test_every_record_has_a_row_with_its_own_numbers(damaged, values):
    table = only(our_tables.speed_table(damaged))
    rows = values(table)
    assert len(rows) == len(damaged)
    for row, record in zip(rows, damaged, strict=True):
        found = record.statistics
        rate = None if isinstance(found, Unavailable) else found.images_per_s
        assert row["images_per_s"].value == rate
        assert row["source"].text == "simulated"
    assert any("trtexec was killed: no memory" in note for note in table.notes)


def test_a_column_without_any_reading_is_left_out_and_said(laptop, values):
    table = only(our_tables.speed_table(laptop))
    assert "mean_w" not in values(table)[0]
    assert "no W: this machine has no power rails that we know" in table.notes


def test_the_front_is_what_no_other_record_beats_at_that_power(runs, made):
    def at(seed, watts, rate, model, **changes):
        return made.board_record(
            runs, seed, board="nano", mode="MAXN", watts=watts, batch=1, model=model, side=224,
            precision="fp16", rate=rate, **changes,
        )  # fmt: skip

    slow, fast = at(1, 5.0, 10.0, "a"), at(2, 10.0, 20.0, "b")
    beaten = at(3, 8.0, 9.0, "c")  # more power than the first, and slower
    other = at(4, 20.0, 5.0, "d", contract="throughput/1")  # does not compete
    blind = dataclasses.replace(at(5, 1.0, 99.0, "e"), power=Unavailable(reason="no rail"))
    assert board_tables.on_front([slow, fast, beaten, other, blind]) == {0, 1, 3}


def test_energy_is_that_of_the_records(sweeps, values):
    rows = values(only(board_tables.energy_table(sweeps)))
    assert [row["energy_mj_per_image"].value for row in rows] == [
        record.power.energy_mj_per_image for record in sweeps
    ]
    assert [row["mean_w"].value for row in rows] == [
        record.power.total_mean_mw / 1000 for record in sweeps
    ]


def test_no_power_no_table(laptop):
    assert board_tables.energy_table(laptop) == ()


def test_the_proof_of_precision_says_what_is_proved_and_by_what(damaged, values):
    rows = values(only(board_tables.proof_table(damaged)))
    proofs = {(row["precision"].text, row["proof"].text) for row in rows}
    assert proofs == {("fp32", "fp32"), ("fp16", "fp16"), ("fp16", "fp16-unproven")}


def test_predictions_prove_nothing(runs):
    assert board_tables.proof_table([runs.predicted()]) == ()
