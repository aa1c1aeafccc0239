"""Files to and from a machine behind SSH: proved by digest, resumed, never half there.

A file travels under a hidden name beside its real one, with part of its SHA-256 in it:
`.NAME.DIGEST.part`. A connection that is lost leaves it, and the next try goes on at its end; a
full disk and a wrong digest remove it. It gets its name when the digest is right, not before. What
is already there with the right digest is not sent again.

sha256sum is the one program needed there that POSIX does not name: coreutils and busybox have it. A
checksum such as cksum's would not prove that a file is the same, so there is no other way.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

from elfatt_deploy.errors import DeviceError
from elfatt_deploy.transport.base import CommandResult

_CHUNK_BYTES = 1 << 20

# $1: the file, $2: its partial, $3: size, $4: digest
_LOOK_THERE = """\
command -v sha256sum >/dev/null || { echo no sha256sum >&2; exit 1; }
[ ! -d "$1" ] || { echo Is a directory >&2; exit 1; }
if [ -f "$1" ] && [ "$(wc -c <"$1")" -eq "$3" ] &&
  [ "$(sha256sum <"$1" | cut -d' ' -f1)" = "$4" ]; then
  echo same
elif [ -f "$2" ]; then
  wc -c <"$2"
else
  echo 0
fi"""
# Its input is added to the partial file; $5: how much of it is already there.
_RECEIVE = """\
[ "$5" -ne 0 ] || rm -f -- "$2" || exit 1
cat >>"$2" || { rm -f -- "$2"; exit 1; }
size=$(wc -c <"$2")
[ "$size" -ge "$3" ] || exit 3
[ "$(sha256sum <"$2" | cut -d' ' -f1)" = "$4" ] || { rm -f -- "$2"; exit 4; }
mv -f -- "$2" "$1"
"""
_CUT_SHORT, _DIFFERS = 3, 4
_LOOK_AT = """\
[ -e "$1" ] || { echo No such file or directory >&2; exit 1; }
[ ! -d "$1" ] || { echo Is a directory >&2; exit 1; }
[ -r "$1" ] || { echo Permission denied >&2; exit 1; }
wc -c <"$1" && sha256sum <"$1"
"""
# $2: the first byte, counted from 1
_SEND = 'tail -c "+$2" <"$1"'


class Exchange(Protocol):
    """What runs a command with bytes for its input or from its output."""

    #: the machine, in a message
    name: str

    def exchange(
        self,
        command: Sequence[str],
        *,
        chunks: Iterable[bytes] | None = None,
        sink: Callable[[bytes], object] | None = None,
    ) -> CommandResult:
        """Run a command to its end."""


def push(there: Exchange, local: Path, remote: str) -> None:
    """Copy a file from here to there.

    Raises:
        DeviceError: it cannot be read here or written there.
        ConnectError: the connection was lost; the next try goes on where this one ended.
    """
    size, digest = _measure(local)
    words = (remote, _partial(remote, digest), str(size), digest)
    for last in (False, True):
        looked = there.exchange(("sh", "-c", _LOOK_THERE, "sh", *words))
        told = looked.stdout.strip()
        if looked.status != 0:
            raise _unwritten(local, remote, there, looked)
        if told == "same":
            return
        offset = int(told) if int(told) <= size else 0
        done = there.exchange(
            ("sh", "-c", _RECEIVE, "sh", *words, str(offset)), chunks=_read(local, offset)
        )
        if done.status == 0:
            return
        # what an earlier try left may be of another writer, who may be gone by now
        if done.status != _DIFFERS or last:
            raise _unwritten(local, remote, there, done)


def pull(there: Exchange, remote: str, local: Path) -> None:
    """Copy a file from there to here.

    Raises:
        DeviceError: it cannot be read there or written here.
        ConnectError: the connection was lost; the next try goes on where this one ended.
    """
    for _ in range(2):  # a second time where it changed meanwhile, or the partial file was wrong
        size, digest = _look_at(there, remote)
        if local.is_file() and _measure(local) == (size, digest):
            return
        partial = local.with_name(f".{local.name}.{digest[:16]}.part")
        try:
            _fetch(there, remote, partial, size)
            if _measure(partial) == (size, digest):
                os.replace(partial, local)
                return
            partial.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise DeviceError(
                f"cannot copy {remote} from {there.name}: writing {local} on this machine failed: "
                f"{error.strerror or error}",
                hint="check that there is room and permission to write here",
            ) from error
    raise DeviceError(
        f"cannot copy {remote} from {there.name}: it changes while it is copied",
        hint="wait until nothing writes it any more",
    )


def reason(done: CommandResult) -> str:
    """Return why a command failed, as its last word on stderr tells it."""
    lines = done.stderr.strip().splitlines()
    return lines[-1].rpartition(": ")[2] if lines else f"status {done.status}"


def drain(stream: IO[bytes], word: str, sink: Callable[[bytes], object]) -> None:
    """Pass on what a stream has after the line with a word."""
    while line := stream.readline():
        if word.encode() in line:
            break
    while chunk := stream.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]  # it is buffered
        sink(chunk)


def _look_at(there: Exchange, remote: str) -> tuple[int, str]:
    looked = there.exchange(("sh", "-c", _LOOK_AT, "sh", remote))
    words = looked.stdout.split()
    if looked.status != 0 or len(words) < 2:
        raise DeviceError(f"cannot copy {remote} from {there.name}: {reason(looked)}")
    return int(words[0]), words[1]


def _fetch(there: Exchange, remote: str, partial: Path, size: int) -> None:
    """Bring what a partial file lacks.

    Raises:
        OSError: it cannot be written.
        DeviceError: the rest cannot be read there.
    """
    offset = partial.stat().st_size if partial.exists() else 0
    if offset >= size > 0:
        return
    with partial.open("ab") as file:
        done = there.exchange(
            ("sh", "-c", _SEND, "sh", remote, str(offset + 1)),
            sink=file.write,
        )
        file.flush()
        os.fsync(file.fileno())
    if done.status != 0:
        raise DeviceError(f"cannot copy {remote} from {there.name}: {reason(done)}")


def _measure(local: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file here.

    Raises:
        DeviceError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with local.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise DeviceError(f"cannot read {local} on this machine: {error.strerror}") from error
    return size, digest.hexdigest()


def _read(local: Path, offset: int) -> Iterator[bytes]:
    with local.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _partial(remote: str, digest: str) -> str:
    folder, name = posixpath.split(remote)
    return posixpath.join(folder, f".{name}.{digest[:16]}.part")


def _unwritten(local: Path, remote: str, there: Exchange, done: CommandResult) -> DeviceError:
    why = {
        _CUT_SHORT: f"{local} became shorter, or its reading ended early",
        _DIFFERS: "what arrived has another SHA-256",
    }.get(done.status, reason(done))
    hint = "check that its folder is there, and that there is permission to write"
    if why == os.strerror(errno.ENOSPC):
        hint = f"make room on {there.name}"
    elif why.endswith("no sha256sum"):
        hint = "install coreutils there: files are proved with it"
    return DeviceError(f"cannot copy {local} to {remote} on {there.name}: {why}", hint=hint)
