"""Pictures become exactly the tensor that the recipe describes."""

from __future__ import annotations

import dataclasses
import importlib.util

import numpy as np
import pytest
from PIL import Image

from elfatt_deploy import preprocessing
from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.errors import InputFileError, MissingDependency

#: pixel values as they are, so that geometry can be read off them
PLAIN = Preprocessing(
    height=10,
    width=10,
    crop_share=1.0,
    interpolation="nearest",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def _coordinates(width, height):
    """Return a picture whose red is the column and whose green is the row of every pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.arange(width)
    pixels[..., 1] = np.arange(height)[:, None]
    return Image.fromarray(pixels)


def _quadrants(side):
    half = side // 2
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[:half, :half], pixels[:half, half:] = (255, 0, 0), (0, 255, 0)
    pixels[half:, :half], pixels[half:, half:] = (0, 0, 255), (255, 255, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 48), (48, 20)])
def test_a_file_of_any_mode_becomes_a_float_tensor_of_the_asked_size(mode, height, width, tmp_path):
    path = tmp_path / "image.tif"
    _quadrants(64).convert(mode).save(path)
    recipe = Preprocessing(height=height, width=width, crop_share=0.9)
    tensor = preprocessing.load_image(path, recipe)
    assert (tensor.shape, tensor.dtype) == ((3, height, width), np.float32)
    assert tensor.flags.c_contiguous


@pytest.mark.parametrize(
    ("size", "share", "columns", "rows"),
    [
        ((10, 10), 1.0, range(10), range(10)),
        ((20, 10), 1.0, range(5, 15), range(10)),
        ((10, 30), 1.0, range(10), range(10, 20)),
        ((20, 20), 0.5, range(5, 15), range(5, 15)),
        ((40, 20), 0.5, range(15, 25), range(5, 15)),
    ],
)
def test_the_centre_is_cropped(size, share, columns, rows):
    recipe = dataclasses.replace(PLAIN, crop_share=share)
    red, green, _ = np.rint(preprocessing.prepare(_coordinates(*size), recipe) * 255)
    np.testing.assert_array_equal(red, np.broadcast_to(list(columns), (10, 10)))
    np.testing.assert_array_equal(green.T, np.broadcast_to(list(rows), (10, 10)))


def test_a_size_of_another_aspect_is_cut_from_the_middle_of_the_picture():
    recipe = dataclasses.replace(PLAIN, height=4, width=8)
    red, green, _ = np.rint(preprocessing.prepare(_coordinates(8, 16), recipe) * 255)
    np.testing.assert_array_equal(red[0], np.arange(8))
    np.testing.assert_array_equal(green[:, 0], np.arange(6, 10))


def test_quadrants_stay_where_they_are_through_resizing():
    recipe = dataclasses.replace(PLAIN, height=40, width=40, crop_share=0.8)
    tensor = preprocessing.prepare(_quadrants(200), recipe)
    corners = [tensor[:, row, col].tolist() for row in (5, 35) for col in (5, 35)]
    assert corners == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]
    assert (tensor[:, 19, 19] != tensor[:, 20, 20]).any()  # the cross stays in the middle


def test_a_constant_picture_is_normalised_per_channel():
    recipe = Preprocessing(height=32, width=32, crop_share=0.9)
    tensor = preprocessing.prepare(Image.new("RGB", (64, 48), (255, 0, 51)), recipe)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    for channel, value in zip(tensor, expected, strict=True):
        np.testing.assert_allclose(channel, value, rtol=1e-6)


def test_the_colour_order_of_the_recipe_is_rgb():
    tensor = preprocessing.prepare(Image.new("RGB", (10, 10), (255, 0, 0)), PLAIN)
    assert tensor.mean(axis=(1, 2)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"], ids=len)
def test_a_file_that_is_no_image_is_named(content, tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"cat\.png is not a readable image"):
        preprocessing.load_image(path, PLAIN)


def test_a_truncated_image_is_named(tmp_path):
    path = tmp_path / "cat.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(InputFileError, match=r"cat\.png is not a readable image"):
        preprocessing.load_image(path, PLAIN)


def test_an_image_too_large_for_pillow_is_named(tmp_path, monkeypatch):
    path = tmp_path / "panorama.png"
    _quadrants(64).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputFileError, match=r"panorama\.png is not a readable image"):
        preprocessing.load_image(path, PLAIN)


def test_images_are_found_below_a_folder_in_name_order_up_to_the_limit(tmp_path):
    names = ["b.png", "a.JPG", "sub/c.webp", "sub/d.txt", "e.jpeg", "f.png/inside.bmp"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [p.relative_to(tmp_path).as_posix() for p in preprocessing.image_paths(tmp_path, 4)]
    assert found == ["a.JPG", "b.png", "e.jpeg", "f.png/inside.bmp"]


@pytest.mark.parametrize(("name", "told"), [("", "holds no image"), ("none", "is not a folder")])
def test_a_folder_without_images_is_refused(name, told, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputFileError, match=told) as caught:
        preprocessing.image_paths(tmp_path / name, 4)
    assert "images" in caught.value.hint


def test_the_sample_photographs_are_files():
    paths = preprocessing.photograph_paths()
    assert [p.name for p in paths] == ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"]


def test_without_the_sample_photographs_both_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="no sample photographs") as caught:
        preprocessing.photograph_paths()
    assert '[export]"' in caught.value.hint
    assert "--images DIR" in caught.value.hint


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 48)])
def test_noise_has_the_statistics_of_a_normalised_photograph(height, width):
    recipe = Preprocessing(height=height, width=width, crop_share=0.9)
    noise = preprocessing.noise_images(3, recipe)
    assert (noise.shape, noise.dtype) == ((3, 3, height, width), np.float32)
    np.testing.assert_allclose(noise.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(noise.var(axis=(1, 2, 3)), 1, rtol=1e-5)
    neighbours = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    channels = np.corrcoef(noise[:, 0].ravel(), noise[:, 1].ravel())[0, 1]
    assert neighbours > 0.7
    assert channels > 0.7


def test_noise_depends_on_its_seed_alone():
    recipe = Preprocessing(height=32, width=32, crop_share=0.9)
    first, again = (preprocessing.noise_images(2, recipe) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()
    assert (first != preprocessing.noise_images(2, recipe, seed=1)).any()
