"""LOCAL on the Swin backbone: softmax attention in windows, shifted in every other block.

In each window softmax(Q K^T / sqrt(d) + bias + mask) V, where the bias of a pair of tokens depends
on their relative position, and the mask of -100 keeps apart what shifting brought together.
Source: Swin Transformer (arXiv 2103.14030), Section 3.2; parameter `relative_position_bias_table`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import Branch, SoftmaxProduct, join_heads

_APART = -100.0


class ShiftedWindows:
    """Where the tokens of a map stand once it is rolled and cut into windows.

    A window as long as the map is not shifted. Where a window does not divide the map, the rolled
    map is extended by zero rows below and zero columns at the right, without a mask.

    Args:
        rows: rows of the map.
        cols: columns of the map.
        side: side of the windows.
        shifted: whether the map is rolled by half a window.
    """

    def __init__(self, rows: int, cols: int, side: int, *, shifted: bool) -> None:
        """Number the tokens of every window."""
        self.height, self.width = min(side, rows), min(side, cols)
        down, across = -(-rows // self.height), -(-cols // self.width)
        self.count = down * across
        self.padded = (down * self.height, across * self.width) != (rows, cols)
        shift = (
            self.height // 2 if shifted and rows > side else 0,
            self.width // 2 if shifted and cols > side else 0,
        )
        none = rows * cols  # number of the zero token
        numbers = torch.arange(none).reshape(rows, cols).roll((-shift[0], -shift[1]), (0, 1))
        extended = torch.full((down * self.height, across * self.width), none)
        extended[:rows, :cols] = numbers
        #: number in the map of each token, window by window; rows * cols where there is none
        self.order = self._cut(extended, down, across).reshape(-1)
        #: where each token of the map stands in that order
        self.back = torch.argsort(self.order)[: rows * cols]
        self.mask = self._mask(extended.shape, shift) if any(shift) else None

    def _cut(self, image: Tensor, down: int, across: int) -> Tensor:
        """Turn [rows, cols] into [windows, tokens of one]."""
        grid = image.reshape(down, self.height, across, self.width).transpose(1, 2)
        return grid.reshape(self.count, -1)

    def _mask(self, size: torch.Size, shift: tuple[int, int]) -> Tensor:
        """Return [windows, T, T]: -100 between tokens of different regions of the rolled map."""
        bands = []
        for length, window, by in zip(size, (self.height, self.width), shift, strict=True):
            place = torch.arange(length)
            # three bands: what no window shares, and the two that the last window shares
            bands.append(
                (place >= length - window).long() + (place >= length - by).long() * (by > 0)
            )
        regions = 3 * bands[0][:, None] + bands[1][None, :]
        cut = self._cut(regions, size[0] // self.height, size[1] // self.width)
        return (cut[:, :, None] != cut[:, None, :]).float() * _APART

    def relative_positions(self) -> Tensor:
        """Return the row of the bias table for each pair of tokens of a window, [T, T]."""
        place = torch.arange(self.height * self.width)
        y, x = place // self.width, place % self.width
        dy = y[:, None] - y[None, :] + self.height - 1
        dx = x[:, None] - x[None, :] + self.width - 1
        return dy * (2 * self.width - 1) + dx


class BiasedSoftmaxProduct(SoftmaxProduct):
    """softmax(Q K^T + bias) V per head, Q already scaled."""

    def forward(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor
    ) -> Tensor:
        """Attend: q, k, v [..., h, T, d] and a bias that broadcasts to [..., h, T, T]."""
        if torch.onnx.is_in_onnx_export():  # plain ops: see SoftmaxProduct
            return (q @ k.transpose(-1, -2) + bias).softmax(-1) @ v
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)


class ShiftedWindowAttention(Branch):
    """Softmax attention inside (shifted) windows, with relative position bias.

    It asks for its tokens window by window (`order`), so that no token moves inside the block;
    where windows do not divide the map it takes them row by row and gathers them itself.

    Args:
        channels: channels C.
        heads: heads h.
        windows: the windows.
    """

    positions: Tensor
    gather: Tensor
    back: Tensor

    def __init__(self, channels: int, heads: int, windows: ShiftedWindows) -> None:
        """Make the branch; its parameter is the table, [(2 height - 1)(2 width - 1), h]."""
        super().__init__()
        self.channels, self.heads, self.windows = channels, heads, windows
        self.q_scale = (channels / heads) ** -0.5
        table = (2 * windows.height - 1) * (2 * windows.width - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table, heads))
        self.register_buffer("positions", windows.relative_positions(), persistent=False)
        self.register_buffer("mask", windows.mask, persistent=False)
        self.attend = BiasedSoftmaxProduct()
        self.order = None if windows.padded or windows.count == 1 else windows.order
        self.register_buffer("gather", windows.order, persistent=False)
        self.register_buffer("back", windows.back, persistent=False)

    def bias(self) -> Tensor:
        """Return what is added to the scores: [h, T, T], or [windows, h, T, T] with a mask."""
        table = self.relative_position_bias_table[self.positions]
        bias = table.permute(2, 0, 1)
        if self.mask is None:
            return bias
        return bias[None] + cast(Tensor, self.mask)[:, None].to(bias.dtype)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q (scaled), k, v [B, N, C] to [B*N, C], in the order that was asked for."""
        if self.windows.padded:
            q, k, v = (functional.pad(t, (0, 0, 0, 1))[:, self.gather] for t in (q, k, v))
        out = self._attended(q, k, v)
        if self.windows.padded:
            out = out.reshape(-1, len(self.gather), self.channels)[:, self.back]
        return out.reshape(-1, self.channels)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend over [B, windows*T, C]; returns [B*windows*T, C]."""
        bias = self.bias()
        size = self.windows.height * self.windows.width
        shape = (-1, size, self.heads, self.channels // self.heads)
        q, k, v = (t.reshape(shape).transpose(1, 2) for t in (q, k, v))
        if bias.ndim == 3:
            return join_heads(self.attend(q, k, v, bias))
        q, k, v = (t.reshape(-1, self.windows.count, *t.shape[1:]) for t in (q, k, v))
        return join_heads(self.attend(q, k, v, bias).reshape(-1, *q.shape[2:]))

    def exported(self) -> Branch:
        """Return a copy whose bias and mask are one constant."""
        return _ConstantBias(self)


class _ConstantBias(ShiftedWindowAttention):
    total: Tensor

    def __init__(self, branch: ShiftedWindowAttention) -> None:
        super().__init__(branch.channels, branch.heads, branch.windows)
        self.register_buffer("total", branch.bias().detach().clone())
        del self.relative_position_bias_table

    def bias(self) -> Tensor:
        return self.total

    def exported(self) -> Branch:
        return self


def branches(context: AttentionContext) -> tuple[ShiftedWindowAttention, ...]:
    """Return one branch: all channels; blocks of odd number shift their windows."""
    windows = ShiftedWindows(
        context.rows, context.cols, context.window, shifted=context.index % 2 == 1
    )
    return (ShiftedWindowAttention(context.dim, context.heads, windows),)
