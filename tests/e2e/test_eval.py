"""Accuracy that is real: a small ELFATT model learns scikit-learn's digits, and is evaluated.

The digits (1797 scans of 8x8 pixels) come with scikit-learn's wheel. Four fifths train the model
here, in seconds; the rest are written as PNG files into a folder for each class.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from elfatt_deploy import bundles, preprocessing
from elfatt_deploy.errors import CheckpointError, InputFileError, UnknownNameError, UsageError
from elfatt_deploy.evaluation import log
from elfatt_deploy.evaluation.records import EvalRequest
from elfatt_deploy.models import registry, seeded
from elfatt_deploy.pipeline import ExportRequest, evaluate_bundle, export_bundle
from elfatt_deploy.runners.ort_runner import OrtRunner

_SIZE = 32
_EPOCHS = 5
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True)
class Digits:
    """Held-out digits on disk, the weights of a model that learnt the others, and its bundle."""

    data: Path
    labels: Path
    weights: Path
    bundle: Path


def _pictures():
    """Return 40x40 pictures and their classes, those for training first."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = [
        Image.fromarray((scan * (255 / 16)).astype(np.uint8)).resize((40, 40)).convert("RGB")
        for scan in digits.images
    ]
    held_out = np.arange(len(pictures)) % 5 == 0
    return pictures, digits.target, held_out


