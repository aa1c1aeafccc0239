"""A verdict follows from the interval; unlike conditions are refused; noise is no slowdown."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.results import conditions
from elfatt_deploy.results.compare import compare
from elfatt_deploy.results.parts import PowerMode, Repetition
from elfatt_deploy.results.store import Records


def _records(*records):
    return Records(records=records)


def _verdicts(report):
    return [cell.verdict for cell in report.cells]


def _flat(runs, ms, repetitions=10, **changes):
    """Return a record in which every sample is the same."""
    repetition = Repetition(samples_ms=(ms,) * 3, wall_ms=3 * ms, warm_up_runs=5, steady=True)
    return runs.record(repetitions=(repetition,) * repetitions, **changes)


def _tries(runs, slower, **noise):
    """Return the verdicts of 20 pairs of runs, B slower by a share."""
    found = []
    for seed in range(20):
        a = runs.record(repetitions=runs.samples(seed, **noise))
        b = runs.record(repetitions=runs.samples(1000 + seed, ms=10.0 * (1 + slower), **noise))
        found += _verdicts(compare(_records(a), _records(b), seed=seed))
    return found


# The scatter of the middles of the repetitions: a quiet machine, a usual one, a disturbed one.
@pytest.mark.parametrize("between", [0.002, 0.01, 0.03])
@pytest.mark.parametrize("repetitions", [5, 10])
def test_the_same_model_twice_never_fails(repetitions, between, runs):
    verdicts = _tries(runs, 0.0, between=between, repetitions=repetitions)
    assert len(verdicts) == 20
    assert "FAIL" not in verdicts


@pytest.mark.parametrize("between", [0.002, 0.005])
def test_on_a_quiet_machine_the_same_model_twice_passes(between, runs):
    assert _tries(runs, 0.0, between=between).count("PASS") >= 18


@pytest.mark.parametrize(("between", "repetitions"), [(0.002, 5), (0.005, 10), (0.008, 10)])
def test_a_slowdown_of_5_percent_fails(between, repetitions, runs):
    verdicts = _tries(runs, 0.05, between=between, repetitions=repetitions)
    assert verdicts.count("FAIL") >= 18


def test_a_slowdown_of_5_percent_never_passes_however_noisy_the_machine(runs):
    assert "PASS" not in _tries(runs, 0.05, between=0.02)


def test_a_speedup_of_5_percent_passes_and_is_named(runs):
    a, b = runs.record(1), runs.record(repetitions=runs.samples(2, ms=9.5))
    (cell,) = compare(_records(a), _records(b)).cells
    assert (cell.verdict, cell.reason) == ("PASS", "faster")
    assert cell.interval.low <= cell.ratio <= cell.interval.high < 1


@pytest.mark.parametrize(
    ("slower", "limit", "verdict"),
    [
        (0.02, 0.03, "PASS"),
        (0.04, 0.03, "FAIL"),
        (0.04, 0.05, "PASS"),
        (0.01, 0.0, "FAIL"),
        (0.0, 0.0, "PASS"),
    ],
)
def test_without_noise_the_limit_alone_decides(slower, limit, verdict, runs):
    a, b = _flat(runs, 10.0), _flat(runs, 10.0 * (1 + slower))
    report = compare(_records(a), _records(b), limit=limit)
    assert (report.verdict, _verdicts(report), report.limit) == (verdict, [verdict], limit)
    assert report.cells[0].ratio == pytest.approx(1 + slower)


@given(
    st.lists(st.floats(1, 1000), min_size=5, max_size=12),
    st.lists(st.floats(1, 1000), min_size=5, max_size=12),
    st.floats(0, 1),
)
def test_the_verdict_follows_from_the_interval_and_from_nothing_else(runs, a, b, limit):
    def record(times):
        repetitions = tuple(
            Repetition(samples_ms=(t,), wall_ms=t, warm_up_runs=1, steady=True) for t in times
        )
        return runs.record(repetitions=repetitions)

    (cell,) = compare(_records(record(a)), _records(record(b)), limit=limit).cells
    assert cell.interval.low <= cell.interval.high
    assert min(b) / max(a) <= cell.interval.low
    assert cell.interval.high <= max(b) / min(a)
    if cell.interval.low > 1 + limit:
        assert cell.verdict == "FAIL"
    elif cell.interval.high <= 1 + limit:
        assert cell.verdict == "PASS"
    else:
        assert cell.verdict == "INCONCLUSIVE"


def test_the_seed_decides_the_resampling(runs):
    a, b = _records(runs.record(1)), _records(runs.record(2))
    assert compare(a, b, seed=3) == compare(a, b, seed=3)
    assert compare(a, b, seed=3).cells[0].interval != compare(a, b, seed=4).cells[0].interval


def test_runs_that_were_interleaved_are_resampled_together(runs):
    """The machine got 20 % slower meanwhile; as both met it, their ratio is exact."""
    drift = [10.0 + 0.2 * number for number in range(10)]

    def record(factor, group):
        repetitions = tuple(
            Repetition(samples_ms=(factor * t,), wall_ms=t, warm_up_runs=1, steady=True)
            for t in drift
        )
        return runs.record(repetitions=repetitions, group=group)

    together = compare(_records(record(1.0, "g")), _records(record(1.05, "g"))).cells[0]
    apart = compare(_records(record(1.0, "g")), _records(record(1.05, "h"))).cells[0]
    assert (together.paired, together.verdict) == (True, "FAIL")
    assert together.interval.low == pytest.approx(1.05)
    assert (apart.paired, apart.verdict) == (False, "INCONCLUSIVE")


def test_throughput_is_compared_by_the_wall_clock(runs):
    def record(wall_ms):
        repetition = Repetition(
            samples_ms=(10.0,) * 4, wall_ms=wall_ms, warm_up_runs=1, steady=True
        )
        return runs.changed(runs.record(repetitions=(repetition,) * 5), contract="throughput/1")

    (cell,) = compare(_records(record(20.0)), _records(record(30.0))).cells
    assert (cell.a_ms, cell.b_ms, cell.ratio, cell.verdict) == (5.0, 7.5, 1.5, "FAIL")


def test_too_few_repetitions_are_inconclusive(runs):
    report = compare(_records(_flat(runs, 10.0)), _records(_flat(runs, 20.0, repetitions=4)))
    assert report.verdict == "INCONCLUSIVE"
    assert report.cells[0].reason == "an interval needs 5 repetitions, B has 4"
    assert report.cells[0].ratio == 2.0


def test_a_cell_that_was_not_timed_is_inconclusive_with_the_reason(runs):
    report = compare(_records(runs.small()), _records(runs.refused("parity failed")))
    (cell,) = report.cells
    assert (cell.verdict, cell.reason) == ("INCONCLUSIVE", "not timed in B: parity failed")
    assert cell.b_ms == cell.ratio == Unavailable(reason="parity failed")


@pytest.mark.parametrize("word", conditions.DOUBTFUL)
def test_a_doubtful_record_is_no_base_for_a_verdict(word, runs):
    a, b = _flat(runs, 10.0), _flat(runs, 20.0, validity=(word,))
    (cell,) = compare(_records(a), _records(b)).cells
    assert (cell.verdict, cell.reason) == (
        "INCONCLUSIVE",
        f"B is {word}; measure again, or --allow validity",
    )
    assert compare(_records(a), _records(b), allowed=("validity",)).verdict == "FAIL"


@pytest.mark.parametrize("word", ["unwatched", "unstable"])
def test_what_the_interval_covers_already_does_not_forbid_a_verdict(word, runs):
    a, b = _flat(runs, 10.0), _flat(runs, 20.0, validity=(word,))
    assert compare(_records(a), _records(b)).verdict == "FAIL"


def _in_turns(runs, factor, *validity, group="g", turns=(1, 2)):
    """Return a record whose cell took turns on a machine that wanders."""
    repetitions = tuple(
        Repetition(
            samples_ms=(factor * ms, factor * 1.4 * ms, factor * 1.4 * ms),
            wall_ms=9.0, warm_up_runs=1, steady=True, turns=turns,
        )
        for ms in (10.0, 14.0, 9.0, 10.0, 12.0, 8.0)
    )  # fmt: skip
    return runs.record(repetitions=repetitions, group=group, validity=validity)


@pytest.mark.parametrize("word", conditions.DOUBTFUL)
def test_what_doubts_both_of_two_cells_that_took_turns_forbids_no_verdict(word, runs):
    a, b = _in_turns(runs, 1.0, word), _in_turns(runs, 1.05, word)
    (cell,) = compare(_records(a), _records(b)).cells
    assert (cell.verdict, cell.ratio) == ("FAIL", pytest.approx(1.05))
    assert f"both are {word}: they took turns" in cell.noted[-1]


@pytest.mark.parametrize("word", conditions.DOUBTFUL)
def test_what_doubts_one_of_two_cells_that_took_turns_does_forbid_it(word, runs):
    a, b = _in_turns(runs, 1.0), _in_turns(runs, 1.05, word)
    (cell,) = compare(_records(a), _records(b)).cells
    assert (cell.verdict, cell.reason.split(";")[0]) == ("INCONCLUSIVE", f"B is {word}")


@pytest.mark.parametrize("more", [{"group": "h"}, {"turns": ()}])
def test_without_turns_together_what_doubts_both_forbids_it(more, runs):
    a, b = _in_turns(runs, 1.0, "disturbed"), _in_turns(runs, 1.05, "disturbed", **more)
    (cell,) = compare(_records(a), _records(b)).cells
    assert cell.verdict == "INCONCLUSIVE"
    assert cell.reason.startswith("A is disturbed, B is disturbed;")


_CELL_CHANGES = {
    "model": {"model": "swin_t_local"},
    "settings": {"settings": ("lepe=false",)},
    "resolution": {"height": 448},
    "batch": {"batch": 8},
    "precision": {"precision": "fp16"},
    "target": {"target": "ort"},
    "runner": {"runner": "torch"},
    "provider": {"provider": "cuda"},
    "contract": {"contract": "paper/1"},
    "device": {"device": "ssh://orin"},
    "power": {"power": "15W"},
    "threads": {"threads": 2},
    "variant": {"variant": "compile"},
}


@pytest.mark.parametrize("field", _CELL_CHANGES)
def test_another_cell_is_refused_by_naming_the_field_unless_allowed(field, runs):
    a = runs.small()
    b = runs.changed(a, **_CELL_CHANGES[field])
    with pytest.raises(UsageError, match=f"the nearest to .* differs in {field}: ") as caught:
        compare(_records(a), _records(b))
    assert caught.value.hint.endswith(f"add --allow {field}")
    report = compare(_records(a), _records(b), allowed=(field,))
    assert report.verdict == "PASS"
    assert report.allowed == (field,)
    assert any(note.startswith(f"{field}: ") for note in report.cells[0].noted)


def _found_changes(runs):
    mode = PowerMode(id=0, name="MAXN", locked=True)
    device = runs.DEVICE
    return {
        "machine": {"device": dataclasses.replace(device, name="other")},
        "board": {"device": dataclasses.replace(device, board="nano")},
        "cpu": {"device": dataclasses.replace(device, cpu="other")},
        "cores": {"device": dataclasses.replace(device, cores=2)},
        "gpu": {"device": dataclasses.replace(device, gpu="Orin")},
        "power-mode": {"power_mode": mode},
        "governor": {"before": dataclasses.replace(runs.STATE, governor="powersave")},
        "huge-pages": {"before": dataclasses.replace(runs.STATE, huge_pages="always")},
        "protocol": {"protocol": dataclasses.replace(runs.PROTOCOL, name="quick")},
        "proof": {"proof": "fp16-unproven"},
        "quantity": {"quantity": "GPU compute of a batch"},
    }


@pytest.mark.parametrize("field", conditions.FOUND)
def test_unlike_conditions_are_refused_by_naming_the_field_unless_allowed(field, runs):
    a = runs.small()
    b = dataclasses.replace(a, **_found_changes(runs)[field])
    with pytest.raises(UsageError, match=f"the conditions differ in .*: {field}: ") as caught:
        compare(_records(a), _records(b))
    assert f"--allow {field} compares" in caught.value.hint
    report = compare(_records(a), _records(b), allowed=(field,))
    assert report.verdict == "PASS"
    assert any(note.startswith(f"{field}: ") for note in report.cells[0].noted)


def test_every_condition_has_its_test(runs):
    assert set(_CELL_CHANGES) == set(conditions.CELL)
    assert set(_found_changes(runs)) == set(conditions.FOUND)
    fields = {field.name for field in dataclasses.fields(runs.CELL)}
    assert fields - {"height", "width"} == set(conditions.CELL) - {"resolution"}


def test_an_absence_is_the_same_whatever_its_reason(runs):
    a = runs.small()
    other = dataclasses.replace(runs.DEVICE, gpu=Unavailable(reason="another reason"))
    assert compare(_records(a), _records(dataclasses.replace(a, device=other))).verdict == "PASS"


def test_simulated_is_never_compared_with_measured_whatever_is_allowed(runs):
    simulated = runs.board(validity=())
    measured = runs.changed(
        dataclasses.replace(simulated, source="measured", cell=runs.CELL, key=runs.CELL.key),
        **{
            field.name: getattr(simulated.cell, field.name)
            for field in dataclasses.fields(runs.CELL)
            if field.name != "device"
        },
    )
    for allowed in ((), ("device",), conditions.ALLOWED):
        with pytest.raises(UsageError) as caught:
            compare(_records(measured), _records(simulated), allowed=allowed)
        named = "never compared" if allowed else "device: local in A, sim:agx-orin-64gb in B"
        assert named in caught.value.message
    assert compare(_records(simulated), _records(simulated)).verdict == "PASS"
    with pytest.raises(UnknownNameError, match="'source'"):
        compare(_records(measured), _records(simulated), allowed=("source",))


def test_what_may_be_the_thing_under_test_is_noted(runs):
    a = runs.small()
    b = runs.small(versions={"elfatt-deploy": "0.1.0", "onnxruntime": "1.21.0", "torch": "2.6"})
    b = dataclasses.replace(b, model_sha256="00" * 32)
    (cell,) = compare(_records(a), _records(b)).cells
    assert cell.noted == (
        "ONNX file: cdcdcdcdcdcd in A, 000000000000 in B",
        "onnxruntime: 1.20.0 in A, 1.21.0 in B",
        "torch: none in A, 2.6 in B",
    )


def test_cells_of_one_file_alone_are_named_and_keep_the_whole_from_passing(runs):
    both, only_a, only_b = (runs.changed(runs.small(), batch=n) for n in (1, 2, 4))
    report = compare(_records(both, only_a), _records(only_b, both))
    assert _verdicts(report) == ["PASS"]
    assert (report.only_a, report.only_b) == ((only_a.key,), (only_b.key,))
    assert report.verdict == "INCONCLUSIVE"
    assert compare(_records(both), _records(only_b, both)).verdict == "PASS"


def test_one_cell_that_fails_fails_the_whole(runs):
    one, two, slow = _flat(runs, 10.0), _flat(runs, 10.0), _flat(runs, 12.0)
    two, slow = (runs.changed(record, batch=2) for record in (two, slow))
    report = compare(_records(one, two), _records(one, slow))
    assert (report.verdict, _verdicts(report)) == ("FAIL", ["PASS", "FAIL"])


def test_of_a_cell_that_was_measured_again_the_last_record_counts(runs):
    report = compare(_records(_flat(runs, 99.0), _flat(runs, 10.0)), _records(_flat(runs, 10.0)))
    assert report.verdict == "PASS"
    assert report.warnings == (
        "A has 1 earlier records of cells that were measured again: left out",
    )


def test_what_is_allowed_to_differ_must_not_make_two_cells_one(runs):
    a = [runs.changed(runs.small(), threads=n) for n in (1, 2)]
    with pytest.raises(UsageError, match="A has several cells") as caught:
        compare(_records(*a), _records(runs.small()), allowed=("threads",))
    assert "leave out --allow threads" in caught.value.hint


@pytest.mark.parametrize("empty", ["A", "B"])
def test_a_file_without_a_record_is_told(empty, runs):
    one = _records(runs.small())
    a, b = (_records(), one) if empty == "A" else (one, _records())
    with pytest.raises(UsageError, match=f"{empty} has no record"):
        compare(a, b)


def test_an_unknown_condition_lists_the_nearest(runs):
    one = _records(runs.small())
    with pytest.raises(UnknownNameError, match="did you mean governor"):
        compare(one, one, allowed=("governr",))


@pytest.mark.parametrize("limit", [-0.1, float("nan"), 50.0])
def test_a_limit_that_is_no_share_is_refused(limit, runs):
    one = _records(runs.small())
    with pytest.raises(UsageError, match="is no slowdown"):
        compare(one, one, limit=limit)


def test_predictions_have_no_interval_and_no_verdict(runs):
    one = _records(runs.predicted())
    (cell,) = compare(one, one).cells
    assert (cell.verdict, cell.source) == ("INCONCLUSIVE", "predicted")
    assert "have no repetitions" in cell.reason
