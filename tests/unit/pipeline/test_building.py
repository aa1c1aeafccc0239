"""From a bundle to a plan beside its manifest: typing, islands, batches, builders, folders."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest

from elfatt_deploy import artifacts, bundles
from elfatt_deploy.artifacts import Island, PrecisionMap
from elfatt_deploy.engine import plan
from elfatt_deploy.engine.config import BatchProfile, BuildDevice, BuiltPlan
from elfatt_deploy.errors import (
    EngineError,
    InputFileError,
    MissingDependency,
    SchemaError,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.pipeline import building
from elfatt_deploy.pipeline.building import BuildRequest, build_bundle, config_of

ORIN = BuildDevice(name="Orin", sm=87, memory_bytes=7620 * 2**20)
NORMS = PrecisionMap(
    islands=(Island(node="/norm/Pow", op="Pow", reason="overflow", local_error=0.1),),
    limit=5e-3,
    relative_l2=1e-3,
    all_half=None,
    images=4,
    tries=3,
)


@pytest.fixture
def make_bundle(fake, tmp_path):
    """Return a function that writes a bundle without a real model."""
    return functools.partial(fake("bundle").write, tmp_path / "bundle")


@pytest.fixture
def world(fake, tensorrt_surface, monkeypatch):
    """Return a function that installs a fake TensorRT and an Orin."""
    scene = fake("tensorrt_builder")
    monkeypatch.setattr(building.gpu, "present", lambda: ORIN)

    def make(version, **given):
        made = scene.World(**given)
        made.trt = tensorrt_surface(version, scene.behaviours(made))
        return made

    return make


@pytest.fixture
def no_tensorrt(monkeypatch):
    """Make the package and the command absent."""

    def missing(name):
        raise MissingDependency(f"the package '{name}' is not installed")

    monkeypatch.setattr(building.optional, "load", missing)
    monkeypatch.setattr(building.shutil, "which", lambda name: None)


def _config(folder, **asked):
    return config_of(bundles.read_bundle(folder), BuildRequest(bundle=folder, **asked))


@pytest.mark.parametrize(
    ("precision", "target", "typed", "islands"),
    [
        ("fp16", "jp6", True, ()),
        ("fp16", "jp7.2", True, ()),
        ("fp16", "jp4", False, ("/norm/Pow",)),
        ("fp16", "jp5", False, ("/norm/Pow",)),
        ("fp32", "jp6", False, ()),
        ("fp32", "desktop", False, ()),
    ],
)
def test_typing_and_islands_are_the_bundles(precision, target, typed, islands, make_bundle):
    found = NORMS if precision == "fp16" else None
    config = _config(make_bundle(precision, target, precision_map=found))
    assert (config.precision, config.typed, config.islands) == (precision, typed, islands)
    assert config.profile is None


def test_tf32_is_a_way_to_build_an_fp32_bundle(make_bundle):
    assert _config(make_bundle(), precision="tf32").precision == "tf32"


@pytest.mark.parametrize(
    ("bundle", "asked", "error", "told"),
    [
        ({"precision": "fp16"}, {"precision": "fp32"}, UsageError, "is an FP16 bundle"),
        ({"precision": "fp16"}, {"precision": "tf32"}, UsageError, "is an FP16 bundle"),
        ({"target": "jp6"}, {"precision": "fp16"}, UsageError, "the file's types decide"),
        ({"target": "ort"}, {}, UsageError, "exported for ort, which is no TensorRT"),
        ({"target": "jp66"}, {}, SchemaError, "unknown target 'jp66'"),
        ({}, {"precision": "int8"}, UnknownNameError, "unknown precision 'int8'"),
        (
            {"batch": 4},
            {"profile": BatchProfile(smallest=1, best=4, largest=4)},
            UsageError,
            "has batch 4 and no other",
        ),
    ],
)
def test_what_the_bundle_does_not_hold_is_refused(bundle, asked, error, told, make_bundle):
    folder = make_bundle(**bundle)
    with pytest.raises(error, match=told):
        _config(folder, **asked)


def test_a_dynamic_bundle_has_a_profile_and_a_fixed_one_its_batch(make_bundle):
    folder = make_bundle(batch="dynamic")
    assert str(_config(folder).profile) == "1-1-8"
    asked = BatchProfile(smallest=2, best=4, largest=4)
    assert _config(folder, profile=asked).profile == asked


def test_the_batch_of_a_fixed_bundle_may_be_named(make_bundle):
    asked = BatchProfile(smallest=4, best=4, largest=4)
    assert _config(make_bundle(batch=4), profile=asked).profile is None


def test_a_build_leaves_a_plan_that_reads_back_and_belongs_here(world, make_bundle, tmp_path):
    world("10.3.0", information="")
    folder, stages = make_bundle("fp16", precision_map=NORMS), []
    request = BuildRequest(bundle=folder, timing_cache=tmp_path / "timings")
    built = build_bundle(request, stages.append)
    assert built.path == folder / "engine-10.3.0-sm87-fp16" / "model.plan"
    assert built == plan.read_plan(built.path)
    bundle = bundles.read_bundle(folder)  # its digests still hold
    assert plan.check_identity(built, tensorrt="10.3.0", device=ORIN, bundle=bundle) == ()
    manifest = built.manifest
    assert (manifest.model, manifest.target, manifest.batch) == ("tiny", "jp6", 1)
    assert (manifest.precision, manifest.proof) == ("fp16", "fp16-unproven")
    assert (manifest.typed, manifest.islands, manifest.method) == (True, (), "tensorrt")
    assert set(manifest.files) == {"model.plan"}
    (cache,) = (tmp_path / "timings").iterdir()
    assert cache.name == "timing-10.3.0-sm87-orin-typed.cache"
    assert sorted(path.name for path in folder.iterdir()) == [
        "engine-10.3.0-sm87-fp16",
        "golden.npz",
        "manifest.json",
        "model.onnx",
    ]
    assert stages[0] == "reading the bundle"
    assert stages[-1] == "proving the precision"


def test_the_layer_information_is_kept_and_proved(world, make_bundle):
    world("8.5.3", information='{"Layers": []}')
    folder = make_bundle("fp16", "jp5", precision_map=NORMS)
    built = build_bundle(BuildRequest(bundle=folder))
    assert set(built.manifest.files) == {"model.plan", "layers.json"}
    assert built.manifest.islands == ("/norm/Pow",)
    assert json.loads((built.path.parent / "layers.json").read_text()) == {"Layers": []}
    assert built.manifest.proof == "fp16-unproven"  # no layer is no proof


def _engine(datatype):
    tensor = {"Name": "x", "Dimensions": [1, 8], "Format/Datatype": datatype}
    layer = {"LayerType": "gemm", "Inputs": [tensor], "Outputs": [tensor], "TacticName": ""}
    return json.dumps({"Layers": [{"Name": "/head/MatMul", **layer}]})


@pytest.mark.parametrize(("datatype", "verdict"), [("Half", "fp16"), ("Float", "fp32")])
def test_the_verdict_is_that_of_the_layers(datatype, verdict, world, make_bundle):
    world("10.3.0", information=_engine(datatype))
    built = build_bundle(BuildRequest(bundle=make_bundle("fp16", precision_map=NORMS)))
    evidence = built.manifest.evidence
    assert (built.manifest.proof, evidence.verdict, evidence.asked) == (verdict, verdict, "fp16")
    assert evidence.proved == (verdict == "fp16")


def test_a_second_build_takes_the_place_of_the_first(world, make_bundle, tmp_path):
    world("10.3.0", build=lambda world, attempt: b"first")
    folder, out = make_bundle(), tmp_path / "plans"
    request = BuildRequest(bundle=folder, output=out)
    first = build_bundle(request)
    assert first.path.parent.parent == out / "bundle"
    world("10.3.0", build=lambda world, attempt: b"second")
    second = build_bundle(request)
    assert second.path == first.path
    assert second.path.read_bytes() == b"second"
    assert [path.name for path in (out / "bundle").iterdir()] == ["engine-10.3.0-sm87-fp32"]


def test_a_failed_build_keeps_the_older_plan_and_leaves_nothing(world, make_bundle):
    world("10.3.0")
    folder = make_bundle()
    first = build_bundle(BuildRequest(bundle=folder))
    world("10.3.0", build=lambda world, attempt: None)
    with pytest.raises(EngineError, match="built no plan"):
        build_bundle(BuildRequest(bundle=folder))
    assert plan.read_plan(first.path) == first
    assert not list(folder.glob(".engine*"))


def test_ctrl_c_leaves_no_half_plan(world, make_bundle):
    def build(world, attempt):
        raise KeyboardInterrupt

    world("10.3.0", build=build)
    folder = make_bundle()
    before = sorted(folder.iterdir())
    with pytest.raises(KeyboardInterrupt):
        build_bundle(BuildRequest(bundle=folder))
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_is_no_plan_is_left_alone(world, make_bundle):
    world("10.3.0")
    folder = make_bundle()
    taken = folder / "engine-10.3.0-sm87-fp32"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    with pytest.raises(EngineError, match="exists and is not a plan"):
        build_bundle(BuildRequest(bundle=folder))
    assert (taken / "mine.txt").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_refused_before_the_build(world, make_bundle, tmp_path):
    here, folder = world("10.3.0"), make_bundle()
    (tmp_path / "file").write_text("no folder")
    for changes in ({"output": tmp_path / "file"}, {"timing_cache": tmp_path / "file"}):
        with pytest.raises(EngineError, match="cannot write"):
            build_bundle(BuildRequest(bundle=folder, **changes))
    assert "attempts" not in here.made


def test_fp16_by_flag_without_a_precision_map_is_told(world, make_bundle):
    world("8.5.3", information="")
    built = build_bundle(BuildRequest(bundle=make_bundle(target="jp5"), precision="fp16"))
    assert built.manifest.precision == "fp16"
    assert "no precision map" in built.manifest.warnings[0]


def test_without_a_builder_the_message_names_both(no_tensorrt, make_bundle):
    with pytest.raises(MissingDependency) as caught:
        build_bundle(BuildRequest(bundle=make_bundle()))
    assert "the package 'tensorrt' is not installed" in caught.value.message
    assert "'trtexec' is neither on PATH nor at" in caught.value.message
    assert "doctor" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("asked", "told"), [("tensorrt", "the package 'tensorrt'"), ("trtexec", "'trtexec' is neither")]
)
def test_a_named_builder_that_is_absent_is_not_replaced(asked, told, no_tensorrt):
    with pytest.raises(MissingDependency, match=told) as caught:
        building.find_builder(asked)
    assert ("trtexec" in caught.value.message) == (asked == "trtexec")


def test_auto_prefers_the_package_and_falls_to_the_command(world, no_tensorrt, monkeypatch):
    monkeypatch.setattr(building.shutil, "which", lambda name: f"/opt/{name}")
    assert building.find_builder("auto") == ("trtexec", "/opt/trtexec")
    monkeypatch.undo()
    world("10.3.0")
    assert building.find_builder("auto") == ("tensorrt", "")


@pytest.fixture
def by_trtexec(no_tensorrt, monkeypatch):
    """Install a trtexec that only records what it is asked for; `present` is the driver's word."""
    calls = []

    def build(model, config, folder, **more):
        calls.append((model, config, more))
        (folder / "model.plan").write_bytes(b"plan of trtexec")
        return BuiltPlan(
            plan=folder / "model.plan",
            layers=None,
            tensorrt="8.5.2",
            device=ORIN,
            method="trtexec",
            command=("trtexec", "--onnx=model.onnx"),
            typed=False,
            workspace_bytes=2**30,
            attempts=1,
            seconds=1.0,
        )

    monkeypatch.setattr(building.shutil, "which", lambda name: f"/opt/{name}")
    monkeypatch.setattr(building.trtexec, "build", build)
    monkeypatch.setattr(building.gpu, "present", lambda: ORIN)
    return calls


