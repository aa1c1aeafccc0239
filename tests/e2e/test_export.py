"""From a name to a bundle, and everything that can go wrong on the way."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import elfatt_deploy
from elfatt_deploy import bundles, recipes
from elfatt_deploy.artifacts import ModelIdentity, Preprocessing, Weights
from elfatt_deploy.errors import ExportError, InputFileError, RunnerError
from elfatt_deploy.export import rewrites
from elfatt_deploy.golden import GoldenInputs
from elfatt_deploy.models import registry, seeded
from elfatt_deploy.parity import compare
from elfatt_deploy.pipeline import (
    ExportPlan,
    ExportRequest,
    check_bundle,
    export_bundle,
    export_module,
    exporting,
)
from elfatt_deploy.runners.ort_runner import OrtRunner


def _files(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.fixture
def tiny_request(tiny_model, tmp_path):
    return ExportRequest(model=tiny_model.name, output=tmp_path / "bundles")


@pytest.mark.parametrize("batch", [1, 4, "dynamic"])
@pytest.mark.parametrize("target", sorted(recipes.targets()))
def test_tiny_model_exports_for_every_target(tiny_model, tmp_path, target, batch):
    outcome = export_bundle(
        ExportRequest(model=tiny_model.name, target=target, batch=batch, output=tmp_path)
    )
    assert outcome.passed
    manifest = bundles.read_bundle(outcome.bundle.path).manifest
    proto = onnx.load(outcome.bundle.model_path)
    assert manifest == outcome.bundle.manifest
    assert manifest.graph.opset == recipes.target(target).opset == proto.opset_import[0].version
    assert [i.name for i in proto.graph.input] == ["images"]
    assert [o.name for o in proto.graph.output] == ["logits"]
    first = "batch" if batch == "dynamic" else batch
    assert manifest.graph.inputs[0].shape == (first, 3, 64, 64)
    assert manifest.graph.outputs[0].shape == (first, 10)
    assert {row.batch for row in manifest.parity.rows} == (
        {1, 3} if batch == "dynamic" else {batch}
    )
    assert {row.inputs for row in manifest.parity.rows} == {"photos", "noise"}
    assert _files(tmp_path) == [outcome.bundle.path.name]


ATTENTION = {"embed_dim": 16, "depths": (1, 1, 2, 2), "heads": (2, 2, 2, 2), "classes": 10}
SMALL = {
    "cswin": ATTENTION,
    "swin": ATTENTION,
    "convnext": {"depths": (1, 1, 1, 1), "dims": (8, 16, 16, 32), "classes": 10},
    "efficientvit": {
        "widths": (8, 8, 8, 16, 16), "depths": (1, 1, 1, 1, 2), "head_dim": 8,
        "head_widths": (16, 16), "classes": 10,
    },
    "vmamba": {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32), "classes": 10},
}  # fmt: skip


@pytest.fixture
def small_of():
    """Return a function that registers a small model of the shape of another one."""
    names = []

    def register(model):
        spec = registry.get(model)
        config = dataclasses.replace(spec.config, **SMALL[model.partition("_")[0]])
        small = dataclasses.replace(spec, name=f"small_{model}", config=config)
        names.append(registry.register_model(small).name)
        return small.name

    yield register
    for name in names:
        del registry._extra_models[name]


@pytest.mark.parametrize("target", ["jp4", "jp6"])
@pytest.mark.parametrize(
    "model",
    [
        *(f"cswin_t_{name}" for name in registry.ATTENTIONS if name != "elfatt"),
        *(f"swin_t_{name}" for name in registry.ATTENTIONS),
        *("swin_b_agent", "swin_t_localtimm", "convnext_t", "convnext_t_timm"),
        *("efficientvit_b2", "efficientvit_b2_timm", "vmamba_t"),
    ],
)
def test_a_small_model_of_every_kind_exports_for_old_and_new_tensorrt(
    model, target, small_of, tmp_path
):
    """On maps that windows do not divide, at a batch that is not the traced one."""
    outcome = export_bundle(
        ExportRequest(
            model=small_of(model),
            height=72,
            width=104,
            batch="dynamic",
            target=target,
            output=tmp_path,
        )
    )
    assert outcome.passed
    assert all(row.max_abs < 2e-5 for row in outcome.parity.rows)
    checked = check_bundle(outcome.bundle.path, layers=True)
    assert checked.passed
    assert [layer.name for layer in checked.layers] == list(outcome.bundle.manifest.taps)
    assert not any(layer.diverges for layer in checked.layers)
    counts = outcome.bundle.manifest.counts
    assert counts.params > 0
    assert counts.macs > counts.softmax_attention_macs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "resolution", "batch"),
    [
        ("cswin_t_elfatt", (224, 224), 2),
        ("cswin_t_elfatt", (384, 384), 2),
        ("cswin_t_elfatt", (230, 310), "dynamic"),
        ("cswin_t_local", (224, 250), 2),
        ("cswin_t_elfatt_c1_25", (224, 224), "dynamic"),
    ],
)
def test_export_keeps_the_logits(tmp_path, model, resolution, batch):
    """Of models of the paper's size; those of every kind and target above are small ones."""
    height, width = resolution
    outcome = export_bundle(
        ExportRequest(model=model, height=height, width=width, batch=batch, output=tmp_path)
    )
    assert outcome.passed
    assert all(row.max_abs < 2e-5 for row in outcome.parity.rows)


