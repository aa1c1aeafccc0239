"""Names to models; a new attention is one function and one line."""

from __future__ import annotations

import dataclasses
import sys
import types

import pytest

from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.config import CSWinConfig, SwinConfig
from elfatt_deploy.models.registry import Attention

CONTEXT = AttentionContext(
    dim=16,
    heads=2,
    rows=8,
    cols=8,
    level=2,
    index=0,
    block=4,
    stripe=2,
    lepe=True,
    global_ratio=0.5,
)


@pytest.fixture(autouse=True)
def _own_tables(monkeypatch):
    """Let a test register what it likes."""
    monkeypatch.setattr(registry, "ATTENTIONS", dict(registry.ATTENTIONS))
    monkeypatch.setattr(registry, "_extra_models", {})


@pytest.fixture
def mechanism(monkeypatch):
    """Return a function that registers an attention made of its argument."""

    def register(branches, name="mine"):
        module = types.ModuleType("my_attention")
        module.branches = branches
        monkeypatch.setitem(sys.modules, "my_attention", module)
        registry.register_attention(
            name, Attention(branches="my_attention:branches", summary="my own")
        )

    return register


def test_the_names_are_each_backbone_with_each_attention_the_ablations_and_the_others():
    attentions = ("local", "global", "flatten", "agent", "effatt", "elfatt")
    suffixes = ("196", "nolepe", "c1_0", "c1_25", "c1_75", "l1234")
    backbones = [f"{family}_{size}" for family in ("cswin", "swin") for size in "tb"]
    assert set(registry.models()) == {
        *(f"{backbone}_{attention}" for backbone in backbones for attention in attentions),
        *(f"cswin_t_elfatt_{suffix}" for suffix in suffixes),
        *("swin_t_localtimm", "swin_b_localtimm", "convnext_t", "convnext_t_timm", "vmamba_t"),
        *("efficientvit_b2", "efficientvit_b2_288", "efficientvit_b2_timm"),
    }
    assert all(spec.name == name for name, spec in registry.models().items())


ODD = ("elfatt", "elfatt", "elfatt", "elfatt", "global", "elfatt", "global")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        *((f"{backbone}_elfatt", ODD) for backbone in ("cswin_t", "cswin_b", "swin_t", "swin_b")),
        ("cswin_t_effatt", ("effatt", "effatt", "effatt", "effatt", "global", "effatt", "global")),
        ("swin_b_effatt", ("effatt", "effatt", "effatt", "effatt", "global", "effatt", "global")),
        ("cswin_t_global", ("global",) * 7),
        ("swin_t_global", ("global",) * 7),
        ("cswin_b_local", ("local",) * 7),
        ("swin_b_local", ("local",) * 7),
        ("cswin_t_flatten", ("flatten",) * 4 + ("local",) * 3),
        ("swin_b_flatten", ("flatten",) * 4 + ("local",) * 3),
        ("cswin_b_agent", ("agent",) * 4 + ("local",) * 3),
        ("swin_t_agent", ("agent",) * 6 + ("local",)),
        ("swin_b_agent", ("agent",) * 5 + ("local",) * 2),
        ("cswin_t_elfatt_l1234", ("elfatt",) * 7),
    ],
)
def test_each_model_has_its_mechanism_where_the_paper_puts_it(name, pattern):
    config = registry.get(name).config
    places = ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 17), (4, 0))
    assert tuple(config.mechanism(level, index) for level, index in places) == pattern


def test_swin_b_agent_has_agents_in_the_first_two_blocks_of_level_three():
    config = registry.get("swin_b_agent").config
    assert [config.mechanism(3, index) for index in range(4)] == ["agent"] * 2 + ["local"] * 2


