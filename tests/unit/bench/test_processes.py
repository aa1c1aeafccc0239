"""A worker that dies, hangs or talks nonsense is one clear failure."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

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
    command = (sys.executable, "-c", code)
    ((number, ran),) = processes.run_workers(
        (TASK,), tell, command=lambda _: command, timeout_s=timeout_s
    )
    assert number == 0
    assert ran.started
    assert ran.duration_s > 0
    return ran.outcome


def test_the_task_survives_the_way_through_json(tmp_path):
    path = tmp_path / "task.json"
    found = _run(f"import sys; open({str(path)!r}, 'w').write(sys.stdin.readline()); print('{{}}')")
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


def test_a_worker_that_closes_its_streams_and_hangs_is_ended():
    found = _run("import os, time; os.close(1); os.close(2); time.sleep(600)", timeout_s=1)
    assert found == Failed(reason="the process was ended: it did not finish within 1 s")


def test_a_library_that_says_waiting_asks_for_no_turn():
    code = "import sys; sys.exit('waiting for a lock')"
    assert "ended with status 1: waiting for a lock" in _run(code).reason


def test_the_running_median_is_told():
    told = []
    code = "import sys; sys.stderr.write('progress 3 84.5\\nprogress\\nother text here\\n')"
    _run(code, lambda *facts: told.append(facts))
    assert told == [(0, 3, 84.5)]


TURNS = """
import json, sys, time
name, turns, ending, log = {name!r}, {turns}, {ending!r}, {log!r}
def say(word):
    with open(log, "a") as file:
        file.write(f"{{name}} {{word}}\\n")
sys.stdin.readline()
for number in range(turns):
    sys.stderr.write("waiting {peak}\\n")
    sys.stderr.flush()
    if not sys.stdin.readline():
        say("orphan")
        sys.exit(9)
    say(number)
    if number == 1 and ending == "dies":
        sys.exit("no more")
    if number == 1 and ending == "hangs":
        time.sleep(600)
say("end")
print(json.dumps({{"failed": {{"reason": name}}}}))
"""


@pytest.fixture
def group(tmp_path):
    """Return a function that runs scripts in turn: the reason of each that ended, and their log."""
    log = tmp_path / "log.txt"

    def run(*scripts, timeout_s=60.0, take=None):
        codes = {
            f"{number}": TURNS.format(
                name=name, turns=turns, ending=ending, log=str(log), peak=peak
            )
            for number, (name, turns, ending, peak) in enumerate(scripts)
        }
        tasks = [dataclasses.replace(TASK, bundle=number, turns=True) for number in codes]
        running = processes.run_workers(
            tasks,
            command=lambda task: (sys.executable, "-c", codes[task.bundle]),
            timeout_s=timeout_s,
        )
        found = {}
        with contextlib.closing(running):
            for number, ran in running:
                found[scripts[number][0]] = ran.outcome.reason
                if len(found) == take:
                    break
        return found, log.read_text().split("\n")[:-1]

    return run


def test_workers_take_turns_and_each_round_has_the_order_of_the_last_one_reversed(group):
    found, log = group(("a", 3, "", 1), ("b", 4, "", 1), ("c", 3, "", 1))
    assert found == {name: name for name in "abc"}
    assert log == [
        "a 0", "b 0", "c 0", "c 1", "b 1", "a 1", "a 2", "a end", "b 2", "c 2", "c end", "b 3",
        "b end",
    ]  # fmt: skip


def test_a_worker_that_takes_no_turns_runs_before_the_next_one_begins(group):
    _, log = group(("a", 0, "", 1), ("b", 1, "", 1), ("c", 0, "", 1))
    assert log == ["a end", "c end", "b 0", "b end"]


@pytest.mark.parametrize(
    ("ending", "told"), [("dies", "ended with status 1: no more"), ("hangs", "within 2 s")]
)
def test_a_worker_that_fails_in_its_turn_fails_alone(group, ending, told):
    found, log = group(("a", 3, "", 1), ("b", 3, ending, 1), timeout_s=2.0)
    assert told in found["b"]
    assert found["a"] == "a"
    assert log[-1] == "a end"


def test_those_for_which_there_is_no_memory_follow_when_the_others_have_ended(group, monkeypatch):
    monkeypatch.setattr(processes.machine, "available_bytes", lambda: 1300)
    found, log = group(("a", 2, "", 900), ("b", 2, "", 100), ("c", 1, "", 100))
    assert found == {name: name for name in "abc"}
    assert log == ["a 0", "a 1", "a end", "b 0", "c 0", "c end", "b 1", "b end"]


def test_no_worker_outlives_the_call(group, tmp_path):
    found, log = group(("a", 1, "", 1), ("b", 9, "", 1), ("c", 9, "", 1), take=1)
    assert found == {"a": "a"}
    assert log == ["a 0", "a end"]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert str(tmp_path / "log.txt") not in process.read_text(errors="replace")
