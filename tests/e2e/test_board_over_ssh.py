"""Changing and sampling a board over a real SSH server on loopback, and losing it meanwhile."""

import random
import threading
import time

import pytest

from elfatt_deploy.device import boards, journal, nvpmodel, probes
from elfatt_deploy.device.control import Consent
from elfatt_deploy.device.session import BoardSession
from elfatt_deploy.device.sim.board import SimulatedBoard
from elfatt_deploy.device.telemetry import SysfsSampler
from elfatt_deploy.errors import ConnectError
from elfatt_deploy.transport.ssh import Ssh
from elfatt_deploy.transport.ssh_target import parse_target


@pytest.fixture
def sshd(fake):
    module = fake("sshd")
    reason = module.missing()
    if reason:
        pytest.skip(reason)
    return module


@pytest.fixture
def open_board(sshd, tmp_path):
    """Return a function that gives a server which stands for a board, and a transport to it."""
    servers, transports = [], []

    def make(name):
        board = SimulatedBoard(name, tmp_path / name)
        server = sshd.Sshd(tmp_path / "sshd", command=str(board.login)).__enter__()
        servers.append(server)
        transport = Ssh(parse_target(server.device), config=server.config).__enter__()
        transports.append(transport)
        return server, transport

    yield make
    for transport in transports:
        transport.__exit__(None, None, None)
    for server in servers:
        server.stop()


def opened(transport, folder, label, **options):
    found = probes.snapshot(transport)
    session = BoardSession(
        transport, found, boards.identify(found), device="ssh://board", journal_folder=folder,
        **options,
    )  # fmt: skip
    return found, nvpmodel.resolve_mode(found.nvpmodel, label), session


def test_a_mode_a_sampler_and_the_way_back(open_board, tmp_path):
    server, transport = open_board("nano")
    found, mode, session = opened(transport, tmp_path / "j", "5W")
    with session as changed:
        assert changed.set_mode(mode).cores == 2
        changed.lock_clocks()
        with SysfsSampler(transport, found.rails, found.zones, rate_hz=20) as sampler:
            first = wait_for(sampler, 3)
            server.drop()  # the sampler on the board goes on
            second = wait_for(sampler, 3)
            trace = sampler.stop()
    assert trace.samples[: len(first) + len(second)] == (*first, *second)
    assert trace.samples[0].power_mw["POM_5V_IN"] > 0
    stamps = [sample.uptime_s for sample in trace.samples]
    assert stamps == sorted(stamps)
    assert (probes.snapshot(transport).mode, journal.entries(tmp_path / "j")) == (found.mode, ())


@pytest.mark.slow
def test_a_reboot_there_and_back(open_board, tmp_path):
    _, transport = open_board("agx-orin-64gb")
    found, mode, session = opened(transport, tmp_path / "j", "15W", consent=Consent(reboot=True))
    with session as changed:
        assert changed.set_mode(mode).mode.name == "MODE_15W"
        changed.lock_clocks()
    assert session.report.rebooted
    after = probes.snapshot(transport)
    assert (after.mode, after.clocks_locked) == (found.mode, False)


@pytest.mark.slow
def test_connections_that_drop_at_random_moments_leave_the_board_as_found(open_board, tmp_path):
    server, transport = open_board("nano")
    moments = random.Random(7)
    for _ in range(5):
        found, mode, session = opened(transport, tmp_path / "j", "5W")
        dropping = threading.Timer(moments.uniform(0.0, 2.0), server.drop)
        dropping.start()
        try:
            with session as changed:
                changed.set_mode(mode)
                changed.lock_clocks()
        except ConnectError:
            pass
        dropping.join()
        after = probes.snapshot(transport)
        assert (after.mode, after.cores_online) == (found.mode, found.cores_online)
        assert after.clocks_locked is False
        assert journal.entries(tmp_path / "j") == ()


def wait_for(sampler, count):
    """Read until so many samples came, over a connection that may drop."""
    found = []
    for _ in range(3000):
        try:
            found.extend(sampler.read_new())
        except ConnectError:
            continue
        if len(found) >= count:
            return tuple(found)
        time.sleep(0.02)
    raise AssertionError("the samples never came")
