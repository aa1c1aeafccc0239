"""A simulated run: outputs are real, times follow the rule, files have the shape of the version."""

import json
import os
import re
import threading
import time
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from elfatt_deploy.device import boards, probes
from elfatt_deploy.device.sim import trtexec_run as trtexec_run_of_sim
from elfatt_deploy.engine import dialects, trtexec_log, trtexec_run, trtexec_times
from elfatt_deploy.errors import UsageError


@pytest.fixture
def images(tmp_path):
    """Return random images and the raw file that holds them."""
    values = np.random.default_rng(1).uniform(-1, 1, (2, 3, 16, 16)).astype(np.float32)
    (tmp_path / "images.bin").write_bytes(values.tobytes())
    return values, tmp_path / "images.bin"


@pytest.mark.parametrize("name", ["nano", "agx-orin-64gb"])
def test_outputs_are_those_of_onnx_runtime(
    name, make_board, build, trtexec, images, onnx_file, tmp_path
):
    board, (values, file) = make_board(name), images
    plan = build(board)
    status, stdout, stderr = trtexec(
        board, f"--loadEngine={plan}", f"--loadInputs='images':{file}",
        f"--exportOutput={tmp_path / 'out.json'}",
    )  # fmt: skip
    assert (status, stderr) == (0, [])
    (logits,) = json.loads((tmp_path / "out.json").read_text())
    assert (logits["name"], logits["dimensions"]) == ("logits", "2x10")
    expected = onnxruntime.InferenceSession(str(onnx_file())).run(None, {"images": values})[0]
    np.testing.assert_allclose(
        np.reshape(logits["values"], (2, 10)), expected, rtol=1e-4, atol=1e-5
    )
    log = trtexec_log.parse_log("\n".join(stdout))
    assert log.verdict == "passed"
    assert log.summary.throughput_qps > 0


@pytest.mark.parametrize(
    ("name", "has_warm_up", "has_end_to_end"),
    [("nano", True, True), ("xavier-nx", False, False), ("agx-orin-64gb", False, False)],
)
def test_times_have_the_shape_of_the_version(
    name, has_warm_up, has_end_to_end, make_board, build, trtexec, tmp_path
):
    board = make_board(name)
    times = tmp_path / "times.json"
    status, stdout, _ = trtexec(board, f"--loadEngine={build(board)}", f"--exportTimes={times}")
    rows = json.loads(times.read_text())
    assert status == 0
    assert (rows[0]["startComputeMs"] < 20) is has_warm_up
    assert ("endToEndMs" in rows[0]) is has_end_to_end
    timed = [row for row in rows if row["startComputeMs"] >= 20]
    assert len(timed) >= 10
    assert all(row["latencyMs"] >= row["computeMs"] > 0 for row in timed)
    (traced,) = re.findall(r"Timing trace has (\d+) queries", "\n".join(stdout))
    assert int(traced) == len(timed)
    percents = re.findall(r"GPU Compute Time:.*", "\n".join(stdout))[0].count("percentile")
    assert percents == (1 if name == "nano" else 3)


def test_the_options_of_a_run_act(make_board, build, trtexec, tmp_path):
    board = make_board("agx-orin-64gb")
    plan, times = build(board), tmp_path / "times.json"
    status, stdout, _ = trtexec(
        board, f"--loadEngine={plan}", f"--exportTimes={times}", "--iterations=37", "--duration=0",
        "--warmUp=0", "--useCudaGraph", "--noDataTransfers", "--percentile=50,90", quick=False,
    )  # fmt: skip
    rows = json.loads(times.read_text())
    assert (status, len(rows)) == (0, 37)
    assert {row["h2dMs"] for row in rows} == {0}
    assert any("percentile(50%)" in line for line in stdout)


