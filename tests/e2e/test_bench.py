"""`bench --attention` as a user sees it: a tiny real run, and what can be refused."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine, timing
from elfatt_deploy.bench.stats import Summary
from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention import softmax
from elfatt_deploy.pipeline import benching

TINY = ("bench", "--attention", "elfatt,global", "--size", "14x14,7x14", "--dim", "32")


@pytest.fixture
def no_export(monkeypatch):
    """Make an export fail the test: what is refused is refused before anything is measured."""

    def fail(*_):
        raise AssertionError("a cell was exported")

    monkeypatch.setattr(benching, "_prepared_attention", fail)


def test_a_tiny_run_shows_every_cell_and_how_it_was_measured(cli):
    result = cli(*TINY, "--set", "rounds=5", "--quiet")
    assert (result.code, result.err) == (0, "")
    for cell in (("elfatt", "14x14", "196"), ("global", "7x14", "98")):
        assert any(line.split()[:3] == list(cell) for line in result.out.splitlines())
    assert "contract single-stream/1" in result.out
    assert "no device transfers" in result.out
    assert "5 rounds, every cell once in each, order shuffled with seed 0" in result.out
    assert "1 thread" in result.out
    assert "not measured because" not in result.out
    assert result.out.count("N^") == 2


def test_json_holds_every_sample_and_the_conditions(cli):
    result = cli(*TINY, "--set", "rounds=5", "--seed", "7", "--json", "--quiet")
    document = json.loads(result.out)
    assert (result.code, result.err, document["passed"]) == (0, "", True)
    assert document["schema"] == "elfatt-deploy/bench-attention"
    assert document["contract"] == "single-stream/1"
    assert (document["request"]["seed"], document["request"]["heads"]) == (7, 1)
    assert document["rounds"] == 5
    assert {"onnxruntime", "torch", "numpy"} <= set(document["versions"])
    assert document["machine"]["cores"] >= 1
    assert [r["cell"]["tokens"] for r in document["results"]] == [98, 98, 196, 196]
    for record in document["results"]:
        samples, summary = record["samples"], record["summary"]
        assert len(samples["times_ms"]) == len(samples["rounds"]) == summary["count"]
        assert set(samples["rounds"]) == set(range(5))
        assert min(samples["times_ms"]) == summary["min_ms"] > 0
        assert summary["p50_interval_ms"]["low"] <= summary["p50_interval_ms"]["high"]
        assert record["parity"]["passed"]
        assert record["warm_up_runs"] >= 2
    assert [entry["attention"] for entry in document["growth"]] == ["elfatt", "global"]


def test_every_mechanism_can_be_timed(cli):
    from elfatt_deploy.models import registry

    arguments = ("--size", "14x14", "--set", "rounds=1", "--json", "--quiet")
    document = json.loads(cli("bench", "--attention", "all", *arguments).out)
    measured = {r["cell"]["attention"] for r in document["results"] if "p50_ms" in r["summary"]}
    assert measured == set(registry.ATTENTIONS)
    assert all("reason" in entry["growth"] for entry in document["growth"])


def test_a_cell_that_does_not_fit_is_shown_with_the_reason(cli, monkeypatch):
    monkeypatch.setattr(machine, "available_bytes", lambda: 20 * 2**20)
    result = cli(
        "bench",
        "--attention",
        "elfatt,global",
        "--size",
        "14x14,56x56",
        "--set",
        "rounds=1",
        "--quiet",
    )
    assert result.code == 0
    refused = next(
        line for line in result.out.splitlines() if line.split()[:2] == ["global", "56x56"]
    )
    assert "needs 0.2 GiB, above 80 % of the free 0.0 GiB" in refused
    assert refused.split()[3:9] == ["-"] * 6


def test_where_nothing_could_be_measured_the_verdict_is_1(cli, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    monkeypatch.setattr(machine, "available_bytes", lambda: 0)
    result = cli(*TINY, "--set", f"plot={tmp_path / 'figure.svg'}")
    assert result.code == 1
    assert "figure.svg was not drawn" in result.err
    assert "figure:" not in result.out
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_torch_is_not_timed(cli, monkeypatch):
    from elfatt_deploy.export import attention

    def wrong(module, example, *, opset, right=attention.onnx_from_attention):
        proto = right(module, example, opset=opset)
        if module.name == "global":
            proto.graph.output[0].name = proto.graph.node[-1].output[0] = "before"
            import onnx

            proto.graph.node.append(onnx.helper.make_node("Neg", ["before"], [attention.OUTPUT]))
            proto.graph.output[0].name = attention.OUTPUT
        return proto

    monkeypatch.setattr(attention, "onnx_from_attention", wrong)
    result = cli(*TINY, "--set", "rounds=1", "--quiet")
    assert result.code == 1
    assert result.out.count("parity failed: max error") == 2
    assert sum(line.split()[:1] == ["elfatt"] for line in result.out.splitlines()) == 3


def test_a_mechanism_that_cannot_take_the_block_is_a_cell_with_a_reason(cli, monkeypatch):
    def refuses(context):
        raise ModelError(f"{context.rows} rows are too few")

    monkeypatch.setattr(softmax, "branches", refuses)
    result = cli(*TINY, "--set", "rounds=1", "--quiet")
    assert result.code == 0
    assert "7 rows are too few" in result.out
    assert "14 rows are too few" in result.out


def test_the_figure_is_drawn(cli, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    path = tmp_path / "new" / "figure.svg"
    result = cli(*TINY, "--set", "rounds=1", "--quiet", "--set", f"plot={path}")
    assert (result.code, result.err) == (0, "")
    assert f"figure: {path}" in result.out
    assert path.read_text(encoding="utf-8").startswith("<?xml")


def test_without_matplotlib_nothing_is_measured(cli, tmp_path, monkeypatch, no_export):
    real = optional.importlib.import_module

    def absent(name):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return real(name)

    monkeypatch.setattr(optional.importlib, "import_module", absent)
    result = cli(*TINY, "--set", f"plot={tmp_path / 'figure.png'}")
    assert (result.code, result.out) == (3, "")
    assert "the package 'matplotlib' is not installed" in result.err
    assert '[report]"' in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ("--attention elfatt --model cswin_t_elfatt", 2, "--model does not go with --attention"),
        ("--attention elfatt --results runs.jsonl", 2, "--results does not go with --attention"),
        ("--attention elfat", 2, "unknown attention 'elfat': did you mean elfatt"),
        ("--attention elfatt,,global", 2, "unknown attention ''"),
        ("--attention elfatt --size 14", 2, "--size 14 is not a size"),
        ("--attention elfatt --size 14x14,7x", 2, "--size 7x is not a size"),
        ("--attention elfatt --size 0x14", 2, "--size 0x14 is not a size"),
        ("--attention elfatt --size 14x14x3", 2, "--size 14x14x3 is not a size"),
        ("--attention elfatt --dim 65 --set heads=2", 2, "--set heads=2 does not divide --dim 65"),
        ("--attention elfatt --dim 0", 2, "--dim 0"),
        ("--attention elfatt --threads -1", 2, "--threads -1 is negative"),
        ("--attention elfatt --set rounds=0", 2, "0 rounds measure nothing"),
        ("--attention elfatt --set seconds=-1", 2, "-1.0 seconds is no duration"),
        ("--attention elfatt --set plot=figure.gif", 2, "does not say which format"),
        ("--attention elfatt --set head=2", 2, "setting of attention 'head': did you mean heads"),
        ("--attention elfatt --set heads", 2, "--set heads has no value"),
        ("--attention elfatt --set heads=x", 2, "--set heads=x is no whole number"),
        ("--attention elfatt --set seconds=x", 2, "--set seconds=x is no number"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(cli, no_export, arguments, code, told):
    result = cli("bench", *arguments.split())
    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert "next: " in result.err


def test_an_unwritable_figure_is_refused_before_anything_is_measured(cli, tmp_path, no_export):
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    (tmp_path / "file").write_text("")
    result = cli(*TINY, "--set", f"plot={tmp_path / 'file' / 'figure.png'}")
    assert (result.code, result.out) == (5, "")
    assert "cannot write the figure" in result.err


def test_ctrl_c_shows_what_was_measured_and_exits_130(cli, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra 'report' is not installed")
    real, seen = timing.interleaved, []

    def interleaved(runs, rule, *, watch, **more):
        def stop(number, index, elapsed_s):
            seen.append(number)
            if number == 2:
                raise KeyboardInterrupt
            watch(number, index, elapsed_s)

        return real(runs, rule, watch=stop, **more)

    monkeypatch.setattr(timing, "interleaved", interleaved)
    path = tmp_path / "figure.svg"
    result = cli("bench", "--attention", "elfatt,effatt", "--size", "7x7", "--set", "seconds=600",
                 "--set", f"plot={path}")  # fmt: skip
    assert result.code == 130
    assert sum(line.split()[:2] == ["elfatt", "7x7"] for line in result.out.splitlines()) == 1
    assert "interrupted after 2 rounds: what was measured is shown" in result.err
    assert seen == [0, 0, 1, 1, 2]
    assert not path.exists()


def test_ctrl_c_before_the_first_round_is_a_plain_end(cli, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benching, "_prepared_attention", stop)
    result = cli(*TINY)
    assert (result.code, result.out) == (130, "")
    assert "interrupted" in result.err


def test_the_library_gives_the_same_report(monkeypatch):
    from elfatt_deploy.bench.attention import AttentionRequest
    from elfatt_deploy.bench.timing import StopRule

    monkeypatch.setattr(machine, "available_bytes", lambda: Unavailable(reason="nobody knows"))
    told = []
    report = benching.bench_attention(
        AttentionRequest(
            attentions=("effatt",), sizes=((7, 7),), rule=StopRule(rounds=2, seconds=0)
        ),
        told.append,
    )
    assert report.passed
    assert isinstance(report.results[0].summary, Summary)
    assert told[0] == "effatt 7x7: exporting and comparing with torch"
    assert told[1].startswith("round 1, 0 s, effatt 7x7")
