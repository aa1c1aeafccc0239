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

#: leaf name of a parameter -> (offset, gain) of its unit noise
_BY_LEAF = {"bias": (0.0, 0.05)}


def unit_noise(label: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return noise of mean 0 and variance 1, bounded by 2 sqrt(3), drawn from the label alone.

    The sum of four uniform numbers, because `Generator.random` is a plain scaling of the PCG64
    stream and so the same in every numpy.
    """
    count = math.prod(shape)
    seed = int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "little")
    uniform = np.random.Generator(np.random.PCG64(seed)).random((4, count))
    total: NDArray[np.float64] = uniform.sum(axis=0, dtype=np.float64)
    total -= 2.0
    total *= math.sqrt(3.0)
    return total.reshape(shape)


def parameter(key: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Return the values of the parameter `key`.

    Raises:
        ModelError: no rule says how a parameter of that name and shape is drawn.
    """
    label = f"param:{key}" if seed == 0 else f"param@{seed}:{key}"
    leaf = key.rsplit(".", 1)[-1]
    noise = unit_noise(label, shape)
    if leaf in _BY_LEAF:
        offset, gain = _BY_LEAF[leaf]
    elif leaf == "weight" and len(shape) == 1:
        offset, gain = 1.0, 0.1
    elif leaf == "weight":
        offset, gain = 0.0, 1.0 / math.sqrt(math.prod(shape[1:]))
    else:
        raise ModelError(
            f"no rule draws a random parameter '{key}' of shape {shape}",
            hint="give the model its own values, or name the parameter weight or bias",
        )
    return (offset + gain * noise).astype(np.float32)


def fill(module: nn.Module, seed: int = 0) -> None:
    """Fill every parameter of `module` in place from its name.

    Raises:
        ModelError: a parameter has a name that no rule covers.
    """
    import torch

    with torch.no_grad():
        for key, tensor in module.named_parameters():
            tensor.copy_(torch.from_numpy(parameter(key, tuple(tensor.shape), seed)))
