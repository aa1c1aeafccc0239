"""Seeded random weights: the same numbers for a name and shape on every machine and framework.

Used where no checkpoint is given, so that an exported graph carries weights with healthy statistics
(a projection keeps the variance of its input, norms are near one). Every tensor is drawn on its
own, from its name alone. Seed 0 is the rule of the golden vectors in `tests/data`: a default export
can be checked against them.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

#: made by the model itself from its configuration, never drawn
STRUCTURAL = ("relative_position_index", "attn_mask", "num_batches_tracked")
#: leaf name of a tensor -> (offset, gain) of its unit noise
_BY_LEAF = {
    "bias": (0.0, 0.05),
    "running_mean": (0.0, 0.1),
    "A_logs": (0.0, 0.5),
    "Ds": (1.0, 0.1),
    "dt_projs_bias": (-2.0, 0.5),
    "gamma": (0.3, 0.05),
    "scale": (0.0, 0.1),
    **dict.fromkeys(
        (
            "relative_position_bias_table", "positional_encoding",
            "an_bias", "na_bias", "ah_bias", "aw_bias", "ha_bias", "wa_bias",
        ),
        (0.0, 0.2),
    ),
}  # fmt: skip


def unit_noise(label: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return noise of mean 0 and variance 1, bounded by 2 sqrt(3), drawn from the label alone.

    The sum of four uniform numbers, because `Generator.random` is a plain scaling of the PCG64
    stream and so the same in every numpy.
    """
    total: NDArray[np.float64] = _uniform(label, shape).sum(axis=0, dtype=np.float64)
    total -= 2.0
    total *= math.sqrt(3.0)
    return total.reshape(shape)


def parameter(key: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Return the values of the tensor `key` of a state_dict.

    Raises:
        ModelError: no rule says how a tensor of that name and shape is drawn.
    """
    label = f"param:{key}" if seed == 0 else f"param@{seed}:{key}"
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "running_var":
        variance: NDArray[np.float64] = 0.5 + _uniform(label, shape)[0]
        return variance.reshape(shape).astype(np.float32)
    noise = unit_noise(label, shape)
    if leaf in _BY_LEAF:
        offset, gain = _BY_LEAF[leaf]
    elif leaf == "weight" and len(shape) == 1:
        offset, gain = 1.0, 0.1
    elif leaf == "weight":
        offset, gain = 0.0, 1.0 / math.sqrt(math.prod(shape[1:]))
    elif leaf in ("dt_projs_weight", "x_proj_weight"):
        offset, gain = 0.0, 1.0 / math.sqrt(shape[-1])
    else:
        raise ModelError(
            f"no rule draws random values for '{key}' of shape {shape}",
            hint="give the model its own values, or name the parameter weight or bias",
        )
    return (offset + gain * noise).astype(np.float32)


def _uniform(label: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return four uniform numbers from 0 to 1 for each element; [4, elements]."""
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).random((4, math.prod(shape)))


def fill(module: nn.Module, seed: int = 0) -> None:
    """Fill every parameter and running statistic of `module` in place from its state_dict key.

    Raises:
        ModelError: a tensor has a name that no rule covers.
    """
    import torch

    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if key.rsplit(".", 1)[-1] not in STRUCTURAL:
                tensor.copy_(torch.from_numpy(parameter(key, tuple(tensor.shape), seed)))
