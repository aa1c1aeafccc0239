"""`bench --model` and `--bundle` as a user sees them, on a tiny model."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from elfatt_deploy.artifacts import ParityReport, Unavailable, from_document
from elfatt_deploy.bench import processes, protocol
from elfatt_deploy.bench.cells import Failed, Ran
from elfatt_deploy.bench.protocol import BenchPlan, Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.pipeline import ExportRequest, export_bundle, measuring
from elfatt_deploy.results import store

QUICK = ("bench", "--model", "tiny_elfatt", "--quick", "--threads", "1")


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    """Make a quick run as short as it can be, in a folder of its own."""
    plan = BenchPlan(
        name="quick",
        repetitions=2,
        limits=Limits(enough=StopRule(rounds=3, seconds=0), most_seconds=60),
        steady=SteadyRule(window_runs=1, window_seconds=0, most_seconds=0.01),
    )
    monkeypatch.setitem(protocol.PLANS, "quick", plan)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bundle(tiny_model, tmp_path):
    request = ExportRequest(model="tiny_elfatt", target="ort", output=tmp_path / "bundles")
    return export_bundle(request).bundle.path


@pytest.fixture
def workers(monkeypatch):
    """Return a function that lets another one measure each task, one after the other."""

    def replace(one):
        def each(tasks, tell):
            for number, task in enumerate(tasks):
                outcome = one(task)
                yield number, Ran(outcome=outcome, started="2030-01-02", duration_s=0.5)

        real = measuring.bench_models
        monkeypatch.setattr(
            "elfatt_deploy.pipeline.bench_models",
            lambda *args, **more: real(*args, **more, workers=each),
        )

    return replace


def test_a_model_without_a_bundle_is_exported_first_and_the_next_call_uses_it(cli, tiny_model):
    result = cli(*QUICK)
    assert result.code == 0, result.err
    assert "bundles/tiny_elfatt-64-b1-fp32-ort (exported now)" in result.out
    row = next(line for line in result.out.splitlines() if line.split()[:1] == ["tiny_elfatt"])
    assert row.split()[1] == "single-stream/1"
    assert "QUICK: not to be quoted" in result.out
    assert "no device transfers" in result.out
    assert "sentinel tiny_elfatt" in result.out
    again = cli(*QUICK, "--quiet")
    assert "(exported earlier)" in again.out
    assert again.err == ""


def test_two_models_are_interleaved_compared_and_stored(cli, bundle, tmp_path):
    results = tmp_path / "new" / "results.jsonl"
    result = cli(
        "bench", "--bundle", bundle, "--model", "tiny_elfatt", "--quick", "--baseline",
        "tiny_elfatt", "--results", results, "--json", "--quiet",
    )  # fmt: skip
    document = json.loads(result.out)
    assert (result.code, document["schema"], document["passed"]) == (0, "elfatt-deploy/bench", True)
    assert document["names"] == ["tiny_elfatt", "tiny_elfatt#2"]
    positions = [[one["position"] for one in r["repetitions"]] for r in document["records"]]
    assert sorted(sum(positions, [])) == [0, 1, 2, 3]
    assert sorted(pair[0] for pair in positions) == [0, 1]
    (ratio,) = document["ratios"]
    assert (ratio["cell"], ratio["time"]["repetitions"]) == ("tiny_elfatt#2", 2)
    for record in document["records"]:
        assert record["source"] == "measured"
        assert record["statistics"]["count"] == 6
        assert record["memory"]["host_peak_bytes"] > 0
        assert record["parity"]["rows"][0]["passed"]
        assert "few-rounds" not in record["validity"]
    stored = store.read(results).records
    assert [record.cell.variant for record in stored] == ["", "again 2"]
    assert stored[0].repetitions[0].samples_ms == tuple(
        document["records"][0]["repetitions"][0]["samples_ms"]
    )


@pytest.mark.parametrize("contract", ["throughput/1", "paper/1"])
def test_other_contracts_report_what_they_are_for(cli, bundle, contract):
    document = json.loads(cli(*QUICK, "--contract", contract, "--json", "--quiet").out)
    (record,) = document["records"]
    found = record["statistics"]
    if contract == "paper/1":
        assert found["count"] == 200
        assert found["images_per_s"] == pytest.approx(1000 / found["mean_ms"], rel=0.5)
    else:
        assert found["images_per_s_rule"] == "batch x runs / wall-clock time"
        assert "two threads share one session" in record["protocol"]["note"]


def test_torch_runs_a_model_of_the_users_own(program, tmp_path, short):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(\n"
        "        nn.Conv2d(3, 4, 16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9))\n"
    )
    arguments = ("bench", "--model", "mine:make", "--resolution", "32", "--runner", "torch")
    result = program(*arguments, "--quick", "--json", "--quiet")
    assert result.code == 0, result.err
    (record,) = json.loads(result.out)["records"]
    assert (record["cell"]["runner"], record["cell"]["model"]) == ("torch", "mine:make")
    assert record["statistics"]["count"] >= 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "name"),
    [
        (("--precision", "fp16"), "torch float16 (cpu)"),
        pytest.param(
            ("--variant", "compile"),
            "torch float32 (cpu, compiled)",
            marks=pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler"),
        ),
    ],
)
def test_torch_in_half_and_compiled_are_cells_of_their_own(cli, tmp_path, monkeypatch, more, name):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.Sequential(\n"
        "        nn.Conv2d(3, 4, 16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 9))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the worker
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    once = dataclasses.replace(protocol.PLANS["quick"], repetitions=1, sentinel=False)
    monkeypatch.setitem(protocol.PLANS, "quick", once)
    results = tmp_path / "runs.jsonl"
    arguments = ("bench", "--model", "mine:make", "--resolution", "32", "--runner", "torch",
                 "--quick", "--quiet", "--threads", "1", "--results", results)  # fmt: skip
    result = cli(*arguments, *more)
    assert result.code == 0, result.err
    (record,) = store.read(results).records
    assert (record.cell.precision, record.proof, record.cell.variant) == (
        ("fp16", "fp16", "") if more[1] == "fp16" else ("fp32", "fp32", "compile")
    )
    assert record.parity.candidate == name


def test_a_cell_whose_process_dies_is_one_error_and_the_others_are_shown(cli, bundle, workers):
    calls = []

    def dies(task):
        calls.append(task)
        if len(calls) == 2:
            return Failed(reason="the process was killed (SIGKILL)")
        return processes.run_worker(task)

    workers(dies)
    result = cli("bench", "--model", "tiny_elfatt,tiny_elfatt", "--quick", "--quiet")
    assert result.code == 5
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("error: tiny_elfatt")
    assert "killed (SIGKILL)" in result.err
    assert "not measured" in result.out
    assert any("single-stream/1" in line and "not measured" not in line
               for line in result.out.splitlines() if line.startswith(" tiny_elfatt"))  # fmt: skip


def test_wrong_logits_are_the_verdict_1(cli, bundle, workers):
    failed = json.loads((bundle / "manifest.json").read_text())["parity"]
    failed["rows"][0]["passed"] = False
    parity = from_document(ParityReport, failed, "the test")
    workers(lambda _: Failed(reason="parity failed", parity=parity))
    result = cli(*QUICK, "--quiet")
    assert result.code == 1
    assert "error: tiny_elfatt: parity failed" in result.err


def test_ctrl_c_shows_and_stores_whole_repetitions(cli, bundle, tmp_path, workers):
    calls = []

    def stops(task):
        calls.append(task)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return processes.run_worker(task)

    workers(stops)
    result = cli(*QUICK, "--results", tmp_path / "results.jsonl")
    assert result.code == 130
    assert "interrupted: only whole repetitions count" in result.err
    assert "tiny_elfatt" in result.out
    (record,) = store.read(tmp_path / "results.jsonl").records
    assert len(record.repetitions) == 1  # after the sentinel
    (told,) = [w.message for w in record.warnings if w.kind == "few-rounds"]
    assert "interrupted after 1 of 2 repetitions" in told


@pytest.fixture
def stopped(cli, bundle, tmp_path, monkeypatch, workers):
    """Measure two cells, stopped by Ctrl-C; gives the launches of every call from then on."""
    calls, limit = [], [3]

    def stops(task):
        calls.append(task)
        if len(calls) == limit[0]:
            raise KeyboardInterrupt
        return processes.run_worker(task)

    workers(stops)
    monkeypatch.setattr(measuring, "git_state", lambda: Unavailable(reason="others write there"))
    result = cli(*TWICE, "--results", tmp_path / "runs.jsonl")
    assert result.code == 130
    assert "the same command again goes on where this one stopped" in result.err
    calls.clear()
    limit[0] = 0
    return calls


TWICE = ("bench", "--model", "tiny_elfatt,tiny_elfatt", "--quick", "--threads", "1",
         "--baseline", "tiny_elfatt")  # fmt: skip


def test_the_same_call_again_goes_on_where_it_was_stopped(cli, stopped, tmp_path):
    result = cli(*TWICE, "--results", tmp_path / "runs.jsonl", "--json", "--quiet")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert any("1 of 4 measurements" in n and "were taken over" in n for n in document["notes"])
    assert len(stopped) == 3 + 2  # and the sentinels
    assert [len(record["repetitions"]) for record in document["records"]] == [2, 2]
    assert document["ratios"][0]["time"]["repetitions"] == 1  # the other one is of two sittings
    assert "measured in 2 sittings" in " ".join(
        record["protocol"]["note"] for record in document["records"]
    )
    stored = store.read(tmp_path / "runs.jsonl")
    assert [len(record.repetitions) for record in stored.latest.values()] == [2, 2]
    assert not list(tmp_path.glob("*.partial"))


def test_no_resume_and_another_call_measure_all_anew(cli, stopped, tmp_path):
    results = ("--results", tmp_path / "runs.jsonl", "--quiet")
    assert cli(*TWICE, *results, "--seed", "1").code == 0
    assert len(stopped) == 4 + 2
    assert len(list(tmp_path.glob("*.partial"))) == 1  # that of the call that was stopped
    stopped.clear()
    result = cli(*TWICE, *results, "--no-resume", "--json")
    assert len(stopped) == 4 + 2
    assert any("were thrown away" in note for note in json.loads(result.out)["notes"])


def test_ctrl_c_before_the_first_repetition_stores_nothing(cli, bundle, tmp_path, workers):
    def stops(task):
        raise KeyboardInterrupt

    workers(stops)
    assert cli(*QUICK, "--results", tmp_path / "results.jsonl").code == 130
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("--model cswin_t_elfat", 2, "did you mean cswin_t_elfatt"),
        ("--model cswin_t_elfatt,,swin_t_local", 2, "has an empty name"),
        ("--model model.onnx", 2, "then bench --bundle DIR"),
        ("--bundle nowhere", 3, "nowhere is not a bundle"),
        ("--model cswin_t_elfatt --runner trtx", 2, "unknown runner 'trtx'"),
        ("--model cswin_t_elfatt --provider tpu", 2, "unknown provider 'tpu'"),
        ("--model cswin_t_elfatt --contract compute/1", 2, "cannot keep compute/1"),
        ("--model cswin_t_elfatt --contract fps", 2, "unknown contract 'fps'"),
        ("--model cswin_t_elfatt --quick --strict", 2, "exclude each other"),
        ("--model cswin_t_elfatt --set rounds=3", 2, "--set goes with --attention"),
        ("--model cswin_t_elfatt --dim 32", 2, "--dim goes with --attention"),
        ("--model cswin_t_elfatt --no-resume", 2, "--resume and --no-resume go with --results"),
        ("--model cswin_t_elfatt --runner trt", 2, "--runner trt runs plans"),
        ("--plan somewhere --runner ort", 2, "--runner ort does not run plans"),
        ("--plan somewhere --model cswin_t_elfatt --runner trtexec", 2, "exclude each other"),
        ("--plan somewhere --runner trtexec", 3, "somewhere is no plan of this program"),
        ("--runner torch --provider tensorrt", 2, "--runner torch does not run on tensorrt"),
        ("--precision tf32", 2, "ort on cpu has no switch for it"),
        ("--precision int8", 2, "unknown precision 'int8'"),
        ("--variant compile", 2, "--variant compile goes with --runner torch"),
        ("--runner torch --variant fast", 2, "unknown variant 'fast'"),
        ("--model cswin_t_elfatt --batch 0", 2, "--batch 0"),
        ("--model cswin_t_elfatt --threads -1", 2, "--threads -1"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(
    cli, monkeypatch, arguments, code, told
):
    def fail(*_, **__):
        raise AssertionError("something was exported or measured")

    monkeypatch.setattr(measuring, "export_bundle", fail)
    monkeypatch.setattr(processes, "run_workers", fail)
    result = cli("bench", *arguments.split())
    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert "next: " in result.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--batch 2", "has the fixed batch 1"),
        (
            "--baseline cswin_t_elfatt",
            "unknown baseline 'cswin_t_elfatt': did you mean tiny_elfatt?",
        ),
    ],
)
def test_what_does_not_go_with_a_bundle_is_refused(cli, bundle, arguments, told):
    result = cli("bench", "--bundle", bundle, "--quick", *arguments.split())
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_without_torch_a_missing_bundle_names_the_next_command(cli, monkeypatch):
    from elfatt_deploy.errors import MissingDependency

    def absent(*_):
        raise MissingDependency("the package 'torch' is not installed", hint="pip install X")

    monkeypatch.setattr(measuring, "export_bundle", absent)
    result = cli("bench", "--quick")
    assert (result.code, result.out) == (3, "")
    assert "there is no bundle of cswin_t_elfatt below bundles" in result.err
    assert "export it where torch is and copy it here, or pip install X" in result.err
