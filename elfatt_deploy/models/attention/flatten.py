"""FLatten: focused linear attention over all tokens.

Q and K are made positive, divided by a learned scale and "focused": cubed, then brought back to
their length. Source: FLatten Transformer (arXiv 2308.00442), Section 3; the order of operations is
that of its repository.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import (
    Branch,
    DepthwiseConv,
    LePE,
    join_heads,
    split_heads,
)

_EPS = 1e-6


class FocusedLinearAttention(Branch):
    """(Q S) z per head, with S = K^T V / N and z = 1 / (Q mean(K) + 1e-6), plus convolutions of V.

    Args:
        channels: channels C.
        heads: heads h.
        rows: rows of the map.
        cols: columns of the map.
        lepe: whether LePE is added besides the 5x5 convolution `dwc` that the heads share.
    """

    def __init__(self, channels: int, heads: int, rows: int, cols: int, *, lepe: bool) -> None:
        """Make the branch; `positional_encoding` [1, N, C] fixes the number of tokens."""
        super().__init__()
        self.channels, self.heads, self.rows, self.cols = channels, heads, rows, cols
        self.tokens = rows * cols
        self.positional_encoding = nn.Parameter(torch.zeros(1, self.tokens, channels))
        self.scale = nn.Parameter(torch.zeros(1, 1, channels))
        width = channels // heads
        self.dwc = DepthwiseConv(width, 5)
        self.get_v = LePE(channels, rows, cols) if lepe else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q, k, v [B, N, C] to [B*N, C]."""
        scale = functional.softplus(self.scale)
        q = (q.relu() + _EPS) / scale
        k = ((k + self.positional_encoding).relu() + _EPS) / scale
        return join_heads(self.product(q, k, v)) + self.convolved(v)

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return the attention of positive q and k [B, N, C] as heads [B, h, N, d].

        The focused Q is t q^3 with one number t = |q| / |q^3| a token. It stands on both sides of
        the division, so that (q^3 S) / (q^3 mean(K) + 1e-6 / t) needs no product of t and Q.
        """
        q3, k3 = q * q * q, k * k * k
        q_gain = _length(q) / _length(q3)
        k3 = k3 * (_length(k) / (_length(k3) * self.tokens))
        queries, keys, values = (split_heads(t, self.heads) for t in (q3, k3, v))
        keys = keys.transpose(-1, -2)
        denominator = queries @ keys.sum(-1, keepdim=True) + (_EPS / q_gain).unsqueeze(1)
        return queries @ (keys @ values) / denominator

    def convolved(self, v: Tensor) -> Tensor:
        """Return what the convolutions make of V [B, N, C], as [B*N, C]."""
        width = self.channels // self.heads
        image = v.reshape(-1, self.rows, self.cols, self.heads, width).permute(0, 3, 4, 1, 2)
        local = self.dwc(image.reshape(-1, width, self.rows, self.cols))
        local = local.reshape(-1, self.channels, self.rows, self.cols)
        local = local.permute(0, 2, 3, 1).reshape(-1, self.channels)
        return local if self.get_v is None else cast(Tensor, local + self.get_v(v))

    def gains(self) -> tuple[Tensor, Tensor]:
        """Return 1 / softplus(scale) for Q and K: relu(x) / s = relu(x / s)."""
        gain = 1 / functional.softplus(self.scale.detach().double())[0, 0]
        return gain, gain

    def exported(self) -> Branch:
        """Return the form whose scale is in the projection and whose convolutions are one."""
        return _Folded(self)


def _length(tokens: Tensor) -> Tensor:
    """Return the L2 norm of each token [B, N, C] over all channels; [B, N, 1]."""
    return cast(Tensor, torch.linalg.vector_norm(tokens, dim=-1, keepdim=True))


class _Folded(FocusedLinearAttention):
    position: Tensor
    floor: Tensor

    def __init__(self, branch: FocusedLinearAttention) -> None:
        Branch.__init__(self)
        self.channels, self.heads, self.tokens = branch.channels, branch.heads, branch.tokens
        gain, _ = branch.gains()
        dtype = branch.scale.dtype
        floor = _EPS * gain
        position = branch.positional_encoding.detach().double() * gain + floor
        self.register_buffer("position", position.to(dtype))
        self.register_buffer("floor", floor.to(dtype))
        self.conv = _one_convolution(branch)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # relu(x) + e = max(x + e, e): one pass over the tokens less
        q = torch.maximum(q + self.floor, self.floor)
        k = torch.maximum(k + self.position, self.floor)
        return cast(Tensor, join_heads(self.product(q, k, v)) + self.conv(v))

    def gains(self) -> None:  # type: ignore[override]
        return None  # they are in the projection

    def exported(self) -> Branch:
        return self


def _one_convolution(branch: FocusedLinearAttention) -> LePE:
    """Return `dwc`, repeated for each head, plus LePE as one depthwise 5x5 convolution."""
    weight = branch.dwc.weight.detach().repeat(branch.heads, 1, 1, 1)
    bias = branch.dwc.bias.detach().repeat(branch.heads)
    if branch.get_v is not None:
        weight = weight + functional.pad(branch.get_v.weight.detach(), (1, 1, 1, 1))
        bias = bias + branch.get_v.bias.detach()
    conv = LePE(branch.channels, branch.rows, branch.cols, kernel=5)
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


def branches(context: AttentionContext) -> tuple[FocusedLinearAttention, ...]:
    """Return one branch: all channels and all heads; on Swin without LePE."""
    return (
        FocusedLinearAttention(
            context.dim, context.heads, context.rows, context.cols, lepe=context.lepe
        ),
    )
