"""Every registered model against vectors of the official code or of independent oracles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from elfatt_deploy.models import counting, registry, seeded
from elfatt_deploy.models.backbones.swin import Swin

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem != "attention_cases")

#: module paths of timm's code to the attribute names of ours, by the prefix of a model
_OURS = {
    "swin": (
        (r"^layers\.(\d)\.downsample$", lambda m: f"layers.{int(m[1]) - 1}.downsample"),
        (r"^head\.fc$", "head"),
    ),
    "convnext": (
        (r"^stem$", "downsample_layers.0"),
        (r"^stages\.(\d)\.downsample$", r"downsample_layers.\1"),
        (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
        (r"^head\.fc$", "head"),
    ),
    "efficientvit": (
        (r"^stem\.in_conv$", "backbone.input_stem.op_list.0"),
        (r"^stem$", "backbone.input_stem"),
        (r"^stages\.(\d)\.blocks\.", r"backbone.stages.\1.op_list."),
        (r"^head\.in_conv$", "head.op_list.0"),
        (r"^head\.global_pool$", "head.op_list.1"),
        (r"^head\.classifier\.2$", "head.op_list.2"),
    ),
}


def _description(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def _build(name):
    spec = registry.get(name)
    return spec.build(*spec.size(None, None))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Keep the time of the folder the same on a busy machine: threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=NAMES)
def case(request, golden_image):
    """One model with seed-0 weights, its description, its vectors and its input."""
    with np.load(GOLDEN / f"{request.param}.npz") as file:
        vectors = {key: file[key] for key in file.files}
    model = _build(request.param)
    seeded.fill(model)
    size = int(vectors["input_size"])
    images = golden_image(int(vectors["input_seed"]), int(vectors["input_batch"]), size)
    return model, _description(request.param), vectors, torch.from_numpy(images)


def test_the_models_are_those_of_the_vectors():
    assert len(NAMES) == 38
    assert set(registry.models()) == set(NAMES)


def _shapes(model):
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _wanted(description, model, changed):
    """Return key -> shape as the reference has them, buffers left out that ours computes."""
    found = model.state_dict()
    return {
        entry["name"]: tuple(changed.get(entry["name"], entry["shape"]))
        for entry in description["state_dict"]
        if entry["kind"] != "structural" or entry["name"] in found
    }


def test_state_dict_has_the_reference_keys_and_shapes(case):
    model, description, _, _ = case
    assert _shapes(model) == _wanted(description, model, {})


def test_float32_logits_equal_the_reference(case):
    model, _, vectors, images = case
    with torch.no_grad():
        logits = model(images).numpy()
    np.testing.assert_allclose(logits, vectors["logits"], rtol=0, atol=2e-5)


def _module(model, name, path):
    """Return the module of ours that a checkpoint of the reference stands for."""
    if name.endswith("timm"):
        for pattern, ours in _OURS[name.partition("_")[0]]:
            path = re.sub(pattern, ours, path)
    module = model.get_submodule(path)
    while type(module).forward is nn.Module.forward:  # it holds others: what the last one gives
        module = list(module.children())[-1]
    return module


def _kept_order(model, checkpoint):
    """Return the place in the map of each token of a checkpoint; None where row by row."""
    place = re.match(r"stage(\d)\.(\d+)", checkpoint)
    if place is None or not isinstance(model, Swin):
        return None
    return model.layers[int(place[1]) - 1].blocks[int(place[2])].attns[0].order


def _as_reference(value, shape, order):
    """Return an inner tensor flattened as the vectors are: batch, rows, columns, channels."""
    assert value.numel() == np.prod(shape)
    if order is not None:
        tokens = value.reshape(shape[0], len(order), -1)
        value = tokens[:, torch.argsort(order)]
    if len(shape) == 4 and value.shape == (shape[0], shape[3], *shape[1:3]):
        value = value.permute(0, 2, 3, 1)
    return value.reshape(-1).numpy()


def _run(model, description, images):
    """Return the logits, and the tensor of every checkpoint by name."""
    seen, hooks = {}, []
    for checkpoint in description["checkpoints"]:
        module = _module(model, description["name"], checkpoint["module"])

        def keep(_, inputs, output, *, name=checkpoint["name"], io=checkpoint["io"]):
            seen[name] = output if io == "out" else inputs[0]

        hooks.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            return model(images), seen
    finally:
        for hook in hooks:
            hook.remove()


def test_float64_logits_and_every_checkpoint_equal_the_reference(case, golden_positions):
    model, description, vectors, images = case
    try:
        logits, seen = _run(model.double(), description, images.double())
    finally:
        model.float()
    np.testing.assert_allclose(logits.numpy(), vectors["logits64"], rtol=0, atol=1e-8)
    assert len(seen) == len(description["checkpoints"]) > 10
    for checkpoint in description["checkpoints"]:
        name = checkpoint["name"]
        values = _as_reference(seen[name], checkpoint["shape"], _kept_order(model, name))
        np.testing.assert_allclose(
            values[golden_positions(values.size)],
            vectors[f"{name}/sample"],
            rtol=0,
            atol=1e-8,
            err_msg=name,
        )
        np.testing.assert_allclose(
            [values.mean(), values.std(), values.min(), values.max()],
            vectors[f"{name}/stats"][:4],
            rtol=0,
            atol=1e-8,
            err_msg=name,
        )


@pytest.mark.parametrize("name", NAMES)
def test_counts_equal_the_reference_to_the_last_operation(name):
    description, spec = _description(name), registry.get(name)
    counts = counting.count(spec, *spec.size(None, None))
    flops = description["flops"]
    assert counts.params == description["params"]
    # the selective scan of VMamba is in neither count of the paper
    assert counts.macs == flops.get("without_selective_scan", flops["total"])
    assert counts.softmax_attention_macs == flops.get("softmax_attention_matmul", 0)


@pytest.mark.parametrize("name", [name for name in NAMES if "at_384" in _description(name)])
def test_at_384_pixels_shapes_and_counts_are_those_of_the_reference(name):
    description, spec = _description(name), registry.get(name)
    other = description["at_384"]
    with torch.device("meta"):
        model = spec.build(384, 384)
    changed = other.get("changed_shapes", {})
    assert _shapes(model) == _wanted(description, model, changed)
    assert sum(parameter.numel() for parameter in model.parameters()) == other["params"]
    if "flops_total" in other:
        counts = counting.count(spec, 384, 384)
        assert counts.macs == other["flops_total"]
        unfused = other["flops_total"] - other["flops_without_softmax_attention"]
        assert counts.softmax_attention_macs == unfused


def test_a_wrong_layer_norm_eps_is_found(golden_image):
    """The vectors must be able to fail: the smallest mistake known to us moves logits by 9e-6."""
    model = _build("cswin_t_elfatt")
    seeded.fill(model)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    with np.load(GOLDEN / "cswin_t_elfatt.npz") as vectors, torch.no_grad():
        logits = model.double()(torch.from_numpy(golden_image(1, 1, 224)).double()).numpy()
        assert np.abs(logits - vectors["logits64"]).max() > 1e-6
