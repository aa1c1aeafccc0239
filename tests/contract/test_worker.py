"""The worker of `bench` as a process: JSON in, one JSON document out, no torch for ONNX Runtime."""

from __future__ import annotations

import dataclasses
import json

import pytest

from elfatt_deploy.bench import processes
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.bench.worker import Task

_CODE = "import runpy; runpy.run_module('elfatt_deploy.bench.worker', run_name='__main__')"


@pytest.fixture
def task(tiny_model, tmp_path):
    """Return the task of a tiny bundle with an open batch."""
    pytest.importorskip("torch", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'ort' is not installed")
    from elfatt_deploy.pipeline import ExportRequest, export_bundle

    outcome = export_bundle(
        ExportRequest(model="tiny_elfatt", batch="dynamic", target="ort", output=tmp_path)
    )
    return Task(
        bundle=str(outcome.bundle.path),
        runner="ort",
        provider="cpu",
        precision="fp32",
        batch=3,
        threads=1,
        in_flight=1,
        limits=Limits(enough=StopRule(rounds=6, seconds=0), most_seconds=60),
        steady=SteadyRule(window_runs=1, window_seconds=0, most_seconds=0.01),
    )


def test_an_onnx_runtime_cell_needs_no_torch(task, python):
    done = python(
        _CODE, without=("torch", "onnxslim", "PIL"), input=json.dumps(dataclasses.asdict(task))
    )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert list(document) == ["measured"]
    assert len(document["measured"]["timed"]["times_ms"]) == 6


def test_a_measurement_holds_samples_memory_versions_and_parity(task):
    found = processes.run_worker(task)
    assert isinstance(found, Measured), found
    assert len(found.timed.times_ms) == 6
    assert 0 < sum(found.timed.times_ms) <= found.timed.wall_ms
    assert found.warm_up.runs >= 1
    assert found.host_peak_bytes > 2**24
    assert found.version.startswith("onnxruntime ")
    assert found.runner == "ort (CPUExecutionProvider)"
    (row,) = found.parity.rows
    assert (row.passed, row.batch) == (True, 3)


def test_two_runs_in_flight_are_counted_over_the_wall_clock(task):
    found = processes.run_worker(dataclasses.replace(task, in_flight=2))
    assert isinstance(found, Measured), found
    assert len(found.timed.times_ms) in (6, 7)
    assert max(found.timed.times_ms) <= found.timed.wall_ms


def test_two_real_workers_take_turns(task):
    asked = dataclasses.replace(task, turns=True)
    asked = dataclasses.replace(
        asked, limits=Limits(enough=StopRule(rounds=6, seconds=0.15), most_seconds=60)
    )
    found = [ran.outcome for _, ran in processes.run_workers((asked, asked))]
    for one in found:
        assert isinstance(one, Measured), one
        assert len(one.timed.turns) >= 3
        assert sum(one.timed.turns) == len(one.timed.times_ms) >= 6
        assert one.timed.wall_ms >= 150


def test_a_worker_whose_parent_died_ends(task, python):
    document = json.dumps(dataclasses.asdict(dataclasses.replace(task, turns=True)))
    done = python(_CODE, input=document + "\n")  # and no turn
    assert done.code == 1
    assert "the process that gives the turns has ended" in done.err
    assert done.out == ""


def test_wrong_logits_are_not_timed(task, tmp_path):
    import numpy as np

    golden = next(tmp_path.glob("*/golden.npz"))
    with np.load(golden) as file:
        arrays = dict(file)
    arrays["logits"] = arrays["logits"][:, ::-1]
    np.savez(golden, **arrays)
    found = processes.run_worker(task)
    assert isinstance(found, Failed)
    assert "parity failed at batch 3" in found.reason
    assert found.parity is not None
    assert not found.parity.passed


def test_a_broken_model_is_one_clear_failure(task, tmp_path):
    next(tmp_path.glob("*/model.onnx")).write_bytes(b"no model")
    found = processes.run_worker(task)
    assert isinstance(found, Failed)
    assert found.reason.startswith("ONNX Runtime refuses the graph")
