"""Dialects of trtexec are data, and every option in it is one that the version's source has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.engine import dialects as module
from elfatt_deploy.engine.config import BatchProfile, BuildConfig
from elfatt_deploy.engine.dialects import dialect_of, dialects, version_from_banner
from elfatt_deploy.engine.trtexec_command import Places, build_command
from elfatt_deploy.errors import EngineError, SchemaError

FLAGS = Path(__file__).parents[2] / "data" / "trtexec" / "flags.tsv"
PLACES = Places(
    program="trtexec",
    model="m.onnx",
    plan="m.plan",
    layers="l.json",
    timing_cache="t.cache",
    plugins=("a.so", "b.so"),
)
PROFILE = BatchProfile(smallest=1, best=2, largest=4)


def _known():
    """Return the options of each version in the table."""
    rows = [line.split("\t") for line in FLAGS.read_text().splitlines() if line[0] != "#"]
    return {
        version: {row[0] for row in rows[1:] if row[column] == "1"}
        for column, version in enumerate(rows[0])
        if column
    }


KNOWN = _known()


def _command(version, config):
    return build_command(dialect_of(version), config, PLACES, 512 * 2**20, (3, 8, 8))


def _configs(version):
    dialect = dialect_of(version)
    islands = ("/a/Pow",) if dialect.layer_precisions else ()
    if not dialect.always_typed:
        yield BuildConfig(precision="fp16", typed=False, islands=islands, profile=PROFILE)
        yield BuildConfig(precision="fp32", typed=False, islands=("/a/Pow",))
        yield BuildConfig(precision="tf32", typed=False)
    if dialect.typed or dialect.always_typed:
        yield BuildConfig(precision="fp16", typed=True, profile=PROFILE)
        yield BuildConfig(precision="fp32", typed=True)


@pytest.mark.parametrize("version", KNOWN)
def test_a_command_holds_only_options_that_the_version_has(version):
    for config in _configs(version):
        command = _command(version, config)
        assert {option.partition("=")[0] for option in command[1:]} <= KNOWN[version]
        assert all(option.startswith("--") for option in command[1:])  # `--key value` is two


@pytest.mark.parametrize("version", KNOWN)
def test_fp16_and_typing_are_there_where_the_version_has_them(version):
    dialect = dialect_of(version)
    assert bool(dialect.fp16) == ("--fp16" in KNOWN[version])
    assert bool(dialect.layer_precisions) == ("--layerPrecisions" in KNOWN[version])
    typed = "--stronglyTyped" in KNOWN[version]
    assert bool(dialect.typed or dialect.always_typed) == typed


@pytest.mark.parametrize(
    ("version", "options"),
    [
        ("8.2.1", {"--workspace=512", "--buildOnly", "--fp16", "--plugins=a.so"}),
        ("8.5.2", {"--memPoolSize=workspace:512", "--buildOnly", "--fp16", "--plugins=b.so"}),
        ("8.6.1", {"--memPoolSize=workspace:512", "--skipInference", "--staticPlugins=a.so"}),
        ("10.3.0", {"--memPoolSize=workspace:512", "--skipInference", "--fp16"}),
    ],
)
def test_fp16_by_flag_is_spelled_as_the_version_wants(version, options):
    command = _command(version, BuildConfig(precision="fp16", typed=False))
    assert options <= set(command)
    assert "--noTF32" in command
    assert not {"--stronglyTyped", "--explicitBatch", "--best"} & set(command)


@pytest.mark.parametrize(
    ("version", "typed"), [("10.3.0", True), ("10.13.0", True), ("11.1", False)]
)
def test_typed_fp16_gives_no_precision_flag(version, typed):
    command = _command(version, BuildConfig(precision="fp16", typed=True))
    assert ("--stronglyTyped" in command) == typed
    assert "--fp16" not in command


def test_islands_stay_fp32_in_what_they_compute_and_what_they_give():
    config = BuildConfig(precision="fp16", typed=False, islands=("/n/Pow", "a:0"))
    assert {
        "--precisionConstraints=obey",
        "--layerPrecisions=/n/Pow:fp32,a:0:fp32",
        "--layerOutputTypes=/n/Pow:fp32,a:0:fp32",
    } <= set(_command("8.5.2", config))


def test_fp32_needs_no_constraint_for_its_islands():
    config = BuildConfig(precision="fp32", typed=False, islands=("/n/Pow",))
    assert not [option for option in _command("8.2.1", config) if "recision" in option]


@pytest.mark.parametrize("name", ["", "a,b", "it's", "a*"])
def test_a_name_that_means_something_to_trtexec_is_refused(name):
    config = BuildConfig(precision="fp16", typed=False, islands=("fine", name))
    with pytest.raises(EngineError, match=re.escape(repr(name))):
        _command("8.5.2", config)


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("8.2.0", "8.2"),
        ("8.2.1", "8.2"),
        ("8.4.12", "8.4"),
        ("8.5.2", "8.5"),
        ("9.3.0", "9.0"),
        ("10.3.0", "10.3"),
        ("10.12.0", "10.3"),
        ("10.13.0", "10.13"),
        ("11.4.1", "11"),
        ("12.0.0", "11"),
    ],
)
def test_the_dialect_of_a_version_is_the_newest_that_is_not_newer(version, name):
    assert dialect_of(version).name == name


def test_a_version_before_all_dialects_is_an_error():
    with pytest.raises(EngineError, match=r"TensorRT 7\.1\.3 is older than 8\.2") as caught:
        dialect_of("7.1.3")
    assert caught.value.hint


def test_every_target_speaks_a_dialect_or_none():
    spoken = {target.trtexec for target in recipes.targets().values()} - {""}
    assert spoken <= set(dialects())
    assert spoken


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v8201] # trtexec --help", "8.2.1"),
        ("noise\n&&&& FAILED TensorRT.trtexec [TensorRT v8412] # x", "8.4.12"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v9300] # x", "9.3.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] # x", "10.3.0"),
        ("&&&& PASSED TensorRT.trtexec [TensorRT v101300] [b35] # x", "10.13.0"),
        ("&&&& RUNNING TensorRT.trtexec [TensorRT v110401] [b106] # x", "11.4.1"),
        ("trtexec: not found", None),
    ],
)
def test_the_banner_of_both_eras_is_read(text, version):
    assert version_from_banner(text) == version


def test_a_wrong_entry_names_itself(tmp_path, monkeypatch):
    (tmp_path / "trtexec.toml").write_text('["8.2"]\nworkspace = 3\n')
    monkeypatch.setattr(recipes, "profiles_folder", lambda: tmp_path)
    with pytest.raises(SchemaError, match=r"\[8\.2\]"):
        module.dialects.__wrapped__()
