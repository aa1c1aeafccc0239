"""Pieces that the transformer backbones share.

Tokens flow as [B*N, C]: everything but attention works on each token alone, and a projection of a
two-dimensional tensor exports as one Gemm node, bias included.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention.layers import Branch

#: q, k and v of one branch, each [B*N, channels]
Projected = tuple[Tensor, Tensor, Tensor]


class PackedQKV(nn.Linear):
    """One projection to 3C channels: Q, then K, then V, each cut into the branches' channels.

    Args:
        dim: channels C.
        channels: channels of each branch; they add up to C.
        q_scales: what the q of each branch is multiplied by.
    """

    def __init__(self, dim: int, channels: tuple[int, ...], q_scales: tuple[float, ...]) -> None:
        """Make the projection, with bias."""
        super().__init__(dim, 3 * dim)
        self.channels, self.q_scales = channels, q_scales

    def forward(self, input: Tensor) -> tuple[Projected, ...]:  # type: ignore[override]
        """Project tokens [B*N, C]; returns q (scaled), k and v of every branch."""
        packed = super().forward(input).chunk(3, -1)
        parts = (torch.split(part, list(self.channels), -1) for part in packed)
        return tuple(
            (q * scale, k, v) for scale, q, k, v in zip(self.q_scales, *parts, strict=True)
        )


class MLP(nn.Module):
    """fc2(GELU(fc1(x))) with four times the channels in between; GELU is exact (erf)."""

    def __init__(self, dim: int) -> None:
        """Make the two layers."""
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B*N, C] to [B*N, C]."""
        return cast(Tensor, self.fc2(functional.gelu(self.fc1(tokens))))


class Block(nn.Module):
    """X1 = X + proj(A(LN(X))), X2 = X1 + MLP(LN(X1)).

    Args:
        dim: channels C.
        tokens: tokens N of one image.
        branches: the branches of the attention A.
        entry: where each token of this block's order stands in the order of its input; None where
            the block takes the tokens as they come.
    """

    entry: Tensor | None

    def __init__(
        self,
        dim: int,
        tokens: int,
        branches: tuple[Branch, ...],
        entry: Tensor | None = None,
    ) -> None:
        """Make the block; `attns.n` are the branches."""
        super().__init__()
        self.register_buffer("entry", entry, persistent=False)
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = PackedQKV(
            dim,
            tuple(branch.channels for branch in branches),
            tuple(branch.q_scale for branch in branches),
        )
        self.attns = nn.ModuleList(branches)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim)
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [B*N, C] to [B*N, C], in the order that `entry` gives them."""
        if self.entry is not None:
            x = reordered(x, self.tokens, self.entry)
        outs = []
        for branch, qkv in zip(self.attns, self.qkv(self.norm1(x)), strict=True):
            # a number, not a traced shape, which would be worked out again at every op behind it
            channels = cast(Branch, branch).channels
            q, k, v = (t.reshape(-1, self.tokens, channels) for t in qkv)
            outs.append(cast(Tensor, branch(q, k, v)))
        x = x + self.proj(outs[0] if len(outs) == 1 else torch.cat(outs, -1))
        return x + cast(Tensor, self.mlp(self.norm2(x)))

    def norm_followers(self) -> tuple[tuple[str, str], ...]:
        """Return (LayerNorm, the only Linear that reads it), for folding at export."""
        return (("norm1", "qkv"), ("norm2", "mlp.fc1"))


def wanted_order(branches: tuple[Branch, ...]) -> Tensor | None:
    """Return the order of tokens that a block of these branches works on; None is row by row.

    Raises:
        ModelError: one of several branches asks for an order of its own.
    """
    if len(branches) > 1 and any(branch.order is not None for branch in branches):
        raise ModelError(
            "one of several branches of a block asks for an order of the tokens",
            hint="only the single branch of a block may set 'order'",
        )
    return branches[0].order


def reordered(x: Tensor, tokens: int, order: Tensor) -> Tensor:
    """Give tokens [B*N, C] another order, where `order` [M] says which token comes next.

    The number N stands for a token of zeros.  Returns [B*M, C].
    """
    x = x.reshape(-1, tokens, x.shape[-1])
    if len(order) > tokens:
        x = functional.pad(x, (0, 0, 0, 1))
    return x[:, order].reshape(-1, x.shape[-1])


def tokens_from_map(image: Tensor) -> Tensor:
    """Turn a map [B, C, H, W] into tokens [B*H*W, C]."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])
