"""Selective scan with state size 1 over a map, in four directions and in plain ops.

For each channel and direction, with u_t the token at step t,

    Delta_t = softplus(W_dt r_t + bias),   h_t = exp(-Delta_t A) h_{t-1} + Delta_t B_t u_t,
    y_t = C_t h_t + D u_t,                 (r_t, B_t, C_t) = W_x u_t.

Source: Mamba (arXiv 2312.00752), Section 3, and VMamba (arXiv 2401.10166), whose forms s1l8 have
one state a channel. Why the recurrence has this form, and what the others cost, is in
`docs/vmamba.md`; `benchmarks/scan.py` measures them.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

DIRECTIONS = 4
_LONGEST_BLOCK = 8
#: beyond it softplus(x) is x in float64 too
_SOFTPLUS_IS_LINEAR = 40.0


class ScanWeights(NamedTuple):
    """What four scans need, with the directions along the first axis.

    Args:
        rank: numbers R that make up r_t.
        project: W_x of all directions, [4 (R + 2), C]; each gives r_t, B_t and C_t.
        steps: W_dt transposed, [4, R, C].
        steps_bias: its bias, [4, 1, C].
        rates: -A, all negative, [4, 1, C].
        skip: D, added up over the directions, [C].
    """

    rank: int
    project: Tensor
    steps: Tensor
    steps_bias: Tensor
    rates: Tensor
    skip: Tensor


def block_lengths(length: int) -> tuple[int, ...]:
    """Return the block lengths, inner ones first, whose product covers `length` steps.

    As few levels as blocks of at most 8 steps allow; among those the least that is covered in
    excess, then the fewest steps to write out.
    """
    levels = 1
    while _LONGEST_BLOCK**levels < length:
        levels += 1
    sides = range(1 if levels == 1 else 2, _LONGEST_BLOCK + 1)
    choices = itertools.combinations_with_replacement(reversed(sides), levels)
    return min(
        (blocks for blocks in choices if math.prod(blocks) >= length),
        key=lambda blocks: (math.prod(blocks), sum(blocks)),
    )


def linear_recurrence(decay: Tensor, drive: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Return h with h_t = decay_t h_{t-1} + drive_t along the third axis, h before the first 0.

    The sequence is cut into blocks. Every block is run through from a state of zero, all blocks
    side by side, for its product of decays and its last state; these form a sequence of their own,
    on which the function calls itself; then every block is run through again from the state that
    it really starts with. There is no division and no logarithm: with decays from 0 to 1 nothing
    can overflow, and what underflows is zero.

    Args:
        decay: [B, K, L, C].
        drive: [B, K, L, C].
        blocks: block lengths, inner ones first; their product is L.
    """
    k, length, c = drive.shape[1:]
    block, outer = blocks[0], blocks[1:]
    # One axis of steps in front of the channels: each step of all blocks is one slice.
    shape = (-1, k, length // block, block, c)
    decays = torch.split(decay.reshape(shape), 1, 3)
    drives = torch.split(drive.reshape(shape), 1, 3)
    if outer:
        product, state = decays[0], drives[0]
        for a, b in zip(decays[1:], drives[1:], strict=True):
            product, state = a * product, a * state + b
        ends = linear_recurrence(
            product.reshape(-1, k, length // block, c), state.reshape(-1, k, length // block, c),
            outer,
        )  # fmt: skip
        starts = functional.pad(ends[:, :, :-1], (0, 0, 1, 0))
        states = [decays[0] * starts.unsqueeze(3) + drives[0]]
    else:
        states = [drives[0]]
    for a, b in zip(decays[1:], drives[1:], strict=True):
        states.append(a * states[-1] + b)
    return torch.cat(states, 3).reshape(-1, k, length, c)


def scan_orders(rows: int, cols: int) -> Tensor:
    """Return which token of a map stands at each step, [4, rows * cols].

    Row by row, column by column, and both from the end to the beginning.
    """
    tokens = torch.arange(rows * cols)
    forward = torch.stack([tokens, tokens.reshape(rows, cols).t().reshape(-1)])
    return torch.cat([forward, forward.flip(1)])


class FourScans(nn.Module):
    """Scans a map in four directions and adds the results.

    It has neither parameters nor a forward: the weights come with each call of `scanned`.

    A gather brings the tokens into the four orders, and one for each direction back. The four
    sequences are then one tensor, and everything in between is done once. Where the blocks cover
    more steps than there are tokens the last token is repeated: a state never sees a later step.

    Args:
        channels: channels C.
        rows: rows of the map.
        cols: columns of the map.
    """

    token_of_step: Tensor
    projection_of_step: Tensor
    step_of_token: Tensor

    def __init__(self, channels: int, rows: int, cols: int) -> None:
        """Work out the orders of the tokens."""
        super().__init__()
        self.channels, self.tokens = channels, rows * cols
        self.blocks = block_lengths(self.tokens)
        self.steps = math.prod(self.blocks)
        orders = scan_orders(rows, cols)
        padded = orders[:, torch.arange(self.steps).clamp(max=self.tokens - 1)]
        direction = torch.arange(DIRECTIONS).unsqueeze(1)
        buffers = {
            "token_of_step": padded.reshape(-1),
            "projection_of_step": (padded * DIRECTIONS + direction).reshape(-1),
            "step_of_token": orders.argsort(1) + direction * self.steps,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def scanned(self, u: Tensor, weights: ScanWeights) -> Tensor:
        """Scan tokens [B*N, C]; returns [B*N, C]."""
        n, c, rank = self.tokens, self.channels, weights.rank
        sequences = u.reshape(-1, n, c).index_select(1, self.token_of_step)
        sequences = sequences.reshape(-1, DIRECTIONS, self.steps, c)
        # Projected in the order of the map, where it is one product; its few columns are reordered.
        projected = functional.linear(u, weights.project).reshape(-1, DIRECTIONS * n, rank + 2)
        projected = projected.index_select(1, self.projection_of_step)
        projected = projected.reshape(-1, DIRECTIONS, self.steps, rank + 2)
        low, into, out = torch.split(projected, [rank, 1, 1], -1)
        delta = softplus(low @ weights.steps + weights.steps_bias)
        states = linear_recurrence(
            torch.exp(delta * weights.rates), delta * sequences * into, self.blocks
        )
        y = (states * out).reshape(-1, DIRECTIONS * self.steps, c)
        total = (u * weights.skip).reshape(-1, n, c)
        for steps in self.step_of_token.unbind(0):
            total = total + y.index_select(1, steps)
        return total.reshape(-1, c)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)) elementwise."""
    if torch.onnx.is_in_onnx_export():
        # ONNX Runtime's own Softplus takes four times as long as these seven ops (1.31, x86-64),
        # and exp never sees a positive number: nothing overflows, in half precision either.
        return torch.relu(x) + torch.log(1 + torch.exp(torch.minimum(x, -x)))
    return functional.softplus(x, threshold=_SOFTPLUS_IS_LINEAR)
