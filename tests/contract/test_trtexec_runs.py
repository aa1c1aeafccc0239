"""Plans run by trtexec: the runner against a program that answers like each version of it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from elfatt_deploy.bench import contracts
from elfatt_deploy.engine import trtexec, trtexec_run
from elfatt_deploy.engine.trtexec_run import RunLength
from elfatt_deploy.errors import CommandError, EngineError, PlanMismatch, RunnerError
from elfatt_deploy.runners.trtexec_runner import TrtexecRunner
from elfatt_deploy.transport.local import Local

TESTS = Path(__file__).parents[1]
#: version -> column of flags.tsv
ERAS = {
    "8.2.1": "8.2.1",
    "8.4.1": "8.4.1",
    "8.5.2": "8.5.3",
    "8.6.1": "8.6.1",
    "9.3.0": "9.3.0",
    "10.0.1": "10.0.1",
    "10.3.0": "10.3.0",
    "10.13.3": "10.13.3",
    "11.1.0": "11.1",
}
LENGTH = RunLength(warm_up_ms=20, duration_s=0, iterations=30)
IMAGES = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4) / 8


class Board:
    """A PATH with a trtexec on it that runs plans, and a plan."""

    def __init__(self, folder):
        self.folder, self.runs, self.plan = folder, folder / "runs.jsonl", folder / "model.plan"
        self.plan.write_bytes(b"ftrt plan")

    def install(self, version, scenario="success"):
        settings = {
            "version": version,
            "column": ERAS[version],
            "scenario": scenario,
            "data": str(TESTS / "data" / "trtexec"),
            "runs": str(self.runs),
        }
        (self.folder / "settings.json").write_text(json.dumps(settings))
        script = (sys.executable, "-S", "-E", str(TESTS / "fakes" / "trtexec_runs.py"))
        line = shlex.join((*script, str(self.folder / "settings.json")))
        program = self.folder / "trtexec"
        program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        program.chmod(0o755)

    def runner(self, **more):
        return TrtexecRunner(Local(), str(self.plan), **{"dynamic": True, **more})

    def commands(self):
        return [json.loads(line) for line in self.runs.read_text().splitlines()]


@pytest.fixture
def board(tmp_path, monkeypatch):
    made = Board(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(trtexec, "JETPACK_PROGRAM", str(tmp_path / "nowhere" / "trtexec"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    yield made
    assert not list((tmp_path / "scratch").iterdir())  # nothing is left on the board


@pytest.mark.parametrize("version", ERAS)
def test_outputs_come_back_and_every_contract_is_timed(version, board):
    board.install(version)
    with board.runner() as runner:
        assert runner.name == f"trtexec (TensorRT {version}, this machine)"
        logits = runner.infer({"images": IMAGES})["logits"]
        sums = IMAGES.sum((1, 2, 3))
        assert np.allclose(logits, np.stack([sums, -sums], 1), rtol=5e-6)
        for contract in contracts.CONTRACTS:
            times, warmed = runner.time({"images": IMAGES}, contract, LENGTH, timeout_s=60)
            assert len(times.compute_ms) == 30
            assert warmed == 9
            assert times.warm_up_rows == (9 if version in ("8.2.1", "8.4.1") else 0)
            assert set(times.h2d_ms) == {0.0 if contract == "compute/1" else 0.25}
            assert runner.log.device.name == "NVIDIA Fake"
            assert trtexec_run.graph_was_used(runner.log)
    assert board.commands() == [list(command[1:]) for command in runner.commands]
    assert len(board.commands()) == 5


def test_the_shape_is_said_of_a_dynamic_batch_alone(board):
    board.install("8.5.2")
    with board.runner(dynamic=False) as runner:
        runner.infer({"images": IMAGES[:1]})
    with board.runner() as runner:
        runner.infer({"images": IMAGES})
    fixed, dynamic = board.commands()
    assert "--shapes=images:2x3x4x4" in dynamic
    assert not [option for option in fixed if option.startswith("--shapes")]


@pytest.mark.parametrize(
    ("scenario", "kind", "told"),
    [
        ("refuses_plan", PlanMismatch, "does not load the plan"),
        ("killed", EngineError, "ran out of memory: it was killed"),
        ("no_summary", EngineError, "there is no performance summary"),
        ("torn_times", EngineError, "is torn or no JSON"),
        ("other_times", EngineError, "does not belong to what trtexec printed"),
    ],
)
@pytest.mark.parametrize("version", ["8.2.1", "10.3.0", "11.1.0"])
def test_a_run_that_cannot_be_believed_is_one_error(scenario, kind, told, version, board):
    board.install(version, scenario)
    with board.runner() as runner, pytest.raises(kind, match=told) as caught:
        runner.time({"images": IMAGES}, "compute/1", LENGTH, timeout_s=60)
    assert caught.value.hint


def test_values_that_are_no_numbers_come_back_as_such(board):
    board.install("10.3.0", "nan_output")
    with board.runner() as runner:
        found = runner.infer({"images": IMAGES[:1]})["logits"]
    assert np.isnan(found[0, 0])
    assert found[0, 1] == -np.inf


def test_a_graph_that_trtexec_gave_up_is_seen(board):
    board.install("10.3.0", "no_graph")
    with board.runner() as runner:
        runner.time({"images": IMAGES}, "compute/1", LENGTH, timeout_s=60)
        assert not trtexec_run.graph_was_used(runner.log)


def test_a_missing_program_and_a_closed_runner_are_told(board):
    with pytest.raises(CommandError, match="there is no trtexec on this machine"):
        board.runner().open()
    with pytest.raises(RunnerError, match="trtexec is not open"):
        board.runner().infer({"images": IMAGES})
    board.install("8.5.2")
    with board.runner() as runner, pytest.raises(RunnerError, match="takes 'images', not x"):
        runner.infer({"x": IMAGES})
