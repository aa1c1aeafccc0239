"""The build in process runs its whole sequence on the names of every TensorRT, and fails well."""

from __future__ import annotations

import dataclasses
import json

import pytest

from elfatt_deploy.engine import builder, memory, plan
from elfatt_deploy.engine.config import BatchProfile, BuildConfig, BuildDevice
from elfatt_deploy.errors import EngineError, InputFileError

VERSIONS = ("8.2.1", "8.5.3", "8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4")
TYPED = ("10.3.0", "10.13.3", "10.16.1", "11.4")
FLAGS = ("8.2.1", "8.5.3", "8.6.1", "10.3.0", "10.13.3", "10.16.1")
MIB = 2**20
NANO = BuildDevice(name="NVIDIA Tegra X1", sm=53, memory_bytes=3955 * MIB)
OUT_OF_MEMORY = (
    "2: [virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further "
    "information)"
)


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"an ONNX file")
    return path


@pytest.fixture
def world(fake, tensorrt_surface):
    """Return a function that installs a fake TensorRT and gives what it is told."""
    scene = fake("tensorrt_builder")

    def make(version, **given):
        made = scene.World(**given)
        made.trt = tensorrt_surface(version, scene.behaviours(made))
        made.Layer = scene.Layer
        return made

    make.Layer = scene.Layer
    return make


def _config(**changes):
    return BuildConfig(**{"precision": "fp32", "typed": False, **changes})


def _build(model, config, **more):
    return builder.build(model, config, model.parent, device=NANO, **more)


def _left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_is_built_by_every_version(version, world, model):
    here, stages = world(version), []
    cache = model.parent / "timing.cache"
    built = _build(model, _config(timing_cache=cache), progress=stages.append)
    assert built.plan.read_bytes() == b"plan of a fake"
    assert json.loads(built.layers.read_text()) == {"Layers": []}
    assert built.tensorrt == here.trt.__version__
    assert (built.method, built.command, built.attempts) == ("tensorrt", (), 1)
    assert built.typed == (version == "11.4")  # there, every network is
    assert built.device == NANO
    assert built.workspace_bytes == 512 * MIB
    assert cache.read_bytes() == b"timings of " + here.trt_version
    assert _left(model.parent) == ["layers.json", "model.onnx", "model.plan", "timing.cache"]
    settings = here.last("IBuilderConfig")
    assert settings._flags == set()  # TF32, on by default, is cleared
    if version == "8.2.1":
        assert (settings.max_workspace_size, settings._pools) == (512 * MIB, {})
    else:
        assert settings._pools == {"WORKSPACE": 512 * MIB}
    assert settings.profiling_verbosity.name in ("DETAILED", "VERBOSE")
    assert here.phases == (2 if version in TYPED else 0)
    assert ("Tactics: 2 of 2" in stages) == (version in TYPED)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_on_only_where_it_is_asked_for(precision, version, world, model):
    here = world(version)
    _build(model, _config(precision=precision))
    assert ("TF32" in here.last("IBuilderConfig")._flags) == (precision == "tf32")


@pytest.mark.parametrize("version", TYPED)
def test_a_typed_network_sets_its_creation_flag_and_no_precision_flag(version, world, model):
    here = world(version)
    built = _build(model, _config(precision="fp16", typed=True))
    known = here.trt.NetworkDefinitionCreationFlag
    flags = here.last("INetworkDefinition")._flags
    assert built.typed
    assert flags & 1 << int(known.STRONGLY_TYPED)
    if hasattr(known, "EXPLICIT_BATCH"):
        assert flags & 1 << int(known.EXPLICIT_BATCH)
    assert here.last("IBuilderConfig")._flags == set()


