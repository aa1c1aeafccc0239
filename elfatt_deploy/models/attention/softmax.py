"""GLOBAL: softmax attention over all tokens (VaniATT)."""

from __future__ import annotations

from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import WindowAttention, Windows


def branches(context: AttentionContext) -> tuple[WindowAttention, ...]:
    """Return one branch: all channels, all heads, one window that covers the map."""
    whole = Windows(context.rows, context.cols, context.rows, context.cols)
    return (WindowAttention(context.dim, context.heads, whole, lepe=context.lepe),)
