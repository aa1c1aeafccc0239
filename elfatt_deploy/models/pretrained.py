"""Published weights: which file belongs to a model, and that file on disk with its digest checked.

`profiles/weights.toml` names the file of each model, or the reason why there is none. A downloaded
file lies in the cache folder; where nobody states its digest, the digest it had then is written
beside it and must still be its digest whenever the file is used again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
import urllib.parse
from pathlib import Path

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.errors import CheckpointError, InputFileError, SchemaError, UsageError
from elfatt_deploy.models import download
from elfatt_deploy.models.download import Progress

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{8,63}")
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """One file on a server.

    Args:
        url: direct http or https address.
        input_size: side in pixels of the images that it was trained with at the end.
        name: its name in the cache, where the last part of the address is no name of its own.
        size_bytes: its length; None where no page states it.
        sha256: its digest; None where no page states it.
        sha256_prefix: the first digits, where only they are stated (in a file name, say).
        digest_source: who states the digest.
    """

    url: str
    input_size: int
    name: str = ""
    size_bytes: int | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    digest_source: str = ""

    @property
    def file_name(self) -> str:
        """The name in the cache folder."""
        path = urllib.parse.urlsplit(self.url).path
        return self.name or urllib.parse.unquote(path.rpartition("/")[2])

    @property
    def digest(self) -> str:
        """What its digest begins with as far as that is stated; empty where it is not."""
        return self.sha256 or self.sha256_prefix or ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was published of a model: files, or the reason why there are none.

    Args:
        model: its name in our registry.
        page: the page that names the files, or would.
        files: the files; the first is for the model's default input size.
        license: license of the files, as their publisher states it.
        note: what is to be known of them.
        reason: why there are none.
    """

    model: str
    page: str
    files: tuple[PublishedFile, ...] = ()
    license: str = ""
    note: str = ""
    reason: str = ""

    def file_for(self, input_size: int | None) -> PublishedFile:
        """Return the file trained at an input size; the first one where none was.

        Raises:
            CheckpointError: no file was published.
        """
        if not self.files:
            raise CheckpointError(
                f"no weights of {self.model} can be fetched: {self.reason}",
                hint=f"give a checkpoint with --weights FILE; see {self.page}",
            )
        return next((f for f in self.files if f.input_size == input_size), self.files[0])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A published file on disk.

    Args:
        path: where it lies.
        sha256: its digest.
        stated: whether that digest is the one that its publisher or others state; else it is only
            the one that the file had when it was downloaded.
        cached: whether it was there already.
        url: where it comes from.
        input_size: side in pixels of the images that it was trained with.
        license: its license.
        note: what is to be known of it.
    """

    path: Path
    sha256: str
    stated: bool
    cached: bool
    url: str
    input_size: int
    license: str
    note: str


@functools.cache
def all_published() -> dict[str, Published]:
    """Return what was published, by model.

    Raises:
        InputFileError: the data file is missing.
        SchemaError: an entry is wrong.
    """
    path = recipes.profiles_folder() / "weights.toml"
    return {
        name: _checked(
            from_document(Published, {"model": name, **entry}, f"{path} [{name}]"),
            f"{path} [{name}]",
        )
        for name, entry in recipes.read_toml(path).items()
    }


def _checked(entry: Published, origin: str) -> Published:
    """Return an entry that says one thing: files with direct addresses, or a reason.

    Raises:
        SchemaError: it does not.
    """
    problems = (
        [] if bool(entry.files) != bool(entry.reason) else ["it must have either files or a reason"]
    )
    for file in entry.files:
        if urllib.parse.urlsplit(file.url).scheme not in download.SCHEMES:
            problems.append(f"{file.url} is no http or https address")
        if not re.fullmatch(r"\w[\w.@+-]*", file.file_name):
            problems.append(f"'{file.file_name}' is no plain file name: give one with `name`")
        if file.sha256 and not _DIGEST.fullmatch(file.sha256):
            problems.append(f"{file.sha256} is no SHA-256 in small letters")
        if file.sha256_prefix and not _PREFIX.fullmatch(file.sha256_prefix):
            problems.append(f"{file.sha256_prefix} is no beginning of a SHA-256")
    if problems:
        raise SchemaError(f"{origin} is wrong: {'; '.join(problems)}", hint="correct the entry")
    return entry


def published(model: str) -> Published:
    """Return what was published of a model.

    Raises:
        CheckpointError: nothing is known of it.
    """
    if model not in all_published():
        raise CheckpointError(
            f"no published weights are known of {model}",
            hint="give a checkpoint with --weights FILE",
        )
    return all_published()[model]


def default_folder() -> Path:
    """Return the folder of downloaded weights.

    It is `ELFATT_DEPLOY_CACHE` where that is set, else `elfatt-deploy/weights` below
    `XDG_CACHE_HOME`, which is `~/.cache` where it is not set (or not absolute, as its specification
    says).

    Raises:
        UsageError: `ELFATT_DEPLOY_CACHE` is no absolute path, or there is no home folder.
    """
    given = os.environ.get("ELFATT_DEPLOY_CACHE", "")
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(given).expanduser()
        if given and not folder.is_absolute():
            raise UsageError(
                f"ELFATT_DEPLOY_CACHE is '{given}', which is no absolute path",
                hint="set it to a folder such as /var/cache/elfatt-deploy, or unset it",
            )
        if given:
            return folder
        base = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    except RuntimeError as error:  # a user without a home folder
        raise UsageError(
            f"there is no folder for downloads: {error}",
            hint="set ELFATT_DEPLOY_CACHE to a folder",
        ) from error
    return base / "elfatt-deploy" / "weights"


def fetch(
    model: str,
    folder: Path | None = None,
    progress: Progress | None = None,
    *,
    input_size: int | None = None,
) -> Fetched:
    """Return the published file of a model, downloading it where it is not in the folder yet.

    Args:
        model: a name of `profiles/weights.toml`.
        folder: where the file lies; None means `default_folder()`.
        progress: told the bytes on disk and the bytes of the whole file, or None for the latter.
        input_size: side of the input in pixels; a file trained at that size is preferred.

    Raises:
        CheckpointError: no file was published, or it has another digest (it is removed then).
        InputFileError: it could not be downloaded or written; see `download.fetch_part`.
        UsageError: there is no default folder.
    """
    entry = published(model)
    file = entry.file_for(input_size)
    path = (folder or default_folder()) / file.file_name
    digest = _cached_digest(path, file)
    cached = digest is not None
    if digest is None:
        part = path.with_name(f"{path.name}.part")
        instead = f"see {entry.page} for the file, and give it with --weights FILE"
        download.fetch_part(
            file.url, part, instead=instead, size_bytes=file.size_bytes, progress=progress
        )
        digest = _accepted(part, path, file, instead)
    return Fetched(
        path=path,
        sha256=digest,
        stated=bool(file.digest),
        cached=cached,
        url=file.url,
        input_size=file.input_size,
        license=entry.license,
        note=entry.note,
    )


def _cached_digest(path: Path, file: PublishedFile) -> str | None:
    """Return the digest of a file that is there already; None where it is not.

    Raises:
        CheckpointError: it is not what it was, or what it should be.
        InputFileError: it cannot be read or removed.
    """
    if not path.is_file():
        return None
    record = path.with_name(f"{path.name}.sha256")
    try:
        digest = _sha256(path)
        recorded = ""
        if record.is_file() and not file.sha256:
            recorded = record.read_text(encoding="utf-8").partition(" ")[0]
        for expected in (file.digest, recorded):
            if not digest.startswith(expected):
                path.unlink()
                record.unlink(missing_ok=True)
                raise _mismatch(path, digest, expected, "run the command again to download it anew")
        if not recorded:
            _write_record(path, digest)
    except OSError as error:
        raise InputFileError(
            f"cannot use {path}: {error.strerror or error}",
            hint="choose another folder with ELFATT_DEPLOY_CACHE",
        ) from error
    return digest


def _accepted(part: Path, path: Path, file: PublishedFile, instead: str) -> str:
    """Check a downloaded file and give it its name; returns its digest.

    Raises:
        CheckpointError: it has another digest than the stated one.
        InputFileError: it cannot be read or renamed.
    """
    try:
        digest = _sha256(part)
        if not digest.startswith(file.digest):
            download.discard(part)
            raise _mismatch(part, digest, file.digest, instead)
        _write_record(path, digest)
        os.replace(part, path)
    except OSError as error:
        raise InputFileError(
            f"cannot write {path}: {error.strerror or error}",
            hint="make room, or choose another folder with ELFATT_DEPLOY_CACHE",
        ) from error
    download.discard(part)
    return digest


def _mismatch(path: Path, found: str, expected: str, hint: str) -> CheckpointError:
    return CheckpointError(
        f"{path} was removed: its SHA-256 is {found}; expected is {expected}"
        + ("" if _DIGEST.fullmatch(expected) else "..."),
        hint=hint,
    )


def _write_record(path: Path, digest: str) -> None:
    """Write the digest beside a file, in the form that `sha256sum --check` reads."""
    record = path.with_name(f"{path.name}.sha256")
    record.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
