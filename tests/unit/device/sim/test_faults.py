"""Each fault that can be asked for happens, and only as often as asked."""

import pytest

from elfatt_deploy.device import probes
from elfatt_deploy.device.sim import faults
from elfatt_deploy.device.sim.board import SimulatedBoard
from elfatt_deploy.engine import trtexec as builder
from elfatt_deploy.engine.config import BuildConfig
from elfatt_deploy.errors import (
    CommandTimeout,
    ConnectError,
    DeviceError,
    EngineError,
    UnknownNameError,
    UsageError,
)


def _set(say, board, number):
    return say(board, "sudo", "-n", "nvpmodel", "-m", str(number))


def test_faults_are_parsed():
    assert faults.parse_faults(["no-root", " disk-full:3 ", ""]) == (
        faults.Fault(name="no-root"),
        faults.Fault(name="disk-full", count=3),
    )


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("mode-refuse", UnknownNameError, "did you mean mode-refused"),
        ("no-root:often", UsageError, "not a number"),
    ],
)
def test_a_fault_that_is_none_is_refused(text, error, message, make_board):
    with pytest.raises(error, match=message):
        make_board("nano", text)


def test_the_environment_adds_faults(make_board, say, monkeypatch):
    board = make_board("nano")
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FAULTS", "mode-refused,no-root")
    assert say(board, "sudo", "-n", "true")[0] == 1


def test_reboot_prompt(make_board, say):
    board = make_board("nano", "reboot-prompt:1")
    assert "DO YOU WANT TO REBOOT NOW?" in _set(say, board, 1)[2][2]
    assert board.machine.state().mode == 0
    assert _set(say, board, 1)[2] == []
    assert board.machine.state().mode == 1


@pytest.mark.parametrize("name", ["nano", "agx-orin-64gb"])
def test_mode_refused(name, make_board, say):
    board = make_board(name, "mode-refused:1")
    before = board.machine.state().mode
    status, _, stderr = _set(say, board, 1)
    assert (status, stderr[-1]) == (0, "NVPM ERROR: failed to set power mode!")
    assert stderr[0].endswith(": 19")
    assert board.machine.state().mode == before


def test_mode_readback_differs(make_board, say):
    board = make_board("nano", "mode-readback-differs:1")
    assert _set(say, board, 1) == (0, [], [])
    assert say(board, "nvpmodel", "-q")[1] == ["NV Power Mode: MAXN", "0"]
    _set(say, board, 1)
    assert say(board, "nvpmodel", "-q")[1] == ["NV Power Mode: 5W", "1"]


def test_wrong_watt_label(make_board):
    board = make_board("agx-orin-64gb", "wrong-watt-label")
    conf = board.machine.conf()
    assert [mode.name for mode in conf.modes] == ["MAXN", "MODE_30W", "MODE_15W", "MODE_50W"]
    assert conf.mode(2).value("GPU", "MAX_FREQ") == "612000000"
    board.set_faults(())
    assert board.machine.conf().mode(2).name == "MODE_30W"


def test_trtexec_killed_makes_our_builder_try_with_less(make_board, onnx_file, tmp_path):
    config = BuildConfig(precision="fp32", typed=False)
    with make_board("nano", "trtexec-killed:2").open() as transport:
        built = builder.build(onnx_file(), config, tmp_path / "out", transport=transport)
    assert built.attempts == 3
    assert "trtexec was killed" in built.warnings[0]


def test_trtexec_killed_for_good(make_board, onnx_file, tmp_path):
    config = BuildConfig(precision="fp32", typed=False)
    with (
        make_board("nano", "trtexec-killed").open() as transport,
        pytest.raises(EngineError, match="out of memory"),
    ):
        builder.build(onnx_file(), config, tmp_path / "out", transport=transport)


@pytest.mark.parametrize("what", ["build", "run"])
def test_trtexec_hangs(what, make_board, build, onnx_file):
    board = make_board("nano")
    plan = build(board)
    board.set_faults(["trtexec-hangs:1"])
    options = (
        (f"--onnx={onnx_file()}", "--buildOnly") if what == "build" else (f"--loadEngine={plan}",)
    )
    with board.open() as transport:
        with pytest.raises(CommandTimeout):
            transport.run(("trtexec", *options), timeout_s=2)
        assert transport.run(("trtexec", *options, "--duration=0"), timeout_s=60).status == 0


