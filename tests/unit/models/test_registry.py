"""Names to models; a new attention is one function and one line."""

from __future__ import annotations

import dataclasses
import sys
import types

import pytest

from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext
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


def test_the_names_are_each_backbone_with_each_attention_and_the_ablations():
    attentions = ("local", "global", "effatt", "elfatt")
    suffixes = ("196", "nolepe", "c1_0", "c1_25", "c1_75", "l1234")
    assert set(registry.models()) == {
        *(f"cswin_{size}_{attention}" for size in "tb" for attention in attentions),
        *(f"cswin_t_elfatt_{suffix}" for suffix in suffixes),
    }
    assert all(spec.name == name for name, spec in registry.models().items())


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("cswin_t_elfatt", ("elfatt", "elfatt", "elfatt", "elfatt", "global", "elfatt", "global")),
        ("cswin_t_effatt", ("effatt", "effatt", "effatt", "effatt", "global", "effatt", "global")),
        ("cswin_b_elfatt", ("elfatt", "elfatt", "elfatt", "elfatt", "global", "elfatt", "global")),
        ("cswin_t_global", ("global",) * 7),
        ("cswin_b_local", ("local",) * 7),
        ("cswin_t_elfatt_l1234", ("elfatt",) * 7),
    ],
)
def test_each_model_has_its_mechanism_where_the_paper_puts_it(name, pattern):
    config = registry.get(name).config
    places = ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 17), (4, 0))
    assert tuple(config.mechanism(level, index) for level, index in places) == pattern


@pytest.mark.parametrize(
    ("name", "near"),
    [("cswin_t_elfat", "cswin_t_elfatt"), ("cswin_b_globl", "cswin_b_global")],
)
def test_an_unknown_model_lists_the_nearest(name, near):
    with pytest.raises(UnknownNameError, match=f"did you mean {near}") as caught:
        registry.get(name)
    assert "elfatt-deploy models" in caught.value.hint


@pytest.mark.parametrize(("side", "share"), [(224, 0.9), (256, 0.9), (384, 1.0)])
def test_the_crop_is_that_of_the_backbones_evaluation(side, share):
    recipe = registry.get("cswin_t_elfatt").preprocessing(side, side)
    assert (recipe.height, recipe.width, recipe.crop_share) == (side, side, share)
    assert recipe.interpolation == "bicubic"


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
    assert {"cswin_t_mine", "cswin_b_mine"} <= set(registry.models())
    assert registry.get("cswin_b_mine").summary == "my own"
    spec = dataclasses.replace(registry.get("cswin_t_mine"), config=small_config("mine"))
    assert spec.build(32, 32).head.out_features == 10


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
