"""The counter against the closed forms of one block."""

from __future__ import annotations

import pytest
import torch

from elfatt_deploy.models import counting, registry
from elfatt_deploy.models.backbones import cswin

SIDE = 224
C, HEADS = 16, 2


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


def test_a_spec_is_counted_without_memory_at_any_size():
    spec = registry.get("cswin_t_elfatt")
    counts = counting.count(spec, 384, 384)
    assert counts.params == counting.count(spec, 224, 224).params
    assert 2.9 < counts.macs / counting.count(spec, 224, 224).macs < 3.6
