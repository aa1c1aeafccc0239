"""VMamba-T straight from the equations; `naive.py` says what for.

The selective scan is a loop over the tokens. Traced, it would be unrolled into 3136 steps for each
block of level 1; as a scripted function it is exported as one ONNX Loop.
"""

import torch
from naive_conv import MapNorm
from torch import nn
from torch.nn import functional

CLASSES = 1000


@torch.jit.script
def scan(decay: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Run h_t = decay_t * h_(t-1) + inputs_t over the last axis of [B, K, C, L]."""
    state = torch.zeros_like(inputs[..., 0])
    states: list[torch.Tensor] = []
    for t in range(inputs.shape[-1]):
        state = decay[..., t] * state + inputs[..., t]
        states.append(state)
    return torch.stack(states, dim=-1)


class MapLinear(nn.Linear):
    """A Linear layer over the channels of a map [B, C, H, W]."""

    def forward(self, x):
        """Apply it as a 1x1 convolution."""
        return functional.conv2d(x, self.weight[:, :, None, None], self.bias)


class SelectiveScan(nn.Module):
    """The four-direction selective scan with state size 1."""

    def __init__(self, dim):
        super().__init__()
        self.rank = dim // 16
        self.in_proj = MapLinear(dim, dim, bias=False)
        self.conv2d = nn.Conv2d(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.x_proj_weight = nn.Parameter(torch.zeros(4, self.rank + 2, dim))
        self.dt_projs_weight = nn.Parameter(torch.zeros(4, dim, self.rank))
        self.dt_projs_bias = nn.Parameter(torch.zeros(4, dim))
        self.A_logs, self.Ds = (
            nn.Parameter(torch.zeros(4 * dim, 1)),
            nn.Parameter(torch.ones(4 * dim)),
        )
        self.out_norm = MapNorm(dim)
        self.out_proj = MapLinear(dim, dim, bias=False)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        x = functional.silu(self.conv2d(self.in_proj(x)))
        return self.out_proj(self.out_norm(self.merged(self.scanned(self.directions(x)), x)))

    def directions(self, x):
        """Unroll a map row by row, column by column, and both reversed: [B, 4, C, L]."""
        forward = torch.stack([x.flatten(2), x.transpose(2, 3).flatten(2)], dim=1)
        return torch.cat([forward, forward.flip(-1)], dim=1)

    def scanned(self, u):
        """Run the selective scan over [B, 4, C, L]."""
        C = u.shape[2]
        projected = torch.einsum("bkcl,kdc->bkdl", u, self.x_proj_weight)
        r, b, c = projected.split([self.rank, 1, 1], dim=2)
        dt = torch.einsum("bkrl,kcr->bkcl", r, self.dt_projs_weight)
        delta = functional.softplus(dt + self.dt_projs_bias.unsqueeze(-1))
        decay = torch.exp(-delta * torch.exp(self.A_logs).view(4, C, 1))
        return c * scan(decay, delta * b * u) + self.Ds.view(4, C, 1) * u

    def merged(self, y, x):
        """Add the four directions [B, 4, C, L] in the order of the map `x`."""
        B, C, H, W = x.shape
        y = y[:, :2] + y[:, 2:].flip(-1)
        columns = y[:, 1].reshape(B, C, W, H).transpose(2, 3)
        return y[:, 0].reshape(B, C, H, W) + columns


class MapMLP(nn.Module):
    """Two layers over the channels of a map with GELU between them."""

    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = MapLinear(dim, 4 * dim), MapLinear(4 * dim, dim)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """X1 = X + scan(LN(X)), X2 = X1 + MLP(LN(X1))."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.op = MapNorm(dim), SelectiveScan(dim)
        self.norm2, self.mlp = MapNorm(dim), MapMLP(dim)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        x = x + self.op(self.norm(x))
        return x + self.mlp(self.norm2(x))


class Level(nn.Module):
    """The blocks of one level, and the merging after them; its keys are 1 and 3."""

    def __init__(self, dim, depth, merge):
        super().__init__()
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(depth)))
        self.downsample = nn.Identity()
        if merge:
            conv = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
            self.downsample = nn.Sequential(nn.Identity(), conv, nn.Identity(), MapNorm(2 * dim))

    def forward(self, x):
        """Map [B, C, H, W] to the map of the next level."""
        return self.downsample(self.blocks(x))


class Classifier(nn.Module):
    """LayerNorm, mean over the map, Linear."""

    def __init__(self, dim):
        super().__init__()
        self.norm, self.head = MapNorm(dim), nn.Linear(dim, CLASSES)

    def forward(self, x):
        """Map [B, C, H, W] to logits [B, 1000]."""
        return self.head(self.norm(x).mean(dim=(2, 3)))


class NaiveVMamba(nn.Module):
    """VMamba-T, the variant s1l8."""

    def __init__(self, depths=(2, 2, 8, 2), dims=(96, 192, 384, 768)):
        super().__init__()
        half = dims[0] // 2
        self.patch_embed = nn.Sequential()
        layers = {
            "0": nn.Conv2d(3, half, 3, stride=2, padding=1),
            "2": MapNorm(half),
            "4": nn.GELU(),
            "5": nn.Conv2d(half, dims[0], 3, stride=2, padding=1),
            "7": MapNorm(dims[0]),
        }
        for name, layer in layers.items():
            self.patch_embed.add_module(name, layer)
        self.layers = nn.Sequential(
            *(
                Level(dim, depth, merge=dim < dims[-1])
                for dim, depth in zip(dims, depths, strict=True)
            )
        )
        self.classifier = Classifier(dims[-1])

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        return self.classifier(self.layers(self.patch_embed(images)))
