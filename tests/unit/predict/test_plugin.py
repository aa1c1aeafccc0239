"""The plugin's node as kernels: what it computes, what it moves, what it saves."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.errors import UsageError
from elfatt_deploy.models.plugin_node import PluginNode
from elfatt_deploy.predict.kernels import kernel_table, known_models
from elfatt_deploy.predict.plugin import node_kernels, savings
from elfatt_deploy.predict.roofline import estimate, rates

ELFATT = PluginNode(
    rows=56, cols=56, global_channels=32, global_heads=1, local_heads=1,
    block_rows=7, block_cols=7, lepe=1,
)  # fmt: skip
TOKENS, CHANNELS = 56 * 56, 64
#: 3136 tokens in pieces of 256: 32 x 32 sums, 32 maxima, 32 totals of each, four bytes a number
PIECES = 4 * 13 * (32 * 32 + 2 * 32)


def test_an_elfatt_node_is_two_kernels():
    first, second = node_kernels(ELFATT, CHANNELS, "1")
    flops = [kernel.flops + kernel.tensor_flops for kernel in (first, second)]
    assert sum(flops) == 2 * ELFATT.macs(CHANNELS)
    product, lepe = 2 * TOKENS * 32 * 32, 2 * 9 * TOKENS * 32
    assert (first.flops, first.tensor_flops) == (
        lepe, product + 2 * ELFATT.softmax_macs(CHANNELS),
    )  # fmt: skip
    assert (second.flops, second.tensor_flops) == (lepe, product)
    # K and V of the linear part, all of the block part, its output, the pieces
    assert first.activation_bytes == 4 * TOKENS * (2 * 32 + 3 * 32 + 32) + PIECES
    # Q of the linear part, V once more for LePE, the output, the pieces
    assert second.activation_bytes == 4 * TOKENS * (32 + 32 + 32) + PIECES
    assert [kernel.weight_bytes for kernel in (first, second)] == [4 * 10 * 32] * 2
    assert {(k.level, k.kind, k.count) for k in (first, second)} == {("1", "plugin", 1)}


def test_without_a_linear_part_it_is_one():
    whole = dataclasses.replace(
        ELFATT, global_channels=0, global_heads=0, local_heads=2, block_rows=56, block_cols=56,
        lepe=0,
    )  # fmt: skip
    (only,) = node_kernels(whole, CHANNELS, "1")
    assert (only.flops, only.tensor_flops) == (0, 2 * whole.macs(CHANNELS))
    assert (only.activation_bytes, only.weight_bytes) == (4 * TOKENS * 4 * CHANNELS, 0)


def test_without_a_block_part_the_second_kernel_alone_convolves():
    linear = dataclasses.replace(
        ELFATT, global_channels=64, global_heads=2, local_heads=0, block_rows=0, block_cols=0
    )
    first, second = node_kernels(linear, CHANNELS, "1")
    product = 2 * TOKENS * 64 * 32
    assert (first.flops, first.tensor_flops) == (0, product)
    assert (second.flops, second.tensor_flops) == (2 * 9 * TOKENS * 64, product)


@pytest.mark.parametrize("model", [m for m in known_models() if kernel_table(m).plugin_blocks])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_model_with_the_node_does_the_same_in_fewer_launches_and_bytes(model, precision):
    table = kernel_table(model)
    done = [
        sum(k.count * (k.flops + k.tensor_flops) for k in kernels if k.kind != "memory")
        for kernels in (table.fused, table.plugin)
    ]
    # what a compiler fuses into products counts no operations in either
    assert done[1] == pytest.approx(done[0], rel=0.01)
    found = savings(table, precision)
    assert {one.level: one.blocks for one in found} == table.plugin_blocks
    assert all(one.launches > 0 and one.moved_bytes > 0 for one in found)


def test_what_is_saved_is_shared_by_the_blocks_of_a_level():
    table = kernel_table("cswin_t_elfatt")
    saving = savings(table, "fp32")[0]
    blocks, launches = 2, saving.plain_launches - saving.plugin_launches
    assert (saving.level, saving.blocks, saving.launches) == ("1", blocks, launches / blocks)
    assert saving.moved_bytes == (saving.plain_bytes - saving.plugin_bytes) / blocks
    half = savings(table, "fp16")[0]
    assert half.plugin_bytes == pytest.approx(saving.plugin_bytes / 2)
    assert half.plain_bytes < saving.plain_bytes / 2  # no scores go through the memory in FP16


def test_a_model_without_a_block_for_it_has_no_such_prediction():
    table = kernel_table("convnext_t")
    assert (table.plugin, table.plugin_blocks) == ((), {})
    with pytest.raises(UsageError, match="covers no attention block of convnext_t"):
        savings(table, "fp16")


def test_it_adds_up_in_fp32_and_uses_tensor_cores_where_there_are_any(ideal, machine):
    orin = machine
    new = rates(orin, ideal, "plugin", "fp16")
    assert new.flops["plugin"] == orin.fp32_flops
    assert new.plugin_tensor_flops == new.flops["attention"] > orin.fp32_flops
    for other in (
        rates(orin, ideal, "plugin", "fp32"),
        rates(dataclasses.replace(orin, sm=53), ideal, "plugin", "fp16"),
    ):
        assert other.plugin_tensor_flops == orin.fp32_flops


def test_its_two_kinds_of_work_take_their_times_one_after_the_other(ideal, machine, kernel):
    reached = rates(machine, ideal, "plugin", "fp16")
    work = kernel("plugin", flops=1e9, tensor_flops=2e9)
    table = dataclasses.replace(kernel_table("convnext_t"), plugin=(work,))
    guess = estimate(table, machine, ideal, regime="plugin", precision="fp16", batch=1)
    seconds = 1e9 / reached.flops["plugin"] + 2e9 / reached.plugin_tensor_flops
    assert guess.levels[0].by_limit_ms["compute"] == pytest.approx(1000 * seconds)
    assert guess.kernels == 1
