"""Configurations: what `--set` reads, and how a model follows its input size."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.errors import ModelError, UnknownNameError
from elfatt_deploy.models import registry
from elfatt_deploy.models.config import ModelConfig, parse_levels
from elfatt_deploy.models.settings import SETTINGS, parse_settings, with_settings

TINY = registry.get("cswin_t_elfatt").config
BASE = registry.get("cswin_b_elfatt").config
SWIN = registry.get("swin_t_local").config
#: one configuration of each family
FAMILIES = tuple(
    registry.get(name).config
    for name in ("cswin_t_elfatt", "swin_t_local", "convnext_t", "efficientvit_b2", "vmamba_t")
)


def _fields(config):
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def _family(config):
    return type(config).__name__


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("1-2-3odd", ("all", "all", "odd", "none")),
        ("1-2-3-4", ("all", "all", "all", "all")),
        ("3even", ("none", "none", "even", "none")),
        ("4-1", ("all", "none", "none", "all")),
        ("1-3first2", ("all", "none", "first2", "none")),
        ("4first10", ("none", "none", "none", "first10")),
        ("", ("none", "none", "none", "none")),
    ],
)
def test_levels_are_read(text, shares):
    assert parse_levels(text) == shares


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1-5", "'5' is not a level"),
        ("0", "'0' is not a level"),
        ("12", "'12' is not a level"),
        ("1-x", "'x' is not a level"),
        ("3ODD", "'3ODD' is not a level"),
        ("3odds", "'3odds' is not a level"),
        ("1-1", "level 1 stands twice"),
        ("3odd-3even", "level 3 stands twice"),
        ("3first", "'3first' is not a level"),
        ("3first2x", "'3first2x' is not a level"),
        ("3second2", "'3second2' is not a level"),
        ("first2", "'first2' is not a level"),
    ],
)
def test_levels_that_cannot_be_are_named(text, told):
    with pytest.raises(ModelError, match=f"^levels={text}: {told}"):
        parse_levels(text)


def test_settings_are_split_at_the_first_equals_sign():
    assert parse_settings(("lepe=false", "levels=1=2")) == {"lepe": "false", "levels": "1=2"}


@pytest.mark.parametrize("item", ["lepe", "lepe=", "=", "=true", ""])
def test_a_setting_without_key_and_value_is_refused(item):
    with pytest.raises((ModelError, UnknownNameError)):
        parse_settings((item,))


@pytest.mark.parametrize(
    ("items", "kind", "told"),
    [
        (("lepe",), ModelError, "--set lepe has no value"),
        (("block=7-7-7-7",), UnknownNameError, "unknown setting 'block': did you mean blocks?"),
        (("depths=1-1-1-1",), UnknownNameError, "known: agents, blocks, classes, global-ratio"),
        (("lepe=true", "lepe=false"), ModelError, "--set lepe is given twice"),
    ],
)
def test_wrong_settings_say_what_is_wrong(items, kind, told):
    with pytest.raises(kind, match=told.replace("?", r"\?")):
        parse_settings(items)


@pytest.mark.parametrize(
    ("config", "key", "text", "field", "value"),
    [
        (TINY, "blocks", "8-8-16-8", "blocks", (8, 8, 16, 8)),
        (TINY, "stripes", "1-2-8-8", "stripes", (1, 2, 8, 8)),
        (TINY, "agents", "4-4-9-9", "agents", (4, 4, 9, 9)),
        (TINY, "lepe", "False", "lepe", False),
        (TINY, "lepe", "NO", "lepe", False),
        (registry.get("swin_t_local").config, "lepe", "1", "lepe", True),
        (TINY, "levels", "1-2", "levels", "1-2"),
        (TINY, "global-ratio", "0.25", "global_ratio", 0.25),
        (TINY, "classes", "10", "classes", 10),
        (SWIN, "window", "8", "window", 8),
        *((config, "classes", "10", "classes", 10) for config in FAMILIES[2:]),
    ],
)
def test_a_setting_changes_its_field_alone(config, key, text, field, value):
    changed = with_settings(config, {key: text})
    before, after = _fields(config), _fields(changed)
    assert after[field] == value
    assert {name for name in before if before[name] != after[name]} == {field}
    assert with_settings(changed, {}) == changed


@pytest.mark.parametrize(
    ("key", "text", "told"),
    [
        ("blocks", "7-7-a-7", "'7-7-a-7' is not a list of whole numbers"),
        ("blocks", "7-7-14", "blocks is .*takes 4 positive numbers"),
        ("blocks", "7-7-14-0", "blocks is .*takes 4 positive numbers"),
        ("stripes", "1-2-7-7-7", "stripes is .*takes 4 positive numbers"),
        ("lepe", "maybe", "'maybe' is not true or false"),
        ("levels", "9", "'9' is not a level"),
        ("global-ratio", "half", "'half' is not a number"),
        ("global-ratio", "1.5", "global-ratio is 1.5; it is a share from 0 to 1"),
        ("global-ratio", "-0.1", "global-ratio is -0.1"),
        ("global-ratio", "nan", "global-ratio is nan"),
        ("classes", "ten", "'ten' is not a whole number"),
        ("classes", "0", "classes is 0; it must be at least 1"),
        ("agents", "9-16-49", "agents is .*takes 4 positive numbers"),
    ],
)
def test_values_that_no_model_can_have_are_refused(key, text, told):
    with pytest.raises(ModelError, match=told):
        with_settings(TINY, {key: text})


@pytest.mark.parametrize("text", ["0", "-7", "seven", "7-7"])
def test_a_window_that_no_model_can_have_is_refused(text):
    with pytest.raises(ModelError, match=r"window is|is not a whole number"):
        with_settings(SWIN, {"window": text})


@pytest.mark.parametrize("config", FAMILIES, ids=_family)
def test_every_setting_of_a_family_is_a_field_and_can_be_read(config):
    assert set(config.SETTINGS) <= set(SETTINGS)
    assert {key.replace("-", "_") for key in config.SETTINGS} <= set(_fields(config))
    assert isinstance(config, ModelConfig)


def test_every_setting_belongs_to_a_family():
    assert {key for config in FAMILIES for key in config.SETTINGS} == set(SETTINGS)


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (TINY, "window"),
        (SWIN, "stripes"),
        *((config, key) for config in FAMILIES[2:] for key in ("blocks", "lepe", "levels")),
    ],
    ids=lambda value: value if isinstance(value, str) else _family(value),
)
def test_a_setting_of_another_family_is_refused(config, key):
    with pytest.raises(UnknownNameError, match=f"unknown setting of this model '{key}'"):
        with_settings(config, {key: "7"})


@pytest.mark.parametrize(
    ("config", "height", "width", "sides"),
    [
        (TINY, 224, 224, (7, 7, 14, 7)),
        (TINY, 256, 256, (8, 8, 16, 8)),
        (TINY, 384, 384, (12, 12, 24, 12)),
        (BASE, 224, 224, (14, 14, 14, 7)),
        (BASE, 384, 384, (24, 24, 24, 12)),
        (TINY, 384, 512, (12, 12, 24, 12)),
        (TINY, 512, 224, (7, 7, 14, 7)),
        (TINY, 32, 32, (1, 1, 2, 1)),
    ],
)
def test_block_sides_grow_with_the_shorter_side_of_the_input(config, height, width, sides):
    assert config.block_sides(height, width) == sides


@pytest.mark.parametrize(
    ("side", "widths"), [(224, (1, 2, 7, 7)), (256, (1, 2, 8, 8)), (384, (1, 2, 12, 12))]
)
def test_stripes_of_levels_three_and_four_grow_with_the_input(side, widths):
    assert TINY.stripe_widths(side, side) == widths


@pytest.mark.parametrize("side", [32, 224, 384])
def test_sides_given_by_the_user_are_not_scaled(side):
    config = with_settings(TINY, {"blocks": "7-5-3-1", "stripes": "1-3-5-7"})
    assert config.block_sides(side, side) == (7, 5, 3, 1)
    assert config.stripe_widths(side, side) == (1, 3, 5, 7)


@pytest.mark.parametrize(
    ("height", "width", "rows", "cols"),
    [
        (224, 224, (56, 28, 14, 7), (56, 28, 14, 7)),
        (384, 384, (96, 48, 24, 12), (96, 48, 24, 12)),
        (256, 256, (64, 32, 16, 8), (64, 32, 16, 8)),
        (224, 320, (56, 28, 14, 7), (80, 40, 20, 10)),
        (32, 32, (8, 4, 2, 1), (8, 4, 2, 1)),
        (33, 99, (8, 4, 2, 1), (25, 13, 7, 4)),
        (225, 227, (56, 28, 14, 7), (57, 29, 15, 8)),
    ],
)
def test_map_sizes(height, width, rows, cols):
    assert TINY.map_sizes(height, width) == tuple(zip(rows, cols, strict=True))


@pytest.mark.parametrize(
    ("name", "height", "width", "rows", "cols"),
    [
        ("swin_t_local", 224, 224, (56, 28, 14, 7), (56, 28, 14, 7)),
        ("swin_t_local", 288, 384, (72, 36, 18, 9), (96, 48, 24, 12)),
        ("swin_t_local", 200, 264, (50, 25, 13, 7), (66, 33, 17, 9)),
        ("swin_t_local", 225, 32, (57, 29, 15, 8), (8, 4, 2, 1)),
        ("convnext_t", 224, 256, (56, 28, 14, 7), (64, 32, 16, 8)),
        ("convnext_t", 255, 225, (63, 31, 15, 7), (56, 28, 14, 7)),
        ("efficientvit_b2", 288, 224, (72, 36, 18, 9), (56, 28, 14, 7)),
        ("efficientvit_b2", 230, 225, (58, 29, 15, 8), (57, 29, 15, 8)),
        ("vmamba_t", 224, 230, (56, 28, 14, 7), (58, 29, 15, 8)),
    ],
)
def test_map_sizes_of_the_other_families(name, height, width, rows, cols):
    config = registry.get(name).config
    assert config.map_sizes(height, width) == tuple(zip(rows, cols, strict=True))


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(224, 224, 7), (256, 256, 8), (288, 288, 9), (384, 384, 12), (224, 320, 7), (384, 256, 8),
     (32, 32, 1)],
)  # fmt: skip
def test_windows_grow_with_the_shorter_side_of_the_input(height, width, side):
    assert SWIN.window_side(height, width) == side
    assert with_settings(SWIN, {"window": "5"}).window_side(height, width) == 5


@pytest.mark.parametrize(
    ("name", "settings", "windows"),
    [
        ("swin_t_local", {}, (12, 12, 12, 12)),
        ("swin_t_local", {"window": "7"}, (7, 7, 7, 7)),
        ("swin_t_agent", {}, (None, None, None, 12)),
        ("swin_b_agent", {}, (None, None, 12, 12)),
        ("swin_t_global", {}, (None,) * 4),
        ("swin_t_elfatt", {}, (24, 24, 24, None)),
        ("swin_t_elfatt", {"blocks": "7-7-7-7"}, (7, 7, 7, None)),
        ("cswin_t_local", {}, (1, 2, 12, 12)),
        ("cswin_t_flatten", {}, (None, None, 12, 12)),
        ("convnext_t", {}, (None,) * 4),
    ],
)
def test_the_levels_say_how_maps_are_cut_at_384(name, settings, windows):
    levels = with_settings(registry.get(name).config, settings).levels_at(384, 384)
    assert tuple(level.window for level in levels) == windows
    assert [level.level for level in levels] == [1, 2, 3, 4]
    assert [(level.rows, level.cols) for level in levels] == [(96 >> i, 96 >> i) for i in range(4)]


@pytest.mark.parametrize(
    ("name", "channels", "heads", "blocks"),
    [
        ("cswin_b_elfatt", (96, 192, 384, 768), (4, 8, 16, 32), (3, 6, 29, 2)),
        ("swin_t_local", (96, 192, 384, 768), (3, 6, 12, 24), (2, 2, 6, 2)),
        ("convnext_t", (96, 192, 384, 768), (0, 0, 0, 0), (3, 3, 9, 3)),
        ("efficientvit_b2", (48, 96, 192, 384), (0, 0, 6, 12), (3, 4, 5, 7)),
        ("vmamba_t", (96, 192, 384, 768), (0, 0, 0, 0), (2, 2, 8, 2)),
    ],
)
def test_the_levels_of_each_family(name, channels, heads, blocks):
    levels = registry.get(name).config.levels_at(224, 224)
    assert tuple(level.channels for level in levels) == channels
    assert tuple(level.heads for level in levels) == heads
    assert tuple(len(level.blocks) for level in levels) == blocks


@pytest.mark.parametrize("config", FAMILIES, ids=_family)
@pytest.mark.parametrize(("height", "width"), [(31, 31), (224, 16), (0, 224), (-1, 224)])
def test_an_input_that_is_too_small_is_refused_with_a_size_that_works(config, height, width):
    for ask in (config.map_sizes, config.levels_at):
        with pytest.raises(ModelError, match=f"input of {height}x{width} is too small") as caught:
            ask(height, width)
        assert "--resolution" in caught.value.hint


@given(config=st.sampled_from(FAMILIES), height=st.integers(32, 2048), width=st.integers(32, 2048))
def test_any_size_gives_four_maps_each_half_of_the_one_before(config, height, width):
    sizes = config.map_sizes(height, width)
    assert len(sizes) == 4
    assert min(min(size) for size in sizes) >= 1
    cut = type(config).__name__ == "ConvNeXtConfig"  # the others extend an odd side
    for (rows, cols), half in zip(sizes, sizes[1:], strict=False):
        assert half == ((rows // 2, cols // 2) if cut else (-(-rows // 2), -(-cols // 2)))


@given(height=st.integers(32, 2048), width=st.integers(32, 2048))
def test_no_side_is_ever_zero(height, width):
    assert min(TINY.block_sides(height, width) + TINY.stripe_widths(height, width)) >= 1
    assert SWIN.window_side(height, width) >= 1
