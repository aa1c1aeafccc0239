"""EFFATT: linear attention over all tokens and channels (the paper's Eq. 7)."""

from __future__ import annotations

from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import LinearAttention


def branches(context: AttentionContext) -> tuple[LinearAttention, ...]:
    """Return one branch: all channels and all heads of the backbone."""
    return (
        LinearAttention(context.dim, context.heads, context.rows, context.cols, lepe=context.lepe),
    )
