"""The Swin backbone against one that keeps every map row by row: roll, cut, attend, undo."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models import registry, seeded
from elfatt_deploy.models.attention.layers import Branch
from elfatt_deploy.models.attention.swin import ShiftedWindowAttention
from elfatt_deploy.models.backbones import swin
from elfatt_deploy.models.backbones.layers import wanted_order

SMALL = {"embed_dim": 8, "depths": (3, 2, 2, 2), "heads": (2, 2, 2, 2), "classes": 10}
SIZES = ((256, 256), (288, 288), (224, 320), (200, 264))


def _net(name, height, width, **changes):
    config = dataclasses.replace(registry.get(name).config, **SMALL, **changes)
    net = swin.build(config, height, width)
    seeded.fill(net)
    return net.double()


def _cut(image, height, width):
    """Turn a map [B, rows, cols, C] into windows [B, windows, T, C], filled up with zeros."""
    batch, rows, cols, channels = image.shape
    image = functional.pad(image, (0, 0, 0, -cols % width, 0, -rows % height))
    grid = image.unfold(1, height, height).unfold(2, width, width)  # [B, down, across, C, h, w]
    return grid.flatten(4).transpose(3, 4).reshape(batch, -1, height * width, channels)


def _joined(windows, rows, cols, height, width):
    """Undo `_cut`."""
    batch, _, _, channels = windows.shape
    down, across = -(-rows // height), -(-cols // width)
    grid = windows.reshape(batch, down, across, height, width, channels).transpose(2, 3)
    return grid.reshape(batch, down * height, across * width, channels)[:, :rows, :cols]


def _windowed(branch, qkv, rows, cols, side, shifted):
    """Return attention in windows of a map that lies row by row; [B*N, C]."""
    height, width = min(side, rows), min(side, cols)
    shift = (
        height // 2 if shifted and rows > side else 0,
        width // 2 if shifted and cols > side else 0,
    )
    heads, channels = branch.heads, branch.channels
    parts = []
    for tokens in qkv:
        image = tokens.reshape(-1, rows, cols, channels).roll((-shift[0], -shift[1]), (1, 2))
        cut = _cut(image, height, width)
        parts.append(cut.reshape(*cut.shape[:3], heads, -1).transpose(2, 3))  # [B, w, h, T, d]
    q, k, v = parts
    y, x = (
        t.reshape(-1) for t in torch.meshgrid(*map(torch.arange, (height, width)), indexing="ij")
    )
    index = (y[:, None] - y + height - 1) * (2 * width - 1) + x[:, None] - x + width - 1
    scores = q @ k.transpose(-1, -2) + branch.relative_position_bias_table[index].permute(2, 0, 1)
    if any(shift):
        regions = torch.zeros(1, -(-rows // height) * height, -(-cols // width) * width, 1)
        for axis, (size, by) in enumerate(zip((height, width), shift, strict=True), start=1):
            if by:
                for band in (slice(-size, -by), slice(-by, None)):
                    chosen = [slice(None)] * 4
                    chosen[axis] = band
                    regions[tuple(chosen)] += 10 ** (axis - 1) * (1 if band.stop else 2)
        ids = _cut(regions, height, width)[0, :, :, 0]
        scores = scores - 100.0 * (ids[:, :, None] != ids[:, None, :]).double()[:, None]
    out = (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)
    image = _joined(out, rows, cols, height, width).roll(shift, (1, 2))
    return image.reshape(-1, channels)


def _block(block, x, rows, cols, side, index):
    """Run a block on tokens [B*N, C] that lie row by row, with its own weights."""
    (branch,) = block.attns
    (qkv,) = block.qkv(block.norm1(x))
    if isinstance(branch, ShiftedWindowAttention):
        out = _windowed(branch, qkv, rows, cols, side, index % 2 == 1)
    else:
        out = branch(*(t.reshape(-1, rows * cols, t.shape[-1]) for t in qkv))
    x = x + block.proj(out)
    return x + block.mlp(block.norm2(x))


def _merged(merge, x, rows, cols):
    """Return 2x2 cells side by side, a map of odd sides extended by zeros, through the merging."""
    image = x.reshape(-1, rows, cols, x.shape[-1])
    image = functional.pad(image, (0, 0, 0, cols % 2, 0, rows % 2))
    cells = [image[:, row::2, col::2] for row, col in ((0, 0), (1, 0), (0, 1), (1, 1))]
    return merge.reduction(merge.norm(torch.cat(cells, -1).flatten(0, 2)))


def _plain(net, config, images):
    """Return the logits of `net` computed with every map row by row."""
    height, width = images.shape[2:]
    images = functional.pad(images, (0, -width % 4, 0, -height % 4))
    stem = net.patch_embed
    x = stem.norm(stem.proj(images).permute(0, 2, 3, 1)).flatten(0, 2)
    for level, (rows, cols) in zip(net.layers, config.map_sizes(height, width), strict=True):
        for index, block in enumerate(level.blocks):
            x = _block(block, x, rows, cols, config.window_side(height, width), index)
        if level.downsample is not None:
            x = _merged(level.downsample, x, rows, cols)
    x = net.norm(x).reshape(len(images), -1, x.shape[-1])
    return net.head(x.mean(1))


def _images(height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("name", ["swin_t_local", "swin_t_flatten", "swin_b_agent"])
def test_window_order_gives_the_logits_of_row_order(name, height, width):
    net, images = _net(name, height, width), _images(height, width)
    config = dataclasses.replace(registry.get(name).config, **SMALL)
    with torch.no_grad():
        torch.testing.assert_close(net(images), _plain(net, config, images), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["swin_t_global", "swin_t_effatt"])
def test_a_size_of_no_whole_patches_is_filled_with_zeros(name):
    net, images = _net(name, 66, 101), _images(66, 101)
    config = dataclasses.replace(registry.get(name).config, **SMALL)
    with torch.no_grad():
        torch.testing.assert_close(net(images), _plain(net, config, images), rtol=1e-11, atol=1e-11)
        filled = functional.pad(images, (0, 3, 0, 2))
        torch.testing.assert_close(_net(name, 68, 104)(filled), net(images), rtol=0, atol=0)


def test_another_window_is_another_function():
    images = _images(64, 64)
    with torch.no_grad():
        logits = [_net("swin_t_local", 64, 64, window=w)(images) for w in (2, 4)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


def test_tokens_move_between_blocks_only_where_the_order_changes():
    """At 224 pixels every window divides its map: two orders in a level, one gather between."""
    net = _net("swin_t_local", 224, 224)
    entries = [[block.entry is not None for block in level.blocks] for level in net.layers]
    assert entries == [[True, True, True], [True, True], [True, True], [False, False]]
    flat = _net("swin_t_global", 224, 224)
    assert not any(block.entry is not None for level in flat.layers for block in level.blocks)


def test_an_order_of_one_of_several_branches_is_refused():
    ordered, plain = Branch(), Branch()
    ordered.order = torch.arange(4)
    assert wanted_order((ordered,)) is ordered.order
    assert wanted_order((plain, plain)) is None
    with pytest.raises(ModelError, match="one of several branches"):
        wanted_order((plain, ordered))


@pytest.mark.parametrize("keys", ["official", "timm"])
def test_a_state_dict_loads_under_its_own_names(keys):
    net = _net("swin_t_local", 64, 64, keys=keys)
    other = _net("swin_t_local", 64, 64, keys=keys)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(net.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other(_images(64, 64)), net(_images(64, 64)))
