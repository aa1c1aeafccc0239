"""A simulated board behind a real OpenSSH server is one machine like any other, and goes away."""

import pytest

from elfatt_deploy.device import boards, probes
from elfatt_deploy.errors import ConnectError
from elfatt_deploy.transport.ssh import Ssh
from elfatt_deploy.transport.ssh_target import parse_target


@pytest.fixture
def reached(fake, tmp_path):
    """Return a function from a board to a transport that is connected to it over SSH."""
    sshd = fake("sshd")
    if sshd.missing():
        pytest.skip(sshd.missing())
    servers = []

    def connect(board):
        servers.append(sshd.Sshd(tmp_path / "sshd", command=str(board.login)).__enter__())
        return Ssh(parse_target(servers[-1].device), config=servers[-1].config)

    yield connect
    for server in servers:
        server.stop()


def test_a_snapshot_over_ssh_says_that_the_board_is_simulated(reached, make_board):
    with reached(make_board("agx-orin-64gb")) as transport:
        snapshot = probes.snapshot(transport)
    assert (snapshot.simulated, snapshot.root) == (True, True)
    assert boards.identify(snapshot).name == "agx-orin-64gb"


def test_a_reboot_in_the_middle_of_a_run_is_a_lost_connection(
    reached, make_board, build, monkeypatch
):
    board = make_board("nano")
    plan = build(board)
    board.set_faults(["board-reboots-mid-run:1"])
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_REBOOT_S", "2")
    with reached(board) as transport:
        before = transport.boot_id()
        command = ("trtexec", f"--loadEngine={plan}", "--duration=0.1")
        with pytest.raises(ConnectError):
            transport.run(command, timeout_s=60)
        transport.wait_until_back(60, boot_id=before)
        assert transport.run(command, timeout_s=60).status == 0
    assert board.machine.state().boots == 2
