"""Which cells a request has, which are refused, and how they are put into a report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import attention, attention_report, timing
from elfatt_deploy.bench.attention import AttentionCell, AttentionRequest, Prepared
from elfatt_deploy.bench.stats import Summary
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance

MIB, GIB = 2**20, 2**30
CELL = AttentionCell(attention="global", rows=10, cols=20)


def _request(**changes):
    return AttentionRequest(**{"attentions": ("elfatt",), "sizes": ((14, 14),), **changes})


def test_cells_are_every_pair_once_and_small_ones_first():
    request = _request(
        attentions=("global", "elfatt", "global"), sizes=((28, 28), (7, 28), (28, 28))
    )
    assert [cell.name for cell in request.cells] == [
        "global 7x28", "elfatt 7x28", "global 28x28", "elfatt 28x28",
    ]  # fmt: skip
    assert request.cells[0].tokens == 196


@pytest.mark.parametrize(("dim", "heads"), [(64, 2), (96, 3), (16, 1), (48, 1)])
def test_there_is_a_head_for_each_32_channels(dim, heads):
    assert _request(dim=dim).head_count == heads


def test_the_context_of_a_cell_is_what_was_asked():
    context = _request(dim=128, heads=8, block=14).context(CELL)
    assert (context.rows, context.cols, context.dim) == (10, 20, 128)
    assert (context.heads, context.block) == (8, 14)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dim": 0}, "--dim 0 is not a positive number"),
        ({"heads": 0}, "--heads 0 is not a positive number"),
        ({"block": -7}, "--block -7 is not a positive number"),
        ({"threads": -1}, "--threads -1 is negative"),
        ({"dim": 60, "heads": 7}, "--set heads=7 does not divide --dim 60"),
        ({"sizes": ()}, "no attention or no size"),
        ({"sizes": ((0, 5),)}, "empty"),
        ({"attentions": ()}, "no attention or no size"),
    ],
)
def test_a_request_that_no_attention_can_meet_is_refused(changes, told):
    with pytest.raises(UsageError, match=told):
        _request(**changes)


def test_the_hint_lists_the_heads_that_divide():
    with pytest.raises(UsageError) as caught:
        _request(dim=12, heads=5)
    assert caught.value.hint == "use one of 1, 2, 3, 4, 6, 12 heads"


def test_an_unknown_mechanism_lists_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown attention 'elfat': did you mean elfatt"):
        _request(attentions=("global", "elfat"))


def test_the_largest_tensor_counts_twice():
    needed = _request(dim=64).needed_bytes(CELL, 100 * MIB)
    assert 200 * MIB < needed < 202 * MIB


@pytest.mark.parametrize(
    ("needed", "free", "reason"),
    [
        (8 * GIB, 10 * GIB, None),
        (8 * GIB + 1, 10 * GIB, "needs 8.0 GiB, above 80 % of the free 10.0 GiB"),
        (1, 0, "needs 0.0 GiB, above 80 % of the free 0.0 GiB"),
        (GIB, Unavailable(reason="nobody knows"), None),
        (GIB + 1, Unavailable(reason="nobody knows"), "needs 1.0 GiB, and nobody knows"),
    ],
)
def test_a_cell_that_does_not_fit_is_refused_with_both_numbers(needed, free, reason):
    found = attention.memory_refusal(needed, free)
    assert (found and found.reason) == reason


def test_a_graph_that_differs_from_torch_is_refused():
    allowed = tolerance("fp32")
    reference = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    good = compare.parity_row("noise", 1, 1, reference, reference, allowed)
    assert attention.parity_refusal(good, allowed) is None
    bad = compare.parity_row("noise", 1, 1, reference, reference * np.float32(1.01), allowed)
    assert "parity failed: max error" in attention.parity_refusal(bad, allowed).reason


def test_a_refused_cell_stands_in_the_report_with_its_reason(made_report):
    report = made_report(refused=("global 56x56",))
    by_name = {result.cell.name: result for result in report.results}
    assert list(by_name) == [cell.name for cell in report.request.cells]
    assert by_name["global 56x56"].summary == Unavailable(reason="too large")
    assert by_name["global 56x56"].samples.times_ms == ()
    # samples went to the cells that were timed, none to the one that was not
    assert by_name["elfatt 56x56"].summary.p50_ms == pytest.approx(3.136, rel=0.02)
    assert by_name["global 28x28"].summary.p50_ms == pytest.approx(614.656, rel=0.02)
    growth = {entry.attention: entry.growth for entry in report.growth}
    assert growth["global"].tokens == (196, 784)
    assert growth["elfatt"].tokens == (196, 784, 3136)
    assert growth["global"].exponent == pytest.approx(2)
    assert report.passed


def test_a_report_without_a_measured_cell_has_not_passed(made_report, tmp_path):
    names = ("elfatt 14x14", "elfatt 28x28")
    report = made_report(
        ("elfatt",), ((14, 14), (28, 28)), refused=names, plot=tmp_path / "figure.png"
    )
    assert not report.passed
    assert report.figure is None


def test_a_report_with_a_failed_parity_has_not_passed(made_report):
    report = made_report()
    row = compare.parity_row(
        "noise", 1, 1, np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32), tolerance("fp32")
    )
    failed = dataclasses.replace(
        report.results[0], parity=row, summary=Unavailable(reason="parity failed")
    )
    assert not dataclasses.replace(report, results=(failed, *report.results[1:])).passed


def test_an_interrupted_run_draws_no_figure(made_report, tmp_path):
    assert made_report(plot=tmp_path / "figure.png").figure == tmp_path / "figure.png"
    assert made_report(plot=tmp_path / "figure.png", interrupted=True).figure is None


def test_cells_that_ctrl_c_forestalled_are_absent(made_report):
    request = _request(attentions=("elfatt", "global"))
    prepared = [Prepared(cell=cell, run=lambda: None) for cell in request.cells]
    empty = timing.Samples(times_ms=(), rounds=())
    once = timing.Samples(times_ms=(1.5,), rounds=(0,))
    broken = timing.Timing(cells=(once, empty), rounds=0, warm_up_runs=(2,), interrupted=True)
    report = attention_report.report(
        request,
        prepared,
        broken,
        machine=made_report().machine,
        versions={},
        started="2030-01-02T03:04:05+00:00",
    )
    first, second = report.results
    assert isinstance(first.summary, Summary)
    assert (first.summary.p50_ms, first.warm_up_runs) == (1.5, 2)
    assert second.summary == Unavailable(reason="interrupted before its first run")
    assert second.warm_up_runs == 0


def test_warnings_name_the_cell(made_report):
    report = made_report(rounds=3)
    assert [warning.kind.value for warning in report.warnings] == ["few-rounds"]
    results = list(report.results)
    assert all(isinstance(result.summary.p50_interval_ms, Unavailable) for result in results)