@pytest.mark.slow
def test_default_bundle_gives_the_golden_logits(tmp_path, golden_folder, golden_image):
    """The product's default weights are those of the golden vectors: prove the file on them."""
    outcome = export_bundle(ExportRequest(model="cswin_t_elfatt", output=tmp_path))
    with OrtRunner(str(outcome.bundle.model_path)) as runner:
        logits = runner.infer({"images": golden_image(1, 1, 224)})["logits"]
    with np.load(golden_folder / "cswin_t_elfatt.npz") as vectors:
        np.testing.assert_allclose(logits, vectors["logits64"], rtol=0, atol=2e-5)


def test_manifest_says_what_the_file_is(tiny_request):
    outcome = export_bundle(tiny_request)
    document = json.loads((outcome.bundle.path / "manifest.json").read_text())
    assert document["weights"] == {
        "source": "random(0)",
        "sha256": None,
        "url": "",
        "key_map": None,
        "swap_halves": False,
        "resized": [],
    }
    assert document["rewrites"] == list(rewrites.REWRITES["shifts"])
    assert document["preprocessing"]["interpolation"] == "bicubic"
    assert document["counts"]["params"] > 0
    assert set(document["files"]) == {"model.onnx", "golden.npz"}
    assert document["versions"]["torch"] == torch.__version__
    assert "Erf" in document["graph"]["op_counts"]


def test_bundle_holds_no_path_of_this_machine(tiny_request, tmp_path):
    outcome = export_bundle(tiny_request)
    for name in _files(outcome.bundle.path):
        content = (outcome.bundle.path / name).read_bytes()
        assert str(Path(elfatt_deploy.__file__).parent).encode() not in content
        assert str(tmp_path).encode() not in content


def test_exports_are_reproducible(tiny_request, tmp_path):
    first = export_bundle(tiny_request).bundle.model_path.read_bytes()
    assert export_bundle(tiny_request).bundle.model_path.read_bytes() == first


def test_an_older_bundle_is_replaced(tiny_request):
    path = export_bundle(tiny_request).bundle.path
    (path / "stale.txt").write_text("left by an older version")
    assert export_bundle(tiny_request).bundle.path == path
    assert _files(path) == ["golden.npz", "manifest.json", "model.onnx"]
    assert _files(path.parent) == [path.name]


def test_a_folder_that_is_no_bundle_is_left_alone(tiny_request):
    keep = tiny_request.output / "tiny_elfatt-64-b1-fp32-jp6" / "thesis.txt"
    keep.parent.mkdir(parents=True)
    keep.write_text("mine")
    with pytest.raises(ExportError, match="exists and is not a bundle"):
        export_bundle(tiny_request)
    assert keep.read_text() == "mine"


def test_settings_are_part_of_the_bundle_name():
    settings = ("lepe=false", "levels=1-2")
    name = bundles.folder_name("tiny", settings, 64, 96, "dynamic", "fp32", "jp6")
    assert name == "tiny.lepe-false.levels-1-2-64x96-bdynamic-fp32-jp6"


