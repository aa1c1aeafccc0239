"""Is the network written straight from the equations the same function as ours?

    python benchmarks/naive.py

CSWin-T with each attention as one would write it from the papers, without a thought for export:
tokens [B, N, C] throughout, one packed projection that is sliced into q, k and v, each cut into
windows and heads on its own, the scale multiplied onto the scores. Nothing of our backbones is
imported; the parameters have the same names, so that our weights load as they are. Run as a script
it compares the logits; `graph_forms.py` exports it beside ours.
"""

import io
import warnings

import _common
import torch
from torch import nn
from torch.nn import functional

DIM, DEPTHS, HEADS, CLASSES = 64, (2, 4, 18, 1), (2, 4, 8, 16), 1000
SIZE = 224
BLOCKS, STRIPES = (7, 7, 14, 7), (1, 2, 7, 7)
ATTENTIONS = ("elfatt", "global", "effatt", "local")


def heads_from_tokens(x, heads):
    """Turn tokens [B, N, c] into [B, h, N, d]."""
    B, N, c = x.shape
    return x.reshape(B, N, heads, c // heads).permute(0, 2, 1, 3)


def tokens_from_heads(x):
    """Turn [B, h, N, d] into tokens [B, N, h*d]."""
    B, h, N, d = x.shape
    return x.permute(0, 2, 1, 3).reshape(B, N, h * d)


def convolved(conv, v, rows, cols):
    """Apply LePE to tokens [B, N, c] of a map of rows x cols."""
    B, N, c = v.shape
    image = v.transpose(1, 2).reshape(B, c, rows, cols)
    return conv(image).reshape(B, c, N).transpose(1, 2)


class Lepe(nn.Module):
    """Holds the depthwise convolution of one branch."""

    def __init__(self, channels):
        super().__init__()
        self.get_v = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


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


def branches_of(attention, level, index, channels, heads, side):
    """Return the branches of block `index` (from 0) of `level` (from 0)."""
    linear = attention in ("elfatt", "effatt")
    if attention == "global" or level == 3 or (linear and level == 2 and index % 2 == 0):
        return [Global(channels, heads, side)]
    if attention == "effatt":
        return [Linear(channels, heads, side)]
    half = (channels // 2, heads // 2, side)
    if attention == "elfatt":
        return [Linear(*half), Windowed(*half, BLOCKS[level], BLOCKS[level])]
    return [Windowed(*half, side, STRIPES[level]), Windowed(*half, STRIPES[level], side)]


class MLP(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """X1 = X + proj(A(LN(X))), X2 = X1 + MLP(LN(X1))."""

    def __init__(self, dim, branches):
        super().__init__()
        self.dim = dim
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.attns, self.mlp = nn.ModuleList(branches), MLP(dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N, C]."""
        qkv = self.qkv(self.norm1(x))
        q, k, v = (qkv[..., i * self.dim : (i + 1) * self.dim] for i in range(3))
        if len(self.attns) == 1:
            out = self.attns[0](q, k, v)
        else:
            half = self.dim // 2
            first = self.attns[0](q[..., :half], k[..., :half], v[..., :half])
            second = self.attns[1](q[..., half:], k[..., half:], v[..., half:])
            out = torch.cat((first, second), dim=-1)
        x = x + self.proj(out)
        return x + self.mlp(self.norm2(x))


class Tokens(nn.Module):
    """An image [B, C, H, W] as tokens [B, N, C]."""

    def forward(self, image):
        """Flatten the map."""
        return image.flatten(2).transpose(1, 2)


class Merge(nn.Module):
    """Conv 3x3 stride 2 to twice the channels, then LayerNorm."""

    def __init__(self, dim, side):
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(2 * dim)

    def forward(self, x):
        """Map tokens [B, N, C] to [B, N/4, 2C]."""
        B, _, C = x.shape
        image = self.conv(x.transpose(1, 2).reshape(B, C, self.side, self.side))
        return self.norm(image.flatten(2).transpose(1, 2))


class NaiveCSWin(nn.Module):
    """CSWin-T at 224 x 224 with one of the attentions."""

    def __init__(self, attention):
        super().__init__()
        dim, side = DIM, SIZE // 4
        self.stage1_conv_embed = nn.Sequential(
            nn.Conv2d(3, dim, 7, stride=4, padding=2), Tokens(), nn.LayerNorm(dim)
        )
        for level, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            blocks = [
                Block(dim, branches_of(attention, level, index, dim, heads, side))
                for index in range(depth)
            ]
            self.add_module(f"stage{level + 1}", nn.Sequential(*blocks))
            if level < 3:
                self.add_module(f"merge{level + 1}", Merge(dim, side))
                dim, side = 2 * dim, side // 2
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        x = self.stage1_conv_embed(images)
        x = self.merge1(self.stage1(x))
        x = self.merge2(self.stage2(x))
        x = self.merge3(self.stage3(x))
        return self.head(self.norm(self.stage4(x)).mean(1))


def build(model, attention):
    """Return the naive network of an attention with the weights of our model."""
    net = NaiveCSWin(attention)
    net.load_state_dict(model.state_dict(), strict=True)
    return net.eval()


def exported(net, images, opset=17):
    """Return the bytes that plain torch.onnx.export writes, without any simplifier."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.from_numpy(images),),
            buffer,
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            dynamo=False,
        )
    return buffer.getvalue()


def main():
    """Compare the logits of every attention at two batch sizes."""
    _common.table(
        "Largest difference of the logits, naive and ours in torch, weights of seed 0",
        ("model", "batch 1", "batch 3"),
        [_differences(attention) for attention in ATTENTIONS],
    )


def _differences(attention):
    name = f"cswin_t_{attention}"
    model = _common.our_model(name, SIZE)
    net = build(model, attention)
    row = [name]
    for batch in (1, 3):
        images = _common.noise(batch, SIZE)
        pair = (_common.torch_logits(m, images) for m in (net, model))
        row.append(f"{_common.checked(name, *pair):.1e}")
    return row


if __name__ == "__main__":
    main()
