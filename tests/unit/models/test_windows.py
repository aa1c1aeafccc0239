"""Rectangles are cut out of a map and put back, with zeros where they overhang it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.models.attention.layers import Windows

SIDE = st.integers(1, 9)
CHANNELS = 2


def _tokens(rows, cols, batch=2):
    """Return tokens [B, rows*cols, c], each value different and none zero."""
    count = batch * rows * cols * CHANNELS
    return torch.arange(1.0, count + 1).reshape(batch, rows * cols, CHANNELS)


@given(rows=SIDE, cols=SIDE, height=SIDE, width=SIDE)
def test_rectangles_hold_the_map_row_by_row_and_zeros_beyond_it(rows, cols, height, width):
    windows, tokens = Windows(rows, cols, height, width), _tokens(rows, cols)
    image = tokens.reshape(2, rows, cols, CHANNELS)
    expected = []
    for sample in image:
        for top in range(0, rows, height):
            for left in range(0, cols, width):
                part = torch.zeros(height, width, CHANNELS)
                seen = sample[top : top + height, left : left + width]
                part[: seen.shape[0], : seen.shape[1]] = seen
                expected.append(part.reshape(-1, CHANNELS))
    torch.testing.assert_close(windows.cut(tokens), torch.stack(expected), rtol=0, atol=0)


@given(rows=SIDE, cols=SIDE, height=SIDE, width=SIDE)
def test_join_undoes_cut(rows, cols, height, width):
    windows, tokens = Windows(rows, cols, height, width), _tokens(rows, cols)
    joined = windows.join(windows.cut(tokens).reshape(-1, CHANNELS))
    assert torch.equal(joined, tokens.reshape(-1, CHANNELS))


def test_padding_stands_below_and_at_the_right():
    cut = Windows(3, 5, 2, 4).cut(torch.ones(1, 15, 1)).reshape(2, 2, 2, 4)
    expected = torch.zeros(4, 8)
    expected[:3, :5] = 1
    assert torch.equal(cut.permute(0, 2, 1, 3).reshape(4, 8), expected)


@pytest.mark.parametrize(
    ("height", "width", "stacked"),
    [(4, 6, True), (2, 6, True), (5, 6, False), (4, 3, False), (8, 12, False)],
)
def test_rectangles_as_wide_as_the_map_move_no_data(height, width, stacked):
    windows, tokens = Windows(4, 6, height, width), _tokens(4, 6)
    assert windows.stacked is stacked
    assert (windows.cut(tokens).data_ptr() == tokens.data_ptr()) is stacked
