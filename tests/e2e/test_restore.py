"""A board that a run left changed is put back: on simulated boards, after real signals."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from elfatt_deploy.cli import restore as verb
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device import probes
from elfatt_deploy.device.sim.board import open_simulated

#: holds a session open, and says what it has done
HOLD = """
import sys, time
from elfatt_deploy.device import boards, nvpmodel, probes
from elfatt_deploy.device.control import Consent
from elfatt_deploy.device.session import BoardSession
from elfatt_deploy.device.sim.board import open_simulated

device, label = sys.argv[1:]
with open_simulated(device) as transport:
    found = probes.snapshot(transport)
    board = boards.identify(found)
    mode = nvpmodel.resolve_mode(found.nvpmodel, label)
    print("ready", flush=True)
    with BoardSession(
        transport, found, board, device=device, consent=Consent(reboot=True),
        say=lambda text: print(text, flush=True),
    ) as session:
        print("opened", flush=True)
        session.set_mode(mode)
        print("mode set", flush=True)
        session.lock_clocks()
        print("clocks pinned", flush=True)
        time.sleep(60)
"""
DEVICE = "sim:nano"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FOLDER", str(tmp_path / "boards"))
    monkeypatch.setenv("ELFATT_DEPLOY_STATE", str(tmp_path / "state"))


@pytest.fixture
def hold():
    """Return a function that starts a process which changes a board."""
    started = []

    def start(device=DEVICE, label="5W"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, device, label], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def until(process, words):
    for line in process.stdout:
        if line.strip() == words:
            return
    raise AssertionError(process.stderr.read())


def condition(device=DEVICE):
    """Return all of a board that must be as it was found."""
    with open_simulated(device) as transport:
        found = probes.snapshot(transport)
    cores = range(found.cores_online)
    clocks = tuple(
        (clock.name, clock.min_hz, clock.max_hz)
        for clock in found.clocks
        if not clock.name.startswith("cpu") or int(clock.name[3:]) in cores
    )
    return found.mode, found.cores_online, clocks, found.clocks_locked


def run(*arguments):
    app = typer.Typer()
    app.command()(verb.command)
    return CliRunner().invoke(app, arguments)


def left_on(device=DEVICE):
    """Return what of ours still lies on a board."""
    with open_simulated(device) as transport:
        listing = transport.run(
            ("sh", "-c", 'cd "$ELFATT_DEPLOY_ROOT" && find tmp var/tmp -name "*elfatt*" -o -name '
             '"clocks-*"'),
        )  # fmt: skip
    return [line for line in listing.stdout.split() if line != "var/tmp/elfatt-deploy"]


def test_with_nothing_to_restore_it_says_so():
    for arguments in ((), ("--device", DEVICE), ("--list",)):
        result = run(*arguments)
        assert (result.exit_code, "nothing to restore" in result.stdout) == (0, True)
    document = json.loads(run("--device", DEVICE, "--json").stdout)
    assert document["schema"] == "elfatt-deploy/restore"
    assert [(d["device"], d["restored"]) for d in document["devices"]] == [(DEVICE, False)]


@pytest.mark.parametrize("words", ["opened", "mode set", "clocks pinned"])
def test_after_a_sigkill_restore_finishes(hold, words):
    before = condition()
    process = hold()
    until(process, words)
    assert run("--device", DEVICE).exit_code == 4  # it still runs
    process.kill()
    process.wait()
    other = run("--device", "ssh://nobody@127.0.0.1:1")
    assert (other.exit_code, "nothing to restore" in other.stdout) == (0, True)
    assert f"left changed under another name: {DEVICE}" in other.stderr
    assert run("--device", "nonsense").exit_code == 2
    listed = run("--list")
    assert DEVICE in listed.stdout
    assert "ended" in listed.stdout

    result = run()
    assert result.exit_code == 0, result.output
    assert f"{DEVICE}: back in power mode 0 MAXN and read back" in result.stdout
    assert (condition(), left_on(), journals.entries()) == (before, [], ())
    assert "nothing to restore" in run("--device", DEVICE).stdout


@pytest.mark.slow
def test_after_sigkills_at_random_moments_restore_finishes(hold):
    before = condition()
    moments = random.Random(6)
    for _ in range(5):
        process = hold()
        until(process, "ready")
        time.sleep(moments.uniform(0.0, 1.5))
        process.kill()
        process.wait()
        result = run()
        assert result.exit_code == 0, result.output
        assert (condition(), journals.entries()) == (before, ())
    # a lock that a killed run left is known to be dead: the next one breaks it
    process = hold()
    until(process, "clocks pinned")
    process.send_signal(signal.SIGINT)
    process.wait()
    assert left_on() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_puts_the_board_back_before_the_program_ends(hold, number):
    before = condition()
    process = hold()
    until(process, "clocks pinned")
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(number)  # and once more, on the way back
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (128 + number, 1, -number), errors
    assert (condition(), left_on(), journals.entries()) == (before, [], ())
    assert "the board is being put back" in errors


@pytest.mark.slow
def test_modes_that_need_a_reboot_there_and_back(hold):
    device = "sim:agx-orin-64gb"
    before = condition(device)
    process = hold(device, "15W")
    until(process, "clocks pinned")
    assert condition(device)[0].name == "MODE_15W"
    process.kill()
    process.wait()
    refused = run("--device", device)
    assert refused.exit_code == 4
    assert f"elfatt-deploy restore --device {device} --allow-reboot" in refused.output
    result = run("--device", device, "--allow-reboot")
    assert result.exit_code == 0, result.output
    assert "by a reboot" in result.stdout
    assert (condition(device), left_on(device)) == (before, [])


def test_without_rights_the_journal_is_kept_and_the_way_on_named(hold, monkeypatch):
    before = condition()
    process = hold()
    until(process, "clocks pinned")
    process.kill()
    process.wait()
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FAULTS", "no-root")
    result = run("--device", DEVICE)
    assert result.exit_code == 4
    assert "NOPASSWD" in result.output
    assert "a password is required" in result.output
    document = json.loads(run("--device", DEVICE, "--json").stdout)
    assert "does not go back" in document["devices"][0]["error"]
    monkeypatch.delenv("ELFATT_DEPLOY_SIM_FAULTS")
    assert run("--device", DEVICE).exit_code == 0
    assert condition() == before


def test_a_damaged_journal_is_named_and_the_others_are_restored(hold, tmp_path):
    process = hold()
    until(process, "mode set")
    process.kill()
    process.wait()
    broken = tmp_path / "state" / "journal" / "broken.json"
    broken.write_text("{")
    result = run()
    assert result.exit_code == 4
    assert "broken.json is no JSON" in result.output
    assert f"{DEVICE}: back in power mode" in result.stdout


def test_two_runs_on_one_board(hold):
    first = hold()
    until(first, "mode set")
    second = hold()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"is in use by process {first.pid} on {os.uname().nodename}" in errors


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("mode-refused:1", "is in 0 MAXN (NVPM ERROR: failed to set power mode!)"),
        (
            "mode-readback-differs:1",
            "was told to take power mode 1 5W and says that it is in 0 MAXN",
        ),
        (
            "no-root",
            "storing the clocks needs root rights on sim:nano: sudo: a password is required",
        ),
    ],
)
def test_a_board_that_does_not_do_it_is_as_found_and_says_why(hold, monkeypatch, fault, message):
    before = condition()
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FAULTS", fault)
    process = hold()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in errors
    monkeypatch.delenv("ELFATT_DEPLOY_SIM_FAULTS")
    assert (condition(), left_on(), journals.entries()) == (before, [], ())
