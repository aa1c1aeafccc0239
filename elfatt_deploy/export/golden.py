"""The reference of a bundle: logits and inner tensors of the untouched torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from elfatt_deploy.errors import ExportError
from elfatt_deploy.export.exporter import tapped
from elfatt_deploy.golden import TapSample

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

_CHUNK = 2
_TAP_SAMPLE = 1024


def reference_run(
    model: nn.Module, images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], dict[str, TapSample]]:
    """Run the torch module in float32.

    Returns the logits [U, classes], and of for each tap a sample of the first image's values.

    Raises:
        ExportError: the module does not run, or gives something else than [batch, classes].
    """
    logits: list[NDArray[np.float32]] = []
    taps: dict[str, TapSample] = {}
    with torch.no_grad(), tapped(model) as seen:
        for start in range(0, len(images), _CHUNK):
            batch = torch.from_numpy(images[start : start + _CHUNK])
            try:
                output = model(batch)
            except (RuntimeError, ValueError, TypeError) as error:
                raise ExportError(
                    f"the model does not run on images of shape {tuple(batch.shape)}: {error}"
                ) from error
            if (
                not isinstance(output, torch.Tensor)
                or output.ndim != 2
                or len(output) != len(batch)
            ):
                raise ExportError("the model does not give logits of shape [batch, classes]")
            logits.append(output.numpy())
            if start == 0:
                taps = {name: _sample(value, len(batch)) for name, value in seen.items()}
    return np.concatenate(logits), taps


def _sample(value: torch.Tensor, batch: int) -> TapSample:
    first = value.reshape(batch, -1)[0].float().numpy()
    count = min(first.size, _TAP_SAMPLE)
    positions = np.linspace(0, first.size - 1, count).astype(np.int64)
    return TapSample(positions=positions, values=first[positions])
