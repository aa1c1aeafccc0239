"""Configurations: what `--set` reads, and how a model follows its input size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.errors import ModelError, UnknownNameError
from elfatt_deploy.models import registry
from elfatt_deploy.models.config import parse_levels
from elfatt_deploy.models.settings import SETTINGS, parse_settings, with_settings

TINY = registry.get("cswin_t_elfatt").config
BASE = registry.get("cswin_b_elfatt").config


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("1-2-3odd", ("all", "all", "odd", "none")),
        ("1-2-3-4", ("all", "all", "all", "all")),
        ("3even", ("none", "none", "even", "none")),
        ("4-1", ("all", "none", "none", "all")),
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
        (("depths=1-1-1-1",), UnknownNameError, "known: blocks, classes, global-ratio"),
        (("lepe=true", "lepe=false"), ModelError, "--set lepe is given twice"),
    ],
)
def test_wrong_settings_say_what_is_wrong(items, kind, told):
    with pytest.raises(kind, match=told.replace("?", r"\?")):
        parse_settings(items)


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("blocks", "8-8-16-8", "blocks", (8, 8, 16, 8)),
        ("stripes", "1-2-8-8", "stripes", (1, 2, 8, 8)),
        ("lepe", "False", "lepe", False),
        ("lepe", "1", "lepe", True),
        ("levels", "1-2", "levels", "1-2"),
        ("global-ratio", "0.25", "global_ratio", 0.25),
        ("classes", "10", "classes", 10),
    ],
)
def test_a_setting_changes_its_field_alone(key, text, field, value):
    changed = with_settings(TINY, {key: text})
    assert getattr(changed, field) == value
    restored = with_settings(changed, {})
    assert restored == changed
    same = {name for name in TINY.__slots__ if getattr(TINY, name) == getattr(changed, name)}
    assert set(TINY.__slots__) - same <= {field}


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
    ],
)
def test_values_that_no_model_can_have_are_refused(key, text, told):
    with pytest.raises(ModelError, match=told):
        with_settings(TINY, {key: text})


def test_every_setting_is_a_field():
    assert {key.replace("-", "_") for key in SETTINGS} <= set(TINY.__slots__)


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


@pytest.mark.parametrize(("height", "width"), [(31, 31), (224, 16), (0, 224), (-1, 224)])
def test_an_input_that_is_too_small_is_refused_with_a_size_that_works(height, width):
    with pytest.raises(ModelError, match=f"input of {height}x{width} is too small") as caught:
        TINY.map_sizes(height, width)
    assert "--resolution" in caught.value.hint


@given(height=st.integers(32, 2048), width=st.integers(32, 2048))
def test_any_size_gives_four_maps_each_half_of_the_one_before(height, width):
    sizes = TINY.map_sizes(height, width)
    assert len(sizes) == 4
    assert min(min(size) for size in sizes) >= 1
    for (rows, cols), (next_rows, next_cols) in zip(sizes, sizes[1:], strict=False):
        assert (next_rows, next_cols) == (-(-rows // 2), -(-cols // 2))
    assert min(TINY.block_sides(height, width) + TINY.stripe_widths(height, width)) >= 1
