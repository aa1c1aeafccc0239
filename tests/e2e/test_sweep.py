"""Sweeps of a simulated board behind a real SSH server, disturbed in every way that we know.

`benchmarks/reliability.py` does the same at many more moments, and writes what came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.pipeline import ExportRequest, export_bundle
from elfatt_deploy.report import traces
from elfatt_deploy.results.schema import PowerSummary, Statistics

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def rigs(fake):
    return fake("sweep_rig")


@pytest.fixture
def rig(rigs, fake, tiny_model, tmp_path):
    """Return a function that makes the rig; it is taken down at the end."""
    missing = fake("sshd").missing()
    made = []

    def make(board="nano", modes=("MAXN", "5W"), *, ssh=True, faults=(), target="jp4"):
        if ssh and missing:
            pytest.skip(missing)
        request = ExportRequest(model="tiny_elfatt", target=target, output=tmp_path / "bundles")
        bundle = export_bundle(request).bundle.path
        found = rigs.Rig(tmp_path, bundle, board=board, modes=modes, ssh=ssh)
        found.board.set_faults(faults)
        made.append(found.__enter__())
        return found

    yield make
    for one in made:
        one.__exit__()


def whole(rig):
    """Check that nothing is left behind: the board as it was, no journal, no folder of ours."""
    assert rig.state() == rig.before
    assert rig.journals == []
    assert list((rig.board.root / "tmp").glob("elfatt-deploy*")) == []


def valid(record):
    """Check that a record with numbers has all that goes with them."""
    assert record.source == "simulated"
    assert isinstance(record.statistics, Statistics)
    assert record.parity.passed
    assert len(record.repetitions) == 2
    assert record.power_mode.locked
    assert record.device_commands


def test_a_sweep_over_ssh_stores_every_cell_and_a_second_one_has_nothing_to_do(rig):
    found = rig()
    assert found.sweep() == 0, found.said
    records = found.records()
    assert len(records) == 4
    for record in records:
        valid(record)
    assert {(r.cell.power, r.power_mode.name) for r in records} == {("MAXN", "MAXN"), ("5W", "5W")}
    assert len({r.plan_sha256 for r in records}) == 1, "the modes share a plan"
    assert "SIMULATED" in found.shown
    assert "put back to 0 MAXN and read back" in found.said
    whole(found)

    assert found.sweep() == 0, found.said
    assert found.records() == records
    assert "0 of 4 cells, 4 were there already" in found.shown
    whole(found)


def test_the_time_of_each_layer_is_taken_once_for_a_plan_and_a_mode_and_lies_beside(rig):
    found = rig(modes=("MAXN",), ssh=False)
    assert found.sweep("--not-quick") == 0, found.said
    first, second = found.records()
    valid(first)
    names = {Path(name).parent.name: name for name in first.attachments}
    assert set(names) == {"results.jsonl.traces", "results.jsonl.layers"}
    assert [Path(name).parent.name for name in second.attachments] == ["results.jsonl.traces"]
    data = (found.folder / names["results.jsonl.layers"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == first.attachments[names["results.jsonl.layers"]]
    layers = traces.layers_from_document(json.loads(data), "the file")
    assert len(layers) > 20
    assert sum(bool(layer.nodes) for layer in layers) > 20, "the plan tells the nodes of each"
    total = sum(layer.mean_ms for layer in layers)
    assert total == pytest.approx(first.statistics.p50_ms, rel=0.5), "no CUDA graph, no noise"
    assert isinstance(first.power.sampler_overhead, float)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_connection_that_is_dropped_costs_the_cell_in_flight_and_nothing_else(rig, after):
    found = rig()
    process = found.start()
    assert found.wait_for(lambda: len(found.records()) >= after, process), found.said
    time.sleep(0.7)  # into the next cell, wherever that is by now
    earlier = found.records()
    found.sshd.drop()
    assert found.finish(process) == 0, found.said
    assert found.records()[: len(earlier)] == earlier
    assert len(found.numbers()) == 4
    whole(found)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_sweep_is_put_back_and_goes_on_where_it_was(rig, after):
    found = rig()
    process = found.start()
    assert found.wait_for(lambda: len(found.records()) >= after, process), found.said
    time.sleep(0.7)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    earlier = found.records()
    assert found.sweep() == 0, found.said
    assert found.records()[: len(earlier)] == earlier
    assert len(found.numbers()) == len(found.records()) == 4
    whole(found)


def test_restore_finishes_what_a_killed_sweep_left(rig):
    found = rig(modes=("5W",))
    process = found.start()
    assert found.wait_for(lambda: "pinning the clocks" in found.said, process), found.said
    assert found.wait_for(lambda: "repetition 1" in found.said, process), found.said
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert found.state() != found.before
    assert len(found.journals) == 1
    assert found.restore() == 0, found.said
    assert found.state() == found.before
    assert found.journals == []


def test_ctrl_c_puts_the_board_back_at_once(rig):
    found = rig()
    process = found.start()
    assert found.wait_for(lambda: len(found.records()) >= 1, process), found.said
    os.kill(process.pid, signal.SIGINT)
    assert found.finish(process) == 130, found.said
    assert 1 <= len(found.records()) < 4
    assert "the same command goes on" in found.said
    whole(found)


def test_a_second_sweep_of_one_board_is_refused_and_the_first_goes_on(rig, tmp_path):
    found = rig()
    first = found.start()
    assert found.wait_for(lambda: "repetition 1" in found.said, first), found.said
    second = found.start(results=tmp_path / "other.jsonl")
    assert found.finish(second) == 4
    assert "in use by" in found.said
    assert found.records(tmp_path / "other.jsonl") == ()
    assert found.finish(first) == 0
    assert len(found.numbers()) == 4
    whole(found)


def test_a_board_that_reboots_in_the_middle_is_waited_for(rig):
    found = rig(faults=("board-reboots-mid-run:1",))
    assert found.sweep() == 0, found.said
    assert len(found.numbers()) == 4
    whole(found)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("mode-refused", "5W"),
        ("mode-readback-differs", "that it is in 0 MAXN"),
        ("reboot-prompt", "--allow-reboot"),
    ],
)
def test_a_mode_that_is_not_had_ends_the_sweep_with_what_was_measured(rig, fault, words):
    found = rig(faults=(fault,))
    assert found.sweep() == 4
    assert words in found.said
    assert {r.power_mode.name for r in found.records()} <= {"MAXN"}
    whole(found)


def test_modes_that_need_a_reboot_are_refused_before_the_first_cell(rig):
    found = rig("agx-orin-64gb", ("30W", "15W"), target="jp6")
    assert found.sweep() == 4
    assert "goes to 15W from where it is only by a reboot" in found.said
    assert "--allow-reboot" in found.said
    assert found.records() == ()
    whole(found)


def test_no_rights_is_said_with_what_to_do(rig):
    found = rig(modes=("5W",), faults=("no-root",))
    assert found.sweep() == 4
    assert "root" in found.said
    assert "next:" in found.said
    assert found.records() == ()
    whole(found)


@pytest.mark.parametrize(
    ("fault", "word", "says"),
    [
        ("over-current", "throttled", "oc"),
        ("sensor-vanishes", "unwatched", "POM_5V_IN"),
    ],
)
def test_what_disturbs_a_cell_marks_its_number(rig, fault, word, says):
    board = "nano" if fault == "sensor-vanishes" else "agx-orin-64gb"
    target = "jp4" if board == "nano" else "jp6"
    found = rig(board, ("MAXN",) if board == "nano" else ("30W",), faults=(fault,), target=target)
    found.sweep()
    marked = [record for record in found.records() if word in record.validity]
    assert marked, [(r.validity, r.warnings) for r in found.records()]
    assert any(says in warning.message for warning in marked[0].warnings)
    if fault == "sensor-vanishes":
        power = marked[0].power
        assert isinstance(power, Unavailable) or isinstance(power.total_mean_mw, Unavailable)
    else:
        assert isinstance(marked[0].power, PowerSummary)
    found.board.set_faults(())
    assert found.state()[0] == found.before[0]


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        (("trtexec-killed:1",), 0, "saving the engine"),
        (("trtexec-killed",), 5, "out of memory"),
        (("plan-rejected:1",), 0, "building it again"),
        (("disk-full:0",), 5, "make room there"),
        (("no-trtexec",), 4, "there is no trtexec"),
    ],
)
def test_a_cell_that_fails_says_why_and_the_board_is_put_back(rig, faults, code, words):
    found = rig(modes=("MAXN",), faults=faults)
    assert found.sweep() == code, found.said
    assert words in found.said
    for record in found.records():
        if code == 0:
            valid(record)
        else:
            assert isinstance(record.statistics, Unavailable)
            assert record.repetitions == ()
    whole(found)


def test_a_trtexec_that_hangs_is_ended_and_the_next_cell_measured(rig):
    found = rig(modes=("MAXN",))
    assert found.sweep() == 0, found.said  # the plan is there now: a build may take hours
    found.results.unlink()
    found.board.set_faults(("trtexec-hangs:1",))
    assert found.sweep("--impatient") == 5
    failed = [r for r in found.records() if isinstance(r.statistics, Unavailable)]
    assert len(failed) == 1
    assert "did not end within" in failed[0].statistics.reason
    assert len(found.numbers()) == 1
    whole(found)


def test_results_on_a_full_disk_end_the_sweep_and_the_board_is_put_back(rig):
    found = rig(modes=("5W",))
    assert found.sweep(results=Path("/dev/full")) == 5
    assert "cannot append to the results" in found.said or "power trace" in found.said
    whole(found)
