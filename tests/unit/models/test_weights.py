"""Where a module's weights come from, and the very same ones again for a bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import types

import pytest
import torch
from torch import nn

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import ModelIdentity, Weights, to_document
from elfatt_deploy.errors import CheckpointError, InputFileError, ModelError, UsageError
from elfatt_deploy.models import registry, seeded, weights
from elfatt_deploy.models.weights import WeightChoice


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))


@pytest.fixture
def mine(monkeypatch):
    """Return an importable module `mine` with a function `make` and a module `net`."""
    module = types.ModuleType("mine")
    module.make, module.net = Net, Net()
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


@pytest.fixture
def tiny(monkeypatch):
    """Register `tiny_swin`, a Swin of a few thousand parameters."""
    monkeypatch.setattr(registry, "_extra_models", {})
    spec = registry.get("swin_t_local")
    config = dataclasses.replace(
        spec.config, embed_dim=8, depths=(2, 1, 1, 1), heads=(2,) * 4, classes=5
    )
    return registry.register_model(
        dataclasses.replace(spec, name="tiny_swin", config=config, input_size=64)
    )


def _built(name, **choice):
    spec = registry.get(name)
    return weights.built(spec, 64, 64, WeightChoice(**choice))


def _same(one, other):
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def _saved(module, path):
    torch.save(module.state_dict(), path)
    return path


def test_a_model_of_ours_gets_seeded_weights(tiny):
    module, found = _built("tiny_swin", seed=3)
    expected = tiny.build(64, 64)
    seeded.fill(expected, 3)
    assert found == Weights(source="random(3)")
    assert (found.random, found.seed) == (True, 3)
    assert _same(module, expected)


def test_a_function_of_the_users_keeps_the_weights_it_makes_at_the_seed(mine):
    (one, first), (again, second), (other, third) = (
        _built("mine:make", seed=seed) for seed in (0, 0, 1)
    )
    assert _same(one, again)
    assert not _same(one, other)
    assert first == second
    assert (first.source, third.source) == ("module(0)", "module(1)")
    assert first.sha256 != third.sha256
    assert (first.random, first.seed, third.seed) == (False, 0, 1)


def test_the_digest_is_that_of_names_and_values_in_order(mine):
    module, found = _built("mine:make")
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(key.encode() + value.numpy().tobytes())
    assert found.sha256 == digest.hexdigest()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_any_type_have_a_digest(dtype, mine):
    mine.make = lambda: Net().to(dtype)
    digests = {_built("mine:make", seed=seed)[1].sha256 for seed in (0, 0, 1)}
    assert len(digests) == 2


def test_a_counter_without_dimensions_is_part_of_the_digest(mine):
    def make():
        norm = nn.BatchNorm2d(3)
        norm.num_batches_tracked.fill_(mine.steps)
        return norm

    mine.make, digests = make, []
    for mine.steps in (1, 2):
        digests.append(_built("mine:make")[1].sha256)
    assert len(set(digests)) == 2


def test_building_leaves_torchs_generator_alone(mine, tiny):
    before = torch.get_rng_state()
    for name in ("mine:make", "tiny_swin"):
        spec = registry.get(name)
        torch.set_rng_state(before)
        weights.built(spec, 64, 64, WeightChoice(seed=9))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["mine:make", "tiny_swin"])
def test_weights_of_a_file_are_named_with_its_digest(name, mine, tiny, tmp_path):
    trained, _ = _built(name, seed=4)
    path = _saved(trained, tmp_path / "trained.pth")
    module, found = _built(name, path=path, url="https://example.com/trained.pth")
    assert _same(module, trained)
    assert found == Weights(
        source="trained.pth",
        sha256=bundles.sha256_of(path),
        url="https://example.com/trained.pth",
    )
    assert (found.random, found.seed) == (False, None)


def test_a_key_map_is_recorded(mine, tmp_path):
    trained, _ = _built("mine:make", seed=4)
    state = {f"net.{key}": value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    mine.rename = lambda key: key.removeprefix("net.")
    module, found = _built("mine:make", path=tmp_path / "other.pth", key_map="mine:rename")
    assert _same(module, trained)
    assert found.key_map == "mine:rename"


def test_what_was_resized_is_recorded_a_line_each(tiny, tmp_path):
    trained, _ = _built("tiny_swin")
    path = _saved(trained, tmp_path / "at-64.pth")
    _, found = weights.built(tiny, 128, 128, WeightChoice(path=path))
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    assert f"{key}: (9, 2) to (49, 2), bicubic" in found.resized
    assert all(line.endswith(", bicubic") for line in found.resized)


def test_a_tensor_that_no_rule_draws_is_refused(monkeypatch):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))

    module = types.ModuleType("mine")
    module.build = lambda config, height, width: Odd()
    monkeypatch.setitem(sys.modules, "mine", module)
    spec = dataclasses.replace(registry.get("convnext_t"), builder="mine:build")
    with pytest.raises(ModelError, match="no rule draws random values for 'cls_token'"):
        weights.built(spec, 64, 64, WeightChoice())


# --- the module of a bundle again ---


def _identity(name, **changes):
    spec = registry.get(name)
    fields = {"settings": {}, "config": to_document(spec.config), "height": 64, "width": 64}
    return ModelIdentity(name=name, family=spec.family, builder="", **{**fields, **changes})


@pytest.mark.parametrize("name", ["mine:make", "mine:net", "tiny_swin"])
def test_random_weights_and_those_of_a_function_are_made_again(name, mine, tiny):
    module, found = _built(name, seed=5)
    assert _same(weights.rebuilt(_identity(name), found, None), module)


def test_the_settings_of_the_bundle_are_applied(tiny):
    module = weights.rebuilt(
        _identity("tiny_swin", settings={"classes": "7", "window": "4"}),
        Weights(source="random(0)"),
        None,
    )
    assert module.head.out_features == 7
    assert module.layers[0].blocks[0].attns[0].windows.height == 4


def test_the_size_of_the_bundle_is_applied(tiny):
    identity = _identity("tiny_swin", height=96, width=128)
    module = weights.rebuilt(identity, Weights(source="random(0)"), None)
    with torch.no_grad():
        assert module(torch.zeros(1, 3, 96, 128)).shape == (1, 5)


def test_seeded_weights_need_no_file_and_take_none(tiny, tmp_path):
    module, found = _built("tiny_swin")
    other, _ = _built("tiny_swin", seed=1)
    path = _saved(other, tmp_path / "other.pth")
    assert _same(weights.rebuilt(_identity("tiny_swin"), found, path), module)


@pytest.mark.parametrize("name", ["mine:make", "tiny_swin"])
def test_the_file_of_a_bundle_is_loaded_again(name, mine, tiny, tmp_path):
    trained, _ = _built(name, seed=4)
    path = _saved(trained, tmp_path / "trained.pth")
    _, found = _built(name, path=path)
    renamed = path.rename(tmp_path / "elsewhere.pth")
    assert _same(weights.rebuilt(_identity(name), found, renamed), trained)


def test_the_key_map_of_the_bundle_is_used_again(mine, tmp_path):
    trained, _ = _built("mine:make", seed=4)
    state = {f"net.{key}": value for key, value in trained.state_dict().items()}
    torch.save(state, tmp_path / "other.pth")
    mine.rename = lambda key: key.removeprefix("net.")
    _, found = _built("mine:make", path=tmp_path / "other.pth", key_map="mine:rename")
    module = weights.rebuilt(_identity("mine:make"), found, tmp_path / "other.pth")
    assert _same(module, trained)


def test_swapped_halves_are_swapped_again(monkeypatch, tmp_path, small_config):
    monkeypatch.setattr(registry, "_extra_models", {})
    spec = dataclasses.replace(
        registry.get("cswin_t_elfatt"), name="tiny", config=small_config(), input_size=64
    )
    registry.register_model(spec)
    plain, _ = _built("tiny")
    path = _saved(plain, tmp_path / "swapped.pth")
    swapped, found = _built("tiny", path=path, swap_halves=True)
    assert found.swap_halves
    assert not _same(swapped, plain)
    assert _same(weights.rebuilt(_identity("tiny"), found, path), swapped)


def test_a_missing_file_is_named_with_its_digest(tiny):
    wanted = Weights(source="trained.pth", sha256="ab" * 32)
    with pytest.raises(InputFileError, match=r"needs its weights file, trained\.pth") as caught:
        weights.rebuilt(_identity("tiny_swin"), wanted, None)
    assert f"--weights FILE (SHA-256 {'ab' * 32})" in caught.value.hint


def test_another_file_is_refused(tiny, tmp_path):
    trained, _ = _built("tiny_swin", seed=4)
    path = _saved(trained, tmp_path / "trained.pth")
    _, found = _built("tiny_swin", path=path)
    torch.save({**trained.state_dict(), "more": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="is not the file that the bundle was made") as caught:
        weights.rebuilt(_identity("tiny_swin"), found, path)
    assert found.sha256 in caught.value.hint


def test_a_function_that_gives_other_weights_now_is_refused(mine):
    _, found = _built("mine:make")
    mine.make = lambda: nn.Sequential(Net())
    with pytest.raises(CheckpointError, match="'mine:make' now gives other weights") as caught:
        weights.rebuilt(_identity("mine:make"), found, None)
    assert "--weights FILE" in caught.value.hint


def test_a_module_that_was_trained_on_since_is_refused(mine):
    _, found = _built("mine:net")
    with torch.no_grad():
        mine.net.head.bias += 1
    with pytest.raises(CheckpointError, match="'mine:net' now gives other weights"):
        weights.rebuilt(_identity("mine:net"), found, None)


def test_a_model_that_is_not_known_here_is_refused(tiny):
    identity = _identity("tiny_swin")
    for name in ("foreign", "no_such_module:make"):
        with pytest.raises(UsageError):
            weights.rebuilt(
                dataclasses.replace(identity, name=name), Weights(source="random(0)"), None
            )


def test_published_weights_of_timm_are_asked_for_again(monkeypatch):
    class Timm(types.ModuleType):
        def is_model(self, name):
            return True

        def get_pretrained_cfg(self, name):
            return None

        def create_model(self, name, pretrained):
            net = Net()
            for parameter in net.parameters():
                nn.init.constant_(parameter, 1.0 if pretrained else 0.0)
            return net

    monkeypatch.setitem(sys.modules, "timm", Timm("timm"))
    spec = registry.get("timm/net")
    config = dataclasses.replace(spec.config, pretrained=True)
    trained, found = weights.built(
        dataclasses.replace(spec, config=config), 224, 224, WeightChoice()
    )
    identity = _identity("timm/net", config=to_document(config), height=224, width=224)
    assert _same(weights.rebuilt(identity, found, None), trained)
    with pytest.raises(CheckpointError, match="now gives other weights"):
        weights.rebuilt(_identity("timm/net"), found, None)
