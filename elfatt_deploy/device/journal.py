"""The journal of a change: what a board was like before, written before anything is changed.

One JSON file a device, on the machine that this program runs on. It is there from before the first
change until the board was put back and read back, so that a program that was killed leaves all that
is needed to finish. A process is known by host, boot, number and start: numbers are used again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import platform
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from elfatt_deploy.artifacts import Unavailable, from_document, to_document
from elfatt_deploy.errors import BusyError, DeviceError, SchemaError

JOURNAL_SCHEMA = "elfatt-deploy/journal"
JOURNAL_VERSION = 1
_HINT = (
    "look at what the board is in ('elfatt-deploy device info'), put it right by hand (nvpmodel -m "
    "ID), and remove that file"
)


class Phase(str, enum.Enum):
    """How far a change has come."""

    PREPARED = "prepared"
    CHANGING = "changing"
    CHANGED = "changed"
    REBOOTING = "rebooting"
    RESTORING = "restoring"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A process of this or another machine.

    Args:
        host: name of the machine.
        boot_id: identity of the machine's last start; empty where it tells none.
        pid: number of the process; 0 for one that has given up.
        started: its start in clock ticks since then; empty where it is not told.
    """

    host: str
    boot_id: str
    pid: int
    started: str

    @property
    def alive(self) -> bool | Unavailable:
        """Whether the process still runs; unavailable for one of another machine."""
        if self.host != platform.node():
            return Unavailable(reason=f"it ran on {self.host}")
        if self.boot_id != host_boot_id():
            return False
        started = _started(self.pid)
        return started is not None and started == self.started

    def ended(self) -> Owner:
        """Return who it is after it gave up."""
        return dataclasses.replace(self, pid=0, started="")

    def __str__(self) -> str:
        """Return host and number, as a message names it."""
        return f"process {self.pid} on {self.host}" if self.pid else f"a run on {self.host}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a board was like before.

    Args:
        mode_id: its power mode.
        mode_name: that mode's name.
        online: cores that ran, as the kernel lists them: `0-3`.
        files: path and first line of each file that a restored board must show again.
        fan_service: state of nvfancontrol: `active`; empty where the board has none.
        clocks_file: where on the board `jetson_clocks --store` put what it found; None before that,
            and on a board without jetson_clocks.
    """

    mode_id: int
    mode_name: str
    online: str
    files: tuple[tuple[str, str], ...]
    fan_service: str
    clocks_file: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One change of one device, not yet taken back.

    Args:
        schema: `elfatt-deploy/journal`.
        version: of the schema.
        device: as it was named on the command line.
        board: name of its board file; empty for an unknown board.
        created: when, in UTC.
        owner: who changes it.
        board_boot_id: the board's last start when it was found.
        found: what to go back to.
        phase: how far the change has come.
        intended: what was asked for last, in words.
        pinned_file: where on the board the clocks of the mode in use are stored, which are pinned
            now; None where they are not.
        pinned_mode_id: the mode in which they were stored.
        lock_token: mark of our lock on the board.
        work_folder: our folder there, which goes when the board is put back; empty for none.
    """

    schema: str = JOURNAL_SCHEMA
    version: int = JOURNAL_VERSION
    device: str
    board: str
    created: str
    owner: Owner
    board_boot_id: str
    found: Found
    phase: Phase = Phase.PREPARED
    intended: str = ""
    pinned_file: str | None = None
    pinned_mode_id: int | None = None
    lock_token: str = ""
    work_folder: str = ""


def this_process() -> Owner:
    """Return who we are."""
    pid = os.getpid()
    return Owner(host=platform.node(), boot_id=host_boot_id(), pid=pid, started=_started(pid) or "")


def host_boot_id() -> str:
    """Return the identity of this machine's last start; empty where it tells none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _started(pid: int) -> str | None:
    """Return when a process started; None where there is no such process."""
    if not Path("/proc/self/stat").exists():  # not Linux: the number alone must do
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return ""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # the name, which stands in brackets, may hold spaces and brackets; field 22 of proc(5)
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def default_folder() -> Path:
    """Return where journals lie: `$ELFATT_DEPLOY_STATE/journal`, else under the home folder."""
    state = os.environ.get("ELFATT_DEPLOY_STATE")
    base = Path(state) if state else Path.home() / ".local" / "state" / "elfatt-deploy"
    return base / "journal"


def path_of(device: str, folder: Path | None = None) -> Path:
    """Return the file of a device's journal."""
    name = urllib.parse.quote(device, safe="@").replace(".", "%2E")
    return (folder or default_folder()) / f"{name}.json"