def test_trtexec_gets_the_bundle_its_input_and_the_gpu(by_trtexec, make_bundle):
    folder = make_bundle("fp16", "jp5", "dynamic", NORMS)
    built = build_bundle(BuildRequest(bundle=folder))
    ((model, config, more),) = by_trtexec
    assert model == folder / "model.onnx"
    assert (config.islands, config.typed) == (("/norm/Pow",), False)
    assert (more["trtexec"], more["device"], more["image"]) == ("/opt/trtexec", ORIN, (3, 64, 96))
    assert built.manifest.method == "trtexec"
    assert built.manifest.command == ("trtexec", "--onnx=model.onnx")
    assert built.path.parent.name == "engine-8.5.2-sm87-fp16-b1-1-8"


def test_trtexec_builds_without_the_driver_unless_timings_are_kept(
    by_trtexec, make_bundle, monkeypatch, tmp_path
):
    def absent():
        raise EngineError("the CUDA driver library does not load")

    monkeypatch.setattr(building.gpu, "present", absent)
    folder = make_bundle()
    build_bundle(BuildRequest(bundle=folder))
    assert by_trtexec[0][2]["device"] is None
    with pytest.raises(EngineError, match="driver library"):
        build_bundle(BuildRequest(bundle=folder, timing_cache=tmp_path))


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"builder": "nvcc"}, UnknownNameError, "unknown builder 'nvcc'"),
        ({}, InputFileError, "is not a bundle"),
    ],
)
def test_what_cannot_be_built_is_refused_first(changes, error, told, tmp_path):
    with pytest.raises(error, match=told):
        build_bundle(BuildRequest(bundle=tmp_path / "none", **changes))


def test_a_plan_of_another_bundle_does_not_belong(world, make_bundle):
    world("10.3.0")
    folder = make_bundle()
    built = build_bundle(BuildRequest(bundle=folder))
    bundle = bundles.read_bundle(folder)
    other = dataclasses.replace(
        bundle,
        manifest=dataclasses.replace(
            bundle.manifest, files={**bundle.manifest.files, artifacts.MODEL_FILE: "0" * 64}
        ),
    )
    with pytest.raises(plan.PlanMismatch, match="its ONNX file is not that of"):
        plan.check_identity(built, tensorrt="10.3.0", device=ORIN, bundle=other)
    (folder / artifacts.MANIFEST_FILE).write_text("written again")
    notes = plan.check_identity(built, tensorrt="10.3.0", device=ORIN, bundle=bundle)
    assert ["written again since the build" in note for note in notes] == [True]