@pytest.mark.parametrize("name", ["nano", "xavier-nx", "agx-orin-64gb", "agx-thor"])
@pytest.mark.parametrize("contract", ["compute/1", "single-stream/1", "throughput/1", "paper/1"])
def test_the_commands_of_our_contracts_run(name, contract, make_board, build, tmp_path):
    board = make_board(name)
    times, plan = tmp_path / "times.json", build(board)
    version = board.machine.facts.tensorrt
    dialect = dialects.dialect_of(version)
    places = trtexec_run.RunPlaces(program="trtexec", plan=str(plan), times=str(times))
    length = trtexec_run.RunLength(warm_up_ms=30, duration_s=0, iterations=50)
    command = trtexec_run.run_command(dialect, contract, places, length)
    with board.open() as transport:
        log = trtexec_run.run(transport, command, version, timeout_s=60)
    found = trtexec_times.parse_times(
        times.read_text(),
        warm_up_ms=30,
        with_warm_up=dialect.times_with_warm_up,
        origin="times.json",
    )
    trtexec_times.check_summary(found, log.summary, "times.json")
    assert len(found.compute_ms) >= 50
    assert (set(found.h2d_ms) == {0}) is (contract == "compute/1")
    begins_after_ms = np.diff(found.start_ms) - np.array(found.latency_ms[:-1])
    if contract in ("single-stream/1", "paper/1"):
        assert np.abs(begins_after_ms).max() < 0.002  # one at a time
    elif contract == "throughput/1":
        assert begins_after_ms.max() < -0.01  # they overlap


def test_a_smaller_power_mode_is_slower_and_random_numbers_repeat(
    make_board, build, trtexec, tmp_path
):
    def median_ms(board):
        times = tmp_path / "times.json"
        trtexec(board, f"--loadEngine={build(board)}", f"--exportTimes={times}")
        return np.median([row["computeMs"] for row in json.loads(times.read_text())])

    fast = make_board("nano")
    first = median_ms(fast)
    with fast.open() as transport:
        transport.run(("sudo", "-n", "nvpmodel", "-m", "1"))
    assert median_ms(fast) > first
    chances = [make_board(name).machine.chance("times").random() for name in ("tx2", "agx-xavier")]
    assert chances[0] == chances[1]
    assert make_board("xavier-nx", seed=1).machine.chance("times").random() != chances[0]


def test_sensors_are_busy_during_a_run_and_at_rest_after_it(make_board, build, trtexec):
    board = make_board("nano")
    plan, seen = build(board), []
    power = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input"
    done = threading.Event()

    def watch():
        while not done.wait(0.02):
            seen.append((board.machine.number(power), board.machine.number(
                f"{board.machine.facts.gpu_folder}/cur_freq")))  # fmt: skip

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        trtexec(board, f"--loadEngine={plan}", "--duration=1", quick=False)
    finally:
        done.set()
        thread.join()
    assert len({power for power, _ in seen if power > 5000}) >= 5  # it moves
    assert max(clock for _, clock in seen) == 921_600_000
    with board.open() as transport:
        rails = probes.snapshot(transport)
    assert boards.identify(rails).name == "nano"
    assert board.machine.number(power) == 1400
    assert board.machine.number("/sys/devices/gpu.0/load") == 0


@pytest.mark.parametrize(
    ("files", "what"),
    [("images:/nowhere/x", "Cannot open file"), ("images:{short}", "Unexpected file size")],
)
def test_wrong_input_files_abort_it(files, what, make_board, build, trtexec, tmp_path):
    (tmp_path / "short").write_bytes(b"1234")
    board = make_board("agx-orin-64gb")
    given = files.format(short=tmp_path / "short")
    status, stdout, stderr = trtexec(board, f"--loadEngine={build(board)}", f"--loadInputs={given}")
    assert status == 128 + 6
    assert stderr[0].startswith("terminate called")
    assert what in stderr[1]
    assert not any("&&&& PASSED" in line for line in stdout)


@pytest.mark.parametrize(
    ("builder", "runner", "what"),
    [
        ("nano", "xavier-nx", "Version tag does not match"),
        ("nano", "tx2", "incompatible device, expecting compute 6.2 got compute 5.3"),
    ],
)
def test_plans_of_another_version_or_gpu_are_refused(
    builder, runner, what, make_board, build, trtexec
):
    plan = build(make_board(builder))
    status, _, stderr = trtexec(make_board(runner), f"--loadEngine={plan}")
    assert status == 1
    assert what in stderr[0]
    assert any("Engine deserialization failed" in line for line in stderr)