@pytest.mark.parametrize("version", FLAGS)
def test_fp16_by_flag_keeps_its_islands_in_fp32(version, world, model):
    layers = (
        world.Layer("/norm/Pow"),
        world.Layer("/norm/Shape", types=("INT32",)),
        world.Layer("/norm/Split", types=("FLOAT", "FLOAT")),
        world.Layer("/head/MatMul"),
    )
    here = world(version, layers=layers)
    islands = ("/norm/Pow", "/norm/Split")
    built = _build(model, _config(precision="fp16", islands=islands))
    assert not built.typed
    flags = here.trt.NetworkDefinitionCreationFlag
    assert here.last("INetworkDefinition")._flags == 1 << int(flags.EXPLICIT_BATCH)
    assert here.last("IBuilderConfig")._flags == {"FP16", "OBEY_PRECISION_CONSTRAINTS"}
    held = {
        layer.name: (getattr(layer.precision, "name", None), layer._outputs)
        for layer in here.made["ILayer"]
    }
    assert held == {
        "/norm/Pow": ("FLOAT", {0: "FLOAT"}),
        "/norm/Shape": (None, {}),
        "/norm/Split": ("FLOAT", {0: "FLOAT", 1: "FLOAT"}),
        "/head/MatMul": (None, {}),
    }


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_an_island_is_found_by_the_metadata_of_a_layer(version, world, model):
    layers = (
        world.Layer("ONNXTRT_cast_12", metadata="[ONNX Layer: /norm/Pow]"),
        world.Layer("/norm/Pow", kind="CONSTANT", types=("FLOAT",)),
    )
    here = world(version, layers=layers)
    _build(model, _config(precision="fp16", islands=("/norm/Pow",)))
    cast, constant = here.made["ILayer"]
    assert cast.precision.name == "FLOAT"
    assert constant.precision is None


@pytest.mark.parametrize("version", FLAGS)
def test_islands_without_a_layer_are_an_error_that_lists_them(version, world, model):
    world(version, layers=(world.Layer("/norm/Pow"), world.Layer("/sizes", types=("INT32",))))
    config = _config(precision="fp16", islands=("/norm/Pow", "/norm/Sqrt", "/sizes"))
    with pytest.raises(EngineError, match="FP32 islands: /norm/Sqrt, /sizes"):
        _build(model, config)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_profile_of_a_dynamic_batch_takes_its_shapes_from_the_network(version, world, model):
    here = world(version, shape=(-1, 3, 64, 96))
    _build(model, _config(profile=BatchProfile(smallest=1, best=8, largest=16)))
    (profile,) = here.last("IBuilderConfig")._profiles
    assert profile._shapes == {"images": ((1, 3, 64, 96), (8, 3, 64, 96), (16, 3, 64, 96))}


@pytest.mark.parametrize(
    ("shape", "profile", "told"),
    [
        ((-1, 3, 64, 64), None, "the batch of the graph is dynamic"),
        ((1, 3, 64, 64), BatchProfile(smallest=1, best=1, largest=2), "is fixed"),
        ((1, 3, -1, -1), None, "'images' has the open shape"),
    ],
)
def test_a_profile_that_does_not_fit_the_graph_is_an_error(shape, profile, told, world, model):
    world("10.3.0", shape=shape)
    with pytest.raises(EngineError, match=told):
        _build(model, _config(profile=profile))


@pytest.mark.parametrize("version", ["8.2.1", "8.5.3", "8.6.1"])
def test_a_typed_network_before_tensorrt_9_is_an_error(version, world, model):
    world(version)
    with pytest.raises(EngineError, match="has no strongly typed networks") as caught:
        _build(model, _config(precision="fp16", typed=True))
    assert "--target jp4 or jp5" in caught.value.hint


def test_fp16_by_flag_on_tensorrt_11_is_an_error(world, model):
    world("11.4")
    with pytest.raises(EngineError, match="TensorRT 11.4.0.106 has no FP16 flag") as caught:
        _build(model, _config(precision="fp16", islands=("/norm/Pow",)))
    assert "--precision fp16" in caught.value.hint


@pytest.mark.parametrize("version", VERSIONS)
def test_a_parser_error_names_its_node(version, world, model):
    error = {"node": 7, "node_name": "/norm/LN", "node_operator": "LayerNormalization"}
    world(version, parser_errors=({**error, "desc": "No importer registered for op"},))
    with pytest.raises(EngineError) as caught:
        _build(model, _config())
    named = ", /norm/LN, op LayerNormalization" if version in TYPED else ""
    assert f"node 7{named}: No importer registered for op" in caught.value.message
    assert "elfatt-deploy check" in caught.value.hint
    assert _left(model.parent) == ["model.onnx"]