@pytest.mark.parametrize("stage", ["running the torch", "simplifying", "comparing"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_export_leaves_nothing(tiny_request, stage, stop):
    def progress(name):
        if name.startswith(stage):
            raise stop

    with pytest.raises(stop):
        export_bundle(tiny_request, progress)
    assert _files(tiny_request.output) == []


def test_an_interrupted_export_keeps_the_older_bundle(tiny_request):
    path = export_bundle(tiny_request).bundle.path

    def progress(name):
        if name.startswith("comparing"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_bundle(tiny_request, progress)
    assert check_bundle(path).passed
    assert _files(path.parent) == [path.name]


def test_the_older_bundle_comes_back_where_the_new_one_cannot_take_its_place(
    tiny_request, monkeypatch
):
    path = export_bundle(tiny_request).bundle.path
    replace, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(ExportError, match="Input/output error"):
        export_bundle(tiny_request)
    assert check_bundle(path).passed
    assert _files(path.parent) == [path.name]


def test_full_disk_is_one_clear_error(tiny_request, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ExportError, match="No space left on device") as caught:
        export_bundle(tiny_request)
    assert "-o DIR" in caught.value.hint
    assert _files(tiny_request.output) == []


def test_output_that_is_a_file_is_one_clear_error(tiny_model, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ExportError, match="cannot write the bundle"):
        export_bundle(ExportRequest(model=tiny_model.name, output=tmp_path / "taken"))


def test_own_images_are_used(tiny_model, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    for index in range(6):
        shade = np.full((80, 100, 3), 40 * index, np.uint8)
        pil.fromarray(shade).save(tmp_path / f"{index}.png")
    outcome = export_bundle(
        ExportRequest(model=tiny_model.name, images=tmp_path, output=tmp_path / "out")
    )
    assert [(row.inputs, row.images) for row in outcome.parity.rows] == [
        ("images", 4),
        ("noise", 2),
    ]


def test_check_finds_a_changed_file(tiny_request):
    path = export_bundle(tiny_request).bundle.path
    with (path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(InputFileError, match="was changed since the export"):
        check_bundle(path)


# --- parity failures: planted ones must be found, named, and leave no bundle ---


class Frozen(torch.nn.Module):
    """A model that freezes its batch while it is traced, as int(a / b) does."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 4, stride=4)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, images):
        tokens = self.conv(images).flatten(2).transpose(1, 2)
        batch = int(tokens.shape[0] / 1)
        pooled = tokens.reshape(batch, -1, 4).mean(1)
        return self.head(pooled + 0 * pooled.mean(0, keepdim=True))


def _plan(folder, batch):
    identity = ModelIdentity(
        name="own", family="", builder="", settings={}, config={}, height=32, width=32
    )
    return ExportPlan(
        folder=folder / "own",
        identity=identity,
        weights=Weights(source="random(0)"),
        preprocessing=Preprocessing(height=32, width=32, crop_share=1.0),
        target=recipes.target("jp6"),
        batch=batch,
    )


def _inputs(size=32):
    images = np.random.default_rng(0).standard_normal((3, 3, size, size)).astype(np.float32)
    return GoldenInputs(images=images, names=("a", "b", "c"), sets=("noise",) * 3)


def test_silently_frozen_batch_is_found(tmp_path):
    """The trap of both torch exporters: the file is right at the traced batch alone."""
    with pytest.raises(RunnerError, match="for a batch of") as caught:
        export_module(Frozen().eval(), _inputs(), _plan(tmp_path, "dynamic"))
    assert "a // b" in caught.value.hint
    assert _files(tmp_path) == []


class BatchDependent(torch.nn.Module):
    """A model whose logits depend on the batch size, which tracing turns into a constant."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 5)

    def forward(self, images):
        return self.head(images.mean((2, 3)) / int(images.shape[0]))


def test_a_dynamic_batch_is_not_proved_at_the_size_that_was_traced():
    assert exporting._TRACED_BATCH not in compare.DYNAMIC_BATCHES
    assert len(set(compare.DYNAMIC_BATCHES)) >= 2


def test_logits_that_depend_on_the_batch_are_found(tmp_path):
    outcome = export_module(BatchDependent().eval(), _inputs(), _plan(tmp_path, "dynamic"))
    assert not outcome.passed
    assert outcome.bundle is None
    assert _files(tmp_path) == []


def test_a_wrong_rewrite_is_named(tiny_model, tmp_path, monkeypatch):
    def spoil(model):
        with torch.no_grad():
            model.get_submodule("stage2.0.mlp.fc1").weight.mul_(1.05)

    monkeypatch.setitem(rewrites.REWRITES["shifts"], "spoil", spoil)
    outcome = export_bundle(ExportRequest(model=tiny_model.name, output=tmp_path / "out"))
    assert not outcome.passed
    assert outcome.bundle is None
    assert outcome.parity.first_divergence.startswith("stage2.0 ")
    assert _files(tmp_path / "out") == []


def test_nan_logits_never_pass(tmp_path):
    class Broken(Frozen):
        def forward(self, images):
            return super().forward(images) / 0.0 * 0.0

    outcome = export_module(Broken().eval(), _inputs(), _plan(tmp_path, 2))
    assert not outcome.passed
    assert all(row.nonfinite for row in outcome.parity.rows)


def test_a_model_that_does_not_run_is_one_clear_error(tmp_path):
    with pytest.raises(ExportError, match=r"does not run on images of shape \(2, 3, 2, 2\)"):
        export_module(Frozen().eval(), _inputs(2), _plan(tmp_path, 1))
    assert _files(tmp_path) == []


def test_an_operator_without_export_is_one_clear_error(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, images):
            return torch.special.bessel_j0(images.mean((2, 3)))

    with pytest.raises(ExportError, match="cannot be exported at opset 17"):
        export_module(Odd().eval(), _inputs(), _plan(tmp_path, 1))


def test_weights_from_a_file_give_the_same_logits(tiny_model, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    model = tiny_model.build(64, 64)
    seeded.fill(model, seed=3)
    path = tmp_path / "trained.safetensors"
    safetensors.save_file(model.state_dict(), path)
    outcome = export_bundle(
        ExportRequest(model=tiny_model.name, weights=path, output=tmp_path / "out")
    )
    weights = outcome.bundle.manifest.weights
    assert weights == Weights(source="trained.safetensors", sha256=bundles.sha256_of(path))
    with np.load(outcome.bundle.golden_path) as golden, torch.no_grad():
        expected = model(torch.from_numpy(golden["images"])).numpy()
        np.testing.assert_allclose(golden["logits"], expected, atol=1e-5)
