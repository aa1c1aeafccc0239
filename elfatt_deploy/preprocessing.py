"""Images to input tensors, and the images that parity is proved on.

Torch-free: a board prepares its inputs with the same code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.errors import InputFileError, MissingDependency, UnknownNameError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from elfatt_deploy.artifacts import Preprocessing

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
#: colour photographs that the scikit-image wheel carries: a person, a cat, a cup, a rocket
_PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
_PARITY_IMAGES = 4


def photograph_paths() -> tuple[Path, ...]:
    """Return the sample photographs of the installed scikit-image.

    Raises:
        MissingDependency: scikit-image is absent, or its wheel carries none of them.
    """
    # Found without importing it: its import takes a second, and only its files are wanted.
    spec = importlib.util.find_spec("skimage")
    folders = [Path(p) / "data" for p in (spec.submodule_search_locations or ())] if spec else []
    found = [f / name for f in folders for name in _PHOTOGRAPHS if (f / name).is_file()]
    if not found:
        raise MissingDependency(
            "no sample photographs: scikit-image is not installed or carries none",
            hint=f"{optional.install_command('skimage')}, or name a folder with --images DIR",
        )
    return tuple(found)


def parity_images(folder: Path | None) -> tuple[tuple[Path, ...], str]:
    """Return the files that parity is proved on, and what to call them in a table.

    Raises:
        InputFileError: the user's folder is missing or holds no image.
        MissingDependency: there is no folder, and no sample photographs are installed.
    """
    if folder is None:
        return photograph_paths(), "photos"
    return image_paths(folder, _PARITY_IMAGES), "images"


def image_paths(folder: Path, limit: int) -> tuple[Path, ...]:
    """Return the first `limit` images below a folder, in name order.

    Raises:
        InputFileError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise InputFileError(f"{folder} is not a folder", hint="name a folder of images")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        raise InputFileError(
            f"{folder} holds no image", hint=f"images end in {', '.join(_SUFFIXES)}"
        )
    return tuple(found[:limit])


def load_image(path: Path, recipe: Preprocessing) -> NDArray[np.float32]:
    """Read an image and prepare it; returns [3, height, width].

    Raises:
        InputFileError: the file is not an image that Pillow reads.
        MissingDependency: Pillow is absent.
    """
    pil = optional.load("PIL.Image")
    try:
        with pil.open(path) as image:
            return prepare(image.convert(recipe.colour_order), recipe)
    except (OSError, ValueError, pil.DecompressionBombError) as error:
        raise InputFileError(f"{path} is not a readable image: {error}") from error


def prepare(image: Image.Image, recipe: Preprocessing) -> NDArray[np.float32]:
    """Resize, crop at the centre, scale and normalise a picture; returns [3, height, width].

    Raises:
        UnknownNameError: the recipe names an interpolation that Pillow lacks.
    """
    pil = optional.load("PIL.Image")
    wanted_w, wanted_h = (int(side / recipe.crop_share) for side in (recipe.width, recipe.height))
    ratio = max(wanted_w / image.width, wanted_h / image.height)
    size = (
        max(recipe.width, round(image.width * ratio)),
        max(recipe.height, round(image.height * ratio)),
    )
    known = {method.name.lower(): method for method in pil.Resampling}
    if recipe.interpolation not in known:
        raise UnknownNameError("interpolation", recipe.interpolation, known)
    image = image.resize(size, known[recipe.interpolation])
    left, top = (size[0] - recipe.width) // 2, (size[1] - recipe.height) // 2
    image = image.crop((left, top, left + recipe.width, top + recipe.height))
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    pixels = (pixels - np.array(recipe.mean, np.float32)) / np.array(recipe.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def noise_images(count: int, recipe: Preprocessing, seed: int = 0) -> NDArray[np.float32]:
    """Return noise with the statistics of natural images; [count, 3, height, width].

    Amplitudes fall as 1/frequency and the channels share most of their content, as in photographs;
    each image then has mean 0 and variance 1, which is what normalisation gives on average.
    """
    rng = np.random.default_rng(seed)
    height, width = recipe.height, recipe.width
    frequency: NDArray[np.float64] = np.hypot(
        np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    )
    frequency[0, 0] = 1.0 / max(height, width)
    white = rng.standard_normal((count, 4, height, width))
    shaped: NDArray[np.float64] = np.fft.irfft2(np.fft.rfft2(white) / frequency, s=(height, width))
    images = 0.9 * shaped[:, :1] + 0.4 * shaped[:, 1:]
    images -= images.mean(axis=(1, 2, 3), keepdims=True)
    images /= images.std(axis=(1, 2, 3), keepdims=True)
    return images.astype(np.float32)