def _failing(*lines):
    def build(world, attempt):
        for severity, text in lines:
            world.log(severity, text)

    return build


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_build_tells_what_tensorrt_logged(version, world, model):
    text = "10: Could not find any implementation for node {ForeignNode[/a.../b]}."
    world(version, build=_failing(("WARNING", "harmless"), ("ERROR", text), ("ERROR", text)))
    with pytest.raises(EngineError) as caught:
        _build(model, _config())
    assert caught.value.message.count(text) == 1
    assert "harmless" not in caught.value.message
    assert _left(model.parent) == ["model.onnx"]


def test_a_failure_without_a_line_says_so(world, model):
    world("10.3.0", build=_failing())
    with pytest.raises(EngineError, match="logged no error"):
        _build(model, _config())


@pytest.mark.parametrize("version", VERSIONS)
def test_out_of_memory_halves_the_workspace_until_the_build_succeeds(version, world, model):
    def build(world, attempt):
        if attempt < 2:
            world.log("ERROR", OUT_OF_MEMORY)
            return None
        world.log("WARNING", "a warning of the last build")
        return b"small"

    here = world(version, build=build)
    built = _build(model, _config())
    assert (built.attempts, built.workspace_bytes) == (3, 128 * MIB)
    assert built.plan.read_bytes() == b"small"
    sizes = [
        settings._pools.get("WORKSPACE", getattr(settings, "max_workspace_size", None))
        for settings in here.made["attempts"]
    ]
    assert sizes == [512 * MIB, 256 * MIB, 128 * MIB]
    assert [line for line in built.warnings if "tried again with" in line] == [
        f"out of memory with a workspace of {size}.0 MiB ({OUT_OF_MEMORY}); "
        f"tried again with {size // 2}.0 MiB"
        for size in (512, 256)
    ]
    assert "a warning of the last build" in built.warnings


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("workspace", "tried"), [(None, 4), (4096 * MIB, memory.MAX_ATTEMPTS)])
def test_out_of_memory_to_the_end_is_an_error(workspace, tried, version, world, model):
    here = world(version, build=_failing(("ERROR", OUT_OF_MEMORY)))
    with pytest.raises(EngineError, match=rf"out of memory on NVIDIA Tegra X1.*\({tried} builds"):
        _build(model, _config(workspace_bytes=workspace))
    assert len(here.made["attempts"]) == tried
    assert _left(model.parent) == ["model.onnx"]


def test_a_memory_error_of_python_counts_as_out_of_memory(world, model):
    def build(world, attempt):
        if attempt == 0:
            raise MemoryError
        return b"plan"

    world("8.2.1", build=build)
    assert _build(model, _config()).attempts == 2


def test_a_workspace_that_is_too_small_is_not_halved(world, model):
    text = "Could not find any implementation for node /conv due to insufficient workspace."
    here = world("8.6.1", build=_failing(("ERROR", text)))
    with pytest.raises(EngineError, match="insufficient workspace") as caught:
        _build(model, _config())
    assert "larger --workspace" in caught.value.hint
    assert len(here.made["attempts"]) == 1


def test_errors_of_tactics_in_a_build_that_succeeds_become_warnings(world, model):
    def build(world, attempt):
        world.log("ERROR", OUT_OF_MEMORY)
        world.log("WARNING", "Skipping tactic 8 due to insufficient memory")
        world.log("INFO", "not kept")
        return b"plan"

    world("10.3.0", build=build)
    built = _build(model, _config())
    assert built.attempts == 1
    assert {OUT_OF_MEMORY, "Skipping tactic 8 due to insufficient memory"} <= set(built.warnings)
    assert "not kept" not in built.warnings


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stored", [b"torn file", b"timings of another version"])
def test_a_timing_cache_that_is_refused_is_replaced(stored, version, world, model):
    here, cache = world(version), model.parent / "timing.cache"
    cache.write_bytes(stored)
    built = _build(model, _config(timing_cache=cache))
    assert any("refuses the timing cache" in line for line in built.warnings)
    assert here.last("IBuilderConfig")._cache._data == b""
    assert cache.read_bytes() == b"timings of " + here.trt_version