def test_a_plan_of_another_board_with_the_same_gpu_is_warned_about(make_board, build, trtexec):
    plan = build(make_board("agx-orin-64gb"))
    status, _, stderr = trtexec(make_board("orin-nano-8gb"), f"--loadEngine={plan}")
    assert status == 0
    assert "different models of devices is not recommended" in stderr[0]


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"ftrt" + data[4:]])
def test_a_damaged_plan_is_refused(damage, make_board, build, trtexec):
    board = make_board("agx-orin-64gb")
    plan = build(board)
    plan.write_bytes(damage(plan.read_bytes()))
    assert trtexec(board, f"--loadEngine={plan}")[0] == 1
    # as a real 10.13 does: PASSED after a plan that it could not read
    status, _, stderr = trtexec(board, f"--loadEngine={plan}", "--skipInference")
    assert status == 0
    assert any("Engine deserialization failed" in line for line in stderr)


def test_a_missing_plan_is_refused(make_board, trtexec):
    status, _, stderr = trtexec(make_board("nano"), "--loadEngine=/nowhere/plan")
    assert status == 1
    assert "Error opening engine file: /nowhere/plan" in stderr[0]


def test_it_ends_with_the_process_that_started_it_and_leaves_the_board_at_rest(
    make_board, build, tmp_path
):
    board = make_board("nano")
    plan = build(board)
    script = 'trtexec --loadEngine="$0" --duration=60 >/dev/null 2>&1 </dev/null & sleep 2; echo $!'
    with board.open() as transport:
        pid = transport.run(("setsid", "-w", "sh", "-c", script, str(plan)), timeout_s=60).stdout
    for _ in range(200):
        if not os.path.exists(f"/proc/{pid.strip()}"):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("trtexec runs on")
    assert board.machine.number("/sys/devices/gpu.0/load") == 0


def test_a_board_left_busy_by_a_kill_is_at_rest_for_the_next_program(make_board, say):
    board = make_board("nano")
    board.machine.write("/sys/devices/gpu.0/load", 990)
    with board.machine.changing() as state:
        state.busy_pid = 2**22 + 1  # above the largest number that Linux gives
    say(board, "nvpmodel", "-q")
    assert board.machine.number("/sys/devices/gpu.0/load") == 0


def test_a_speed_shortens_what_a_query_takes(make_board, build, trtexec, tmp_path, monkeypatch):
    def median_ms(board):
        times = tmp_path / "times.json"
        trtexec(board, f"--loadEngine={build(board)}", f"--exportTimes={times}")
        return np.median([row["computeMs"] for row in json.loads(times.read_text())])

    fixed_ms = make_board("nano").machine.facts.rule.query_us / 1e3
    usual = median_ms(make_board("nano")) - fixed_ms
    assert median_ms(make_board("nano", speed=10)) - fixed_ms < usual / 3
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_SPEED", "1")
    assert median_ms(make_board("nano")) - fixed_ms > usual / 3


@pytest.mark.parametrize("text", ["0", "fast", "-3", "nan"])
def test_a_speed_that_is_none_is_refused(text, make_board, monkeypatch):
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_SPEED", text)
    with pytest.raises(UsageError, match="is no speed"):
        make_board("nano").machine.speed()


@pytest.mark.parametrize(("name", "has_median"), [("nano", False), ("agx-orin-64gb", True)])
def test_layer_times_add_up_to_the_query_and_have_the_shape_of_the_version(
    name, has_median, make_board, build, trtexec, tmp_path
):
    board, path = make_board(name), tmp_path / "l.profile.json"
    status, stdout, _ = trtexec(
        board, f"--loadEngine={build(board)}", "--separateProfileRun", f"--exportProfile={path}"
    )
    head, *layers = json.loads(path.read_text())
    assert (status, list(head)) == (0, ["count"])
    assert f"Timing trace has {head['count']} queries" in "\n".join(stdout)
    assert all(("medianMs" in layer) is has_median for layer in layers)
    assert sum(layer["percentage"] for layer in layers) == pytest.approx(100, rel=1e-4)
    log = trtexec_log.parse_log("\n".join(stdout))
    total = sum(layer["averageMs"] for layer in layers)
    assert total == pytest.approx(log.summary.gpu_compute_median_ms, rel=0.2)


@pytest.mark.parametrize(("dynamic", "sizes"), [(("images",), [8, 8, 4]), ((), [20])])
def test_an_open_batch_is_computed_in_parts_that_hold_each_image_once(dynamic, sizes):
    images = np.arange(20, dtype=np.float32)[:, None]
    parts = list(trtexec_run_of_sim._slices(SimpleNamespace(dynamic=dynamic), {"images": images}))
    assert [len(part["images"]) for part in parts] == sizes
    assert np.array_equal(np.concatenate([part["images"] for part in parts]), images)
