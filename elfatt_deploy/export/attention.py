"""The attention of one block alone: module, inputs, expected output and ONNX graph.

What is left out is what every mechanism shares: norm, projections, MLP. Each branch has inputs of
its own, because in an exported model each has projections of its own (`rewrites.SplitQKV`), and
what a projection does on the side is done to the inputs: Q comes multiplied by `q_scale`, and both
Q and K by the gains that the branch's export form expects.
"""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from elfatt_deploy import optional
from elfatt_deploy.errors import ExportError
from elfatt_deploy.export.exporter import quiet
from elfatt_deploy.export.rewrites import rewritten
from elfatt_deploy.models import registry, seeded
from elfatt_deploy.models.attention.layers import Branch

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from elfatt_deploy.models.attention.context import AttentionContext

OUTPUT = "out"


class AttentionAlone(nn.Module):
    """The branches of one block, side by side.

    Args:
        name: a registered mechanism.
        context: the block.
    """

    def __init__(self, name: str, context: AttentionContext) -> None:
        """Make the branches, their weights unset.

        Raises:
            UnknownNameError: there is no mechanism of that name.
            ModelError: the mechanism cannot take this block.
        """
        super().__init__()
        self.name, self.tokens = name, context.rows * context.cols
        self.branches = nn.ModuleList(registry.attention_branches(name, context))

    @property
    def parts(self) -> tuple[Branch, ...]:
        """The branches in the order of their channels."""
        return tuple(cast(Branch, branch) for branch in self.branches)

    @property
    def input_names(self) -> tuple[str, ...]:
        """`q`, `k`, `v` of the only branch, or `q0`, `k0`, `v0`, `q1` and so on."""
        if len(self.branches) == 1:
            return ("q", "k", "v")
        return tuple(f"{name}{part}" for part in range(len(self.branches)) for name in "qkv")

    def forward(self, *inputs: Tensor) -> Tensor:
        """Attend: q, k, v [B, N, channels] of every branch in turn to [B*N, C]."""
        outs = [
            cast(Tensor, branch(*inputs[3 * part : 3 * part + 3]))
            for part, branch in enumerate(self.branches)
        ]
        return outs[0] if len(outs) == 1 else torch.cat(outs, -1)


def build(name: str, context: AttentionContext, seed: int = 0) -> AttentionAlone:
    """Make the attention of one block with seeded weights, in eval mode.

    Raises:
        UnknownNameError: there is no mechanism of that name.
        ModelError: the mechanism cannot take this block.
    """
    module = AttentionAlone(name, context)
    seeded.fill(module, seed)
    return module.eval()


class _LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    size_bytes: int = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.size_bytes = max(self.size_bytes, out.numel() * out.element_size())
        return out


def largest_tensor_bytes(name: str, context: AttentionContext) -> int:
    """Return the size of the largest tensor at batch 1, without computing anything.

    Where softmax attention runs over all tokens this is its score matrix. The module runs on the
    meta device, its fused attention replaced by plain products, as in the exported graph.

    Raises:
        UnknownNameError: there is no mechanism of that name.
        ModelError: the mechanism cannot take this block.
        ExportError: the mechanism does not run on the meta device.
    """
    with torch.device("meta"):
        module = AttentionAlone(name, context).eval()
        shapes = [(1, module.tokens, part.channels) for part in module.parts]
        inputs = [torch.empty(shape) for shape in shapes for _ in "qkv"]
        seen: _LargestTensor = _LargestTensor()  # type: ignore[no-untyped-call]
        try:
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), seen:
                module(*inputs)
        except Exception as error:
            raise ExportError(
                f"attention '{name}' does not run on {context.rows}x{context.cols} tokens of "
                f"torch's meta device: {error}",
                hint="make what it holds parameters or buffers, and compute no value in forward",
            ) from error
    return seen.size_bytes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Inputs of the graph by name, and what torch makes of them: [N, C]."""

    feeds: dict[str, NDArray[np.float32]]
    expected: NDArray[np.float32]


def example(module: AttentionAlone, seed: int = 0) -> Example:
    """Draw unit noise for the inputs of a batch of 1 and run the untouched module on it."""
    plain: list[Tensor] = []
    feeds: dict[str, NDArray[np.float32]] = {}
    names = iter(module.input_names)
    for part in module.parts:
        shape = (1, module.tokens, part.channels)
        q, k, v = (_noise(f"attention@{seed}:{x}:{part.channels}", shape) for x in "qkv")
        q *= part.q_scale
        plain.extend((q, k, v))
        gains = part.gains()
        if gains is not None:
            q, k = (t * gain.float() for t, gain in zip((q, k), gains, strict=True))
        feeds.update((next(names), tensor.numpy()) for tensor in (q, k, v))
    with torch.no_grad():
        return Example(feeds=feeds, expected=module(*plain).numpy())


def _noise(label: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(seeded.unit_noise(label, shape).astype(np.float32))


def onnx_from_attention(module: AttentionAlone, example: Example, *, opset: int) -> onnx.ModelProto:
    """Export the attention, constant work folded as in a whole model; the batch is fixed at 1.

    Raises:
        ExportError: an operator cannot be exported.
    """
    onnx_module = optional.load("onnx")
    buffer = io.BytesIO()
    with torch.no_grad(), quiet():
        try:
            torch.onnx.export(
                rewritten(module),
                tuple(torch.from_numpy(value) for value in example.feeds.values()),
                buffer,  # type: ignore[arg-type]
                input_names=list(example.feeds),
                output_names=[OUTPUT],
                opset_version=opset,
                dynamo=False,
            )
        except (torch.onnx.errors.UnsupportedOperatorError, torch.onnx.OnnxExporterError) as error:
            raise ExportError(
                f"an operator of attention '{module.name}' cannot be exported at opset {opset}: "
                f"{error}",
                hint="write it in plain ops",
            ) from error
    proto: onnx.ModelProto = onnx_module.load_model_from_string(buffer.getvalue())
    return proto