def test_a_timing_cache_of_this_version_is_used_and_that_without_a_warning(world, model):
    here, cache = world("10.3.0"), model.parent / "timing.cache"
    cache.write_bytes(b"timings of 10.3.0, many")
    built = _build(model, _config(timing_cache=cache))
    assert here.last("IBuilderConfig")._cache._data == b"timings of 10.3.0, many"
    assert not any("timing cache" in line for line in built.warnings)


def test_a_timing_cache_that_cannot_be_kept_costs_no_plan(world, model):
    world("10.3.0")
    built = _build(model, _config(timing_cache=model.parent / "no folder" / "timing.cache"))
    assert built.plan.is_file()
    assert any("the timing cache is not kept" in line for line in built.warnings)


def test_a_plan_that_does_not_load_is_an_error(world, model):
    world("10.3.0", loads=False)
    with pytest.raises(EngineError, match="does not load the plan that it built"):
        _build(model, _config())
    assert _left(model.parent) == ["model.onnx"]


def test_an_engine_without_layer_information_is_a_plan_with_a_warning(world, model):
    world("8.2.1", information="")
    built = _build(model, _config())
    assert built.layers is None
    assert "the engine inspector gives no layer information" in built.warnings


def test_a_folder_that_is_not_there_is_an_error_of_the_build(world, model):
    world("10.3.0")
    with pytest.raises(EngineError, match=r"cannot write .*model\.plan: No such file"):
        builder.build(model, _config(), model.parent / "none", device=NANO)


def test_a_missing_model_or_plugin_is_an_error_before_the_build(world, model, tmp_path):
    world("10.3.0")
    with pytest.raises(InputFileError, match=r"there is no ONNX file .*none\.onnx"):
        _build(tmp_path / "none.onnx", _config())
    with pytest.raises(InputFileError, match=r"plugin library .*none\.so does not load"):
        _build(model, _config(plugins=(tmp_path / "none.so",)))


@pytest.mark.parametrize("version", TYPED)
def test_ctrl_c_in_a_callback_ends_the_build_without_a_plan(version, world, model):
    here = world(version)

    def progress(stage):
        if stage.startswith("Tactics: 1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _build(model, _config(), progress=progress)
    assert here.phases == 1  # the monitor told TensorRT to stop
    assert _left(model.parent) == ["model.onnx"]


@pytest.mark.parametrize("version", VERSIONS)
def test_ctrl_c_in_the_build_leaves_no_half_plan(version, world, model):
    def build(world, attempt):
        raise KeyboardInterrupt

    world(version, build=build)
    with pytest.raises(KeyboardInterrupt):
        _build(model, _config())
    assert _left(model.parent) == ["model.onnx"]


def test_ctrl_c_while_the_plan_is_written_leaves_no_half_plan(world, model, monkeypatch):
    world("10.3.0")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(plan.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _build(model, _config())
    assert _left(model.parent) == ["model.onnx"]


def test_a_tight_board_is_told_before_the_build(world, model):
    world("8.2.1")
    small = dataclasses.replace(NANO, memory_bytes=1700 * MIB)
    built = builder.build(model, _config(), model.parent, device=small)
    assert any("close the desktop session" in line for line in built.warnings)
    assert not any("desktop session" in line for line in _build(model, _config()).warnings)


@pytest.mark.parametrize("version", ["8.2.1", "11.4"])
def test_the_fake_refuses_what_its_version_lacks(version, world):
    here = world(version)
    settings = here.trt.IBuilderConfig()
    lacking = "set_memory_pool_limit" if version == "8.2.1" else "max_workspace_size"
    with pytest.raises(AttributeError, match=lacking):
        getattr(settings, lacking)
    with pytest.raises(AttributeError, match=lacking):
        setattr(settings, lacking, 1)
    with pytest.raises(AttributeError):
        _ = here.trt.BuilderFlag.FP8
    with pytest.raises(NotImplementedError, match=r"Builder\.reset"):
        here.trt.Builder(None).reset()
    severity = here.trt.ILogger.Severity
    with pytest.raises(TypeError):
        _ = 1 << severity.ERROR
