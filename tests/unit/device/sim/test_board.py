"""Each board that can be simulated is what its board file says, seen through the real probes."""

import os
import subprocess
from pathlib import Path

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import boards, probes
from elfatt_deploy.device.sim import board as boards_made
from elfatt_deploy.device.sim import profile
from elfatt_deploy.errors import ConnectError, DeviceError, UnknownNameError, UsageError

NAMES = (
    "nano", "tx2", "xavier-nx", "agx-xavier", "orin-nano-4gb", "orin-nano-8gb",
    "orin-nano-8gb-super", "orin-nx-8gb", "orin-nx-16gb", "orin-nx-16gb-super", "agx-orin-32gb",
    "agx-orin-64gb", "agx-thor",
)  # fmt: skip


def test_all_boards_can_be_simulated():
    assert set(NAMES) <= set(profile.names())
    assert set(profile.names()) == set(boards.boards())


@pytest.mark.parametrize("name", NAMES)
def test_a_board_is_recognised_by_the_probes_that_real_boards_meet(name, make_board):
    with make_board(name).open() as transport:
        snapshot = probes.snapshot(transport)
    file = boards.board(name)
    assert boards.identify(snapshot) == file
    assert (snapshot.simulated, snapshot.malformed, snapshot.root) == (True, (), True)
    assert snapshot.soc == file.soc
    assert {rail.name for rail in snapshot.rails} >= set(file.total.rails if file.total else ())
    read = [zone for zone in snapshot.zones if not isinstance(zone.value_c, Unavailable)]
    assert len(read) >= 5
    assert all(25 < zone.value_c < 60 for zone in read)
    assert {clock.name for clock in snapshot.clocks} >= {"cpu0", "gpu", "emc"}
    assert snapshot.clocks_locked is False
    assert snapshot.tensorrt
    assert snapshot.jetpack
    assert os.access(snapshot.trtexec, os.X_OK)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "agx-thor"])
def test_the_power_modes_are_those_of_the_board_file(name, make_board):
    with make_board(name).open() as transport:
        snapshot = probes.snapshot(transport)
    file = boards.board(name)
    found = boards.modes_of(snapshot, file)
    told = [(m.id, m.name, m.cores, m.cpu_max_hz, m.gpu_max_hz, m.emc_max_hz) for m in found]
    assert told == [
        (m.id, m.name, m.cores, m.cpu_max_hz, m.gpu_max_hz, m.emc_max_hz) for m in file.modes
    ]
    assert snapshot.mode.id == next((m.id for m in file.modes if m.default), file.modes[0].id)
    now = next(mode for mode in file.modes if mode.id == snapshot.mode.id)
    assert snapshot.cores_online == now.cores


def test_caps_that_the_board_file_does_not_know_are_no_caps(make_board):
    board = make_board("agx-thor")
    assert [mode.name for mode in board.machine.conf().modes] == [
        mode.name for mode in boards.board("agx-thor").modes
    ]
    assert board.machine.clocks().gpu_hz == boards.board("agx-thor").gpu_peak.gpu_max_hz


def test_a_board_keeps_its_state_and_its_faults(make_board, say):
    first = make_board("nano", "no-root")
    again = boards_made.SimulatedBoard("nano", first.folder)
    assert say(again, "sudo", "-n", "true")[0] == 1
    again.set_faults(())
    say(again, "sudo", "-n", "nvpmodel", "-m", "1")
    third = boards_made.SimulatedBoard("nano", first.folder)
    assert say(third, "nvpmodel", "-q")[1] == ["NV Power Mode: 5W", "1"]


def test_a_folder_holds_one_board(make_board):
    folder = make_board("nano").folder
    with pytest.raises(UsageError, match="holds the simulated board nano"):
        boards_made.SimulatedBoard("tx2", folder)


def test_open_simulated_uses_the_folder_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FOLDER", str(tmp_path))
    with boards_made.open_simulated("sim:nano") as transport:
        assert transport.name == "sim:nano"
        mark = transport.run(("sh", "-c", 'cat "$ELFATT_DEPLOY_ROOT/etc/elfatt-deploy-simulated"'))
    assert "no real one" in mark.stdout
    assert (tmp_path / "nano" / "root").is_dir()


def test_without_one_it_takes_a_folder_that_is_this_users_own(tmp_path, monkeypatch):
    monkeypatch.delenv("ELFATT_DEPLOY_SIM_FOLDER", raising=False)
    monkeypatch.setattr(boards_made.tempfile, "gettempdir", lambda: str(tmp_path))
    path = tmp_path / f"elfatt-deploy-sim-{os.getuid()}"
    assert boards_made.open_simulated("sim:nano").board.folder == path / "nano"
    assert path.stat().st_mode & 0o777 == 0o700
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    with pytest.raises(DeviceError, match="belongs to somebody else"):
        boards_made.open_simulated("sim:nano")


@pytest.mark.parametrize("device", ["sim:nanoo", "sim:"])
def test_an_unknown_board_is_refused(device, tmp_path, monkeypatch):
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FOLDER", str(tmp_path))
    with pytest.raises(UnknownNameError, match="simulated board"):
        boards_made.open_simulated(device)


def test_a_folder_that_cannot_be_written_is_a_device_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot make a simulated board"):
        boards_made.SimulatedBoard("nano", tmp_path / "file" / "nano")


def test_nothing_reaches_a_board_that_reboots(make_board, monkeypatch, tmp_path):
    board = make_board("nano")
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_REBOOT_S", "60")
    transport = board.open()
    before = transport.boot_id()
    transport.run(("sudo", "-n", "reboot"))
    for call in (
        lambda: transport.run(("true",)),
        lambda: transport.push(tmp_path / "x", "/tmp/x"),
        lambda: transport.pull("/tmp/x", tmp_path / "x"),
        lambda: transport.read_text("/tmp/x"),
        lambda: transport.temporary_folder().__enter__(),
        lambda: transport.wait_until_back(0.01),
        transport.boot_id,
    ):
        with pytest.raises(ConnectError, match="reboots|did not come back"):
            call()
    (board.folder / "down_until").write_text("0")
    waited = []
    transport.wait_until_back(5, waited.append, boot_id=before)
    assert transport.boot_id() != before
    assert waited == []


def test_the_login_program_sets_the_environment_and_is_deaf_while_the_board_reboots(
    make_board, python_free_environment
):
    board = make_board("agx-orin-64gb")
    run = python_free_environment
    assert run(board.login, "nvpmodel -q").stdout.splitlines() == ["NV Power Mode: MODE_30W", "2"]
    (board.folder / "down_until").write_text("99999999999")
    assert run(board.login, "echo hello").returncode == 255
    assert run(board.login, "echo hello").stdout == ""


@pytest.fixture
def python_free_environment():
    """Return a function that runs a program as an SSH server does for a command."""

    def run(program, command):
        return subprocess.run(
            [program],
            env={"SSH_ORIGINAL_COMMAND": command, "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


def test_a_reboot_ends_what_runs_on_the_board_and_clears_its_temporary_files(make_board):
    board = make_board("nano")
    transport = board.open()
    lock = board.root / "tmp" / "elfatt-deploy.lock"
    lock.mkdir()
    begun = transport.run(("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"))
    transport.run(("sudo", "-n", "reboot"))
    assert not lock.exists()
    assert not _alive(int(begun.stdout))


def _alive(pid):
    """Return whether a process runs; one that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
