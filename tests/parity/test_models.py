"""Every registered model against vectors of the official code or of independent oracles."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from elfatt_deploy.models import counting, registry, seeded

NAMES = tuple(registry.models())


@pytest.fixture(scope="module", params=NAMES)
def case(request, golden_folder, golden_image):
    """One model with seed-0 weights, its description, its vectors and its input."""
    description = json.loads((golden_folder / f"{request.param}.json").read_text())
    with np.load(golden_folder / f"{request.param}.npz") as file:
        vectors = {key: file[key] for key in file.files}
    model = registry.get(request.param).build(224, 224)
    seeded.fill(model)
    size = int(vectors["input_size"])
    images = golden_image(int(vectors["input_seed"]), int(vectors["input_batch"]), size)
    return model, description, vectors, torch.from_numpy(images)


def test_state_dict_has_the_reference_keys_and_shapes(case):
    model, description, _, _ = case
    wanted = {entry["name"]: tuple(entry["shape"]) for entry in description["state_dict"]}
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == wanted


def test_float32_logits_equal_the_reference(case):
    model, _, vectors, images = case
    with torch.no_grad():
        logits = model(images).numpy()
    np.testing.assert_allclose(logits, vectors["logits"], rtol=0, atol=2e-5)


def test_float64_logits_and_every_checkpoint_equal_the_reference(case, golden_positions):
    model, description, vectors, images = case
    seen, hooks = {}, []
    for checkpoint in description["checkpoints"]:
        name, module = checkpoint["name"], model.get_submodule(checkpoint["module"])
        if checkpoint["io"] == "out":

            def keep(_, __, output, name=name):
                seen[name] = output

            hooks.append(module.register_forward_hook(keep))
        else:

            def keep_input(_, inputs, name=name):
                seen[name] = inputs[0]

            hooks.append(module.register_forward_pre_hook(keep_input))
    try:
        with torch.no_grad():
            logits = model.double()(images.double()).numpy()
    finally:
        model.float()
        for hook in hooks:
            hook.remove()
    np.testing.assert_allclose(logits, vectors["logits64"], rtol=0, atol=1e-8)
    assert len(seen) == len(description["checkpoints"]) > 10
    for checkpoint in description["checkpoints"]:
        name = checkpoint["name"]
        values = seen[name].numpy().reshape(-1)
        assert values.size == np.prod(checkpoint["shape"]), name
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


def test_counts_equal_the_reference_to_the_last_operation(case):
    _, description, _, _ = case
    counts = counting.count(registry.get(description["name"]), 224, 224)
    flops = description["flops"]
    assert counts.params == description["params"]
    assert counts.macs == flops["total"]
    assert counts.softmax_attention_macs == flops["softmax_attention_matmul"]


def test_a_wrong_layer_norm_eps_is_found(golden_folder, golden_image):
    """The vectors must be able to fail: the smallest mistake known to us moves logits by 9e-6."""
    model = registry.get("cswin_t_elfatt").build(224, 224)
    seeded.fill(model)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    with np.load(golden_folder / "cswin_t_elfatt.npz") as vectors, torch.no_grad():
        logits = model.double()(torch.from_numpy(golden_image(1, 1, 224)).double()).numpy()
        assert np.abs(logits - vectors["logits64"]).max() > 1e-6
