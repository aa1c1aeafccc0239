"""Verdicts about the paper's claims: only whole intervals and sound records make green."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.report import claims, selection


@pytest.fixture
def judge(settings):
    """Return a function from records to verdicts by board and claim."""

    def verdicts(records):
        return {(v.board, v.claim.name): v for v in claims.verdicts(settings(records))}

    return verdicts


def changed(records, wanted, **fields):
    """Return records with fields of those of a model and precision changed."""
    return [
        dataclasses.replace(record, **fields)
        if (record.cell.model, record.cell.precision) == wanted
        else record
        for record in records
    ]


def faster(records, model, precision, times, runs, made):
    """Return records in which a model is so many times as fast."""
    found = []
    for seed, record in enumerate(records):
        cell = record.cell
        if (cell.model, cell.precision) == (model, precision):
            record = made.board_record(
                runs, seed,
                board=record.device.board, mode=cell.power, watts=10.0, batch=cell.batch,
                model=model, side=cell.height, precision=precision,
                rate=times * record.statistics.images_per_s,
            )  # fmt: skip
        found.append(record)
    return found


def test_records_like_the_papers_numbers_meet_its_claims(judge, sweeps):
    found = judge(sweeps)
    assert {key: verdict.colour for key, verdict in found.items()} == {
        ("agx-orin-64gb", "fastest-mixed"): "green",
        # 355 / 229 is 1.55, which no interval can exceed as a whole
        ("agx-orin-64gb", "1.6-to-2.0"): "inconclusive",
        ("agx-orin-64gb", "faster-than-global"): "green",
        ("nano", "fastest-mixed"): "green",
        ("nano", "1.6-to-2.0"): "green",
        ("nano", "faster-than-global"): "green",
    }
    assert {verdict.source for verdict in found.values()} == {"simulated"}


def test_a_faster_rival_makes_amber_and_is_named(judge, sweeps, runs, made):
    found = judge(faster(sweeps, "cswin_t_local", "fp16", 1.5, runs, made))
    verdict = found["nano", "fastest-mixed"]
    assert verdict.colour == "amber"
    assert "against cswin_t_local: the whole interval" in verdict.reason
    assert "is below 1" in verdict.reason
    assert found["nano", "faster-than-global"].colour == "green"


def test_more_than_the_claimed_range_is_amber_too(judge, sweeps, runs, made):
    found = judge(faster(sweeps, "cswin_t_elfatt", "fp32", 1.6, runs, made))
    assert found["nano", "1.6-to-2.0"].colour == "amber"
    assert "is above 2.05" in found["nano", "1.6-to-2.0"].reason


@pytest.mark.parametrize("word", ["throttled", "off-clock", "unwatched", "unstable"])
def test_a_doubtful_record_never_makes_green(word, judge, sweeps):
    found = judge(changed(sweeps, ("cswin_t_elfatt", "fp16"), validity=(word,)))
    verdict = found["nano", "fastest-mixed"]
    assert verdict.colour == "inconclusive"
    assert f"cswin_t_elfatt is {word}" in verdict.reason


def test_a_quick_or_unproved_record_never_makes_green(judge, sweeps, runs):
    quick = dataclasses.replace(runs.PROTOCOL, name="quick")
    for fields in ({"protocol": quick}, {"proof": "fp16-unproven"}):
        found = judge(changed(sweeps, ("cswin_t_elfatt", "fp16"), **fields))
        assert found["nano", "fastest-mixed"].colour == "inconclusive"


def test_a_gap_is_inconclusive_and_named(judge, damaged):
    verdict = judge(damaged)["agx-orin-64gb", "fastest-mixed"]
    assert verdict.colour == "inconclusive"
    assert "first: MAXN, mixed, against cswin_t_flatten: no record" in verdict.reason


def test_few_repetitions_are_inconclusive(judge, runs, made):
    found = judge(made.paper_sweeps(runs, repetitions=3))
    assert found["nano", "fastest-mixed"].colour == "inconclusive"
    assert "needs 5 repetitions, there are 3" in found["nano", "fastest-mixed"].reason


def test_measured_records_are_judged_before_simulated_ones(judge, sweeps, runs, made):
    real = [r for r in made.paper_sweeps(runs, source="measured") if r.cell.batch == 1]
    found = judge((*sweeps, *real))
    assert found["nano", "fastest-mixed"].source == "measured"
    assert found["agx-orin-64gb", "fastest-mixed"].source == "simulated"


def test_predictions_and_compute_times_are_never_judged(judge, sweeps, runs, made):
    assert judge(made.paper_sweeps(runs, contract="compute/1")) == {}
    assert judge([runs.predicted()]) == {}


def test_the_papers_own_numbers_and_its_contradictions_stand_beside_a_verdict(judge, sweeps):
    found = judge(sweeps)
    mixed = found["agx-orin-64gb", "1.6-to-2.0"]
    assert mixed.paper == "in the paper's own numbers it holds in 8 of 8 points"
    assert any("against GLOBAL, ELFATT is 1.19 times as fast" in text for text in mixed.caveats)
    assert not any(text.startswith("fp32, 5 W") for text in mixed.caveats)
    assert any("plotted at 2.1" in text for text in found["nano", "faster-than-global"].caveats)


def test_the_slowest_network_of_a_column_is_the_papers(judge, sweeps):
    points = judge(sweeps)["agx-orin-64gb", "1.6-to-2.0"].points
    assert {(point.precision, point.against) for point in points} == {
        ("fp32", "cswin_t_global"),
        ("mixed", "cswin_t_flatten"),
    }


def test_the_marks_of_records_are_what_is_judged(damaged):
    words = {word for record in damaged for word in selection.marks(record)}
    assert words == {"not timed", "throttled", "fp16-unproven", "quick"}
