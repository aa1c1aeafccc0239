"""The build by trtexec against a replay of each era, through the transport of this machine.

The replay knows the options of its version only (flags.tsv, from the sources of each tag): a wrong
spelling ends as it does on a board.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import pytest

from elfatt_deploy.engine import trtexec
from elfatt_deploy.engine.config import BatchProfile, BuildConfig, BuildDevice
from elfatt_deploy.engine.dialects import dialect_of
from elfatt_deploy.engine.layers import read_layers
from elfatt_deploy.engine.memory import MIB
from elfatt_deploy.engine.proof import prove
from elfatt_deploy.errors import (
    CommandError,
    CommandTimeout,
    EngineError,
    InputFileError,
    UsageError,
)
from elfatt_deploy.transport.local import Local

TESTS = Path(__file__).parents[1]
#: version -> column of flags.tsv
ERAS = {
    "8.2.1": "8.2.1",
    "8.4.1": "8.4.1",
    "8.5.2": "8.5.3",
    "8.6.1": "8.6.1",
    "9.3.0": "9.3.0",
    "10.0.1": "10.0.1",
    "10.3.0": "10.3.0",
    "10.13.3": "10.13.3",
    "11.1.0": "11.1",
}
FP32 = BuildConfig(precision="fp32", typed=False)
FLAGS = BuildConfig(precision="fp16", typed=False)
TYPED = BuildConfig(precision="fp16", typed=True)
SMALL = BuildDevice(name="x", sm=53, memory_bytes=3955 * MIB)


def _best(version):
    """Return how FP16 reaches the engine of that version."""
    dialect = dialect_of(version)
    return TYPED if dialect.typed or dialect.always_typed else FLAGS


class Board:
    """A PATH with a replayed trtexec on it, and what a build there needs."""

    def __init__(self, folder):
        self.folder, self.bin, self.runs = folder, folder / "bin", folder / "runs.jsonl"
        self.out, self.model = folder / "out", folder / "model.onnx"
        self.bin.mkdir()
        self.model.write_bytes(b"onnx" * 1000)

    def install(self, version, scenario="success", name="trtexec"):
        settings = {
            "version": version,
            "column": ERAS[version],
            "scenario": scenario,
            "data": str(TESTS / "data" / "trtexec"),
            "runs": str(self.runs),
        }
        (self.folder / "settings.json").write_text(json.dumps(settings))
        script = (sys.executable, "-S", "-E", str(TESTS / "fakes" / "trtexec_replay.py"))
        program = self.bin / name
        line = shlex.join((*script, str(self.folder / "settings.json")))
        program.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
        program.chmod(0o755)

    def build(self, config, **more):
        with Local() as transport:
            return trtexec.build(self.model, config, self.out, transport=transport, **more)

    def commands(self):
        return [json.loads(line) for line in self.runs.read_text().splitlines()]

    def left(self):
        return sorted(path.name for path in self.out.iterdir()) if self.out.is_dir() else []


@pytest.fixture
def board(tmp_path, monkeypatch):
    made = Board(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    monkeypatch.setattr(trtexec, "JETPACK_PROGRAM", str(tmp_path / "nowhere" / "trtexec"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    yield made
    assert not list((tmp_path / "scratch").iterdir())  # nothing is left on the board


@pytest.mark.parametrize("version", ERAS)
def test_a_build_gives_plan_layers_and_what_the_log_says(version, board, tmp_path):
    board.install(version)
    stages = []
    cache = tmp_path / "caches" / "timing.cache"
    config = BuildConfig(precision="fp32", typed=False, timing_cache=cache)
    built = board.build(config, progress=stages.append)
    assert built.plan.read_bytes().startswith(b"ftrt")
    assert built.plan == board.out / "model.plan"
    assert (cache.read_bytes(), board.left()) == (b"timings", ["layers.json", "model.plan"])
    nano = version.startswith("8")
    assert built.device.sm == (53 if nano else 87)
    assert (built.method, built.attempts, built.workspace_bytes) == ("trtexec", 1, 512 * MIB)
    assert built.tensorrt == ("8.2.1" if nano else version)  # what the captured text says
    assert built.typed == version.startswith("11")
    assert board.commands() == [list(built.command[1:])]
    assert len(built.warnings) == 1
    assert [stage.partition(":")[0] for stage in stages] == [
        "parsing the ONNX file",
        f"building with TensorRT {version}",
        "saving the engine",
    ]


@pytest.mark.parametrize("version", ERAS)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_every_precision_is_asked_in_options_that_the_version_knows(precision, version, board):
    board.install(version)
    config = (
        _best(version)
        if precision == "fp16"
        else BuildConfig(precision=precision, typed=_best(version).typed)
    )
    built = board.build(config)
    assert ("--noTF32" in built.command) == (precision != "tf32")
    assert built.typed == _best(version).typed
    proof = prove(read_layers(built.layers), "fp16")
    assert proof.verdict == "fp16"  # of the replayed file, so detailed information was asked for


@pytest.mark.parametrize("version", ERAS)
def test_dynamic_batch_plugins_islands_and_a_known_cache_reach_trtexec(version, board, tmp_path):
    board.install(version)
    library, cache = tmp_path / "libown.so", tmp_path / "timing.cache"
    library.write_bytes(b"elf")
    cache.write_bytes(b"old")
    islands = ("/norm1/Pow",) if dialect_of(version).layer_precisions else ()
    typed = dialect_of(version).always_typed
    config = BuildConfig(
        precision="fp16",
        typed=typed,
        islands=() if typed else islands,
        profile=BatchProfile(smallest=1, best=4, largest=8),
        workspace_bytes=256 * MIB,
        timing_cache=cache,
        plugins=(library,),
    )
    built = board.build(config, image=(3, 224, 256))
    assert {
        "--minShapes=images:1x3x224x256",
        "--optShapes=images:4x3x224x256",
        "--maxShapes=images:8x3x224x256",
    } <= set(built.command)
    assert ("--layerPrecisions=/norm1/Pow:fp32" in built.command) == bool(config.islands)
    assert any(option.endswith("libown.so") for option in built.command)
    assert cache.read_bytes() == b"timings"


@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "10.3.0", "11.1.0"])
def test_a_parser_error_names_node_and_op(version, board):
    board.install(version, "parser_error")
    with pytest.raises(EngineError, match=r"does not parse.*\n  node \d+, /") as caught:
        board.build(_best(version))
    assert ("LayerNormalization" if version[0] == "8" else "/Tile, op Tile") in str(caught.value)
    assert (len(board.commands()), board.left()) == (1, [])


@pytest.mark.parametrize("version", ERAS)
def test_out_of_memory_halves_the_workspace_and_tells(version, board):
    board.install(version, "out_of_memory_once")
    built = board.build(FP32, device=SMALL)
    assert (built.attempts, built.workspace_bytes) == (2, 256 * MIB)
    assert [option for run in board.commands() for option in run if "orkspace" in option] == [
        f"{dialect_of(version).workspace}{mib}" for mib in (512, 256)
    ]
    assert "with a workspace of 512.0 MiB" in built.warnings[0]
    assert "tried again with 256.0 MiB" in built.warnings[0]


def test_a_build_that_the_kernel_kills_is_tried_with_less(board):
    board.install("8.2.1", "killed_once")
    built = board.build(FLAGS)
    assert (built.attempts, built.workspace_bytes) == (2, 256 * MIB)
    assert "trtexec was killed" in built.warnings[0]


@pytest.mark.parametrize(
    ("scenario", "told"),
    [("out_of_memory", "Cuda Runtime (out of memory)"), ("killed", "trtexec was killed")],
)
def test_out_of_memory_ends_after_a_few_builds(scenario, told, board):
    board.install("8.2.1", scenario)
    with pytest.raises(EngineError) as caught:
        board.build(FLAGS)
    assert "64.0 MiB (4 builds tried): " in caught.value.message
    assert told in caught.value.message
    assert "swap" in caught.value.hint
    assert (len(board.commands()), board.left()) == (4, [])


@pytest.mark.parametrize(
    ("scenario", "told"),
    [
        ("false_pass", "it says PASSED, after these errors\n  Error\\[6\\]: .*incompatible plan"),
        ("no_plan", "it says PASSED, and there is no plan"),
        ("cut", "its output ends without PASSED or FAILED"),
        ("crashed", "it was ended by signal 11"),
        ("static_shapes", "it ended with status 1\n  Static model does not take explicit shapes"),
        ("more_workspace", "Insufficient workspace for node"),
    ],
)
@pytest.mark.parametrize("version", ["8.2.1", "8.5.2", "8.6.1", "10.3.0", "10.13.3", "11.1.0"])
def test_no_plan_appears_unless_all_signs_agree(scenario, told, version, board):
    board.install(version, scenario)
    board.out.mkdir()
    (board.out / "model.plan").write_bytes(b"older")
    with pytest.raises(EngineError, match=told) as caught:
        board.build(_best(version))
    assert caught.value.hint
    assert (board.out / "model.plan").read_bytes() == b"older"
    assert (len(board.commands()), board.left()) == (1, ["model.plan"])


@pytest.mark.parametrize("version", ERAS)
def test_an_option_that_the_version_does_not_know_is_told_as_our_fault(version, board, monkeypatch):
    board.install(version)
    wrong = dataclasses.replace(dialect_of(version), build_only="--never")
    monkeypatch.setattr(trtexec, "dialect_of", lambda version: wrong)
    with pytest.raises(EngineError, match=f"TensorRT {version} does not know --never") as caught:
        board.build(FP32)
    assert "trtexec.toml" in caught.value.hint
    assert (len(board.commands()), board.left()) == (1, [])


def test_a_build_that_hangs_is_ended_and_its_last_words_are_told(board):
    board.install("8.2.1", "hang")
    with pytest.raises(CommandTimeout, match="did not end within 2 s.*Start parsing network"):
        board.build(FLAGS, timeout_s=2)
    assert board.left() == []


def test_a_missing_program_is_told_with_what_was_tried(board):
    with pytest.raises(CommandError, match="no trtexec on this machine: tried trtexec and") as told:
        board.build(FLAGS)
    assert (told.value.status, told.value.exit_code) == (127, 4)
    assert "--builder tensorrt" in told.value.hint


def test_the_trtexec_of_jetpack_is_found_without_path(board, monkeypatch):
    board.install("8.5.2", name="elsewhere")
    monkeypatch.setattr(trtexec, "JETPACK_PROGRAM", str(board.bin / "elsewhere"))
    assert board.build(FLAGS).command[0] == str(board.bin / "elsewhere")


def test_a_program_that_is_no_trtexec_is_refused(board):
    program = board.bin / "trtexec"
    program.write_text("#!/bin/sh\necho I am something else\n")
    program.chmod(0o755)
    with pytest.raises(EngineError, match="names no TensorRT version: I am something else"):
        board.build(FLAGS)


@pytest.mark.parametrize(
    ("version", "config", "told"),
    [
        ("8.2.1", TYPED, "8.2 has no strongly typed networks"),
        ("8.6.1", TYPED, "8.6 has no strongly typed networks"),
        ("11.1.0", FLAGS, "11 has no FP16 flag"),
        (
            "8.2.1",
            BuildConfig(precision="fp16", typed=False, islands=("a",)),
            "8.2 has no option that keeps a layer in FP32",
        ),
        (
            "8.5.2",
            BuildConfig(precision="fp16", typed=False, islands=("a,b",)),
            "cannot name the layer 'a,b'",
        ),
    ],
)
def test_what_a_version_cannot_build_is_refused_before_it_runs(version, config, told, board):
    board.install(version)
    with pytest.raises(EngineError, match=told) as caught:
        board.build(config)
    assert caught.value.hint
    assert not board.runs.exists()


def test_a_dynamic_batch_needs_the_size_of_the_images(board):
    board.install("8.5.2")
    profile = BatchProfile(smallest=1, best=1, largest=2)
    with pytest.raises(UsageError, match="size of the images"):
        board.build(BuildConfig(precision="fp32", typed=False, profile=profile))


def test_a_missing_model_or_plugin_is_told_before_anything_runs(board, tmp_path):
    plugin = tmp_path / "none.so"
    with pytest.raises(InputFileError, match=r"there is no file .*none\.so"):
        board.build(BuildConfig(precision="fp32", typed=False, plugins=(plugin,)))
    board.model.unlink()
    with pytest.raises(InputFileError, match=r"there is no file .*model\.onnx"):
        board.build(FP32)


def test_a_result_that_cannot_be_written_is_an_engine_error(board):
    board.install("8.5.2")
    board.out.write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="cannot write"):
        board.build(FP32)
