"""Warnings and validity words come where they should, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import doubts
from elfatt_deploy.bench.cells import Sentinel
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.bench.stability import VALIDITY, Kind

NONE = Unavailable(reason="none")
QUIET = State(
    load=0.1,
    governor="performance",
    clock_hz=2e9,
    clock_min_hz=1e9,
    clock_max_hz=2e9,
    temperatures_c={"zone0": 40.0},
    throttle_events={"core_throttle_count": 7},
    free_bytes=2**33,
    swap_used_bytes=0,
    huge_pages="madvise",
    gpu_processes=NONE,
)


def _words(after=QUIET, *, sentinel=None, provider="cpu", **changes):
    before = dataclasses.replace(QUIET, **changes)
    found = doubts.machine_warnings(before, after, 4, provider=provider, sentinel=sentinel)
    return doubts.words(found)


def test_a_quiet_machine_gives_no_warning():
    assert _words(sentinel=Sentinel(name="a", first_ms=10, last_ms=10.4)) == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"load": 2.1}, "disturbed"),
        ({"swap_used_bytes": 2**20}, "disturbed"),
        ({"governor": "powersave"}, "off-clock"),
        ({"clock_hz": NONE, "throttle_events": NONE}, "unwatched"),
    ],
)
def test_each_state_has_its_word(changes, word):
    assert _words(**changes) == (word,)


def test_what_a_system_does_not_show_is_not_held_against_it():
    assert _words(load=NONE, swap_used_bytes=NONE, governor=NONE, clock_hz=NONE) == ()


def test_throttling_counts_from_before_to_after():
    assert _words() == ()
    after = dataclasses.replace(QUIET, throttle_events={"core_throttle_count": 9})
    assert _words(after) == ("throttled",)


def test_a_busy_gpu_matters_to_what_runs_on_it():
    busy = {"gpu_processes": ("12, train, 5 MiB",)}
    assert _words(**busy) == ()
    assert _words(**busy, provider="cuda") == ("disturbed",)


@pytest.mark.parametrize("last", [10.6, 9.4])
def test_a_sentinel_that_drifts_disturbs_all(last):
    assert _words(sentinel=Sentinel(name="a", first_ms=10, last_ms=last)) == ("disturbed",)


def test_every_warning_says_what_to_do():
    before = dataclasses.replace(
        QUIET, load=9.0, swap_used_bytes=2**30, governor="powersave", clock_hz=NONE,
        gpu_processes=("x",),
    )  # fmt: skip
    found = doubts.machine_warnings(
        before,
        dataclasses.replace(QUIET, throttle_events={"core_throttle_count": 8}),
        4,
        provider="cuda",
        sentinel=Sentinel(name="a", first_ms=1, last_ms=2),
    )
    assert len(found) == 6
    for warning in found:
        assert any(verb in warning.message for verb in ("stop", "close", "measure", "sudo"))


def test_quiet_repetitions_give_no_warning(made_measured):
    runs = [made_measured([10.0, 10.1, 9.9] * 5)] * 5
    assert doubts.cell_warnings("a", runs, 2) == []
    assert doubts.cell_warnings("a", [], 2) == []


@pytest.mark.parametrize(
    ("times", "more", "kind"),
    [
        ([[10.0] * 9, [10.0] * 9, [11.0] * 9], {}, Kind.UNSTABLE),
        ([[10.0, 12.0] * 9] * 3, {}, Kind.UNSTABLE),
        ([[10.0] * 9] * 3, {"steady": False}, Kind.NOT_STEADY),
        ([[10.0] * 9] * 3, {"foreign": 0.3}, Kind.DISTURBED),
    ],
)
def test_each_doubt_about_a_cell_is_said_once(made_measured, times, more, kind):
    found = doubts.cell_warnings("a", [made_measured(t, **more) for t in times], 2)
    assert [warning.kind for warning in found] == [kind]
    assert found[0].message.startswith("a: ")


def test_unknown_foreign_work_is_no_warning(made_measured):
    assert doubts.cell_warnings("a", [made_measured([1.0], foreign=NONE)], 2) == []


def test_validity_words_are_those_of_the_design_in_a_fixed_order():
    assert tuple(VALIDITY.values()) == (
        "throttled", "off-clock", "disturbed", "unwatched", "not-steady", "unstable",
    )  # fmt: skip
