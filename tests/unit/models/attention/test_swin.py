"""Shifted windows and the attention in them, against loops over windows, heads and tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.models import seeded
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import Branch
from elfatt_deploy.models.attention.swin import (
    ShiftedWindowAttention,
    ShiftedWindows,
    branches,
)

HEADS, WIDTH = 2, 3
CHANNELS = HEADS * WIDTH
#: rows, columns, side: divisible, a window as long as one or both sides, and none of these
MAPS = ((8, 8, 4), (8, 12, 4), (6, 9, 3), (3, 9, 3), (4, 4, 7), (10, 9, 4), (7, 14, 5), (9, 3, 4))


def _windows(rows, cols, side, shifted):
    """Return, window by window, (token, region) of every place; token None where the map ends.

    Roll the map by half a window where it is longer than one, extend it to whole windows, cut.
    Regions are three bands of rows times three of columns: what no shifted window shares, and the
    two parts that the last window brings together.
    """
    sizes, shifts, extents = [], [], []
    for length in (rows, cols):
        size = min(side, length)
        sizes.append(size)
        shifts.append(size // 2 if shifted and length > side else 0)
        extents.append(-(-length // size) * size)
    rolled = np.roll(np.arange(rows * cols).reshape(rows, cols), [-s for s in shifts], (0, 1))

    def band(place, axis):
        if not shifts[axis] or place < extents[axis] - sizes[axis]:
            return 0
        return 1 if place < extents[axis] - shifts[axis] else 2

    found = []
    for top in range(0, extents[0], sizes[0]):
        for left in range(0, extents[1], sizes[1]):
            window = []
            for y in range(top, top + sizes[0]):
                for x in range(left, left + sizes[1]):
                    token = int(rolled[y, x]) if y < rows and x < cols else None
                    window.append((token, (band(y, 0), band(x, 1))))
            found.append(window)
    return found, sizes


def _attention(qkv, table, heads, windows, size):
    """Return softmax(q k^T + bias + mask) v of each window, [B, N, C]; outside the map all is 0."""
    q, k, v = qkv
    out = np.zeros_like(q)
    height, width = size
    channels = q.shape[-1]
    for image in range(len(q)):
        for window in windows:
            tokens = [token for token, _ in window]
            for head in range(heads):
                part = slice(head * channels // heads, (head + 1) * channels // heads)
                zero = np.zeros(channels)[part]
                rows = [
                    [zero if token is None else x[image, token, part] for token in tokens]
                    for x in (q, k, v)
                ]
                for i, token in enumerate(tokens):
                    if token is None:
                        continue
                    scores = np.empty(len(tokens))
                    for j in range(len(tokens)):
                        dy = i // width - j // width + height - 1
                        dx = i % width - j % width + width - 1
                        scores[j] = rows[0][i] @ rows[1][j] + table[dy * (2 * width - 1) + dx, head]
                        scores[j] -= 100.0 * (window[i][1] != window[j][1])
                    weights = np.exp(scores - scores.max())
                    out[image, token, part] = weights / weights.sum() @ np.stack(rows[2])
    return out


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("rows", "cols", "side"), MAPS)
def test_windows_are_those_of_roll_and_cut(rows, cols, side, shifted):
    windows = ShiftedWindows(rows, cols, side, shifted=shifted)
    expected, size = _windows(rows, cols, side, shifted)
    places = [[rows * cols if t is None else t for t, _ in window] for window in expected]
    assert [windows.height, windows.width] == size
    assert (windows.count, windows.padded) == (len(expected), rows * cols in sum(places, []))
    assert windows.order.tolist() == sum(places, [])
    apart = [[[-100.0 * (a != b) for _, b in w] for _, a in w] for w in expected]
    if windows.mask is None:
        assert not np.any(apart)
        assert not shifted or max(rows, cols) <= side
    else:
        assert windows.mask.tolist() == apart


@given(rows=st.integers(1, 12), cols=st.integers(1, 12), side=st.integers(1, 8))
def test_back_finds_every_token_of_the_map(rows, cols, side):
    windows = ShiftedWindows(rows, cols, side, shifted=True)
    assert windows.order[windows.back].tolist() == list(range(rows * cols))


@pytest.mark.parametrize(
    ("rows", "cols", "shape"),
    [(4, 4, None), (3, 4, None), (4, 8, (2, 16, 16)), (8, 4, (2, 16, 16)), (8, 8, (4, 16, 16))],
)
def test_a_map_is_not_shifted_along_a_side_no_longer_than_the_window(rows, cols, shape):
    mask = ShiftedWindows(rows, cols, 4, shifted=True).mask
    assert (mask if mask is None else tuple(mask.shape)) == shape


def test_relative_positions_are_those_of_the_official_formula():
    windows = ShiftedWindows(3, 8, 4, shifted=False)
    positions = windows.relative_positions()
    assert (windows.height, windows.width) == (3, 4)
    assert positions[0, 11] == (0 - 2 + 2) * 7 + (0 - 3 + 3)
    assert positions[11, 0] == (2 - 0 + 2) * 7 + (3 - 0 + 3)
    assert set(positions.reshape(-1).tolist()) == set(range(5 * 7))


def _branch(rows, cols, side, shifted):
    windows = ShiftedWindows(rows, cols, side, shifted=shifted)
    branch = ShiftedWindowAttention(CHANNELS, HEADS, windows).double()
    seeded.fill(branch)
    return branch


def _qkv(rows, cols):
    noise = seeded.unit_noise(f"qkv {rows}x{cols}", (3, 2, rows * cols, CHANNELS))
    return torch.from_numpy(noise)


def _in_map_order(branch, qkv):
    """Run a branch on tokens that lie row by row; returns the same, [B, N, C]."""
    if branch.order is not None:
        qkv = qkv[:, :, branch.order]
    with torch.no_grad():
        out = branch(*qkv).reshape(qkv.shape[1:])
    return out if branch.order is None else out[:, torch.argsort(branch.order)]


@pytest.mark.parametrize("exported", [False, True], ids=["live", "exported"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("rows", "cols", "side"), MAPS)
def test_attention_in_windows_is_that_of_the_loops(rows, cols, side, shifted, exported):
    branch, qkv = _branch(rows, cols, side, shifted), _qkv(rows, cols)
    table = branch.relative_position_bias_table.detach().numpy()
    expected = _attention(qkv.numpy(), table, HEADS, *_windows(rows, cols, side, shifted))
    found = _in_map_order(branch.exported() if exported else branch, qkv)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "ordered"),
    [((8, 8, 4), True), ((4, 8, 4), True), ((4, 4, 7), False), ((9, 8, 4), False)],
    ids=str,
)
def test_an_order_is_asked_for_where_windows_divide_the_map(size, ordered):
    branch = _branch(*size, shifted=True)
    assert (branch.order is not None) is ordered
    if ordered:
        assert sorted(branch.order.tolist()) == list(range(size[0] * size[1]))


def test_the_exported_form_keeps_no_table_and_no_mask_to_add():
    branch = _branch(8, 8, 4, shifted=True).exported()
    assert isinstance(branch, Branch)
    assert branch.exported() is branch
    assert dict(branch.named_parameters()) == {}
    assert branch.bias() is branch.total
    assert branch.total.shape == (4, HEADS, 16, 16)


@pytest.mark.parametrize(("index", "masked"), [(0, False), (1, True), (2, False), (3, True)])
def test_blocks_of_odd_number_shift(index, masked):
    context = AttentionContext(dim=CHANNELS, heads=HEADS, rows=8, cols=8, index=index, window=4)
    (branch,) = branches(context)
    assert (branch.mask is not None) is masked
    assert branch.q_scale == WIDTH**-0.5
    assert list(branch.state_dict()) == ["relative_position_bias_table"]