def read(device: str, folder: Path | None = None) -> Journal | None:
    """Return the journal of a device; None where it has none.

    Raises:
        SchemaError: it cannot be read, is of another device or kind, or of a newer version.
    """
    path = path_of(device, folder)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SchemaError(f"cannot read the journal {path}: {error}", hint=_HINT) from error
    journal = _parse(content, path)
    if journal.device != device:
        raise SchemaError(
            f"{path} is the journal of {journal.device}, not of {device}",
            hint=f"move it to {path_of(journal.device, folder)}",
        )
    return journal


def _parse(content: str, path: Path) -> Journal:
    """Turn the text of a journal into its record."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise SchemaError(f"the journal {path} is no JSON: {error}", hint=_HINT) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != JOURNAL_SCHEMA:
        raise SchemaError(f"{path} is no journal: its schema is {schema!r}", hint=_HINT)
    if document.get("version") != JOURNAL_VERSION:
        raise SchemaError(
            f"the journal {path} is of version {document.get('version')}, "
            f"this program reads version {JOURNAL_VERSION}",
            hint="finish with the version of elfatt-deploy that wrote it",
        )
    try:
        return from_document(Journal, document, f"the journal {path}")
    except SchemaError as error:
        raise SchemaError(error.message, hint=_HINT) from error


def create(journal: Journal, folder: Path | None = None) -> None:
    """Write the first journal of a device; it is on the disk when this returns.

    Raises:
        BusyError: it has one: somebody else was faster.
        DeviceError: it cannot be written. Nothing was changed on the board.
    """
    path = path_of(journal.device, folder)
    try:
        with _written(journal, path) as temporary:
            os.link(temporary, path)  # fails where there is one, unlike a rename
            _sync_folder(path.parent)
    except FileExistsError as error:
        raise BusyError(
            f"{journal.device} is being changed by another run: there is a journal, {path}",
            hint="wait until it is done",
        ) from error
    except OSError as error:
        raise _unwritable(path, error, "nothing was changed on the board") from error


def write(journal: Journal, folder: Path | None = None) -> None:
    """Replace the journal of a device; it is on the disk when this returns.

    Raises:
        DeviceError: it cannot be written; the one before is still there.
    """
    path = path_of(journal.device, folder)
    try:
        with _written(journal, path) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error, "the earlier one is kept") from error


def remove(device: str, folder: Path | None = None) -> None:
    """Remove the journal of a device that was put back and read back.

    Raises:
        DeviceError: it cannot be removed.
    """
    path = path_of(device, folder)
    try:
        path.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise DeviceError(
            f"cannot remove the journal {path}: {error.strerror}",
            hint=f"{device} is put back; remove the file by hand",
        ) from error


def entries(folder: Path | None = None) -> tuple[Journal | Unavailable, ...]:
    """Return all journals, by the names of their files; one that does not read back says why."""
    found: list[Journal | Unavailable] = []
    for path in sorted((folder or default_folder()).glob("*.json")):
        try:
            found.append(_parse(path.read_text(encoding="utf-8"), path))
        except (OSError, ValueError, SchemaError) as error:
            text = error.message if isinstance(error, SchemaError) else f"{path}: {error}"
            found.append(Unavailable(reason=text))
    return tuple(found)


def _unwritable(path: Path, error: OSError, rest: str) -> DeviceError:
    return DeviceError(
        f"cannot write the journal {path}: {error.strerror}; {rest}",
        hint="make room, or name a folder that can be written in ELFATT_DEPLOY_STATE",
    )


@contextlib.contextmanager
def _written(journal: Journal, path: Path) -> Iterator[str]:
    """Give a new file beside `path` that holds the journal and is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".journal-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(to_document(journal), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync_folder(folder: Path) -> None:
    """Bring a name to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
