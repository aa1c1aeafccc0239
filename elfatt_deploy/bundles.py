"""Bundles on disk: where one is written, how it appears whole or not at all, how it is read.

A manifest is the last file of a bundle: a folder without one is none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    MANIFEST_SCHEMA,
    MANIFEST_VERSION,
    MODEL_FILE,
    Bundle,
    BundleManifest,
    from_document,
    to_document,
)
from elfatt_deploy.errors import ExportError, InputFileError, SchemaError


def folder_name(
    model: str,
    settings: tuple[str, ...],
    height: int,
    width: int,
    batch: int | str,
    precision: str,
    target: str,
) -> str:
    """Return the folder name of a bundle: NAME-RES-bBATCH-PRECISION-TARGET."""
    name = ".".join((model, *(item.replace("=", "-") for item in settings)))
    name = re.sub(r"[/:]", ".", name)  # of package.module:function and timm/NAME
    return f"{name}-{units.size(height, width)}-b{batch}-{precision}-{target}"


def check_writable(final: Path) -> None:
    """Make the folder above `final`, and raise where no bundle can be written there.

    Raises:
        ExportError: the folder cannot be written, or `final` is something else than a bundle.
    """
    if final.exists() and not (final / MANIFEST_FILE).is_file():
        raise ExportError(
            f"{final} exists and is not a bundle", hint="move it away, or choose another -o DIR"
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=final.parent).close()
    except OSError as error:
        raise _unwritable(final, error) from error


def _unwritable(final: Path, error: OSError) -> ExportError:
    return ExportError(
        f"cannot write the bundle {final}: {error.strerror or error}",
        hint="make room or choose another folder with -o DIR",
    )


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Give a folder beside `final` that takes its place if a manifest was written into it.

    Nothing is left behind otherwise, whatever happens; an older bundle stays until it is replaced.

    Raises:
        ExportError: the folder cannot be written, or `final` is something else than a bundle.
    """
    check_writable(final)
    work: Path | None = None
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        yield work
        if (work / MANIFEST_FILE).is_file():
            work.chmod(0o755)  # mkdtemp makes it for the owner alone
            _replace(final, work)
    except OSError as error:
        raise _unwritable(final, error) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _replace(final: Path, work: Path) -> None:
    """Put `work` in the place of `final`; where that fails, `final` is what it was."""
    if not final.exists():
        os.replace(work, final)
        return
    old = work.with_name(f"{work.name}.old")
    os.replace(final, old)
    try:
        os.replace(work, final)
    except BaseException:
        os.replace(old, final)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises:
        InputFileError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                digest.update(piece)
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write the manifest, the last file of a bundle: without it a folder is none."""
    text = json.dumps(to_document(manifest), indent=1)
    (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        SchemaError: the file is missing, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SchemaError(
            f"{path} is not a JSON document: {error}", hint="export the bundle again"
        ) from error
    if not isinstance(document, dict):
        raise SchemaError(f"{path} is not a JSON object", hint="export the bundle again")
    return document


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and verify the digest of every file in it.

    Raises:
        InputFileError: the folder or a file of it is missing or was changed since the export.
        SchemaError: the manifest is torn, of another schema, or of a newer version.
    """
    manifest_path = path / MANIFEST_FILE
    if not path.is_dir() or not manifest_path.is_file():
        what = "is not a folder" if not path.is_dir() else f"holds no {MANIFEST_FILE}"
        raise InputFileError(
            f"{path} is not a bundle: it {what}",
            hint="name a folder that 'elfatt-deploy export' wrote",
        )
    document = read_document(manifest_path)
    found = document.get("schema")
    if found != MANIFEST_SCHEMA:
        raise SchemaError(f"{manifest_path} has schema {found!r}, not {MANIFEST_SCHEMA!r}")
    if document.get("version") != MANIFEST_VERSION:
        raise SchemaError(
            f"{manifest_path} has schema version {document.get('version')}; this program reads "
            f"version {MANIFEST_VERSION}",
            hint="use the elfatt-deploy version that wrote it, or export the bundle again",
        )
    manifest = from_document(BundleManifest, document, str(manifest_path))
    if not {MODEL_FILE, GOLDEN_FILE} <= set(manifest.files):
        raise SchemaError(f"{manifest_path} lacks the digest of {MODEL_FILE} or {GOLDEN_FILE}")
    for name, digest in manifest.files.items():
        if not (path / name).is_file():
            raise InputFileError(f"{path} lacks {name}", hint="export the bundle again")
        if sha256_of(path / name) != digest:
            raise InputFileError(
                f"{path / name} was changed since the export: its SHA-256 is not the manifest's",
                hint="export the bundle again",
            )
    return Bundle(path=path, manifest=manifest)
