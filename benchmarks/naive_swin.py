"""Swin-T with each attention straight from the equations; `naive.py` says what for."""

import torch
from naive_attention import MLP, Agent, Focused, Global, Linear
from torch import nn

DIM, DEPTHS, HEADS, CLASSES = 96, (2, 2, 6, 2), (3, 6, 12, 24), 1000
SIZE, WINDOW = 224, 7
AGENTS = (9, 16, 49, 49)
ATTENTIONS = ("local", "flatten", "agent", "global", "effatt")
#: levels (from 0) of the mechanisms that leave the other levels to windows
LEVELS = {"local": (), "flatten": (0, 1), "agent": (0, 1, 2)}


def window_partition(x):
    """Cut maps [B, H, W, C] into windows [B*n, 49, C]."""
    B, H, W, C = x.shape
    x = x.view(B, H // WINDOW, WINDOW, W // WINDOW, WINDOW, C)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW * WINDOW, C)


def window_reverse(windows, side):
    """Put windows [B*n, 49, C] back into maps [B, side, side, C]."""
    count = side // WINDOW
    x = windows.view(-1, count, count, WINDOW, WINDOW, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, side, side, windows.shape[-1])


def relative_position_index():
    """Return the row of the bias table for each pair of places in a window, [49, 49]."""
    places = torch.arange(WINDOW)
    y, x = (axis.flatten() for axis in torch.meshgrid(places, places, indexing="ij"))
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + WINDOW - 1) * (2 * WINDOW - 1) + dx + WINDOW - 1


def shift_mask(side, shift):
    """Return -100 between tokens of a window that were not neighbours before the shift."""
    regions = torch.zeros(1, side, side, 1)
    bands = (slice(0, -WINDOW), slice(-WINDOW, -shift), slice(-shift, None))
    for row, rows in enumerate(bands):
        for col, cols in enumerate(bands):
            regions[:, rows, cols] = 3 * row + col
    regions = window_partition(regions).squeeze(-1)
    same = regions[:, None, :] == regions[:, :, None]
    return torch.zeros(same.shape).masked_fill(~same, -100.0)


class WindowAttention(nn.Module):
    """softmax(Q K^T / sqrt(d) + bias + mask) V inside windows, with its projections."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        table = torch.zeros((2 * WINDOW - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        self.register_buffer("relative_position_index", relative_position_index())

    def forward(self, x, mask):
        """Attend inside windows [B*n, 49, C]; the mask is [n, 49, 49] or None."""
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        scores = (q * self.scale) @ k.transpose(-2, -1)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        scores = scores + bias.view(N, N, -1).permute(2, 0, 1).unsqueeze(0)
        if mask is not None:
            n = mask.shape[0]
            scores = scores.view(B // n, n, self.heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, N, N)
        out = scores.softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(B, N, C))


class WindowBlock(nn.Module):
    """Attention in windows, shifted where `shift` is not 0, then the MLP."""

    def __init__(self, dim, heads, side, shift):
        super().__init__()
        self.side, self.shift = side, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = WindowAttention(dim, heads), MLP(dim)
        self.register_buffer("attn_mask", shift_mask(side, shift) if shift else None)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        B, N, C = x.shape
        y = self.norm1(x).view(B, self.side, self.side, C)
        if self.shift:
            y = torch.roll(y, shifts=(-self.shift, -self.shift), dims=(1, 2))
        y = window_reverse(self.attn(window_partition(y), self.attn_mask), self.side)
        if self.shift:
            y = torch.roll(y, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + y.view(B, N, C)
        return x + self.mlp(self.norm2(x))


class MapBlock(nn.Module):
    """Attention over the whole map, then the MLP; the projections live in `attn`."""

    def __init__(self, dim, attention):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = attention, MLP(dim)
        self.attn.qkv, self.attn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        q, k, v = self.attn.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.attn.proj(self.attn(q, k, v))
        return x + self.mlp(self.norm2(x))


def block_of(attention, level, index, dim, heads, side):
    """Return block `index` (from 0) of `level` (from 0)."""
    if level not in LEVELS.get(attention, range(4)):
        shift = WINDOW // 2 if index % 2 == 1 and side > WINDOW else 0
        return WindowBlock(dim, heads, side, shift)
    if attention == "flatten":
        return MapBlock(dim, Focused(dim, heads, side, lepe=False))
    if attention == "agent":
        return MapBlock(dim, Agent(dim, heads, side, AGENTS[level], conv="dwc"))
    softmax = attention == "global" or level == 3 or (level == 2 and index % 2 == 0)
    return MapBlock(dim, (Global if softmax else Linear)(dim, heads, side))


class PatchMerging(nn.Module):
    """Gather 2x2 neighbours, LayerNorm, Linear to twice the channels."""

    def __init__(self, dim, side):
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N/4, 2C]."""
        B, N, C = x.shape
        x = x.view(B, self.side, self.side, C)
        corners = (x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2])
        return self.reduction(self.norm(torch.cat(corners, dim=-1).view(B, N // 4, 4 * C)))


class Level(nn.Module):
    """The blocks of one level, and the merging after them."""

    def __init__(self, blocks, downsample):
        super().__init__()
        self.blocks, self.downsample = nn.Sequential(*blocks), downsample

    def forward(self, x):
        """Map tokens to the tokens of the next level."""
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Conv 4x4 stride 4, tokens, LayerNorm."""

    def __init__(self, dim):
        super().__init__()
        self.proj, self.norm = nn.Conv2d(3, dim, 4, stride=4), nn.LayerNorm(dim)

    def forward(self, images):
        """Map images [B, 3, 224, 224] to tokens [B, N, C]."""
        return self.norm(self.proj(images).flatten(2).transpose(1, 2))


class NaiveSwin(nn.Module):
    """Swin-T at 224 x 224 with one of the attentions."""

    def __init__(self, attention):
        super().__init__()
        dim, side = DIM, SIZE // 4
        self.patch_embed, self.layers = PatchEmbed(dim), nn.Sequential()
        for level, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            blocks = [block_of(attention, level, i, dim, heads, side) for i in range(depth)]
            self.layers.append(Level(blocks, PatchMerging(dim, side) if level < 3 else None))
            if level < 3:
                dim, side = 2 * dim, side // 2
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        return self.head(self.norm(self.layers(self.patch_embed(images))).mean(1))
