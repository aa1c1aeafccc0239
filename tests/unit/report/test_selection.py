"""Which records a report shows, and what is doubtful about them."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.errors import UsageError
from elfatt_deploy.report import selection


def test_simulated_records_are_refused_with_what_to_add(sweeps, runs):
    with pytest.raises(UsageError, match="84 of the records are simulated") as found:
        selection.refuse_simulated((*sweeps, runs.record()), included=False)
    assert "--include-simulated" in found.value.hint
    selection.refuse_simulated(sweeps, included=True)
    selection.refuse_simulated((runs.record(), runs.predicted()), included=False)


def test_the_last_record_of_a_cell_counts_and_the_others_are_told(runs):
    first, second = runs.record(1), runs.record(2)
    kept, notes = selection.latest((first, second))
    assert kept == (second,)
    assert notes == ("1 earlier records of cells that were measured again are left out",)


@pytest.mark.parametrize(
    "change",
    [
        {"proof": "fp16-unproven"},
        {"source": "simulated"},
        {"quantity": "GPU compute time of a batch"},
        {"versions": {"jetpack": "7.0"}},
    ],
    ids=str,
)
def test_records_that_differ_in_a_checked_field_stay_apart(change, runs):
    first = runs.record(1)
    kept, notes = selection.latest((first, dataclasses.replace(runs.record(2), **change)))
    assert (len(kept), notes) == (2, ())


def test_the_power_mode_of_a_record_is_the_one_that_was_read_back(runs):
    board = runs.board()
    assert (board.cell.power, selection.mode_of(board)) == ("15W", "MODE_15W")
    assert selection.mode_of(runs.changed(runs.record(), power="15W")) == "15W"


@pytest.mark.parametrize(
    ("board", "mode", "watts"),
    [
        ("agx-orin-64gb", "MAXN", 60.0),
        ("nano", "MAXN", 10.0),
        ("agx-orin-64gb", "MODE_30W", 30.0),
        ("orin-nano-8gb", "7W", 7.0),
        ("xavier-nx", "MODE_15W_2CORE", 15.0),
        ("orin-nano-8gb", "MAXN_SUPER", None),
        ("agx-thor", "MAXN", None),
    ],
)
def test_the_nominal_power_of_a_mode(board, mode, watts):
    assert selection.nominal_w(board, mode) == watts


def test_marks_say_what_must_be_known_first(runs):
    quick = dataclasses.replace(
        runs.record(), protocol=dataclasses.replace(runs.PROTOCOL, name="quick")
    )
    assert selection.marks(runs.record()) == ()
    assert selection.marks(quick) == ("quick",)
    assert selection.marks(runs.refused()) == ("not timed",)
    assert selection.marks(runs.board()) == ("fp16-unproven", "off-clock")


def test_the_best_record_is_timed_then_without_doubts_then_the_last(runs):
    sound, doubtful = runs.record(1), runs.record(2, validity=("throttled",))
    assert selection.best([sound, doubtful, runs.refused()]) is sound
    assert selection.best([runs.refused(), doubtful]) is doubtful
    later = runs.record(3)
    assert selection.best([sound, later]) is later
    assert selection.best([]) is None


def test_a_setting_is_near_the_paper_where_its_contract_is(runs, made, sweeps):
    throughput = made.paper_sweeps(runs, contract="throughput/1")
    contracts = [one.contract for one in selection.by_setting((*throughput, *sweeps))]
    assert contracts == ["paper/1", "paper/1", "throughput/1", "throughput/1"]