@pytest.mark.parametrize(
    ("name", "backbone", "lepe"),
    [
        ("cswin_t_local", CSWinConfig, True),
        ("swin_t_local", SwinConfig, False),
        ("swin_t_flatten", SwinConfig, False),
        ("swin_b_agent", SwinConfig, False),
        ("swin_t_global", SwinConfig, True),
        ("swin_b_effatt", SwinConfig, True),
        ("swin_b_elfatt", CSWinConfig, True),
    ],
)
def test_swin_elfatt_has_the_cswin_backbone_and_swins_own_attentions_no_lepe(name, backbone, lepe):
    config = registry.get(name).config
    assert type(config) is backbone
    assert config.lepe is lepe


@pytest.mark.parametrize("name", ["swin_t_local", "swin_b_local", "efficientvit_b2", "convnext_t"])
def test_the_model_with_the_keys_of_timm_is_the_same_otherwise(name):
    spec = registry.get(name)
    other = registry.get(f"{name}timm" if name.startswith("swin") else f"{name}_timm")
    assert (spec.config.keys, other.config.keys) == ("official", "timm")
    same = dataclasses.replace(other.config, keys="official")
    if name == "efficientvit_b2":
        assert same.division_eps == 1e-5
        same = dataclasses.replace(same, division_eps=1e-15)
    assert same == spec.config
    assert (spec.crop_share, spec.input_size) == (other.crop_share, other.input_size)


@pytest.mark.parametrize(
    ("name", "near"),
    [("cswin_t_elfat", "cswin_t_elfatt"), ("cswin_b_globl", "cswin_b_global")],
)
def test_an_unknown_model_lists_the_nearest(name, near):
    with pytest.raises(UnknownNameError, match=f"did you mean {near}") as caught:
        registry.get(name)
    assert "elfatt-deploy models" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "side", "share"),
    [
        ("cswin_t_elfatt", 224, 0.9),
        ("cswin_t_elfatt", 256, 0.9),
        ("cswin_t_elfatt", 384, 1.0),
        ("swin_t_local", 224, 0.875),
        ("swin_t_local", 384, 1.0),
        ("convnext_t", 224, 0.875),
        ("vmamba_t", 224, 0.875),
        ("efficientvit_b2", 224, 0.95),
        ("efficientvit_b2", 384, 0.95),
    ],
)
def test_the_crop_is_that_of_the_official_evaluation(name, side, share):
    recipe = registry.get(name).preprocessing(side, side)
    assert (recipe.height, recipe.width, recipe.crop_share) == (side, side, share)
    assert recipe.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("asked", "size"),
    [((None, None), (288, 288)), ((320, None), (320, 288)), ((224, 256), (224, 256))],
)
def test_the_input_size_is_what_was_asked_for_else_the_models_own(asked, size):
    assert registry.get("efficientvit_b2_288").size(*asked) == size


def test_a_registered_model_is_found_and_its_name_is_taken():
    spec = dataclasses.replace(registry.get("cswin_t_elfatt"), name="mine")
    assert registry.register_model(spec) is spec
    assert registry.get("mine") is spec
    with pytest.raises(UsageError, match="a model named 'mine' is registered already"):
        registry.register_model(spec)


def test_a_shipped_model_cannot_be_replaced():
    with pytest.raises(UsageError, match="'cswin_t_elfatt' is registered already"):
        registry.register_model(registry.get("cswin_t_elfatt"))


def test_a_shipped_attention_cannot_be_replaced():
    with pytest.raises(UsageError, match="an attention named 'elfatt' is registered already"):
        registry.register_attention("elfatt", Attention(branches="a:b", summary="other"))


def test_a_registered_attention_gives_a_model_of_every_backbone(mechanism, small_config):
    from elfatt_deploy.models.attention import softmax

    mechanism(softmax.branches)
    names = {f"{backbone}_mine" for backbone in ("cswin_t", "cswin_b", "swin_t", "swin_b")}
    assert names <= set(registry.models())
    assert registry.get("cswin_b_mine").summary == "my own"
    spec = dataclasses.replace(registry.get("cswin_t_mine"), config=small_config("mine"))
    assert spec.build(32, 32).head.out_features == 10
    small = {"embed_dim": 16, "depths": (1, 1, 1, 1), "heads": (2, 2, 2, 2), "classes": 10}
    spec = registry.get("swin_t_mine")
    swin = dataclasses.replace(spec, config=dataclasses.replace(spec.config, **small))
    assert swin.build(32, 32).head.out_features == 10


