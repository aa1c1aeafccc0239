"""What the kernels compute, from the equations, in NumPy and float64.

Per head of the linear part (first `global_channels` channels), and per head of the block part:

    O = softmax_channels(Q) (softmax_tokens(K)^T V) + L(V)
    O = softmax(Q K^T d^-0.5) V + L(V)      inside each rectangle of the map

with L a depthwise 3x3 convolution with bias, over the whole map or inside the rectangle. Source:
the ELFATT paper, Section III, and its Eq. 7. Written apart from the package's torch modules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One call: the fields of `ElfattAttentionShape`, and so of the node, by the same names."""

    batch: int
    rows: int
    cols: int
    channels: int
    global_channels: int
    global_heads: int
    local_heads: int
    block_rows: int
    block_cols: int
    lepe: bool


def attention(
    shape: Shape,
    qkv: NDArray[np.floating],
    lepe_weight: NDArray[np.floating] | None = None,
    lepe_bias: NDArray[np.floating] | None = None,
) -> Floats:
    """Return the output [B, N, C] of one call.

    Args:
        shape: the sizes.
        qkv: [B, N, 3C], Q then K then V.
        lepe_weight: [C, 9], taps row by row; None without LePE.
        lepe_bias: [C]; None without LePE.
    """
    # [B, rows, cols, C]
    q, k, v = (
        part.reshape(shape.batch, shape.rows, shape.cols, shape.channels)
        for part in np.split(np.asarray(qkv, np.float64), 3, axis=-1)
    )
    out: Floats = np.zeros_like(v)
    border = shape.global_channels
    linear, block = np.s_[..., :border], np.s_[..., border:]
    if lepe_weight is None or lepe_bias is None:  # no weights, no LePE
        lepe_weight, lepe_bias = np.zeros((shape.channels, 9)), np.zeros(shape.channels)
    if border:
        out[linear] = _linear_heads(q[linear], k[linear], v[linear], shape.global_heads)
        out[linear] += _lepe(v[linear], lepe_weight[:border], lepe_bias[:border])
    if border < shape.channels:
        weights = lepe_weight[border:], lepe_bias[border:]
        out[block] = _blocks(shape, q[block], k[block], v[block], *weights)
    return out.reshape(shape.batch, -1, shape.channels)


def _softmax(logits: Floats, axis: int) -> Floats:
    weights: Floats = np.exp(logits - logits.max(axis, keepdims=True))
    total: Floats = weights.sum(axis, keepdims=True)
    return weights / total


def _heads(image: Floats, heads: int) -> Floats:
    """Turn [B, rows, cols, c] into [B, N, heads, d]."""
    return image.reshape(image.shape[0], -1, heads, image.shape[-1] // heads)


def _linear_heads(q: Floats, k: Floats, v: Floats, heads: int) -> Floats:
    queries = _softmax(_heads(q, heads), 3)
    keys = _softmax(_heads(k, heads), 1)
    context = np.einsum("bthc,bthe->bhce", keys, _heads(v, heads))
    mixed: Floats = np.einsum("bthc,bhce->bthe", queries, context)
    return mixed.reshape(v.shape)


def _softmax_heads(q: Floats, k: Floats, v: Floats, heads: int) -> Floats:
    scale = (q.shape[-1] // heads) ** -0.5
    logits = np.einsum("bthc,bshc->bhts", _heads(q, heads), _heads(k, heads)) * scale
    mixed: Floats = np.einsum("bhts,bshc->bthc", _softmax(logits, 3), _heads(v, heads))
    return mixed.reshape(v.shape)


def _lepe(v: Floats, weight: NDArray[np.floating], bias: NDArray[np.floating]) -> Floats:
    """Convolve [B, rows, cols, c] with 3x3 taps [c, 9], zeros around it."""
    rows, cols = v.shape[1:3]
    framed = np.pad(v, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.broadcast_to(np.asarray(bias, np.float64), v.shape).copy()
    for tap in range(9):
        row, col = divmod(tap, 3)
        out += framed[:, row : row + rows, col : col + cols] * weight[:, tap]
    return out


def _blocks(
    shape: Shape,
    q: Floats,
    k: Floats,
    v: Floats,
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> Floats:
    """Attend inside each rectangle; below and right of the map Q, K and V are zero."""
    below, beyond = -shape.rows % shape.block_rows, -shape.cols % shape.block_cols
    padding = ((0, 0), (0, below), (0, beyond), (0, 0))
    q, k, v = np.pad(q, padding), np.pad(k, padding), np.pad(v, padding)
    out = np.empty_like(v)
    for top in range(0, v.shape[1], shape.block_rows):
        for left in range(0, v.shape[2], shape.block_cols):
            here = np.s_[:, top : top + shape.block_rows, left : left + shape.block_cols]
            out[here] = _softmax_heads(q[here], k[here], v[here], shape.local_heads)
            out[here] += _lepe(v[here], weight, bias)
    return out[:, : shape.rows, : shape.cols]
