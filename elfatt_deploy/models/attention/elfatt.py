"""ELFATT: a linear head over all tokens beside a softmax head inside square blocks.

Q, K and V are cut into the first c1 and the last C - c1 channels; the first part goes through
linear attention, the second through softmax attention inside b x b blocks. Each part has h // 2
heads. Source: ELFATT (arXiv 2501.06098), Section III; Table V varies c1.
"""

from __future__ import annotations

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention import effatt
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import (
    Branch,
    LinearAttention,
    WindowAttention,
    Windows,
)


def branches(context: AttentionContext) -> tuple[Branch, ...]:
    """Return the linear and the blockified branch; one of them where c1 is 0 or C.

    Raises:
        ModelError: c1 or C - c1 is not a multiple of the number of heads.
    """
    c1 = round(context.dim * context.global_ratio)
    c2 = context.dim - c1
    blocks = Windows(context.rows, context.cols, context.block, context.block)
    if c1 == 0:
        return (WindowAttention(context.dim, context.heads, blocks, lepe=context.lepe),)
    if c2 == 0:
        return effatt.branches(context)
    heads = max(1, context.heads // 2)
    if c1 % heads or c2 % heads:
        raise ModelError(
            f"global-ratio {context.global_ratio} cuts {context.dim} channels of level "
            f"{context.level} into {c1} and {c2}, which {heads} heads do not divide",
            hint="use a ratio such as 0.25, 0.5 or 0.75",
        )
    return (
        LinearAttention(c1, heads, context.rows, context.cols, lepe=context.lepe),
        WindowAttention(c2, heads, blocks, lepe=context.lepe),
    )