def test_an_attention_may_be_another_one_on_swin(mechanism):
    from elfatt_deploy.models.attention import softmax

    mechanism(softmax.branches)
    entry = dataclasses.replace(
        registry.ATTENTIONS["mine"], on_swin="elfatt_deploy.models.attention.effatt:branches"
    )
    registry.register_attention("other", entry)
    swin = dataclasses.replace(CONTEXT, backbone="swin")
    kinds = [type(registry.attention_branches("other", c)[0]).__name__ for c in (CONTEXT, swin)]
    assert kinds == ["WindowAttention", "LinearAttention"]


def test_a_block_of_cswin_keeps_no_order_of_the_tokens():
    spec = registry.get("cswin_t_elfatt")
    config = dataclasses.replace(
        spec.config, embed_dim=16, depths=(1,) * 4, heads=(2,) * 4, attention="windows",
        levels="1",
    )  # fmt: skip
    registry.register_attention(
        "windows",
        Attention(branches="elfatt_deploy.models.attention.swin:branches", summary=""),
    )
    with pytest.raises(UsageError, match="attention 'windows' asks for an order of the tokens"):
        dataclasses.replace(spec, config=config).build(224, 224)


def test_an_unknown_attention_lists_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown attention 'elfat': did you mean elfatt"):
        registry.attention_branches("elfat", CONTEXT)


@pytest.mark.parametrize("taken", [0, 8, 24])
def test_branches_that_do_not_take_all_channels_are_refused(taken, mechanism):
    from elfatt_deploy.models.attention.layers import LinearAttention

    mechanism(lambda _: (LinearAttention(taken, 1, 8, 8, lepe=False),) if taken else ())
    told = f"attention 'mine' takes {taken} of the 16 channels of level 2"
    with pytest.raises(UsageError, match=told) as caught:
        registry.attention_branches("mine", CONTEXT)
    assert "context.dim" in caught.value.hint


@pytest.mark.parametrize("target", ["no_such_module:branches", "math:branches", "math"])
def test_an_import_string_that_leads_nowhere_is_a_usage_error_that_names_it(target):
    registry.register_attention("mine", Attention(branches=target, summary=""))
    with pytest.raises(UsageError, match=target):
        registry.attention_branches("mine", CONTEXT)
    spec = dataclasses.replace(registry.get("cswin_t_elfatt"), builder=target)
    with pytest.raises(UsageError, match=target):
        spec.build(32, 32)


@pytest.mark.parametrize(
    ("attention", "ratio", "channels"),
    [
        ("elfatt", 0.5, (8, 8)),
        ("elfatt", 0.25, (4, 12)),
        ("elfatt", 0.0, (16,)),
        ("elfatt", 1.0, (16,)),
        ("effatt", 0.5, (16,)),
        ("global", 0.5, (16,)),
        ("local", 0.5, (8, 8)),
        ("flatten", 0.5, (16,)),
        ("agent", 0.5, (16,)),
    ],
)
def test_the_branches_of_each_mechanism_share_the_channels(attention, ratio, channels):
    context = dataclasses.replace(CONTEXT, global_ratio=ratio)
    branches = registry.attention_branches(attention, context)
    assert tuple(branch.channels for branch in branches) == channels


def test_a_ratio_that_the_heads_do_not_divide_is_refused_with_ratios_that_work():
    context = dataclasses.replace(CONTEXT, heads=8, global_ratio=0.3)
    with pytest.raises(UsageError, match="cuts 16 channels of level 2 into 5 and 11") as caught:
        registry.attention_branches("elfatt", context)
    assert "0.25, 0.5 or 0.75" in caught.value.hint
