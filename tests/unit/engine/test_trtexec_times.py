"""Files of `--exportTimes`: real rows, warm-up by version, and files that are no such file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elfatt_deploy.bench import stats
from elfatt_deploy.engine.trtexec_log import Summary
from elfatt_deploy.engine.trtexec_times import check_summary, parse_times
from elfatt_deploy.errors import EngineError

DATA = Path(__file__).parents[2] / "data" / "trtexec"
A100 = (DATA / "trt8.4_a100_resnet18_fp16.times.head200.json").read_text()
NANO = (DATA / "synthetic_trt8.2_times.json").read_text()


def _parse(text, warm_up_ms=200.0, with_warm_up=True):
    return parse_times(text, warm_up_ms=warm_up_ms, with_warm_up=with_warm_up, origin="times.json")


def test_the_rows_of_a_real_run_are_read_and_near_what_it_printed():
    times = _parse(A100, with_warm_up=False)
    printed = json.loads((DATA / "trt8.4_a100_resnet18_fp16.summary.metadata.json").read_text())
    _, _, _, median, _ = printed["performance_summary"]["GPU Compute Time"]
    assert (len(times.compute_ms), times.warm_up_rows) == (200, 0)
    assert stats.median(times.compute_ms) == pytest.approx(median, rel=0.01)
    assert set(times.h2d_ms + times.d2h_ms) == {0.0}  # it ran without copies
    assert times.latency_ms == times.compute_ms
    assert times.start_ms[0] == 2.57741
    assert times.wall_ms == pytest.approx(174.275 - 2.57741)
    assert times.wall_ms > sum(times.compute_ms)


def test_what_began_in_the_warm_up_is_left_out_where_the_version_writes_it():
    whole, cut = _parse(A100, with_warm_up=False), _parse(A100, warm_up_ms=100)
    assert cut.warm_up_rows == sum(start < 100 for start in whole.start_ms) > 50
    assert cut.compute_ms == whole.compute_ms[cut.warm_up_rows :]
    assert cut.start_ms[0] >= 100
    with pytest.raises(EngineError, match="all 200 inferences are of the warm-up of 200 ms"):
        _parse(A100)


def test_a_row_of_8_2_has_an_end_to_end_time_more():
    times = _parse(NANO)
    assert (times.warm_up_rows, times.compute_ms) == (1, (90.1061,))
    assert times.samples_ms("compute/1") == (90.1061,)
    assert times.samples_ms("single-stream/1") == (90.3919,)
    assert times.phases_ms == {"h2d": (0.277587,), "compute": (90.1061,), "d2h": (0.008238,)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "torn or no JSON"),
        (A100[: len(A100) // 2], "torn or no JSON"),
        ("[]", "holds no inference"),
        ("{}", "holds no list"),
        ("[3]", "inference 1 of times.json lacks startH2dMs"),
        (NANO.replace('"computeMs"', '"gpuMs"'), "lacks computeMs"),
        (NANO.replace("90.1061", "nan"), "a time that is no number"),
        (NANO.replace("90.1061", "-inf"), "a time that is no number"),
        (NANO.replace("90.1061", "1e999"), "computeMs is inf"),
        (NANO.replace("90.1061", "-1"), "computeMs is -1, no time"),
        (NANO.replace("90.1061", "true"), "computeMs is True, no time"),
        (NANO.replace("90.1061", '"9"'), "computeMs is '9', no time"),
    ],
)
def test_what_is_no_file_of_times_is_one_clear_error(text, told):
    with pytest.raises(EngineError, match=told) as caught:
        _parse(text, with_warm_up=False)
    assert caught.value.hint


def _summary(times, factor=1.0):
    return Summary(
        throughput_qps=1.0,
        gpu_compute_median_ms=float(f"{factor * stats.median(times.compute_ms):g}"),
        latency_median_ms=float(f"{stats.median(times.latency_ms):g}"),
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 199, 200])
def test_the_printed_median_belongs_to_the_rows(count):
    text = json.dumps(json.loads(A100)[:count])
    times = _parse(text, with_warm_up=False)
    check_summary(times, _summary(times), "times.json")
    for factor in (0.95, 1.05):
        with pytest.raises(EngineError, match="does not belong to what trtexec printed"):
            check_summary(times, _summary(times, factor), "times.json")


def test_one_row_at_the_end_of_the_warm_up_may_count_on_either_side():
    times = _parse(A100, warm_up_ms=100)
    for warm_up_ms in (times.start_ms[0] - 0.9, times.start_ms[1]):
        near = _parse(A100, warm_up_ms=warm_up_ms)
        assert abs(len(near.compute_ms) - len(times.compute_ms)) <= 1
        check_summary(times, _summary(near), "times.json")
