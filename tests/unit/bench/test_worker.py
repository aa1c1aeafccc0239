"""The worker on plans in process, with a fake TensorRT and a GPU that is not there."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest

from elfatt_deploy.bench import worker
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.bench.worker import Task
from elfatt_deploy.engine import gpu
from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.errors import InputFileError, PlanMismatch

VERSION = "10.3.0"


@pytest.fixture
def task(fake, tensorrt_surface, tmp_path, monkeypatch):
    """Return a function that makes the task of a plan, for a fake GPU."""
    machine = fake("cuda_machine").Machine()
    modules = fake("cuda_python").modules(machine)
    for name, module in {"cuda": None, "pycuda": None, **modules}.items():
        monkeypatch.setitem(sys.modules, name, module)
    runtime = fake("tensorrt_runtime")
    behaviours, _ = runtime.behaviours(machine)
    trt = tensorrt_surface(VERSION, behaviours)
    device = BuildDevice(name=machine.name, sm=machine.sm, memory_bytes=machine.memory_bytes)
    monkeypatch.setattr(gpu, "present", lambda: device)

    def make(contract, *, tensorrt=trt.__version__, sm=87, wrong=False, **more):
        made = fake("plan_bundle")
        bundle = made.write(tmp_path / "bundle", wrong=wrong)
        plan = made.write_plan(bundle, tensorrt=tensorrt, sm=sm, data=runtime.PLAN)
        rest = {
            "limits": Limits(enough=StopRule(rounds=40, seconds=0), most_seconds=60),
            "steady": SteadyRule(window_runs=1, window_seconds=0, most_seconds=0.01),
            **more,
        }
        return Task(
            bundle=str(bundle),
            runner="trt",
            provider="tensorrt",
            precision="fp16",
            batch=2,
            threads=0,
            in_flight=1,
            contract=contract,
            plan=str(plan),
            **rest,
        )

    return make


def test_compute_is_timed_by_the_events_of_the_gpu(task, fake):
    found = worker.measure(task("compute/1"))
    assert isinstance(found, Measured), found
    assert set(found.timed.times_ms) == {fake("tensorrt_runtime").RUN_MS}
    assert len(found.timed.times_ms) >= 40
    assert found.gpu == "NVIDIA Fake"
    assert found.runner.startswith("trt (TensorRT 10.3.0")
    assert found.version.startswith("tensorrt 10.3.0")
    assert found.parity.passed


def test_a_repetition_by_events_ends_at_its_bound_in_time(task):
    limits = Limits(enough=StopRule(rounds=1, seconds=0.0), most_seconds=0.0)
    found = worker.measure(task("compute/1", limits=limits))
    assert len(found.timed.times_ms) == 16  # one look at the clock


def test_a_single_stream_is_timed_by_the_clock_of_the_host(task):
    found = worker.measure(task("single-stream/1"))
    assert isinstance(found, Measured)
    assert len(found.timed.times_ms) == 40
    assert len(set(found.timed.times_ms)) > 1


def test_wrong_logits_are_not_timed(task):
    found = worker.measure(task("compute/1", wrong=True))
    assert isinstance(found, Failed)
    assert "parity failed at batch 2" in found.reason


@pytest.mark.parametrize(
    ("more", "told"),
    [({"tensorrt": "8.5.2"}, "was built by TensorRT 8.5.2"), ({"sm": 53}, r"here is NVIDIA Fake")],
)
def test_a_plan_of_another_place_is_refused_before_it_is_loaded(task, more, told):
    with pytest.raises(PlanMismatch, match=told):
        worker.measure(task("compute/1", **more))


def test_a_plan_that_was_changed_is_refused(task):
    made = task("compute/1")
    with open(f"{made.plan}/model.plan", "ab") as file:
        file.write(b"!")
    with pytest.raises(PlanMismatch, match="was changed since the build"):
        worker.measure(dataclasses.replace(made))


def test_a_plan_is_measured_with_the_plugins_that_it_needs(task, tmp_path):
    asked = task("compute/1", plugins=(str(tmp_path / "none.so"),))
    with pytest.raises(InputFileError, match=r"the plugin library .*none\.so does not load"):
        worker.measure(asked)


def test_a_task_comes_back_from_its_document(task):
    asked = task("compute/1", plugins=("a.so",))
    document = json.loads(json.dumps(dataclasses.asdict(asked)))
    assert worker.task_from_document(document) == asked
