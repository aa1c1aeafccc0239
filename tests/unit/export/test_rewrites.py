"""Every rewrite keeps the function of the model, in float64 to the last digits."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from elfatt_deploy.export import rewrites
from elfatt_deploy.models.attention.layers import Branch, DepthwiseConv, LePE
from elfatt_deploy.models.backbones.layers import Block, PackedQKV
from elfatt_deploy.models.backbones.swin import PatchMerging

CSWIN = ("local", "global", "flatten", "agent", "effatt", "elfatt")
LOCALS = tuple(rewrites.REWRITES)
EACH = {name: rewrite for each in rewrites.REWRITES.values() for name, rewrite in each.items()}
SWIN = tuple(name for name in CSWIN if name != "elfatt")  # Swin-ELFATT has the CSWin backbone


def _images(height=64, width=64, batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture(
    params=[*(("cswin", name) for name in CSWIN), *(("swin", name) for name in SWIN)],
    ids="-".join,
)
def build(request, small_net, small_swin):
    """Return a function: height and width to a float64 model of no weight at its initial value."""
    backbone, attention = request.param
    make = small_net if backbone == "cswin" else small_swin
    usual = {"flatten": {"levels": "1-2", "elsewhere": "local"}}
    usual["agent"] = usual["flatten"]

    def build(height=64, width=64):
        changes = usual.get(attention, {}) if backbone == "cswin" else {}
        return make(attention, height, width, **changes).double()

    return build


@pytest.fixture
def net(build):
    return build()


def _assert_same(changed, net, images):
    with torch.no_grad():
        torch.testing.assert_close(changed(images), net(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EACH)
def test_a_rewrite_keeps_the_logits_in_float64(name, net):
    changed = copy.deepcopy(net)
    with torch.no_grad():
        EACH[name](changed)
    _assert_same(changed, net, _images())


@pytest.mark.parametrize("local", LOCALS)
@pytest.mark.parametrize(("height", "width", "batch"), [(64, 64, 3), (72, 104, 1)])
def test_all_rewrites_keep_the_logits_in_float64(height, width, batch, local, build):
    net = build(height, width)
    _assert_same(rewrites.rewritten(net, local), net, _images(height, width, batch))


@pytest.mark.parametrize("local", LOCALS)
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.75, 1.0])
def test_all_rewrites_keep_the_logits_of_other_ratios_on_a_padded_map(ratio, local, small_net):
    net = small_net(height=72, width=104, global_ratio=ratio).double()
    _assert_same(rewrites.rewritten(net, local), net, _images(72, 104))


def test_no_depthwise_convolution_of_tokens_is_left_where_shifts_are_wanted(build):
    net = build()
    changed = rewrites.rewritten(net, "shifts")
    assert not any(isinstance(module, DepthwiseConv) for module in changed.modules())
    kept = [isinstance(m, DepthwiseConv) for m in rewrites.rewritten(net).modules()]
    assert any(kept) == any(isinstance(m, DepthwiseConv) for m in net.modules())


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (2, 7), (9, 4)])
def test_shifted_tokens_are_the_convolution(rows, cols, kernel):
    lepe = LePE(6, rows, cols, kernel).double()
    tokens = torch.randn(3, rows * cols, 6, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(lepe.shifted()(tokens), lepe(tokens), rtol=1e-12, atol=1e-12)


def test_the_original_model_is_left_as_it_is(net):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modules = [type(module) for module in net.modules()]
    rewrites.rewritten(net)
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [type(module) for module in net.modules()] == modules


@pytest.mark.parametrize("local", LOCALS)
def test_no_packed_projection_is_left(local, net):
    assert any(isinstance(module, PackedQKV) for module in net.modules())
    assert not any(isinstance(m, PackedQKV) for m in rewrites.rewritten(net, local).modules())


@pytest.mark.parametrize("rewrite", [rewrites.split_qkv, rewrites.whole_qkv])
def test_another_projection_has_no_parameter_more_or_less(rewrite, net):
    packed = copy.deepcopy(net)
    rewrite(packed)
    counts = [sum(p.numel() for p in model.parameters()) for model in (net, packed)]
    assert counts[0] == counts[1]


def test_every_module_with_an_export_form_is_exchanged(net):
    wanted = {name for name, module in net.named_modules() if hasattr(module, "exported")}
    changed = rewrites.rewritten(net)
    branches = {name: module for name, module in net.named_modules() if isinstance(module, Branch)}
    assert wanted >= branches.keys() != set()
    for name, branch in branches.items():
        exported = changed.get_submodule(name)
        assert type(exported) is type(branch.exported())
        assert exported.exported() is exported
        assert exported.gains() is None


def test_an_export_form_is_in_eval_mode(net):
    changed = copy.deepcopy(net)
    rewrites.export_forms(changed)
    assert not any(module.training for module in changed.modules())


def test_export_forms_of_export_forms_change_nothing_more(net):
    once, twice = copy.deepcopy(net), copy.deepcopy(net)
    rewrites.export_forms(once)
    for _ in range(2):
        rewrites.export_forms(twice)
    assert [type(m) for m in once.modules()] == [type(m) for m in twice.modules()]
    with torch.no_grad():
        assert torch.equal(once(_images()), twice(_images()))


class Doubled(nn.Module):
    def forward(self, x):
        return x + x

    def exported(self):
        return nn.Sequential(Inner(), nn.Identity())


class Inner(nn.Module):
    def exported(self):
        return Plain()


class Plain(nn.Module):
    def forward(self, x):
        return 2 * x


def test_an_export_form_is_put_in_place_at_any_depth_and_inside_another():
    net = nn.Sequential(nn.ModuleDict({"a": nn.Sequential(Doubled())})["a"], nn.Flatten())
    changed = rewrites.rewritten(net)
    assert [type(module) for module in changed.modules()] == [
        nn.Sequential, nn.Sequential, nn.Sequential, Plain, nn.Identity, nn.Flatten,
    ]  # fmt: skip
    assert torch.equal(changed(torch.ones(2, 3)), net(torch.ones(2, 3)))


def test_gains_are_folded_into_the_rows_of_q_and_k(small_net):
    net = small_net("flatten", levels="1-2", elsewhere="local").double()
    folded = copy.deepcopy(net)
    rewrites.export_forms(folded)
    for name, block in net.named_modules():
        if not isinstance(block, Block):
            continue
        (branch, *others) = block.attns
        q_gain, k_gain = branch.gains() or (torch.ones(branch.channels),) * 2
        gain = torch.cat((q_gain, k_gain, torch.ones_like(q_gain)))
        before, after = block.qkv, folded.get_submodule(name).qkv
        if others:  # of CSWin's own attention, which folds nothing
            assert torch.equal(before.weight, after.weight)
            continue
        torch.testing.assert_close(after.weight, before.weight * gain[:, None], rtol=1e-15, atol=0)
        torch.testing.assert_close(after.bias, before.bias * gain, rtol=1e-15, atol=0)
    assert net.stage1[0].attns[0].gains() is not None
    assert folded.stage1[0].attns[0].gains() is None


class Gained(Branch):
    """Half of the channels of a block, Q and K multiplied by 2 and by 3 in the export form."""

    def __init__(self, channels, gains):
        super().__init__()
        self.channels, self.q_gain, self.k_gain = channels, *gains

    def forward(self, q, k, v):
        return (q + k * v).reshape(-1, self.channels)

    def gains(self):
        return tuple(torch.full((self.channels,), g) for g in (self.q_gain, self.k_gain))


def test_gains_of_several_branches_reach_their_own_rows():
    block = Block(8, 4, (Gained(2, (2.0, 3.0)), Gained(6, (5.0, 7.0))))
    weight = block.qkv.weight.detach().clone()
    rewrites._fold_gains(block)
    gain = torch.tensor([2.0] * 2 + [5.0] * 6 + [3.0] * 2 + [7.0] * 6 + [1.0] * 8)
    torch.testing.assert_close(block.qkv.weight.detach(), weight * gain[:, None])


def test_a_linear_layer_without_bias_gets_that_of_the_norm(small_swin):
    merge = copy.deepcopy(small_swin().double().layers[0].downsample)
    folded = copy.deepcopy(merge)
    rewrites.fold_norms(folded)
    assert (merge.reduction.bias, folded.norm.weight, folded.norm.bias) == (None, None, None)
    torch.testing.assert_close(
        folded.reduction.bias, merge.reduction.weight @ merge.norm.bias, rtol=1e-12, atol=1e-12
    )
    tokens = torch.randn(merge.tokens, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(tokens), merge(tokens), rtol=1e-12, atol=1e-12)


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
    merges = sum(isinstance(m, PatchMerging) for m in net.modules())
    assert len(declared) == 1 + 2 * sum(isinstance(m, Block) for m in net.modules()) + merges


def test_a_module_that_declares_nothing_is_not_folded():
    plain = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))
    changed = rewrites.rewritten(plain)
    assert changed[0].weight is not None


@pytest.mark.parametrize("local", LOCALS)
def test_the_rewritten_model_keeps_its_precision(local, small_net):
    net = rewrites.rewritten(small_net(), local)
    assert {t.dtype for t in (*net.parameters(), *net.buffers())} == {torch.float32}


@pytest.mark.parametrize("local", LOCALS)
def test_a_softmax_over_very_many_tokens_is_scaled_for_half_precision_only(
    local, small_net, monkeypatch
):
    net = small_net("elfatt").double()
    monkeypatch.setattr(rewrites, "_MOST_TOKENS", 63)  # maps of 16x16, 8x8, 4x4, 2x2 tokens

    def scales(model):
        found = [m.token_scale for m in model.modules() if hasattr(m, "token_scale")]
        return [scale for scale in found if scale != 1]

    changed = rewrites.rewritten(net, local, "fp16")
    assert scales(changed) == [16, 8]
    assert scales(rewrites.rewritten(net, local, "fp32")) == []
    assert scales(net) == []
    _assert_same(changed, net, _images())
