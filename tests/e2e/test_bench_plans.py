"""`bench --plan` as a user sees it, with a trtexec that answers like the real one."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from elfatt_deploy.bench import protocol
from elfatt_deploy.bench.protocol import BenchPlan, Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.results import store

TESTS = Path(__file__).parents[1]
VERSION = "10.3.0"


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    plan = BenchPlan(
        name="quick",
        repetitions=2,
        limits=Limits(enough=StopRule(rounds=30, seconds=0), most_seconds=60),
        steady=SteadyRule(most_seconds=0.05),
    )
    monkeypatch.setitem(protocol.PLANS, "quick", plan)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a trtexec of one version on PATH."""

    def put(scenario="success", version=VERSION):
        settings = {
            "version": version,
            "column": version,
            "scenario": scenario,
            "data": str(TESTS / "data" / "trtexec"),
            "runs": str(tmp_path / "runs.jsonl"),
        }
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        script = (sys.executable, "-S", "-E", str(TESTS / "fakes" / "trtexec_runs.py"))
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin" / "trtexec"
        line = shlex.join((*script, str(tmp_path / "settings.json")))
        program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

    return put


@pytest.fixture
def plan(fake, tmp_path):
    """Return a function that writes a bundle with a plan in it, and gives the plan's folder."""

    def make(*, wrong=False, **more):
        made = fake("plan_bundle")
        bundle = made.write(tmp_path / "bundles" / "tiny", wrong=wrong)
        return made.write_plan(bundle, **{"tensorrt": VERSION, **more})

    (tmp_path / "bundles").mkdir()
    return make


def _bench(cli, plan, *more):
    return cli("bench", "--plan", plan, "--runner", "trtexec", "--quick", "--quiet", *more)


@pytest.mark.parametrize("contract", ["compute/1", "single-stream/1", "throughput/1", "paper/1"])
def test_a_plan_is_compared_timed_and_recorded(cli, install, plan, tmp_path, contract):
    install()
    folder = plan()
    results = tmp_path / "runs" / "results.jsonl"
    result = _bench(cli, folder, "--contract", contract, "--results", results)
    assert result.code == 0, result.err
    assert "plan of tiny: fp16, SHA-256 " in result.out
    assert "trtexec 10.3.0 on tensorrt (NVIDIA Fake)" in result.out
    (record,) = store.read(results).records
    cell = record.cell
    assert (cell.runner, cell.provider, cell.precision, cell.batch) == (
        "trtexec", "tensorrt", "fp16", 2,
    )  # fmt: skip
    assert (record.proof, record.versions["tensorrt"]) == ("fp16", VERSION)
    manifest = json.loads((folder / "plan.json").read_text())
    assert record.plan_sha256 == manifest["files"]["model.plan"]
    assert record.parity.passed
    assert record.device.gpu == "NVIDIA Fake"
    counts = {len(one.samples_ms) for one in record.repetitions}
    assert counts <= ({100} if contract == "paper/1" else {30, 31})  # a run at the warm-up's end
    found = record.repetitions[0]
    expected = found.phases_ms["compute"]
    if contract != "compute/1":
        expected = tuple(time + 0.5 for time in expected)
    assert found.samples_ms == pytest.approx(expected)
    assert set(expected) == ({1.25, 1.5, 1.375} if contract == "compute/1" else {1.75, 2.0, 1.875})
    assert list(results.parent.iterdir()) == [results]  # nothing is left to be resumed


def test_the_bundle_may_lie_elsewhere(cli, install, plan, tmp_path):
    install()
    folder = plan()
    moved = folder.rename(tmp_path / "plan")
    assert _bench(cli, moved).code == 0  # found below --folder
    (tmp_path / "bundles" / "tiny").rename(tmp_path / "other")
    refused = _bench(cli, moved)
    assert refused.code == 3
    assert "name it: --bundle DIR" in refused.err
    assert _bench(cli, moved, "--bundle", tmp_path / "other").code == 0


def test_a_graph_that_trtexec_gave_up_is_told(cli, install, plan):
    install("no_graph")
    result = _bench(cli, plan(), "--contract", "compute/1", "--json")
    (record,) = json.loads(result.out)["records"]
    assert "could not launch by a CUDA graph" in record["protocol"]["note"]


@pytest.mark.parametrize(
    ("scenario", "code", "told"),
    [
        ("wrong_output", 1, "parity failed at batch 2"),
        ("nan_output", 5, "the reference is float32 (2, 2)"),
        ("refuses_plan", 5, "does not load the plan"),
        ("killed", 5, "ran out of memory"),
        ("torn_times", 5, "is torn or no JSON"),
        ("other_times", 5, "does not belong to what trtexec printed"),
    ],
)
def test_what_cannot_be_believed_is_one_error_and_no_number(
    cli, install, plan, scenario, code, told
):
    install(scenario)
    result = _bench(cli, plan())
    assert result.code == code
    assert told in result.err
    assert "not measured" in result.out


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ({"tensorrt": "8.5.2"}, 5, "was built by TensorRT 8.5.2, here is 10.3.0"),
        ({"sm": 53}, 5, "was built for NVIDIA Fake (SM 53), trtexec ran it on NVIDIA Fake (SM 87)"),
        ({"simulated": True}, 2, "no real machine runs it"),
    ],
)
def test_a_plan_of_another_place_is_refused(cli, install, plan, more, code, told):
    install()
    result = _bench(cli, plan(**more))
    assert result.code == code
    assert told in result.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--batch 8", "takes batches 1 to 4, not 8"),
        ("--model cswin_t_elfatt", "--plan and --model exclude each other"),
        ("--provider cuda", "--runner trtexec does not run on cuda"),
    ],
)
def test_what_does_not_go_with_a_plan_is_refused(cli, install, plan, arguments, told):
    install()
    result = _bench(cli, plan(), *arguments.split())
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_without_trtexec_the_message_says_what_to_install(cli, plan, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    result = _bench(cli, plan())
    assert result.code == 5
    assert "there is no trtexec on this machine" in result.err


def test_trt_in_process_has_one_run_in_flight(cli, plan, tensorrt_surface):
    tensorrt_surface(VERSION)
    result = cli("bench", "--plan", plan(), "--contract", "throughput/1")
    assert (result.code, result.out) == (2, "")
    assert "use --runner trtexec, which has two" in result.err
