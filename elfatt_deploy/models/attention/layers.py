"""Pieces that several mechanisms share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def split_heads(tokens: Tensor, heads: int) -> Tensor:
    """Turn tokens [B, N, C] into heads [B, h, N, d]; head j owns channels j*d to (j+1)*d - 1."""
    if heads == 1:  # no data moves: a transposition would be a copy in most runtimes
        return tokens.unsqueeze(1)
    _, n, c = tokens.shape
    return tokens.reshape(-1, n, heads, c // heads).permute(0, 2, 1, 3)


def join_heads(heads: Tensor) -> Tensor:
    """Turn heads [B, h, N, d] back into tokens [B*N, h*d]."""
    _, h, _, d = heads.shape
    if h == 1:
        return heads.reshape(-1, d)
    return heads.permute(0, 2, 1, 3).reshape(-1, h * d)


class Branch(nn.Module):
    """One part of a block's attention, on some of its channels.

    `channels` says how many channels of Q, K and V it takes; `q_scale` is what the block multiplies
    Q by beforehand, so that an export can fold it into the projection. `forward(q, k, v)` maps
    three [B, N, channels] to [B*N, channels].

    A branch that works on an order of the tokens other than row by row may ask for it in `order`
    (position in the map of each token); the backbone then keeps the whole block in that order.
    """

    channels: int
    q_scale: float = 1.0
    order: Tensor | None = None

    def gains(self) -> tuple[Tensor, Tensor] | None:
        """Return what an export may multiply Q and K by in the projection, each [channels].

        Only a branch whose `exported` form expects it does so.
        """
        return None

    def exported(self) -> Branch:
        """Return the form to export: constant work done once. By default the branch itself."""
        return self


class SoftmaxProduct(nn.Module):
    """softmax(Q K^T) V per head, Q already scaled.

    A module of its own, without parameters, so that the counter of multiply-accumulates can tell
    the two products that a fused attention kernel hides ("FA") from the rest.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q, k, v [B, h, N, d] to [B, h, N, d]."""
        if torch.onnx.is_in_onnx_export():
            # Plain ops, and no op between scores and softmax: what TensorRT fuses into one kernel.
            # The exporter's own form of scaled_dot_product_attention multiplies both Q and K by
            # sqrt(scale), which TensorRT 10.7 computes wrongly (NVIDIA/TensorRT issue 4333).
            return (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return functional.scaled_dot_product_attention(q, k, v, scale=1.0)


class DepthwiseConv(nn.Conv2d):
    """A depthwise convolution with bias, stride 1 and zero padding that keeps the map's size."""

    bias: nn.Parameter

    def __init__(self, channels: int, kernel: int) -> None:
        """Make the convolution with a square kernel of odd side."""
        super().__init__(channels, channels, kernel, padding=kernel // 2, groups=channels)


class LePE(DepthwiseConv):
    """Locally enhanced position encoding: a depthwise 3x3 convolution of V."""

    def __init__(self, channels: int, rows: int, cols: int, kernel: int = 3) -> None:
        """Make the convolution of a map of rows x cols tokens."""
        super().__init__(channels, kernel)
        self.rows, self.cols = rows, cols

    def forward(self, input: Tensor) -> Tensor:
        """Convolve tokens [B, rows*cols, c] laid out as a map; returns [B*rows*cols, c]."""
        c = input.shape[-1]
        # The two permutes stand right at the convolution: ONNX Runtime then merges them into its
        # layout conversion and TensorRT into the neighbouring kernels.
        image = input.reshape(-1, self.rows, self.cols, c).permute(0, 3, 1, 2)
        return super().forward(image).permute(0, 2, 3, 1).reshape(-1, c)

    def shifted(self) -> nn.Module:
        """Return the form for targets whose local op is written as shifts."""
        return ShiftedLePE(self)


class ShiftedLePE(nn.Module):
    """The convolution of a LePE as a sum of shifted tokens, each times one weight a channel.

    Channels stay last, so nothing is transposed, and everything is elementwise: TensorRT makes one
    kernel of it and of what surrounds it, where a convolution is a kernel of its own between two
    changes of layout (docs/kernels.md).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, lepe: LePE) -> None:
        """Take the weights of a LePE."""
        super().__init__()
        self.rows, self.cols = lepe.rows, lepe.cols
        # [kernel, kernel, c]
        weight = lepe.weight.detach().squeeze(1).permute(1, 2, 0).contiguous()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", lepe.bias.detach().clone())

    def forward(self, input: Tensor) -> Tensor:
        """Convolve tokens [B, rows*cols, c] laid out as a map; returns [B*rows*cols, c]."""
        side, _, c = self.weight.shape
        reach = side // 2
        image = input.reshape(-1, self.rows, self.cols, c)
        image = functional.pad(image, (0, 0, reach, reach, reach, reach))
        bands = [image[:, row : row + self.rows] for row in range(side)]
        out = self.bias
        for col in range(side):
            # the taps of a column first: a cut for each row and column in place of one a tap
            column = bands[0] * self.weight[0, col]
            for row in range(1, side):
                column = column + bands[row] * self.weight[row, col]
            out = out + column[:, :, col : col + self.cols]
        return out.reshape(-1, c)


class Windows:
    """Cuts a token map into rectangles of the same size, and puts them back.

    Where a rectangle does not divide the map, the map is extended by zero rows below and zero
    columns at the right, and cropped again at the end; there is no mask.

    Args:
        rows: rows of the map.
        cols: columns of the map.
        height: rows of a rectangle.
        width: columns of a rectangle.
    """

    def __init__(self, rows: int, cols: int, height: int, width: int) -> None:
        """Work out how many rectangles there are, and how much padding they need."""
        self.rows, self.cols, self.height, self.width = rows, cols, height, width
        self.down, self.across = -(-rows // height), -(-cols // width)
        self.pad_rows = self.down * height - rows
        self.pad_cols = self.across * width - cols
        self.padded = bool(self.pad_rows or self.pad_cols)
        #: whether tokens lie window by window already: nothing needs to move
        self.stacked = self.across == 1 and not self.padded

    def cut(self, tokens: Tensor) -> Tensor:
        """Turn [B, rows*cols, c] into [B*rectangles, height*width, c]."""
        c = tokens.shape[-1]
        if self.stacked:
            return tokens.reshape(-1, self.height * self.width, c)
        if self.padded:
            tokens = tokens.reshape(-1, self.rows, self.cols, c)
            tokens = functional.pad(tokens, (0, 0, 0, self.pad_cols, 0, self.pad_rows))
        grid = tokens.reshape(-1, self.down, self.height, self.across, self.width, c)
        return grid.permute(0, 1, 3, 2, 4, 5).reshape(-1, self.height * self.width, c)

    def join(self, tokens: Tensor) -> Tensor:
        """Turn [B*rectangles*height*width, c] back into [B*rows*cols, c]."""
        if self.stacked:
            return tokens
        c = tokens.shape[-1]
        grid = tokens.reshape(-1, self.down, self.across, self.height, self.width, c)
        image = grid.permute(0, 1, 3, 2, 4, 5)
        if self.padded:
            image = image.reshape(-1, self.down * self.height, self.across * self.width, c)
            image = image[:, : self.rows, : self.cols]
        return image.reshape(-1, c)


class WindowAttention(Branch):
    """Softmax attention inside rectangles of the map, with LePE inside each rectangle.

    One rectangle that covers the map is VaniATT; stripes are CSWin's own attention; squares are the
    blockified head of ELFATT (paper, Section III, Q_tilde part).

    Args:
        channels: channels c of this branch.
        heads: heads of this branch; the scale is (c / heads) ** -0.5.
        windows: the rectangles.
        lepe: whether LePE is added.
    """

    def __init__(self, channels: int, heads: int, windows: Windows, *, lepe: bool) -> None:
        """Make the branch; its only parameters are those of LePE."""
        super().__init__()
        self.channels, self.heads, self.windows = channels, heads, windows
        self.q_scale = (channels / heads) ** -0.5
        self.attend = SoftmaxProduct()
        self.get_v = LePE(channels, windows.height, windows.width) if lepe else None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q (scaled), k, v [B, N, c] to [B*N, c]."""
        q, k, v = self.windows.cut(q), self.windows.cut(k), self.windows.cut(v)
        heads = (split_heads(t, self.heads) for t in (q, k, v))
        out = join_heads(self.attend(*heads))
        if self.get_v is not None:
            out = out + self.get_v(v)
        return self.windows.join(out)


class LinearAttention(Branch):
    """EFFATT: softmax_channels(Q) (softmax_tokens(K)^T V) per head, plus LePE over the whole map.

    The softmax of Q runs over the d channels of a head for each token, that of K over all tokens
    for each channel; there is no scale. The d x d product comes first, so cost is linear in N.
    Source: the paper's Eq. 7, and Shen et al., "Efficient Attention" (arXiv 1812.01243).

    Args:
        channels: channels c of this branch.
        heads: heads of this branch.
        rows: rows of the map.
        cols: columns of the map.
        lepe: whether LePE is added.
    """

    def __init__(self, channels: int, heads: int, rows: int, cols: int, *, lepe: bool) -> None:
        """Make the branch; its only parameters are those of LePE."""
        super().__init__()
        self.channels, self.heads, self.rows, self.cols = channels, heads, rows, cols
        self.get_v = LePE(channels, rows, cols) if lepe else None
        #: what the softmax over tokens is multiplied by, and the context divided by
        self.token_scale = 1.0

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend: q, k, v [B, N, c] to [B*N, c]."""
        queries, values = split_heads(q, self.heads), split_heads(v, self.heads)
        context = self.keys(k) @ values
        if self.token_scale != 1:
            context = context / self.token_scale
        out = join_heads(queries.softmax(-1) @ context)
        if self.get_v is not None:
            out = out + self.get_v(v)
        return out

    def keys(self, k: Tensor) -> Tensor:
        """Return the softmax over tokens of K [B, N, c] as [B, h, d, N]."""
        # Transposed first: the softmax then runs along the last axis, which every runtime does
        # without a transposition of its own.
        return self._scaled(split_heads(k, self.heads).transpose(-1, -2).softmax(-1))

    def scale_tokens(self) -> None:
        """Scale the softmax over tokens by sqrt(N), so that FP16 holds values around 1/N."""
        self.token_scale = math.sqrt(self.rows * self.cols)

    def _scaled(self, softmax: Tensor) -> Tensor:
        return softmax if self.token_scale == 1 else softmax * self.token_scale

    def shifted(self) -> nn.Module:
        """Return the form that goes with LePE as shifts: another order of softmax and heads."""
        if self.heads == 1:
            return self
        form = _SoftmaxBeforeHeads(self.channels, self.heads, self.rows, self.cols, lepe=False)
        form.get_v, form.token_scale = self.get_v, self.token_scale
        return form.train(self.training)


class _SoftmaxBeforeHeads(LinearAttention):
    def keys(self, k: Tensor) -> Tensor:
        # TensorRT for RTX 1.7 makes one kernel less of it at 56x56 tokens than of the other order.
        keys = self._scaled(k.softmax(1)).transpose(1, 2)
        return keys.reshape(-1, self.heads, self.channels // self.heads, k.shape[1])

    def shifted(self) -> nn.Module:
        return self
