"""Every rewrite keeps the function of the model, in float64 to the last digits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from elfatt_deploy.export import rewrites
from elfatt_deploy.models.backbones.layers import Block, PackedQKV

ATTENTIONS = ("elfatt", "effatt", "global", "local")


def _images(height=64, width=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture(params=ATTENTIONS)
def net(request, small_net):
    """Return a float64 model whose norms and biases are not at their initial values."""
    return small_net(request.param).double()


@pytest.mark.parametrize("name", [*rewrites.REWRITES, "all"])
def test_a_rewrite_keeps_the_logits_in_float64(name, net):
    if name == "all":
        changed = rewrites.rewritten(net)
    else:
        changed = copy.deepcopy(net)
        rewrites.REWRITES[name](changed)
    with torch.no_grad():
        torch.testing.assert_close(changed(_images()), net(_images()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.75, 1.0])
def test_all_rewrites_keep_the_logits_of_other_ratios_on_a_padded_map(ratio, small_net):
    net = small_net(height=72, width=104, global_ratio=ratio).double()
    images = _images(72, 104)
    with torch.no_grad():
        torch.testing.assert_close(
            rewrites.rewritten(net)(images), net(images), rtol=1e-12, atol=1e-12
        )


def test_the_original_model_is_left_as_it_is(net):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modules = [type(module) for module in net.modules()]
    rewrites.rewritten(net)
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [type(module) for module in net.modules()] == modules


def test_no_packed_projection_is_left(net):
    assert any(isinstance(module, PackedQKV) for module in net.modules())
    assert not any(isinstance(m, PackedQKV) for m in rewrites.rewritten(net).modules())


def test_the_split_projection_has_no_parameter_more_or_less(net):
    packed = copy.deepcopy(net)
    rewrites.split_qkv(packed)
    counts = [sum(p.numel() for p in model.parameters()) for model in (net, packed)]
    assert counts[0] == counts[1]


def test_exactly_the_declared_norms_lose_their_affine(net):
    changed = rewrites.rewritten(net)
    declared = {
        f"{owner}.{norm}".lstrip(".")
        for owner, module in net.named_modules()
        for norm, _ in rewrites.norm_followers(module)
    }
    plain = {
        name
        for name, module in changed.named_modules()
        if isinstance(module, nn.LayerNorm) and module.weight is None and module.bias is None
    }
    assert plain == declared
    assert len(declared) == 1 + 2 * sum(isinstance(m, Block) for m in net.modules())


def test_a_module_that_declares_nothing_is_not_folded():
    plain = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    changed = rewrites.rewritten(plain)
    assert changed[0].weight is not None


def test_the_rewritten_model_keeps_its_precision(small_net):
    assert {p.dtype for p in rewrites.rewritten(small_net()).parameters()} == {torch.float32}
