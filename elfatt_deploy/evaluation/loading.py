"""Reads and prepares images, several at once and one batch ahead of what runs."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import preprocessing
from elfatt_deploy.errors import InputFileError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from elfatt_deploy.artifacts import Preprocessing
    from elfatt_deploy.evaluation.imagefolder import LabelledImage

_MAX_WORKERS = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An image as it came from the disk: `pixels` [3, H, W], or why there are none."""

    image: LabelledImage
    size_bytes: int
    pixels: NDArray[np.float32] | None = None
    error: str = ""


def batches(
    root: Path, images: Sequence[LabelledImage], recipe: Preprocessing, size: int
) -> Generator[list[Loaded], None, None]:
    """Yield prepared images, `size` at a time and in order; unreadable ones say why.

    Raises:
        MissingDependency: Pillow is absent.
    """
    groups = [images[start : start + size] for start in range(0, len(images), size)]
    with ThreadPoolExecutor(max_workers=min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:

        def submit(group: Sequence[LabelledImage]) -> list[Future[Loaded]]:
            return [pool.submit(_load, root, image, recipe) for image in group]

        ahead = submit(groups[0]) if groups else []
        for following in (*groups[1:], ()):
            current, ahead = ahead, []
            loaded = [future.result() for future in current]
            ahead = submit(following)
            yield loaded


def size_bytes(path: Path) -> int:
    """Return the size of a file, -1 where it cannot be told."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _load(root: Path, image: LabelledImage, recipe: Preprocessing) -> Loaded:
    path = root / image.path
    size = size_bytes(path)
    try:
        pixels = preprocessing.load_image(path, recipe)
    except InputFileError as error:
        return Loaded(image=image, size_bytes=size, error=error.message)
    return Loaded(image=image, size_bytes=size, pixels=pixels)
