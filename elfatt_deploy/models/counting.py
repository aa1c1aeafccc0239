"""Parameters and multiply-accumulates of a model, counted on the model itself.

Convention of the paper's tables (the defaults of fvcore's FlopCountAnalysis): one
multiply-accumulate counts 1; convolutions, linear layers and matrix products; LayerNorm 5 per
element; nothing else. "nFA" is the whole count; "FA" leaves out the two products of softmax
attention, which a fused attention kernel hides from the counter.

The counter is torch's own `FlopCounterMode`, on the meta device: no memory, no arithmetic.

    python -m elfatt_deploy.models.counting > profiles/counts.json

writes the counts that `models` shows without torch; a test counts them again.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Counts
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.layers import SoftmaxProduct
from elfatt_deploy.models.config import parse_settings

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.models.registry import ModelSpec

_LAYER_NORM_PER_ELEMENT = 5


def _layer_norm(shape: tuple[int, ...], *_: Any, **__: Any) -> int:
    # FlopCounterMode counts two operations a multiply-accumulate; all of its sums are halved below.
    return 2 * _LAYER_NORM_PER_ELEMENT * math.prod(shape)


def count(spec: ModelSpec, height: int, width: int) -> Counts:
    """Count one image of height x width pixels through the model.

    Raises:
        ModelError: the configuration or the size is not possible.
    """
    with torch.device("meta"):
        return count_module(spec.build(height, width), height, width)


def count_module(module: nn.Module, height: int, width: int) -> Counts:
    """Count one image through a module that stands on the meta device."""
    attention = {
        name for name, child in module.named_modules() if isinstance(child, SoftmaxProduct)
    }
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.native_layer_norm: _layer_norm}
    )
    with torch.no_grad(), counter:
        module(torch.empty(1, 3, height, width, device="meta"))
    by_module = counter.get_flop_counts()
    root = type(module).__name__
    hidden = sum(sum(by_module.get(f"{root}.{name}", {}).values()) for name in attention)
    return Counts(
        params=sum(p.numel() for p in module.parameters()),
        macs=counter.get_total_flops() // 2,
        softmax_attention_macs=hidden // 2,
    )


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
