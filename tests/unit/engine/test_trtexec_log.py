"""Console text of trtexec as records: captures of real runs, and texts cut anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.engine.trtexec_log import Summary, parse_log

DATA = Path(__file__).parents[2] / "data" / "trtexec"


def _log(name):
    return parse_log((DATA / name).read_text(encoding="utf-8"))


def test_a_whole_log_of_a_nano_says_what_was_built_and_how_fast_it_is():
    log = _log("nano_trt8.2.1_fp32_full.log")
    assert (log.version, log.verdict, log.build_seconds) == ("8.2.1", "passed", 184.708)
    assert log.device == BuildDevice(name="NVIDIA Tegra X1", sm=53, memory_bytes=3955 * 2**20)
    assert log.summary == Summary(
        throughput_qps=11.0613, gpu_compute_median_ms=90.0183, latency_median_ms=90.3035
    )
    assert [warning.partition(":")[0] for warning in log.warnings] == ["onnx2trt_utils.cpp"]
    assert (log.errors, log.fatal, log.out_of_memory) == ((), (), None)


@pytest.mark.parametrize(
    ("name", "version", "summary"),
    [
        ("nano_trt8.2.1_best_summary.log", "8.2.1", (72.2544, 13.6698, 13.7999)),
        ("orin_nano_trt8.5.2_fp16_summary.log", "8.5.2", (97.8649, 10.1851, 10.7972)),
        (
            "orin_trt10.3.0_fp16_nodatatransfers_summary.log",
            "10.3.0",
            (318.007, 3.14062, 3.14062),
        ),
        ("desktop_trt10.13.0_bf16_summary.log", "10.13.0", (0.562059, 1667.19, 1667.89)),
    ],
)
def test_the_summary_of_every_era_is_read(name, version, summary):
    log = _log(name)
    assert (log.version, log.verdict, log.device) == (version, "passed", None)
    found = log.summary
    assert (found.throughput_qps, found.gpu_compute_median_ms, found.latency_median_ms) == summary


def test_a_log_without_a_summary_has_none_and_still_names_the_gpu():
    log = _log("xavier_trt8.5.2_dumpprofile.log")
    assert (log.version, log.summary, log.build_seconds) == ("8.5.2", None, None)
    assert (log.device.name, log.device.sm) == ("Xavier", 72)


def test_unknown_options_are_listed():
    log = _log("orin_trt10.3.0_unknown_options.stderr.log")
    assert (log.verdict, log.version) == ("failed", "10.3.0")
    assert log.unknown_options == ("--workspace", "--buildOnly", "--explicitBatch")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("desktop_trt10_parser_error.log", (146, "Tile", "/Tile", "IIOneHotLayer cannot be used")),
        (
            "synthetic_trt8.2_parser_error.log",
            (41, "LayerNormalization", "/stages.0/norm1/LayerNormalization", "Plugin not found"),
        ),
    ],
)
def test_a_parser_error_is_a_node_and_a_reason(name, expected):
    (error,) = _log(name).parser_errors
    assert (error.number, error.op, error.node) == expected[:3]
    assert expected[3] in error.text
    assert str(error).startswith(f"node {error.number}, {error.node}, op {error.op}: ")


def test_information_between_the_lines_of_a_parser_error_does_not_hide_its_reason():
    lines = (DATA / "desktop_trt10_parser_error.log").read_text().splitlines()
    mixed = [part for line in lines for part in (line, "[09/02/2024-17:35:22] [I] meanwhile")]
    (error,) = parse_log("\n".join(mixed)).parser_errors
    assert error.node == "/Tile"
    assert error.text.endswith("cannot be used to compute a shape tensor)")


def test_two_refused_nodes_are_two_errors():
    text = (DATA / "desktop_trt10_parser_error.log").read_text()
    assert [e.node for e in parse_log(text + text.replace("/Tile", "/Other")).parser_errors] == [
        "/Tile",
        "/Other",
    ]


def test_passed_after_a_failed_load_keeps_the_errors_that_deny_it():
    log = _log("desktop_trt10.13.3_false_pass.log")
    assert (log.verdict, log.version) == ("passed", "10.13.3")
    assert log.fatal == (
        "Engine deserialization failed",
        "Error[4]: Failed to read header from the stream",
    )


def test_memory_warnings_are_noted_and_not_fatal():
    log = _log("xavier_trt8_tactic_memory.log")
    assert "requested size of 2243" in log.out_of_memory
    assert (log.fatal, log.errors, len(log.warnings)) == ((), (), 2)


@pytest.mark.parametrize(
    "line",
    [
        "Killed",
        "Segmentation fault (core dumped)",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "  what():  std::bad_alloc",
        "trtexec: error while loading shared libraries: libnvinfer.so.8: cannot open shared",
    ],
)
def test_what_shell_and_loader_say_is_an_error(line):
    log = parse_log(f"&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec\n{line}\n")
    assert log.errors == (line.strip(),)
    assert (log.version, log.verdict) == ("8.2.1", "none")
    assert (log.out_of_memory is not None) == ("bad_alloc" in line)


def test_a_log_cut_anywhere_parses_and_only_the_whole_one_has_passed():
    text = (DATA / "nano_trt8.2.1_fp32_full.log").read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for count in range(len(lines)):
        assert parse_log("".join(lines[:count])).verdict == "none"
    assert parse_log("").version == ""
