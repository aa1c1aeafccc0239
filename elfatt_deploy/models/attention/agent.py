"""Agent attention: a few agent tokens read from all tokens, all tokens read from the agents.

The agents are the queries averaged over cells of the map. Source: Agent Attention (arXiv
2312.08874), Section 3; cells and biases as in its repository.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import Branch, LePE, join_heads, split_heads

_BIAS_SIDE = 7


class AgentAttention(Branch):
    """softmax(Q A^T / sqrt(d) + B2) softmax(A K^T / sqrt(d) + B1) V, plus a 3x3 convolution of V.

    Args:
        channels: channels C.
        heads: heads h.
        agents: agent tokens n, a square number.
        rows: rows of the map.
        cols: columns of the map.
        conv: name of the convolution: `get_v` on CSWin (LePE), `dwc` on Swin; empty for none.
    """

    def __init__(
        self, channels: int, heads: int, agents: int, rows: int, cols: int, *, conv: str
    ) -> None:
        """Make the branch; B1 and B2 come from six small tensors.

        Raises:
            ModelError: the number of agents is not a square.
        """
        super().__init__()
        self.channels, self.heads, self.agents = channels, heads, agents
        self.rows, self.cols, self.side = rows, cols, math.isqrt(agents)
        if self.side**2 != agents:
            raise ModelError(
                f"{agents} agents do not fill a square", hint="use --set agents=9-16-49-49"
            )
        self.an_bias = _zeros(heads, agents, _BIAS_SIDE, _BIAS_SIDE)
        self.na_bias = _zeros(heads, agents, _BIAS_SIDE, _BIAS_SIDE)
        self.ah_bias = _zeros(1, heads, agents, rows, 1)
        self.aw_bias = _zeros(1, heads, agents, 1, cols)
        self.ha_bias = _zeros(1, heads, rows, 1, agents)
        self.wa_bias = _zeros(1, heads, 1, cols, agents)
        self.conv = conv
        if conv:
            self.add_module(conv, LePE(channels, rows, cols))

    def agent_tokens(self, q: Tensor) -> Tensor:
        """Average the queries [B, N, C] over cells and scale them by 1 / sqrt(d); [B, n, C]."""
        image = q.reshape(-1, self.rows, self.cols, self.channels).permute(0, 3, 1, 2)
        cells = functional.adaptive_avg_pool2d(image, (self.side, self.side))
        scale = (self.channels / self.heads) ** -0.5
        return cast(Tensor, cells.reshape(-1, self.channels, self.agents).transpose(1, 2) * scale)

    def biases(self) -> tuple[Tensor, Tensor]:
        """Return B1 [1, h, n, N], what agents add per token, and B2 [1, h, N, n], the reverse."""
        tokens = self.rows * self.cols
        size = (self.rows, self.cols)
        an, na = (
            functional.interpolate(bias, size=size, mode="bilinear")
            for bias in (self.an_bias, self.na_bias)
        )
        agents = (an + self.ah_bias + self.aw_bias).reshape(1, self.heads, self.agents, tokens)
        queries = na.reshape(1, self.heads, self.agents, tokens).transpose(2, 3)
        edges = (self.ha_bias + self.wa_bias).reshape(1, self.heads, tokens, self.agents)
        return agents, queries + edges

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q, k, v [B, N, C] to [B*N, C]."""
        agents = split_heads(self.agent_tokens(q), self.heads)
        first, second = self.biases()
        queries, keys, values = (split_heads(t, self.heads) for t in (q, k, v))
        read = (agents @ keys.transpose(-1, -2) + first).softmax(-1) @ values
        out = join_heads((queries @ agents.transpose(-1, -2) + second).softmax(-1) @ read)
        return out + cast(Tensor, self.get_submodule(self.conv)(v)) if self.conv else out

    def exported(self) -> Branch:
        """Return a copy whose biases and cell averages are constants."""
        return _Constant(self)


class _Constant(AgentAttention):
    first: Tensor
    second: Tensor
    cells: Tensor

    def __init__(self, branch: AgentAttention) -> None:
        Branch.__init__(self)
        self.channels, self.heads, self.conv = branch.channels, branch.heads, branch.conv
        first, second = (bias.detach().clone() for bias in branch.biases())
        self.register_buffer("first", first)
        self.register_buffer("second", second)
        rows, cols = (_averages(length, branch.side) for length in (branch.rows, branch.cols))
        scale = (branch.channels / branch.heads) ** -0.5
        self.register_buffer("cells", (torch.kron(rows, cols) * scale).to(first.dtype))
        if self.conv:
            self.add_module(self.conv, branch.get_submodule(self.conv))

    def agent_tokens(self, q: Tensor) -> Tensor:
        return self.cells @ q

    def biases(self) -> tuple[Tensor, Tensor]:
        return self.first, self.second

    def exported(self) -> Branch:
        return self


def _zeros(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape))


def _averages(length: int, cells: int) -> Tensor:
    """Return [cells, length]: cell i averages floor(i L / p) to ceil((i + 1) L / p) - 1."""
    matrix = torch.zeros(cells, length, dtype=torch.float64)
    for cell in range(cells):
        start, stop = cell * length // cells, -(-(cell + 1) * length // cells)
        matrix[cell, start:stop] = 1 / (stop - start)
    return matrix


def branches(context: AttentionContext) -> tuple[AgentAttention, ...]:
    """Return one branch: all channels and all heads."""
    name = "dwc" if context.backbone == "swin" else "get_v" if context.lepe else ""
    return (
        AgentAttention(
            context.dim, context.heads, context.agents, context.rows, context.cols, conv=name
        ),
    )
