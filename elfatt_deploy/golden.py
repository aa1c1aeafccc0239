"""Golden inputs and outputs: what every later stage is held against, without torch.

`golden.npz` holds `images` [U, 3, H, W], `logits` [U, classes] of the reference in float32,
`reference` (what gave them), `names` [U] (which image each row is), `sets` [U] (`photos`, `images`
or `noise`), and for each tap a sample of the first image's values under `tap/NAME`, taken at the
flattened positions `at/NAME`.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from elfatt_deploy import preprocessing
from elfatt_deploy.errors import InputFileError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from elfatt_deploy.artifacts import Preprocessing

TORCH_REFERENCE = "torch float32"
#: the set of images that are noise
NOISE = "noise"
_NOISE_IMAGES = 2


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
    noise = preprocessing.noise_images(_NOISE_IMAGES, recipe)
    return GoldenInputs(
        images=np.concatenate((np.stack(pictures), noise)),
        names=(*(p.name for p in paths), *(f"noise-{i}" for i in range(_NOISE_IMAGES))),
        sets=(name,) * len(paths) + (NOISE,) * _NOISE_IMAGES,
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TapSample:
    """Some values of one tap of the first image, and where they stand when it is flattened."""

    positions: NDArray[np.int64]
    values: NDArray[np.float32]


def write_golden(
    path: Path,
    inputs: GoldenInputs,
    logits: NDArray[np.float32],
    taps: dict[str, TapSample],
    reference: str = TORCH_REFERENCE,
) -> None:
    """Write `golden.npz`."""
    arrays: dict[str, NDArray[Any]] = {f"tap/{name}": tap.values for name, tap in taps.items()}
    arrays |= {f"at/{name}": tap.positions for name, tap in taps.items()}
    np.savez(
        path,
        images=inputs.images,
        logits=logits,
        reference=np.array(reference),
        names=np.array(inputs.names),
        sets=np.array(inputs.sets),
        **arrays,  # type: ignore[arg-type]
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """The content of `golden.npz`."""

    images: NDArray[np.float32]
    logits: NDArray[np.float32]
    names: tuple[str, ...]
    sets: tuple[str, ...]
    taps: dict[str, NDArray[np.float32]]
    tap_positions: dict[str, NDArray[np.int64]]
    reference: str = TORCH_REFERENCE

    def batch(self, size: int) -> GoldenBatch:
        """Return the first images, and all of them again until there are enough."""
        chosen = np.resize(np.arange(len(self.images)), size)
        return GoldenBatch(
            images=np.ascontiguousarray(self.images[chosen]),
            logits=self.logits[chosen],
            sets="+".join(dict.fromkeys(self.sets)),
            count=len(set(chosen.tolist())),
            reference=self.reference,
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GoldenBatch:
    """One batch of golden images, some of them again where there are too few.

    Args:
        images: [B, 3, H, W], contiguous.
        logits: of the reference, [B, classes].
        sets: names of the sets that they are of.
        count: number of different images.
        reference: what gave the logits.
    """

    images: NDArray[np.float32]
    logits: NDArray[np.float32]
    sets: str
    count: int
    reference: str


def read_golden(path: Path) -> Golden:
    """Read `golden.npz`.

    Raises:
        InputFileError: it is missing, torn, or lacks an array.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            golden = Golden(
                images=file["images"],
                logits=file["logits"],
                names=tuple(str(name) for name in file["names"]),
                sets=tuple(str(name) for name in file["sets"]),
                taps=_under(file, "tap/"),
                tap_positions=_under(file, "at/"),
                reference=str(file["reference"]) if "reference" in file else TORCH_REFERENCE,
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputFileError(
            f"{path} is not a whole golden file: {error}", hint="export the bundle again"
        ) from error
    counts = {name: len(getattr(golden, name)) for name in ("images", "logits", "names", "sets")}
    if len(set(counts.values())) != 1:
        raise InputFileError(
            f"{path} has arrays for different numbers of images: {counts}",
            hint="export the bundle again",
        )
    return golden


def _under(file: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
