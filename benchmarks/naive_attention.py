"""Attention mechanisms straight from their equations, for the naive backbones.

Each takes q, k and v as tokens [B, N, c] and returns tokens [B, N, c]; `naive.py` says what for.
The parameters have the names of the reference state_dicts.
"""

import torch
from torch import nn
from torch.nn import functional


def heads_from_tokens(x, heads):
    """Turn tokens [B, N, c] into [B, h, N, d]."""
    B, N, c = x.shape
    return x.reshape(B, N, heads, c // heads).permute(0, 2, 1, 3)


def tokens_from_heads(x):
    """Turn [B, h, N, d] into tokens [B, N, h*d]."""
    B, h, N, d = x.shape
    return x.permute(0, 2, 1, 3).reshape(B, N, h * d)


def convolved(conv, v, rows, cols):
    """Apply a convolution to tokens [B, N, c] of a map of rows x cols."""
    B, N, c = v.shape
    image = v.transpose(1, 2).reshape(B, c, rows, cols)
    return conv(image).reshape(B, c, N).transpose(1, 2)


def depthwise(channels, kernel):
    """Return a depthwise convolution that keeps the size of the map."""
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)


class MLP(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Lepe(nn.Module):
    """Holds the depthwise convolution of one branch."""

    def __init__(self, channels):
        super().__init__()
        self.get_v = depthwise(channels, 3)


class Linear(Lepe):
    """softmax(Q) (softmax(K)^T V) + LePE(V), the softmax of K over the tokens."""

    def __init__(self, channels, heads, side):
        super().__init__(channels)
        self.heads, self.side = heads, side

    def forward(self, q, k, v):
        """Attend over all tokens [B, N, c]."""
        lepe = convolved(self.get_v, v, self.side, self.side)
        q, k, v = (heads_from_tokens(x, self.heads) for x in (q, k, v))
        context = k.softmax(-2).transpose(-2, -1) @ v
        return tokens_from_heads(q.softmax(-1) @ context) + lepe


class Windowed(Lepe):
    """softmax(Q K^T / sqrt(d)) V + LePE(V) inside windows of height x width."""

    def __init__(self, channels, heads, side, height, width):
        super().__init__(channels)
        assert side % height == 0
        assert side % width == 0
        self.heads, self.side, self.height, self.width = heads, side, height, width
        self.scale = (channels // heads) ** -0.5

    def cut(self, x):
        """Turn tokens [B, N, c] into windows [B', height*width, c]."""
        B, _, c = x.shape
        down, across = self.side // self.height, self.side // self.width
        x = x.reshape(B, down, self.height, across, self.width, c)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.height * self.width, c)

    def join(self, x):
        """Turn windows back into tokens [B, N, c]."""
        c = x.shape[-1]
        down, across = self.side // self.height, self.side // self.width
        x = x.reshape(-1, down, across, self.height, self.width, c)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.side * self.side, c)

    def forward(self, q, k, v):
        """Attend inside windows of tokens [B, N, c]."""
        q, k, v = self.cut(q), self.cut(k), self.cut(v)
        lepe = convolved(self.get_v, v, self.height, self.width)
        q, k, v = (heads_from_tokens(x, self.heads) for x in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * self.scale
        return self.join(tokens_from_heads(scores.softmax(-1) @ v) + lepe)


class Global(Lepe):
    """softmax(Q K^T / sqrt(d)) V + LePE(V) over all tokens."""

    def __init__(self, channels, heads, side):
        super().__init__(channels)
        self.heads, self.side = heads, side
        self.scale = (channels // heads) ** -0.5

    def forward(self, q, k, v):
        """Attend over all tokens [B, N, c]."""
        lepe = convolved(self.get_v, v, self.side, self.side)
        q, k, v = (heads_from_tokens(x, self.heads) for x in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * self.scale
        return tokens_from_heads(scores.softmax(-1) @ v) + lepe


class Focused(nn.Module):
    """FLatten: focused linear attention plus a 5x5 convolution of V that all heads share."""

    def __init__(self, channels, heads, side, lepe):
        super().__init__()
        self.heads, self.side = heads, side
        self.positional_encoding = nn.Parameter(torch.zeros(1, side * side, channels))
        self.scale = nn.Parameter(torch.zeros(1, 1, channels))
        self.dwc = depthwise(channels // heads, 5)
        self.get_v = depthwise(channels, 3) if lepe else None

    def focus(self, x):
        """Sharpen the direction of tokens [B, N, C] and keep their length."""
        x = (functional.relu(x) + 1e-6) / functional.softplus(self.scale)
        length = x.norm(dim=-1, keepdim=True)
        x = x**3
        return x / x.norm(dim=-1, keepdim=True) * length

    def forward(self, q, k, v):
        """Attend over all tokens [B, N, C]."""
        B, N, C = v.shape
        d = C // self.heads
        q, k = self.focus(q), self.focus(k + self.positional_encoding)
        lepe = v
        q, k, v = (heads_from_tokens(x, self.heads) for x in (q, k, v))
        z = 1 / (q @ k.mean(dim=-2, keepdim=True).transpose(-2, -1) + 1e-6)
        context = (k.transpose(-2, -1) * N**-0.5) @ (v * N**-0.5)
        out = tokens_from_heads(q @ context * z)
        image = v.transpose(-2, -1).reshape(B * self.heads, d, self.side, self.side)
        out = out + self.dwc(image).reshape(B, C, N).transpose(1, 2)
        return (
            out if self.get_v is None else out + convolved(self.get_v, lepe, self.side, self.side)
        )


class Agent(nn.Module):
    """Agent attention: pooled queries gather from the tokens, and the tokens from them.

    `conv` is the name of the depthwise 3x3 convolution of V that is added at the end.
    """

    def __init__(self, channels, heads, side, agents, conv):
        super().__init__()
        self.heads, self.side, self.agents, self.conv = heads, side, agents, conv
        self.scale = (channels // heads) ** -0.5
        shapes = {
            "an_bias": (heads, agents, 7, 7),
            "na_bias": (heads, agents, 7, 7),
            "ah_bias": (1, heads, agents, side, 1),
            "aw_bias": (1, heads, agents, 1, side),
            "ha_bias": (1, heads, side, 1, agents),
            "wa_bias": (1, heads, 1, side, agents),
        }
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        self.add_module(conv, depthwise(channels, 3))

    def pooled(self, q):
        """Average tokens [B, N, C] over a grid of cells; returns agents [B, n, C]."""
        B, _, C = q.shape
        cells = round(self.agents**0.5)
        image = q.transpose(1, 2).reshape(B, C, self.side, self.side)
        if self.side % cells == 0:
            return functional.adaptive_avg_pool2d(image, cells).flatten(2).transpose(1, 2)
        # The exporter refuses adaptive pooling to a size that does not divide the map.
        edges = [(i * self.side // cells, -(-(i + 1) * self.side // cells)) for i in range(cells)]
        means = [
            image[:, :, top:bottom, left:right].mean(dim=(2, 3))
            for top, bottom in edges
            for left, right in edges
        ]
        return torch.stack(means, dim=1)

    def resized(self, bias):
        """Resize a bias [h, n, 7, 7] to the map; returns [1, h, n, N]."""
        size = (self.side, self.side)
        return functional.interpolate(bias, size=size, mode="bilinear").flatten(2).unsqueeze(0)

    def forward(self, q, k, v):
        """Attend over all tokens [B, N, C]."""
        positional = convolved(getattr(self, self.conv), v, self.side, self.side)
        agents = heads_from_tokens(self.pooled(q), self.heads)
        q, k, v = (heads_from_tokens(x, self.heads) for x in (q, k, v))
        bias = self.resized(self.an_bias) + (self.ah_bias + self.aw_bias).flatten(3)
        gathered = ((agents * self.scale) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
        bias = self.resized(self.na_bias).transpose(-2, -1)
        bias = bias + (self.ha_bias + self.wa_bias).flatten(2, 3)
        weights = ((q * self.scale) @ agents.transpose(-2, -1) + bias).softmax(-1)
        return tokens_from_heads(weights @ gathered) + positional
