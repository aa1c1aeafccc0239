"""`sweep --dry-run`: the commands of a sweep, from a board that is only read."""

from __future__ import annotations

import dataclasses
import re

import pytest

from elfatt_deploy.bench import protocol
from elfatt_deploy.bench.sweep import SweepRecipe
from elfatt_deploy.device.sim.board import SimulatedBoard
from elfatt_deploy.pipeline import ExportRequest, export_bundle
from elfatt_deploy.pipeline.rehearsing import rehearse
from elfatt_deploy.pipeline.sweeping import SweepRequest, sweep


@pytest.fixture
def world(tiny_model, tmp_path, monkeypatch):
    """Return a function that makes the request of a sweep of a simulated Jetson Nano."""
    monkeypatch.setenv("ELFATT_DEPLOY_SIM_FOLDER", str(tmp_path / "sims"))
    monkeypatch.setenv("ELFATT_DEPLOY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    SimulatedBoard("nano", tmp_path / "sims" / "nano", speed=200.0)
    exported = ExportRequest(model="tiny_elfatt", target="jp4", output=tmp_path / "bundles")
    bundle = export_bundle(exported).bundle
    recipe = SweepRecipe(
        name="short",
        title="short",
        models=("tiny_elfatt",),
        precisions=("fp32",),
        modes=("MAXN", "5W"),
        contracts=("paper/1",),
        target="jp4",
    )
    return SweepRequest(
        recipe=recipe,
        device="sim:nano",
        results=tmp_path / "results.jsonl",
        bundles=(bundle,),
        plan=protocol.PLANS["quick"],
    )


def _settings(folder):
    """Return what a power mode changes on a board: cores, limits of clocks."""
    names = ("online", "scaling_min_freq", "scaling_max_freq", "min_freq", "max_freq")
    return {path: path.read_text() for name in names for path in folder.rglob(name)}


def _commands(lines):
    """Return the commands without the folder, which has a random name in a real sweep."""
    plain = [re.sub(r"\S*/(?=[^/\s]+\.(plan|json|bin|onnx))", "", line) for line in lines]
    return [re.sub(r"\S+\.plan", "PLAN", line) for line in plain]


def test_the_commands_are_those_that_the_sweep_then_runs(world, tmp_path):
    before = _settings(tmp_path / "sims")
    lines = rehearse(world)
    assert not world.results.exists()
    assert not list((tmp_path / "state").rglob("*.json")), "no journal: nothing was changed"
    assert _settings(tmp_path / "sims") == before != {}

    told = [line for line in lines if "trtexec" in line and not line.startswith("#")]
    report = sweep(world)
    done = [command for record in report.records for command in record.device_commands]
    timed = {line for line in _commands(told) if "--exportTimes" in line}
    assert timed == {line for line in _commands(done) if "--exportTimes" in line}
    assert sum("--exportOutput" in line for line in told) == 1
    modes = [line for line in lines if "nvpmodel -m" in line and not line.startswith("#")]
    assert modes == ["sudo -n nvpmodel -m 0", "sudo -n nvpmodel -m 1"]


def test_a_network_that_the_board_cannot_build_is_told_and_the_others_are_rehearsed(
    world, monkeypatch
):
    from elfatt_deploy.engine import trtexec_command
    from elfatt_deploy.errors import EngineError

    def refuse(*arguments):
        raise EngineError("trtexec cannot do that")

    monkeypatch.setattr(trtexec_command, "build_command", refuse)
    lines = rehearse(world)
    failing = [line for line in lines if "tiny_elfatt fp32 paper/1" in line]
    assert failing == ["# tiny_elfatt fp32 paper/1: fails, trtexec cannot do that"] * 2
    assert not any("loadEngine" in line for line in lines)


def test_a_plan_that_is_there_is_not_built_again(world):
    sweep(world)
    assert any("its plan is there already" in line for line in rehearse(world))


def test_a_plugin_library_goes_to_the_board_and_into_every_command(world, tmp_path):
    library = tmp_path / "libattention.so"
    library.write_bytes(b"\x7fELF")
    world = dataclasses.replace(world, plugins=(library,))

    told = [line for line in rehearse(world) if "trtexec" in line and not line.startswith("#")]
    assert len(told) == 4  # build, parity, and the times in two modes
    assert all("--plugins=WORK/0-libattention.so" in line for line in told)

    records = sweep(world).records
    done = [line for record in records for line in record.device_commands if "=" in line]
    named = [re.search(r"--plugins=(\S+)", line) for line in done if "trtexec --" in line]
    assert named
    assert all(found and found[1].endswith("/0-libattention.so") for found in named)
