"""EfficientViT-B2 and ConvNeXt-T straight from the equations; `naive.py` says what for."""

import torch
from torch import nn
from torch.nn import functional

CLASSES = 1000


class ConvUnit(nn.Module):
    """Convolution, BatchNorm where it has one, hswish where it has one."""

    def __init__(self, dim, out, kernel=1, stride=1, groups=1, norm=True, bias=False, act=True):
        super().__init__()
        self.conv = nn.Conv2d(dim, out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(out) if norm else None
        self.act = nn.Hardswish() if act else None

    def forward(self, x):
        """Map [B, C, H, W] to [B, C', H', W']."""
        x = self.conv(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.act is None else self.act(x)


class DSConv(nn.Module):
    """Depthwise 3x3, then 1x1 without activation."""

    def __init__(self, dim):
        super().__init__()
        self.depth_conv = ConvUnit(dim, dim, 3, groups=dim)
        self.point_conv = ConvUnit(dim, dim, act=False)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        return self.point_conv(self.depth_conv(x))


class MBConv(nn.Module):
    """1x1 to four times the channels, depthwise 3x3, 1x1 back."""

    def __init__(self, dim, out, stride=1, fewer_norm=False):
        super().__init__()
        inner, form = 4 * dim, {"norm": not fewer_norm, "bias": fewer_norm}
        self.inverted_conv = ConvUnit(dim, inner, **form)
        self.depth_conv = ConvUnit(inner, inner, 3, stride, groups=inner, **form)
        self.point_conv = ConvUnit(inner, out, act=False)

    def forward(self, x):
        """Map [B, C, H, W] to [B, C', H', W']."""
        return self.point_conv(self.depth_conv(self.inverted_conv(x)))


class MultiScaleAttention(nn.Module):
    """ReLU linear attention over all tokens, at two scales."""

    def __init__(self, dim, head_dim=32):
        super().__init__()
        self.head_dim, heads = head_dim, dim // head_dim
        self.qkv = ConvUnit(dim, 3 * dim, norm=False, act=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(3 * dim, 3 * dim, 5, padding=2, groups=3 * dim, bias=False),
                    nn.Conv2d(3 * dim, 3 * dim, 1, groups=3 * heads, bias=False),
                )
            ]
        )
        self.proj = ConvUnit(2 * dim, dim, act=False)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        B, _, H, W = x.shape
        qkv = self.qkv(x)
        scales = torch.cat([qkv] + [aggregate(qkv) for aggregate in self.aggreg], dim=1)
        groups = scales.reshape(B, -1, 3 * self.head_dim, H * W)
        q, k, v = groups.chunk(3, dim=2)
        q, k = functional.relu(q), functional.relu(k)
        v = functional.pad(v, (0, 0, 0, 1), value=1.0)  # the last row sums the weights
        out = (v @ k.transpose(-2, -1)) @ q
        out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
        return self.proj(out.reshape(B, -1, H, W))


class Branch(nn.Module):
    """A module under the name `main`, with or without a skip connection."""

    def __init__(self, main, skip):
        super().__init__()
        self.main, self.skip = main, skip

    def forward(self, x):
        """Map [B, C, H, W] to [B, C', H', W']."""
        return x + self.main(x) if self.skip else self.main(x)


class EfficientViTBlock(nn.Module):
    """Multi-scale attention, then an MBConv."""

    def __init__(self, dim):
        super().__init__()
        self.context_module = Branch(MultiScaleAttention(dim), skip=True)
        self.local_module = Branch(MBConv(dim, dim, fewer_norm=True), skip=True)

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        return self.local_module(self.context_module(x))


class OpList(nn.Module):
    """Modules one after the other, under the name `op_list`."""

    def __init__(self, *ops):
        super().__init__()
        self.op_list = nn.Sequential(*ops)

    def forward(self, x):
        """Run them."""
        return self.op_list(x)


class HeadLinear(nn.Module):
    """A Linear layer, with LayerNorm and hswish or as the classifier."""

    def __init__(self, dim, out, norm):
        super().__init__()
        self.linear = nn.Linear(dim, out, bias=not norm)
        self.norm = nn.LayerNorm(out) if norm else None

    def forward(self, x):
        """Map [B, C] to [B, C']."""
        x = self.linear(x)
        return x if self.norm is None else functional.hardswish(self.norm(x))


class Pool(nn.Module):
    """The mean over the map."""

    def forward(self, x):
        """Map [B, C, H, W] to [B, C]."""
        return x.mean(dim=(2, 3))


class EfficientViTBackbone(nn.Module):
    """Stem and four stages."""

    def __init__(self, widths=(24, 48, 96, 192, 384), depths=(1, 3, 4, 4, 6)):
        super().__init__()
        stem = [Branch(DSConv(widths[0]), skip=True) for _ in range(depths[0])]
        self.input_stem = OpList(ConvUnit(3, widths[0], 3, 2), *stem)
        self.stages = nn.Sequential()
        for stage, (dim, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            late, depth = stage >= 2, depths[stage + 1]
            ops = [Branch(MBConv(dim, out, stride=2, fewer_norm=late), skip=False)]
            if late:
                ops += [EfficientViTBlock(out) for _ in range(depth)]
            else:
                ops += [Branch(MBConv(out, out), skip=True) for _ in range(depth - 1)]
            self.stages.append(OpList(*ops))

    def forward(self, images):
        """Map images [B, 3, H, W] to [B, 384, H/32, W/32]."""
        return self.stages(self.input_stem(images))


class NaiveEfficientViT(nn.Module):
    """EfficientViT-B2."""

    def __init__(self):
        super().__init__()
        self.backbone = EfficientViTBackbone()
        self.head = OpList(
            ConvUnit(384, 2304),
            Pool(),
            HeadLinear(2304, 2560, norm=True),
            HeadLinear(2560, CLASSES, norm=False),
        )

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        return self.head(self.backbone(images))


class MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, C, H, W]."""

    def forward(self, x):
        """Normalise each place of the map."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """X + gamma * pwconv2(GELU(pwconv1(LN(dwconv(X)))))."""

    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        """Map [B, C, H, W] to the same shape."""
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(functional.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class NaiveConvNeXt(nn.Module):
    """ConvNeXt-T."""

    def __init__(self, depths=(3, 3, 9, 3), dims=(96, 192, 384, 768)):
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), MapNorm(dims[0], eps=1e-6))
        self.downsample_layers = nn.ModuleList([stem])
        for dim, out in zip(dims[:-1], dims[1:], strict=True):
            layers = (MapNorm(dim, eps=1e-6), nn.Conv2d(dim, out, 2, stride=2))
            self.downsample_layers.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(dim) for _ in range(depth)))
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm, self.head = nn.LayerNorm(dims[-1], eps=1e-6), nn.Linear(dims[-1], CLASSES)

    def forward(self, images):
        """Classify images [B, 3, 224, 224]."""
        x = images
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean(dim=(2, 3))))
