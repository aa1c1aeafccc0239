"""A worker that dies, hangs or talks nonsense is one clear failure."""

from __future__ import annotations

import json
import sys

import pytest

from elfatt_deploy import artifacts
from elfatt_deploy.bench import processes
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.protocol import PLANS
from elfatt_deploy.bench.worker import Task, task_from_document

TASK = Task(
    bundle="somewhere",
    runner="ort",
    provider="cpu",
    precision="fp32",
    batch=1,
    threads=1,
    in_flight=1,
    limits=PLANS["quick"].limits,
    steady=PLANS["quick"].steady,
)


def _run(code, tell=None, timeout_s=60):
    return processes.run_worker(
        TASK, tell, command=(sys.executable, "-c", code), timeout_s=timeout_s
    )


def test_the_task_survives_the_way_through_json(tmp_path):
    path = tmp_path / "task.json"
    found = _run(f"import sys; open({str(path)!r}, 'w').write(sys.stdin.read()); print('{{}}')")
    assert found == Failed(reason="the process wrote no measurement")
    assert task_from_document(json.loads(path.read_text())) == TASK


def test_a_measurement_survives_the_way_through_json(made_measured):
    measured = made_measured([1.25, 2.5])
    text = json.dumps({"measured": artifacts.to_document(measured)})
    found = _run(f"print('chatter of a library'); print({text!r})")
    assert isinstance(found, Measured)
    assert found == measured


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os.kill(os.getpid(), 9)", "killed (SIGKILL), often for want of memory"),
        ("import os; os.kill(os.getpid(), 6)", "died of signal 6"),
        ("import sys; sys.exit('no such thing')", "ended with status 1: no such thing"),
        ("print('hello')", "wrote no measurement"),
        ("", "wrote no measurement"),
        ('print(\'{"measured": {"runner": 3}}\')', "wrote no measurement"),
        ("print('{\"measured\": ')", "wrote no measurement"),
    ],
)
def test_a_worker_that_fails_is_one_clear_failure(code, told):
    found = _run(code)
    assert isinstance(found, Failed)
    assert told in found.reason


def test_a_worker_that_hangs_is_ended():
    found = _run("import time; time.sleep(600)", timeout_s=1)
    assert found == Failed(reason="the process was ended: it did not finish within 1 s")


def test_the_running_median_is_told():
    told = []
    code = "import sys; sys.stderr.write('progress 3 84.5\\nprogress\\nother text here\\n')"
    _run(code, lambda runs, ms: told.append((runs, ms)))
    assert told == [(3, 84.5)]
