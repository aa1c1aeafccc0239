"""Golden inputs and outputs: what every later stage is held against, without torch.

`golden.npz` holds `images` [U, 3, H, W], `logits` [U, classes] of the untouched torch module in
float32, `names` [U] (which image each row is), `sets` [U] (`photos`, `images` or `noise`), and
for each tap a sample of the first image's values under `tap/NAME`, taken at the flattened positions
`at/NAME`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from elfatt_deploy import preprocessing
from elfatt_deploy.errors import ExportError
from elfatt_deploy.export.exporter import tapped

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from elfatt_deploy.artifacts import Preprocessing

_CHUNK = 2
_NOISE = 2
_TAP_SAMPLE = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GoldenInputs:
    """The images of a bundle: prepared values, their names and the set each belongs to."""

    images: NDArray[np.float32]
    names: tuple[str, ...]
    sets: tuple[str, ...]


def gather_inputs(recipe: Preprocessing, paths: tuple[Path, ...], name: str) -> GoldenInputs:
    """Prepare pictures and add noise images.

    Raises:
        InputFileError: a file is not an image that Pillow reads.
    """
    pictures = [preprocessing.load_image(path, recipe) for path in paths]
    noise = preprocessing.noise_images(_NOISE, recipe)
    return GoldenInputs(
        images=np.concatenate((np.stack(pictures), noise)),
        names=(*(p.name for p in paths), *(f"noise-{i}" for i in range(_NOISE))),
        sets=(name,) * len(paths) + ("noise",) * _NOISE,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TapSample:
    """Some values of one tap of the first image, and where they stand when it is flattened."""

    positions: NDArray[np.int64]
    values: NDArray[np.float32]


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


def write_golden(
    path: Path,
    inputs: GoldenInputs,
    logits: NDArray[np.float32],
    taps: dict[str, TapSample],
) -> None:
    """Write `golden.npz`."""
    arrays: dict[str, NDArray[Any]] = {f"tap/{name}": tap.values for name, tap in taps.items()}
    arrays |= {f"at/{name}": tap.positions for name, tap in taps.items()}
    np.savez(
        path,
        images=inputs.images,
        logits=logits,
        names=np.array(inputs.names),
        sets=np.array(inputs.sets),
        **arrays,  # type: ignore[arg-type]
    )
