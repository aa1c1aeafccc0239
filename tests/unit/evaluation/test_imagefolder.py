"""Every image gets the class of its folder, or the run does not begin."""

from __future__ import annotations

import os

import pytest

from elfatt_deploy.errors import InputFileError, UsageError
from elfatt_deploy.evaluation import imagefolder
from elfatt_deploy.evaluation.imagefolder import read_folder, read_labels, spread


@pytest.fixture
def tree(tmp_path):
    """Return a function that makes files below a folder; what ends in a slash is a folder."""

    def make(*names):
        root = tmp_path / "data"
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        return root

    return make


@pytest.fixture
def labels_file(tmp_path):
    def write(text):
        path = tmp_path / "labels.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _labels(folder):
    return {image.path: image.label for image in folder.images}


def test_folders_in_name_order_are_the_classes(tree):
    root = tree("b/2.JPEG", "b/1.png", "a/deep/er/x.webp", "a/notes.txt", "C/y.bmp")
    folder = read_folder(root, 3)
    assert _labels(folder) == {"C/y.bmp": 0, "a/deep/er/x.webp": 1, "b/1.png": 2, "b/2.JPEG": 2}
    assert [image.path for image in folder.images] == list(_labels(folder))
    assert [entry.name for entry in folder.classes] == ["C", "a", "b"]
    assert folder.order == "folders in name order"


def test_numbers_are_classes_by_value_and_need_not_be_all(tree):
    folder = read_folder(tree("10/a.png", "9/b.png", "007/c.png"), 11)
    assert _labels(folder) == {"007/c.png": 7, "9/b.png": 9, "10/a.png": 10}
    assert folder.order == "folder names are class numbers"


def test_a_labels_file_says_which_folder_is_which_class(tree, labels_file):
    labels = read_labels(labels_file("n03 tench, Tinca tinca\nn01\r\nn02  hen \n\n"), 3)
    assert [(entry.folder, entry.name) for entry in labels] == [
        ("n03", "tench, Tinca tinca"),
        ("n01", "n01"),
        ("n02", "hen"),
    ]
    folder = read_folder(tree("n02/a.png", "n03/b.png"), 3, labels)
    assert _labels(folder) == {"n03/b.png": 0, "n02/a.png": 2}
    assert [entry.index for entry in folder.classes] == [0, 2]
    assert folder.order == "labels file"


def test_a_labels_file_wins_over_numbers(tree, labels_file):
    labels = read_labels(labels_file("1 one\n0 none\n"), 2)
    assert _labels(read_folder(tree("0/a.png", "1/b.png"), 2, labels)) == {
        "1/b.png": 0,
        "0/a.png": 1,
    }


def test_a_tab_lets_a_folder_have_blanks(tree, labels_file):
    labels = read_labels(labels_file("night stand\ttable by a bed\nsofa\tsofa\n"), 2)
    folder = read_folder(tree("night stand/a.png", "sofa/b.png"), 2, labels)
    assert folder.classes[0].name == "table by a bed"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\n", "has 2 lines, the model 3 classes"),
        ("a\nb\nc\nd\n", "has 4 lines, the model 3 classes"),
        ("a\n\nb\n", r"line 2 of .* is empty: it would be class 1"),
        ("", "line 1 of"),
        ("a x\nb y\na z\n", "names the folder a twice: as class 0 and class 2"),
    ],
)
def test_labels_that_do_not_fit_the_model_are_refused(text, told, labels_file):
    with pytest.raises(InputFileError, match=told):
        read_labels(labels_file(text), 3)


def test_a_labels_file_that_is_missing_or_no_text_is_refused(tmp_path):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    for name in ("nowhere.txt", "image.png"):
        with pytest.raises(InputFileError, match=f"cannot read the labels file .*{name}"):
            read_labels(tmp_path / name, 3)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "has no sub-folder"),
        (("a.png", "b/x.png"), r"has 1 image \(a.png\) outside of any class folder"),
        (("a/x.txt", "b/", "c/"), "hold no image"),
        (("a/x.png", "b/y.png"), r"has 2 class folders \(a, b\), the model 3 classes"),
        (tuple(f"{c}/x.png" for c in "abcdefgh"), r"\(a, b, c, d, e and 3 more\)"),
        (("1/x.png", "3/y.png"), r"1 folder \(3\): .* the model has 0 to 2"),
        (("1/x.png", "01/y.png"), "class 1 in two folders"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_what_was_found(names, told, tree):
    with pytest.raises(InputFileError, match=told) as caught:
        read_folder(tree(*names), 3)
    assert caught.value.hint


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(InputFileError, match="nowhere is not a folder"):
        read_folder(tmp_path / "nowhere", 3)


def test_a_folder_that_the_labels_do_not_name_is_refused(tree, labels_file):
    labels = read_labels(labels_file("n01 tench\nn02 hen\n"), 2)
    with pytest.raises(InputFileError, match=r"1 folder \(n05\) that the labels file") as caught:
        read_folder(tree("n01/a.png", "n05/b.png"), 2, labels)
    assert "n01, n02" in caught.value.hint


def test_hidden_names_are_passed_over(tree):
    root = tree(".cache/x.png", "a/.trash/y.png", "a/._z.png", "a/z.png", "b/z.png", ".x.png")
    assert list(_labels(read_folder(root, 2))) == ["a/z.png", "b/z.png"]


def test_linked_folders_are_followed_and_a_circle_is_told(tree, tmp_path):
    root = tree("b/x.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.png").touch()
    (root / "a").symlink_to(tmp_path / "elsewhere")
    assert _labels(read_folder(root, 2)) == {"a/y.png": 0, "b/x.png": 1}
    (root / "b" / "circle").symlink_to(root / "b")
    with pytest.raises(InputFileError, match="circle leads to .*/b, which is listed already"):
        read_folder(root, 2)


def test_the_digest_is_that_of_paths_and_classes(tree, labels_file):
    root = tree("a/x.png", "b/y.png")
    first = read_folder(root, 2)
    assert read_folder(root, 2).sha256 == first.sha256
    turned = read_folder(root, 2, read_labels(labels_file("b\na\n"), 2))
    tree("b/z.png")
    assert len({first.sha256, turned.sha256, read_folder(root, 2).sha256}) == 3


def test_a_limit_is_spread_over_the_classes(tree):
    images = read_folder(tree(*(f"{c}/{i}.png" for c in "abcde" for i in range(4))), 5).images
    assert [image.label for image in spread(images, 5)] == [0, 1, 2, 3, 4]
    assert [image.label for image in spread(images, 10)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert spread(images, 20) == spread(images, 99) == spread(images, None) == images
    with pytest.raises(UsageError, match="a limit of 0 images"):
        spread(images, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_is_told(tree):
    root = tree("a/x.png", "b/y.png")
    (root / "b").chmod(0)
    try:
        with pytest.raises(InputFileError, match="cannot read the folder .*b: Permission"):
            read_folder(root, 2)
    finally:
        (root / "b").chmod(0o755)


def test_what_counts_as_an_image_is_what_pillow_reads():
    from PIL import Image

    assert set(imagefolder.SUFFIXES) <= set(Image.registered_extensions())
