"""A golden file reads back as it was written, and nothing incomplete is taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from elfatt_deploy import golden
from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.errors import InputFileError
from elfatt_deploy.golden import GoldenInputs, TapSample

RECIPE = Preprocessing(height=32, width=48, crop_share=0.9)
INPUTS = GoldenInputs(
    images=np.random.default_rng(0).standard_normal((3, 3, 4, 4)).astype(np.float32),
    names=("a.png", "b.png", "noise-0"),
    sets=("photos", "photos", "noise"),
)
LOGITS = np.arange(21, dtype=np.float32).reshape(3, 7)
TAPS = {
    name: TapSample(positions=np.array([0, 5, 9]), values=np.float32([1, 2, 3]) * gain)
    for name, gain in (("stem", 1), ("stage1.0", 2))
}


@pytest.fixture
def path(tmp_path):
    """Return a whole golden file."""
    golden.write_golden(tmp_path / "golden.npz", INPUTS, LOGITS, TAPS)
    return tmp_path / "golden.npz"


def _without(path, *names, **changed):
    """Write the file again without some arrays, and with others in place of those of the name."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files if key not in names}
    np.savez(path, **{**arrays, **changed})


def test_a_golden_file_reads_back(path):
    found = golden.read_golden(path)
    np.testing.assert_array_equal(found.images, INPUTS.images)
    np.testing.assert_array_equal(found.logits, LOGITS)
    assert (found.names, found.sets) == (INPUTS.names, INPUTS.sets)
    assert list(found.taps) == list(found.tap_positions) == ["stem", "stage1.0"]
    for name, tap in TAPS.items():
        np.testing.assert_array_equal(found.taps[name], tap.values)
        np.testing.assert_array_equal(found.tap_positions[name], tap.positions)
    assert found.reference == "torch float32"


def test_another_reference_is_kept(tmp_path):
    golden.write_golden(tmp_path / "golden.npz", INPUTS, LOGITS, {}, reference="another")
    found = golden.read_golden(tmp_path / "golden.npz")
    assert (found.reference, found.taps) == ("another", {})


def test_a_file_of_the_first_version_has_torch_as_its_reference(path):
    _without(path, "reference")
    assert golden.read_golden(path).reference == "torch float32"


def test_a_missing_golden_file_is_an_input_error(tmp_path):
    with pytest.raises(InputFileError, match=r"golden\.npz is not a whole golden file"):
        golden.read_golden(tmp_path / "golden.npz")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_golden_file_is_an_input_error(share, path):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputFileError, match="is not a whole golden file") as caught:
        golden.read_golden(path)
    assert caught.value.hint == "export the bundle again"


@pytest.mark.parametrize("name", ["images", "logits", "names", "sets"])
def test_a_golden_file_that_lacks_an_array_names_it(name, path):
    _without(path, name)
    with pytest.raises(InputFileError, match=name):
        golden.read_golden(path)


def test_a_single_array_is_no_golden_file(path):
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(InputFileError, match="is not a whole golden file"):
        golden.read_golden(path)


@pytest.mark.parametrize("name", ["logits", "names", "sets"])
def test_golden_arrays_that_disagree_on_the_number_of_images_are_refused(name, path):
    with np.load(path) as file:
        shorter = file[name][:-1]
    _without(path, **{name: shorter})
    with pytest.raises(InputFileError, match=name):
        golden.read_golden(path)


def test_pictures_and_noise_are_gathered_under_their_names(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    paths = tuple(tmp_path / f"{shade}.png" for shade in (0, 255))
    for shade, path in zip((0, 255), paths, strict=True):
        pil.fromarray(np.full((60, 60, 3), shade, np.uint8)).save(path)
    found = golden.gather_inputs(RECIPE, paths, "images")
    assert found.names == ("0.png", "255.png", "noise-0", "noise-1")
    assert found.sets == ("images", "images", "noise", "noise")
    assert (found.images.shape, found.images.dtype) == ((4, 3, 32, 48), np.float32)
    black, white = (np.float32(value) for value in (-0.485 / 0.229, (1 - 0.485) / 0.229))
    np.testing.assert_allclose(found.images[:2, 0].mean((1, 2)), [black, white], rtol=1e-5)
    assert not np.array_equal(found.images[2], found.images[3])
