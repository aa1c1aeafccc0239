"""A folder of labelled images: one sub-folder for each class, as ImageNet's validation set.

Which sub-folder is which class, first rule that applies:

1. a labels file names it: line 1 is class 0, its first word the folder, the rest a readable name;
2. every folder name is a number: it is the class;
3. there are as many folders as classes: the order of their names is that of the classes.

Names that begin with a dot are passed over. Everything that can be wrong with labels is found here,
before anything runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from elfatt_deploy.errors import InputFileError, UsageError

#: what torchvision's ImageFolder counts as an image, so that both evaluate the same ones
SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SHOWN = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolder:
    """A class: its index among the logits, its folder and what to call it."""

    index: int
    folder: str
    name: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """An image: its path within the data folder, with forward slashes, and its class."""

    path: str
    label: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageFolder:
    """A folder of labelled images.

    Args:
        root: the folder.
        order: how its sub-folders became classes.
        classes: the classes that have a sub-folder, by index.
        images: all images, by class and name.
    """

    root: Path
    order: str
    classes: tuple[ClassFolder, ...]
    images: tuple[LabelledImage, ...]

    @property
    def sha256(self) -> str:
        """Digest of the listing: paths and classes, not contents."""
        lines = "".join(f"{image.label} {image.path}\n" for image in self.images)
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def read_labels(path: Path, classes: int) -> tuple[ClassFolder, ...]:
    """Read a labels file.

    A tab after the folder's name lets the name hold blanks.

    Raises:
        InputFileError: it cannot be read, has not one line for each class, or names a folder twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"cannot read the labels file {path}: {error}") from error
    entries: list[ClassFolder] = []
    for index, line in enumerate(text.rstrip().split("\n")):
        if not line.strip():
            raise InputFileError(
                f"line {index + 1} of {path} is empty: it would be class {index}",
                hint="write one line for each class: folder name, then readable name",
            )
        folder, _, name = line.strip().partition("\t" if "\t" in line.strip() else " ")
        entries.append(ClassFolder(index=index, folder=folder, name=name.strip() or folder))
    if len(entries) != classes:
        raise InputFileError(
            f"{path} has {len(entries)} lines, the model {classes} classes",
            hint="the labels file has one line for each class, in the order of the classes",
        )
    seen: dict[str, int] = {}
    for entry in entries:
        if entry.folder in seen:
            raise InputFileError(
                f"{path} names the folder {entry.folder} twice: as class {seen[entry.folder]} and "
                f"class {entry.index}"
            )
        seen[entry.folder] = entry.index
    return tuple(entries)


def read_folder(
    root: Path, classes: int, labels: tuple[ClassFolder, ...] | None = None
) -> ImageFolder:
    """List the images of a folder and give each its class.

    Args:
        root: the folder.
        classes: classes of the model.
        labels: what `read_labels` returned, where the user gave a file.

    Raises:
        InputFileError: the folder is missing or holds no image, or its sub-folders do not fit the
            classes of the model.
    """
    if not root.is_dir():
        raise InputFileError(
            f"{root} is not a folder", hint="name a folder with one sub-folder for each class"
        )
    top = sorted(name for name in _names(root) if not name.startswith("."))
    folders = [name for name in top if (root / name).is_dir()]
    stray = [name for name in top if name.lower().endswith(SUFFIXES) and name not in folders]
    if stray:
        raise InputFileError(
            f"{root} has {_listing('image', stray)} outside of any class folder",
            hint="move them into the sub-folder of their class, or away",
        )
    if not folders:
        raise InputFileError(
            f"{root} has no sub-folder", hint="put the images of each class into a sub-folder"
        )
    order, entries = _classes(root, folders, classes, labels)
    images = tuple(
        LabelledImage(path=path, label=entry.index)
        for entry in entries
        for path in _images(root, entry.folder)
    )
    if not images:
        raise InputFileError(
            f"the sub-folders of {root} hold no image",
            hint=f"images end in {', '.join(SUFFIXES)}",
        )
    return ImageFolder(root=root, order=order, classes=entries, images=images)


def spread(images: tuple[LabelledImage, ...], limit: int | None) -> tuple[LabelledImage, ...]:
    """Return `limit` images, evenly spread over the listing, so that most classes have some.

    Raises:
        UsageError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"a limit of {limit} images", hint="use a number from 1")
    if limit is None or limit >= len(images):
        return images
    return tuple(images[index * len(images) // limit] for index in range(limit))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise InputFileError(f"cannot read the folder {folder}: {error.strerror}") from error


def _classes(
    root: Path, folders: list[str], classes: int, labels: tuple[ClassFolder, ...] | None
) -> tuple[str, tuple[ClassFolder, ...]]:
    """Return how the folders became classes, and the classes by index."""
    if labels is not None:
        known = {entry.folder: entry for entry in labels}
        unknown = [name for name in folders if name not in known]
        if unknown:
            raise InputFileError(
                f"{root} has {_listing('folder', unknown)} that the labels file does not name",
                hint=f"its first word of each line is a folder: {', '.join(list(known)[:_SHOWN])}",
            )
        found = sorted((known[name] for name in folders), key=lambda entry: entry.index)
        return "labels file", tuple(found)
    if all(name.isascii() and name.isdecimal() for name in folders):
        outside = [name for name in folders if int(name) >= classes]
        if outside:
            raise InputFileError(
                f"{root} has {_listing('folder', outside)}: as numbers they are classes, and the "
                f"model has 0 to {classes - 1}",
                hint="where they are names, say which class each is with --labels FILE",
            )
        numbered = sorted(
            (ClassFolder(index=int(name), folder=name, name=name) for name in folders),
            key=lambda entry: entry.index,
        )
        twice = [
            b.folder for a, b in zip(numbered, numbered[1:], strict=False) if a.index == b.index
        ]
        if twice:
            raise InputFileError(f"{root} has class {int(twice[0])} in two folders")
        return "folder names are class numbers", tuple(numbered)
    if len(folders) != classes:
        raise InputFileError(
            f"{root} has {_listing('class folder', folders)}, the model {classes} classes",
            hint="give --labels FILE: a line for each class in order, as in 'n01440764 tench'",
        )
    return "folders in name order", tuple(
        ClassFolder(index=index, folder=name, name=name) for index, name in enumerate(folders)
    )


def _images(root: Path, folder: str) -> list[str]:
    """Return the paths of all images below a class folder, in name order."""
    found = []
    seen: set[Path] = set()

    def stop(error: OSError) -> None:
        raise InputFileError(
            f"cannot read the folder {error.filename}: {error.strerror}"
        ) from error

    for place, inner, files in os.walk(root / folder, onerror=stop, followlinks=True):
        real = Path(place).resolve()
        if real in seen:
            raise InputFileError(
                f"{place} leads to {real}, which is listed already",
                hint="remove the link: its images would count twice",
            )
        seen.add(real)
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [
            (Path(place) / name).relative_to(root).as_posix()
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _listing(kind: str, names: list[str]) -> str:
    """Return `2 folders (a, b)`, of many the first few."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {kind}{plural} ({', '.join(names[:_SHOWN])}{more})"
