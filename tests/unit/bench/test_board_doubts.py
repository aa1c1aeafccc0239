"""What marks a number that a board gave."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import board_doubts
from elfatt_deploy.bench.stability import Kind
from elfatt_deploy.device import boards
from elfatt_deploy.device.records import ClockReading, Counter, ModeNow, NvpmodelMode, Snapshot

STEADY = [[10.0, 10.1, 9.9, 10.0], [10.0, 10.0, 10.1, 9.9]]
MODE = NvpmodelMode(
    id=1,
    name="MODE_15W",
    settings=(),
    cores=4,
    cpu_max_hz=1113.6e6,
    gpu_max_hz=408e6,
    emc_max_hz=2133e6,
    tpc_mask=248,
)


def clock(name, now, most):
    return ClockReading(
        name=name, now_hz=now, min_hz=most, max_hz=most, governor="performance", folder="/sys"
    )


@pytest.fixture
def quiet():
    """Return a snapshot of a board that nothing is wrong with."""
    absent = Unavailable(reason="not read")
    fields = {field.name: absent for field in dataclasses.fields(Snapshot)}
    return Snapshot(
        **{
            **fields,
            "taken_uptime_s": 1.0,
            "simulated": False,
            "root": True,
            "cores_online": 4,
            "load": 0.1,
            "swap_used_bytes": 0,
            "gpu_users": (),
            "mode": ModeNow(id=1, name="MODE_15W"),
            "clocks": (clock("cpu0", 1113.6e6, 1113.6e6), clock("gpu", 408e6, 408e6)),
            "zones": (),
            "rails": (),
            "counters": (Counter(name="oc1", value=2, path="/sys/oc1"),),
            "malformed": (),
        }
    )


def kinds(before, after, times=STEADY, **more):
    more = {"unlocked": "", **more}
    return [w.kind for w in board_doubts.board_warnings("net", before, after, times, **more)]


def test_a_quiet_board_has_no_doubts(quiet):
    assert kinds(quiet, quiet) == []


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"counters": (Counter(name="oc1", value=3, path="/sys/oc1"),)}, Kind.THROTTLED),
        ({"mode": ModeNow(id=0, name="MAXN")}, Kind.OFF_CLOCK),
        ({"clocks": (clock("gpu", 306e6, 408e6),)}, Kind.OFF_CLOCK),
    ],
)
def test_what_changed_meanwhile_is_seen_after(quiet, changes, kind):
    assert kinds(quiet, dataclasses.replace(quiet, **changes)) == [kind]


@pytest.mark.parametrize(
    "changes", [{"gpu_users": ("python3 (77)",)}, {"swap_used_bytes": 2**30}, {"load": 3.5}]
)
def test_who_else_works_there_is_seen_before(quiet, changes):
    assert kinds(dataclasses.replace(quiet, **changes), quiet) == [Kind.DISTURBED]


def test_a_counter_that_cannot_be_read_is_no_proof_of_calm_nor_of_events(quiet):
    blind = dataclasses.replace(
        quiet, counters=(Counter(name="oc1", value=Unavailable(reason="EAGAIN"), path="/sys/oc1"),)
    )
    assert board_doubts.risen(blind, quiet) == ()
    assert board_doubts.risen(quiet, blind) == ()
    assert (
        "from 2 to 5"
        in board_doubts.risen(
            quiet,
            dataclasses.replace(quiet, counters=(Counter(name="oc1", value=5, path="/sys/oc1"),)),
        )[0]
    )


def test_clocks_that_were_not_locked_are_not_also_called_moved(quiet):
    slow = dataclasses.replace(quiet, clocks=(clock("gpu", 306e6, 408e6),))
    assert kinds(quiet, slow, unlocked="sudo asks for a password") == [Kind.OFF_CLOCK]


def test_times_that_spread_or_differ_from_run_to_run(quiet):
    assert kinds(quiet, quiet, [[10.0, 12.0, 9.0, 14.0, 8.0]]) == [Kind.UNSTABLE]
    assert kinds(quiet, quiet, [[10.0] * 5, [11.0] * 5]) == [Kind.UNSTABLE]
    assert kinds(quiet, quiet, []) == []


def test_a_label_that_does_not_mean_what_it_says(quiet):
    board = boards.board("agx-orin-64gb")
    assert board_doubts.mislabelled(MODE, board) == ""
    a_step = dataclasses.replace(MODE, gpu_max_hz=420.75e6)
    assert board_doubts.mislabelled(a_step, board) == "", "clocks differ by a step between releases"
    swapped = dataclasses.replace(MODE, gpu_max_hz=612e6)
    said = board_doubts.mislabelled(swapped, board)
    assert "612 MHz in mode MODE_15W" in said
    assert "408 MHz" in said
    assert kinds(quiet, quiet, mislabelled=said) == [Kind.OFF_CLOCK]
    assert board_doubts.mislabelled(swapped, Unavailable(reason="unknown")) == ""
    assert board_doubts.mislabelled(dataclasses.replace(swapped, name="MINE"), board) == ""