def _train(module, images, labels):
    """Teach a module the images [N, 3, H, W]; the same weights on every run."""
    import torch

    torch.manual_seed(0)
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.01)
    module.train()
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(labels)).split(64):
            loss = torch.nn.functional.cross_entropy(module(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    module.eval()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("digits")
    base = registry.get("cswin_t_elfatt")
    config = dataclasses.replace(
        base.config, embed_dim=16, depths=(1, 1, 2, 1), heads=(2, 2, 2, 2), classes=10
    )
    spec = dataclasses.replace(base, name="tiny_digits", config=config, input_size=_SIZE)
    registry.register_model(spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads of tiny layers wait for each other
    pictures, labels, held_out = _pictures()
    for index in np.flatnonzero(held_out):
        place = folder / "val" / f"d{labels[index]}"
        place.mkdir(parents=True, exist_ok=True)
        pictures[index].save(place / f"{index:04}.png")
    text = "".join(f"d{label} {name}\n" for label, name in enumerate(_NAMES))
    (folder / "labels.txt").write_text(text)
    recipe = spec.preprocessing(_SIZE, _SIZE)
    module = spec.build(_SIZE, _SIZE)
    seeded.fill(module)
    taught = [preprocessing.prepare(pictures[i], recipe) for i in np.flatnonzero(~held_out)]
    _train(module, np.stack(taught), labels[~held_out])
    save_file(module.state_dict(), folder / "digits.safetensors")
    outcome = export_bundle(
        ExportRequest(
            model=spec.name,
            weights=folder / "digits.safetensors",
            batch="dynamic",
            output=folder / "bundles",
        )
    )
    assert outcome.passed
    yield Digits(
        data=folder / "val",
        labels=folder / "labels.txt",
        weights=folder / "digits.safetensors",
        bundle=outcome.bundle.path,
    )
    torch.set_num_threads(threads)
    del registry._extra_models["tiny_digits"]


@pytest.fixture
def ask(digits, tmp_path):
    """Return a function that evaluates on the digits, with changes of the request."""

    def evaluate(**changes):
        fields = {"model": digits.bundle, "data": digits.data, "output": tmp_path / "evals"}
        return evaluate_bundle(EvalRequest(**{**fields, **changes}))

    return evaluate


@pytest.fixture(scope="module")
def fp16_bundle(digits):
    """Return a copy of the bundle whose graph computes in float16."""
    import onnx
    from onnxconverter_common import float16

    folder = digits.bundle.parent / "tiny_digits-fp16"
    shutil.copytree(digits.bundle, folder)
    with warnings.catch_warnings():  # it announces every weight that float16 rounds to zero
        warnings.simplefilter("ignore")
        model = float16.convert_float_to_float16(
            onnx.load(folder / "model.onnx"), keep_io_types=True
        )
    onnx.save(model, folder / "model.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["precision"] = "fp16"
    manifest["files"]["model.onnx"] = bundles.sha256_of(folder / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_torch_and_onnx_in_both_precisions_agree(digits, fp16_bundle, ask):
    in_torch = ask(runner="torch", weights=digits.weights)
    fp32 = ask(weights=digits.weights)
    fp16 = ask(model=fp16_bundle, weights=digits.weights)
    assert fp32.images == 360
    assert in_torch.top1.value > 0.9
    assert in_torch.top5.value > 0.99
    assert fp32.top1 == fp32.reference_top1 == in_torch.top1
    assert fp32.top5 == fp32.reference_top5 == in_torch.top5
    assert fp32.agreement_top1.count == fp32.agreement_top5.count == fp32.images
    assert fp16.precision == "fp16"
    assert fp16.agreement_top1.value >= 0.99
    assert fp16.reference_top1 == in_torch.top1
    assert fp16.top1.value == pytest.approx(fp32.top1.value, abs=0.01)
    # not the same numbers under another name
    first = [log.read_log(outcome.log).predictions[0].values for outcome in (fp32, fp16)]
    assert first[0] != first[1]


def test_accuracy_is_what_counting_by_hand_gives(digits, ask):
    outcome = ask(weights=digits.weights)
    manifest = bundles.read_bundle(digits.bundle).manifest
    right = 0
    with OrtRunner(str(digits.bundle / "model.onnx")) as runner:
        for path in sorted(digits.data.rglob("*.png")):
            image = preprocessing.load_image(path, manifest.preprocessing)
            logits = runner.infer({"images": image[None]})["logits"]
            right += int(logits.argmax()) == int(path.parent.name[1:])
    assert outcome.top1.count == right
    assert sum(entry.correct for entry in outcome.per_class) == right


def test_a_fixed_batch_gives_the_same_predictions(digits, ask, tmp_path):
    request = ExportRequest(
        model="tiny_digits", weights=digits.weights, batch=7, output=tmp_path / "bundles"
    )
    fixed = ask(model=export_bundle(request).bundle.path, agreement=False, limit=50)
    dynamic = ask(agreement=False, limit=50, batch=16)
    assert (fixed.batch, dynamic.batch) == (7, 16)
    assert fixed.images == dynamic.images == 50
    tops = [
        {line.image: line.top[0] for line in log.read_log(outcome.log).predictions}
        for outcome in (fixed, dynamic)
    ]
    assert tops[0] == tops[1]


def test_a_bare_onnx_file_is_evaluated_with_what_the_user_says(digits, ask):
    file = digits.bundle / "model.onnx"
    bundle = ask(agreement=False)
    said = ask(model=file, preprocess=("crop=0.9",))
    assumed = ask(model=file)
    assert said.top1 == bundle.top1
    assert said.preprocessing == bundle.preprocessing
    assert assumed.preprocessing.crop_share == 0.875
    assert assumed.preprocessing_source.startswith("assumed")
    assert "which torch model" in assumed.agreement_note


def test_a_bundle_of_a_foreign_file_takes_what_the_user_says(digits, ask, tmp_path):
    request = ExportRequest(model=str(digits.bundle / "model.onnx"), output=tmp_path / "bundles")
    bundle = export_bundle(request).bundle.path
    said = ask(model=bundle, preprocess=("crop=0.9",))
    assert said.top1 == ask(agreement=False).top1
    assert "crop=0.9" in said.preprocessing_source
    assert ask(model=bundle).preprocessing.crop_share == 0.875
    assert "which torch model" in said.agreement_note
    with pytest.raises(UsageError, match="was made from an ONNX file"):
        ask(model=bundle, runner="torch")


def test_without_the_weights_or_torch_the_reason_is_told(digits, ask, monkeypatch):
    outcome = ask()
    assert outcome.agreement_top1 is outcome.reference_top1 is None
    assert "digits.safetensors" in outcome.agreement_note
    assert "--weights" in outcome.agreement_note
    assert ask(agreement=False).agreement_note == "not asked for"
    monkeypatch.setitem(sys.modules, "torch", None)
    outcome = ask(weights=digits.weights)
    assert outcome.agreement_top1 is None
    assert "'torch' is not installed" in outcome.agreement_note
    assert outcome.top1.value > 0.9


def test_other_weights_are_not_taken_for_the_bundles(digits, ask, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(digits.weights)
    tensors["head.bias"][3] += 0.01
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is not the file that the bundle") as caught:
        ask(weights=tmp_path / "other.safetensors")
    assert "digits.safetensors" in caught.value.hint
    assert not (tmp_path / "evals").exists()


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"runner": "trt"}, UnknownNameError, "unknown runner 'trt'"),
        ({"provider": "gpu"}, UnknownNameError, "unknown provider 'gpu'"),
        ({"batch": 0}, UsageError, "a batch of 0"),
        ({"limit": 0}, UsageError, "a limit of 0"),
        ({"runner": "torch"}, InputFileError, "needs its weights file"),
        ({"height": 64, "width": 64}, UsageError, "a bundle has one input size"),
        ({"preprocess": ("crop=1",)}, UsageError, "has the preprocessing of its model"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_met_leaves_nothing(changes, error, told, ask, tmp_path):
    with pytest.raises(error, match=told):
        ask(**changes)
    assert not (tmp_path / "evals").exists()


def test_the_program_shows_accuracy_agreement_and_what_it_did(cli, digits, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in digits.bundle.iterdir()}
    arguments = ("eval", digits.bundle, "--data", digits.data, "--labels", digits.labels,
                 "--weights", digits.weights, "-o", tmp_path / "evals")  # fmt: skip
    document = json.loads(cli(*arguments, "--json").out)
    assert (document["schema"], document["version"]) == ("elfatt-deploy/eval", 1)
    assert document["agreement_top1"]["value"] == 1
    assert document["complete"] is True
    result = cli(*arguments)
    assert (result.code, result.err) == (0, "")
    assert f"{100 * document['top1']['value']:.2f}" in result.out
    assert "torch float32 (cpu)" in result.out
    assert "100.00" in result.out
    assert "360 images were in the log already; nothing was left to run" in result.out
    assert document["log"] in result.out
    worst = min(document["per_class"], key=lambda entry: entry["correct"] / entry["images"])
    assert worst["name"] in result.out.partition("worst classes")[2]
    assert worst["name"] in _NAMES
    assert {path: path.stat().st_mtime_ns for path in digits.bundle.iterdir()} == before


def test_ctrl_c_says_how_to_go_on(cli, digits, tmp_path, monkeypatch):
    arguments = ("eval", digits.bundle, "--data", digits.data, "--no-agreement",
                 "--batch", 16, "--limit", 100, "-o", tmp_path / "evals")  # fmt: skip
    infer, calls = OrtRunner.infer, []

    def interrupted(self, feeds):
        calls.append(len(feeds["images"]))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return infer(self, feeds)

    with monkeypatch.context() as patch:
        patch.setattr(OrtRunner, "infer", interrupted)
        stopped = cli(*arguments)
    assert (stopped.code, stopped.out) == (130, "")
    assert "48 of 100 images are kept in" in stopped.err
    assert "the same command goes on from there" in stopped.err
    again = json.loads(cli(*arguments, "--json").out)
    assert (again["images"], again["resumed"]) == (100, 48)


def test_an_unreadable_image_exits_1_and_is_named(cli, digits, tmp_path):
    data = tmp_path / "val"
    shutil.copytree(digits.data, data)
    (data / "d3" / "broken.png").write_bytes(b"no image")
    arguments = ("eval", digits.bundle, "--data", data, "--no-agreement", "--limit", 999)
    result = cli(*arguments, "-o", tmp_path / "evals")
    assert result.code == 1
    assert "on 360 images" in result.out
    assert "unreadable, left out: d3/broken.png" in result.out


def test_a_folder_that_does_not_fit_the_model_exits_3(cli, digits, tmp_path):
    result = cli("eval", digits.bundle, "--data", digits.data.parent, "-o", tmp_path / "evals")
    assert (result.code, result.out) == (3, "")
    assert "class folders" in result.err
    assert "--labels" in result.err
    assert not (tmp_path / "evals").exists()


def test_without_a_gpu_the_provider_is_refused(cli, digits, tmp_path):
    result = cli("eval", digits.bundle, "--data", digits.data, "--provider", "cuda",
                 "--weights", digits.weights, "-o", tmp_path / "evals")  # fmt: skip
    assert (result.code, result.out) == (5, "")
    assert "CUDAExecutionProvider" in result.err
    assert not (tmp_path / "evals").exists()


def test_random_weights_are_told(cli, tiny_model, digits, tmp_path):
    request = ExportRequest(model=tiny_model.name, batch="dynamic", output=tmp_path / "bundles")
    bundle = export_bundle(request).bundle.path
    result = cli("eval", bundle, "--data", digits.data, "--limit", 20, "-o", tmp_path / "evals")
    assert result.code == 0
    assert "the weights are random(0): accuracy is that of chance" in result.err
    assert "same for both" in result.out