def test_plan_rejected(make_board, build, trtexec):
    board = make_board("nano")
    plan = build(board)
    board.set_faults(["plan-rejected:1"])
    status, _, stderr = trtexec(board, f"--loadEngine={plan}")
    assert (status, "Engine deserialization failed" in stderr[1]) == (1, True)
    assert trtexec(board, f"--loadEngine={plan}")[0] == 0


def test_disk_full(make_board, onnx_file, trtexec, tmp_path):
    board = make_board("nano", "disk-full")
    plan = tmp_path / "plan"
    status, _, stderr = trtexec(
        board, f"--onnx={onnx_file()}", f"--saveEngine={plan}", "--buildOnly", quick=False
    )
    assert status == 1
    assert "Saving engine to file failed" in stderr[0]
    assert "No space left on device" in stderr[0]
    with board.open() as transport:
        assert probes.snapshot(transport).disk_free_bytes == 0
        with pytest.raises(DeviceError, match="No space left"):
            transport.push(onnx_file(), str(tmp_path / "pushed"))
    board.set_faults(["disk-full:8"])
    with board.open() as transport:
        assert probes.snapshot(transport).disk_free_bytes == 8 * 2**20
        transport.push(onnx_file(), str(tmp_path / "pushed"))
    board.set_faults(())
    with board.open() as transport:
        assert probes.snapshot(transport).disk_free_bytes != 8 * 2**20


def test_sensor_vanishes(make_board, build, trtexec):
    board = make_board("agx-orin-64gb")
    plan = build(board)
    board.set_faults(["sensor-vanishes"])
    current = board.root / "sys/class/hwmon/hwmon1/curr1_input"
    assert current.exists()
    assert trtexec(board, f"--loadEngine={plan}")[0] == 0
    assert not current.exists()
    assert (board.root / "sys/class/hwmon/hwmon1/curr2_input").exists()
    board.set_faults(())
    assert current.exists()


def test_over_current(make_board, build, trtexec):
    board = make_board("agx-orin-64gb")
    plan = build(board)
    board.set_faults(["over-current:1"])
    counter = board.machine.facts.counters[-1]
    assert board.machine.read(counter) == "0"
    for _ in range(2):
        trtexec(board, f"--loadEngine={plan}")
        assert board.machine.read(counter) == "7"


def test_thermal_trip(make_board, build, trtexec):
    board = make_board("nano")
    plan = build(board)

    def longest():
        _, stdout, _ = trtexec(board, f"--loadEngine={plan}")
        line = next(line for line in stdout if "GPU Compute Time: min" in line)
        values = dict(part.split(" = ") for part in line.split("Time: ")[1].split(", "))
        return float(values["max"].split()[0]) / float(values["min"].split()[0])

    usual = longest()
    board.set_faults(["thermal-trip"])
    assert longest() > 1.7 > usual


def test_board_reboots_mid_run(make_board, build):
    board = make_board("nano")
    plan = build(board)
    board.set_faults(["board-reboots-mid-run:1"])
    command = ("trtexec", f"--loadEngine={plan}", "--duration=0.1")
    with board.open() as transport:
        with pytest.raises(ConnectError, match="rebooted while it ran trtexec"):
            transport.run(command, timeout_s=60)
        assert board.machine.state().boots == 2
        assert transport.run(command, timeout_s=60).status == 0


def test_no_root(make_board, say):
    board = make_board("nano", "no-root")
    status, _, stderr = say(board, "sudo", "-n", "nvpmodel", "-m", "1")
    assert (status, stderr) == (1, ["sudo: a password is required"])
    with board.open() as transport:
        assert probes.snapshot(transport).root is False


def test_no_trtexec(make_board, say, monkeypatch):
    board = make_board("nano", "no-trtexec")
    assert say(board, "sh", "-c", "command -v trtexec")[0] != 0
    with board.open() as transport:
        assert not isinstance(probes.snapshot(transport).trtexec, str)
    board.set_faults(())
    assert say(board, "trtexec", "--help")[0] == 0
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FAULTS", "no-trtexec")
    assert say(board, "trtexec", "--help")[0] == 127


def test_a_board_without_the_fault_has_the_room_of_this_machine(tmp_path):
    found = SimulatedBoard("nano", tmp_path / "nano")
    with found.open() as transport:
        lines = transport.run(("df", "-Pk", "/")).stdout.splitlines()
        assert int(lines[-1].split()[3]) > 0
        found.set_faults(("disk-full:7",))
        lines = transport.run(("df", "-Pk", "/")).stdout.splitlines()
        assert int(lines[-1].split()[3]) == 7 * 1024
