"""What a mechanism is told about the block that it serves."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionContext:
    """One block of one level.

    Args:
        dim: channels C.
        heads: heads h.
        rows: rows of the feature map.
        cols: columns of the feature map; N = rows * cols tokens, numbered row by row.
        level: 1 to 4.
        index: number of the block in its level, from 0.
        block: side of the square blocks of blockified attention.
        stripe: stripe width of CSWin's own attention.
        window: side of the windows of Swin's own attention.
        agents: agent tokens of Agent attention.
        lepe: whether the locally enhanced position encoding is added.
        global_ratio: share c1 / C of the linear head in ELFATT.
        backbone: `cswin` or `swin`; the published mechanisms differ a little between the two.
    """

    dim: int
    heads: int
    rows: int
    cols: int
    level: int = 1
    index: int = 0
    block: int = 7
    stripe: int = 1
    window: int = 7
    agents: int = 9
    lepe: bool = True
    global_ratio: float = 0.5
    backbone: str = "cswin"
