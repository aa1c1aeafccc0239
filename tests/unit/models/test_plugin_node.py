"""What the plugin's node is told, what it takes, and what it computes."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.errors import SchemaError, UnknownNameError
from elfatt_deploy.models import plugin_node
from elfatt_deploy.models.plugin_node import PluginNode

ELFATT = PluginNode(
    rows=56, cols=56, global_channels=32, global_heads=1, local_heads=1,
    block_rows=7, block_cols=7, lepe=1,
)  # fmt: skip
EFFATT = dataclasses.replace(
    ELFATT, global_channels=64, global_heads=2, local_heads=0, block_rows=0, block_cols=0
)
GLOBAL = dataclasses.replace(
    ELFATT, global_channels=0, global_heads=0, local_heads=2, block_rows=56, block_cols=56
)


@pytest.mark.parametrize("node", [ELFATT, EFFATT, GLOBAL], ids=["elfatt", "effatt", "global"])
def test_the_mechanisms_of_the_paper_are_taken(node):
    assert node.problem(64) == ""


@pytest.mark.parametrize(
    ("changes", "channels", "word"),
    [
        ({"global_heads": 4}, 64, "32 channels in 4 heads in the linear part"),
        ({"local_heads": 0}, 64, "0 heads for the 32 channels of the block part"),
        ({"global_heads": 0}, 64, "0 heads for the 32 channels of the linear part"),
        ({}, 92, "60 channels in 1 heads in the block part"),
        ({}, 136, "104 channels in 1 heads"),
        ({"block_rows": 33}, 64, "blocks of 33x7 tokens: at most 32"),
        ({"block_rows": 0}, 64, "blocks of 0x7"),
        ({"global_channels": 65}, 64, "65 of 64 channels"),
        ({"rows": 0}, 64, "0x56 tokens"),
    ],
)
def test_what_no_kernel_takes_is_told(changes, channels, word):
    assert word in dataclasses.replace(ELFATT, **changes).problem(channels)


def test_blocks_without_a_block_part_are_told():
    assert "without a block part" in dataclasses.replace(EFFATT, block_rows=7).problem(64)


def test_the_whole_map_may_be_any_block():
    assert dataclasses.replace(GLOBAL, rows=14, block_rows=14).problem(64) == ""
    assert "at most 32" in dataclasses.replace(GLOBAL, block_rows=40).problem(64)


def test_products_are_counted_by_hand():
    tokens = 56 * 56
    linear, attended, lepe = 2 * tokens * 32 * 32, 2 * tokens * 49 * 32, 9 * tokens * 64
    assert ELFATT.softmax_macs(64) == attended
    assert ELFATT.macs(64) == linear + attended + lepe
    assert dataclasses.replace(ELFATT, lepe=0).macs(64) == linear + attended
    assert EFFATT.macs(64) == 2 * linear + lepe
    assert GLOBAL.macs(64) == 2 * tokens * tokens * 64 + lepe


def test_padding_takes_part():
    node = dataclasses.replace(ELFATT, rows=10, cols=17, block_rows=14, block_cols=14)
    assert node.blocks == (1, 2)
    assert node.padded_tokens == 2 * 196
    assert node.softmax_macs(64) == 2 * 2 * 196 * 196 * 32


def _attributes(**changes):
    return {**dataclasses.asdict(ELFATT), "plugin_version": "1", **changes}


def test_attributes_are_read_back():
    read = plugin_node.node_from_attributes(_attributes(plugin_namespace="elfatt"), "n")
    assert read == ELFATT


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rows": "56"}, "no whole number as rows"),
        ({"lepe": None, "cols": 1.5}, "no whole number as cols, lepe"),
        ({"plugin_version": "2"}, "plugin version '2', not '1'"),
    ],
)
def test_attributes_of_another_kind_are_refused_by_name(changes, word):
    with pytest.raises(SchemaError, match=f"node 'n'.*{word}"):
        plugin_node.node_from_attributes(_attributes(**changes), "n")


def test_an_unknown_plugin_lists_the_known_one():
    plugin_node.check_plugin(None)
    plugin_node.check_plugin("elfatt")
    with pytest.raises(UnknownNameError, match="unknown plugin 'elfat': did you mean elfatt"):
        plugin_node.check_plugin("elfat")
