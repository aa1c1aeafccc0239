"""LOCAL: CSWin's cross-shaped windows, vertical stripes beside horizontal ones.

Half of the channels attend inside stripes as high as the map, the other half inside stripes as wide
as it; LePE sees its stripe alone. Where a stripe would cover the map there is one branch, VaniATT.
Source: CSWin Transformer (arXiv 2107.00652), Section 3.2.
"""

from __future__ import annotations

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention import softmax
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import WindowAttention, Windows


def branches(context: AttentionContext) -> tuple[WindowAttention, ...]:
    """Return the vertical and the horizontal branch, or VaniATT at the last level.

    Raises:
        ModelError: the number of heads is odd.
    """
    if context.level == 4 or context.stripe >= max(context.rows, context.cols):
        return softmax.branches(context)
    if context.heads % 2:
        raise ModelError(
            f"{context.heads} heads cannot be shared by vertical and horizontal stripes",
            hint="use an even number of heads",
        )
    rows, cols = context.rows, context.cols
    stripes = (
        Windows(rows, cols, rows, min(context.stripe, cols)),
        Windows(rows, cols, min(context.stripe, rows), cols),
    )
    return tuple(
        WindowAttention(context.dim // 2, context.heads // 2, windows, lepe=context.lepe)
        for windows in stripes
    )
