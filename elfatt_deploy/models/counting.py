"""Parameters and multiply-accumulates of a model, counted on the model itself.

Convention of the paper's tables (the defaults of fvcore's FlopCountAnalysis): one
multiply-accumulate counts 1; convolutions, linear layers and matrix products; LayerNorm 5 per
element, BatchNorm 2, bilinear resize 4 per output element, average pooling 1 per input element;
nothing else. "nFA" is the whole count; "FA" leaves out the two products of softmax attention, which
a fused attention kernel hides from the counter. The selective scan of VMamba is not counted.

The counter is torch's own `FlopCounterMode`, on the meta device: no memory, no arithmetic.

    python -m elfatt_deploy.models.counting > profiles/counts.json

writes the counts that `models` shows without torch; a test counts them again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Counts
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.layers import SoftmaxProduct
from elfatt_deploy.models.settings import parse_settings

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.models.spec import ModelSpec


def _per_input(operations: int) -> Callable[..., int]:
    """Return a rule for FlopCounterMode: so many operations for each element of the input."""

    def rule(shape: tuple[int, ...], *_: Any, **__: Any) -> int:
        # FlopCounterMode counts two operations a multiply-accumulate: all its sums are halved below
        return 2 * operations * math.prod(shape)

    return rule


def _resize(*_: Any, out_shape: tuple[int, ...], **__: Any) -> int:
    return 2 * 4 * math.prod(out_shape)


_RULES = {
    torch.ops.aten.native_layer_norm: _per_input(5),
    torch.ops.aten._native_batch_norm_legit_no_training: _per_input(2),
    torch.ops.aten.native_batch_norm: _per_input(2),
    torch.ops.aten._adaptive_avg_pool2d: _per_input(1),
    torch.ops.aten.avg_pool2d: _per_input(1),
    torch.ops.aten.upsample_bilinear2d: _resize,
}


def count(spec: ModelSpec, height: int, width: int) -> Counts:
    """Count one image of height x width pixels through the model.

    Raises:
        ModelError: the configuration or the size is not possible.
    """
    with torch.device("meta"):
        return count_module(spec.build(height, width).requires_grad_(False), height, width)


def count_module(module: nn.Module, height: int, width: int) -> Counts:
    """Count one image through a module that stands on the meta device."""
    attention = {
        name for name, child in module.named_modules() if isinstance(child, SoftmaxProduct)
    }
    counter = FlopCounterMode(display=False, custom_mapping=_RULES)
    with torch.no_grad(), _pooled(module) as pooled, counter:
        module(torch.empty(1, 3, height, width, device="meta"))
    by_module = counter.get_flop_counts()
    root = type(module).__name__
    hidden = sum(sum(by_module.get(f"{root}.{name}", {}).values()) for name in attention)
    return Counts(
        params=sum(p.numel() for p in module.parameters()),
        macs=counter.get_total_flops() // 2 + sum(pooled),
        softmax_attention_macs=hidden // 2,
    )


@contextmanager
def _pooled(module: nn.Module) -> Iterator[list[int]]:
    """Collect the input elements of every global average pooling, which torch runs as a mean."""
    sizes: list[int] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if output.shape[-2:] == (1, 1):
            sizes.append(inputs[0].numel())

    hooks = [
        child.register_forward_hook(keep)
        for child in module.modules()
        if isinstance(child, torch.nn.AdaptiveAvgPool2d)
    ]
    try:
        yield sizes
    finally:
        for hook in hooks:
            hook.remove()


def count_all() -> dict[str, Counts]:
    """Count every registered model, and every row of the paper that one of them is."""
    wanted: set[tuple[str, tuple[str, ...], int]] = {
        (name, (), spec.input_size) for name, spec in registry.models().items()
    }
    for number in recipes.published_numbers():
        for row in recipes.published_table(number).rows:
            if row.model in registry.models():
                wanted.add((row.model, row.settings, row.resolution))
    counts = {}
    for name, settings, size in sorted(wanted):
        spec = registry.get(name).configured(parse_settings(settings))
        counts[recipes.count_key(name, settings, size, size)] = count(spec, size, size)
    return counts


if __name__ == "__main__":
    document = {key: dataclasses.asdict(value) for key, value in count_all().items()}
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
