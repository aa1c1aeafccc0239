"""The counter against the closed forms of one operation and of one block."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional

from elfatt_deploy.models import counting, registry
from elfatt_deploy.models.attention.layers import SoftmaxProduct
from elfatt_deploy.models.backbones import cswin, swin

SIDE = 224
C, HEADS = 16, 2


class Only(nn.Module):
    """Runs one operation on the images."""

    def __init__(self, operation):
        super().__init__()
        self.inner = operation if isinstance(operation, nn.Module) else nn.Identity()
        self.operation = operation

    def forward(self, images):
        return self.operation(images)


IMAGE = 3 * 12 * 20


@pytest.mark.parametrize(
    ("operation", "macs"),
    [
        (nn.Conv2d(3, 5, 3, stride=2, padding=1), 6 * 10 * 5 * 27),
        (nn.Conv2d(3, 3, 3, padding=1, groups=3), 9 * IMAGE),
        (nn.Linear(20, 7), 36 * 20 * 7),
        (nn.LayerNorm(20), 5 * IMAGE),
        (nn.BatchNorm2d(3).eval(), 2 * IMAGE),
        (nn.AdaptiveAvgPool2d(1), IMAGE),
        (nn.AdaptiveAvgPool2d((1, 1)), IMAGE),
        (nn.AdaptiveAvgPool2d((4, 5)), IMAGE),
        (nn.AvgPool2d((12, 20)), IMAGE),
        (lambda x: functional.avg_pool2d(x, 2), IMAGE),
        (lambda x: functional.interpolate(x, size=(30, 25), mode="bilinear"), 4 * 3 * 30 * 25),
        (lambda x: x @ x.transpose(-1, -2), 3 * 12 * 12 * 20),
        (lambda x: functional.gelu(x).softmax(-1) + x, 0),
        (lambda x: x.mean((2, 3)), 0),
    ],
    ids=["conv", "depthwise", "linear", "LayerNorm", "BatchNorm", "global pool", "1x1 pool",
         "adaptive pool", "whole average", "average", "resize", "matmul", "elementwise", "mean"],
)  # fmt: skip
def test_each_operation_counts_what_the_convention_says(operation, macs):
    if isinstance(operation, nn.Module):
        operation = operation.to("meta")
    counts = counting.count_module(Only(operation), 12, 20)
    assert (counts.macs, counts.softmax_attention_macs) == (macs, 0)


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = SoftmaxProduct()

    def forward(self, images):
        return self.attend(images, images, images) @ images.transpose(-1, -2)


def test_the_products_of_softmax_attention_are_counted_apart():
    counts = counting.count_module(Attends(), 12, 20)
    assert counts.softmax_attention_macs == 2 * 3 * 12 * 12 * 20
    assert counts.macs == 3 * 3 * 12 * 12 * 20


def _count(config):
    with torch.device("meta"):
        return counting.count_module(cswin.build(config, SIDE, SIDE), SIDE, SIDE)


def _one_block(small_config, level, **changes):
    """Return (params, macs, softmax macs) of one block: a model with it less one without it."""
    depths = [1, 1, 1, 1]
    fewer = _count(small_config(depths=tuple(depths), levels="1-2-3-4", **changes))
    depths[level - 1] += 1
    more = _count(small_config(depths=tuple(depths), levels="1-2-3-4", **changes))
    fields = ("params", "macs", "softmax_attention_macs")
    return tuple(getattr(more, field) - getattr(fewer, field) for field in fields)


@pytest.mark.parametrize("lepe", [True, False])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("attention", ["global", "effatt", "elfatt", "local"])
def test_one_block_counts_what_its_formula_says(attention, level, lepe, small_config):
    side = 56 >> (level - 1)
    n, c = side * side, C << (level - 1)
    block = (7, 7, 14, 7)[level - 1] ** 2
    stripe = side * (1, 2, 7, 7)[level - 1]
    softmax, linear = {
        "global": (2 * n * n * c, 0),
        "effatt": (0, 2 * n * c * (c // HEADS)),
        "elfatt": (2 * n * block * (c // 2), 2 * n * (c // 2) * (c // 2) // (HEADS // 2)),
        "local": (2 * n * (stripe if level < 4 else n) * c, 0),
    }[attention]
    params, macs, hidden = _one_block(small_config, level, attention=attention, lepe=lepe)
    assert hidden == softmax
    assert macs == 12 * n * c * c + 10 * n * c + 9 * n * c * lepe + softmax + linear
    assert params == 12 * c * c + 13 * c + 10 * c * lepe


@pytest.mark.parametrize(("ratio", "c1"), [("0", 0), ("0.25", 4), ("0.75", 12), ("1", 16)])
def test_the_global_ratio_moves_channels_from_softmax_to_linear(ratio, c1, small_config):
    n, c2 = 56 * 56, C - c1
    heads = HEADS if c1 in (0, C) else HEADS // 2
    _, macs, hidden = _one_block(small_config, 1, global_ratio=float(ratio))
    assert hidden == 2 * n * 49 * c2
    assert macs - hidden == 12 * n * C * C + 19 * n * C + 2 * n * c1 * c1 // heads


@pytest.mark.parametrize("lepe", [True, False])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_flatten_block_counts_what_its_formula_says(level, lepe, small_config):
    side = 56 >> (level - 1)
    n, c = side * side, C << (level - 1)
    d = c // HEADS
    params, macs, hidden = _one_block(small_config, level, attention="flatten", lepe=lepe)
    assert hidden == 0
    # K^T V, Q S and Q mean(K); the 5x5 convolution of all heads
    assert macs == 12 * n * c * c + 10 * n * c + 9 * n * c * lepe + 2 * n * c * d + n * c * 26
    assert params == 12 * c * c + 13 * c + 10 * c * lepe + n * c + c + 26 * d


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_an_agent_block_counts_what_its_formula_says(level, small_config):
    side, agents = 56 >> (level - 1), (9, 16, 49, 49)[level - 1]
    n, c = side * side, C << (level - 1)
    params, macs, hidden = _one_block(small_config, level, attention="agent")
    assert hidden == 0
    resized = 4 * 2 * HEADS * agents * n
    # four products with the agents, the mean over cells, LePE
    assert macs == 12 * n * c * c + 10 * n * c + 4 * n * agents * c + n * c + resized + 9 * n * c
    assert params == 12 * c * c + 23 * c + HEADS * agents * (2 * 49 + 4 * side)


@pytest.mark.parametrize(("side", "window"), [(224, 7), (384, 12), (200, 6)])
def test_a_window_block_of_swin_counts_what_its_formula_says(side, window):
    base = registry.get("swin_t_local").config
    config = dataclasses.replace(base, embed_dim=C, depths=(1, 1, 1, 1), heads=(HEADS,) * 4)

    def count(config):
        with torch.device("meta"):
            return counting.count_module(swin.build(config, side, side), side, side)

    fewer, more = (count(dataclasses.replace(config, depths=(d, 1, 1, 1))) for d in (1, 2))
    n, padded = (side // 4) ** 2, (-(-side // 4 // window) * window) ** 2
    softmax = 2 * padded * window**2 * C
    assert more.softmax_attention_macs - fewer.softmax_attention_macs == softmax
    assert more.macs - fewer.macs == 12 * n * C * C + 10 * n * C + softmax
    assert more.params - fewer.params == 12 * C * C + 13 * C + (2 * window - 1) ** 2 * HEADS


def test_a_spec_is_counted_without_memory_at_any_size():
    spec = registry.get("cswin_t_elfatt")
    counts = counting.count(spec, 384, 384)
    assert counts.params == counting.count(spec, 224, 224).params
    assert 2.9 < counts.macs / counting.count(spec, 224, 224).macs < 3.6
