"""The lock on a board: two runs never measure on one board at once.

A folder in the board's `/tmp` (making one is atomic) with the owner's name in it. A lock is broken
without asking where its owner is known to be gone: the board was started since, or the process of
this machine has ended. All others are left to the user.
"""

from __future__ import annotations

import secrets

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.control import Controls, Words
from elfatt_deploy.device.journal import Owner, this_process
from elfatt_deploy.errors import BusyError, DeviceError

LOCK_PATH = "/tmp/elfatt-deploy.lock"
_TRIES = 3
#: marks of the locks that this process holds and knows of; one that it lost is free to be broken
_held: set[str] = set()


def new_token() -> str:
    """Return the mark of a new lock."""
    return secrets.token_hex(8)


def take(controls: Controls, token: str, *, board_boot_id: str, force: bool = False) -> None:
    """Take the lock on a board; having it already is fine.

    Args:
        controls: of the board.
        token: mark of the lock; the same one again is ours.
        board_boot_id: identity of the board's last start.
        force: break a lock whose owner cannot be asked.

    Raises:
        BusyError: somebody else has it.
        DeviceError: the board cannot be written.
    """
    owner = _owner_text(token, board_boot_id)
    for _ in range(_TRIES):
        words = controls.take_lock(token, owner)
        if "taken" in words.words:
            _held.add(token)
            return
        if "unwritable" in words.words:
            raise DeviceError(
                f"cannot make the lock {LOCK_PATH} on {controls.name}",
                hint="make room in the board's /tmp",
            )
        fields = dict(text.partition("=")[::2] for text in words.values("owner"))
        if fields.get("token") == token:
            _held.add(token)
            return
        refusal = None if force else _refusal(controls.name, words, fields, board_boot_id)
        if refusal is not None:
            raise refusal
        controls.drop_lock(fields.get("token", ""))
    raise BusyError(f"{controls.name} is being taken by several runs at this moment")


def drop(controls: Controls, token: str) -> None:
    """Take our lock away; one of somebody else's is left alone."""
    abandon(token)
    if token:
        controls.drop_lock(token)


def abandon(token: str) -> None:
    """Claim a lock no more that may still lie on its board: this process may take it anew."""
    _held.discard(token)


def _owner_text(token: str, board_boot_id: str) -> str:
    owner = this_process()
    return "\n".join(
        (
            f"token={token}",
            f"host={owner.host}",
            f"pid={owner.pid}",
            f"started={owner.started}",
            f"host_boot={owner.boot_id}",
            f"board_boot={board_boot_id}",
            f"since={units.now()}",
        )
    )


def _refusal(
    name: str, words: Words, fields: dict[str, str], board_boot_id: str
) -> BusyError | None:
    """Return why a lock is not ours to break; None where its owner is known to be gone."""
    if not fields:
        if "abandoned" in words.words:
            return None
        return BusyError(f"{name} is being taken by another run at this moment")
    if board_boot_id and fields.get("board_boot", "") not in ("", board_boot_id):
        return None
    owner = Owner(
        host=fields.get("host", "an unknown host"),
        boot_id=fields.get("host_boot", ""),
        pid=int(fields["pid"]) if fields.get("pid", "").isdecimal() else 0,
        started=fields.get("started", ""),
    )
    alive = owner.alive
    if alive is False or (owner == this_process() and fields.get("token") not in _held):
        return None
    since = fields.get("since", "an unknown time")
    gone = isinstance(alive, Unavailable)
    return BusyError(
        f"{name} is in use by {owner}, since {since}",
        hint="wait until it is done"
        + (
            "; if that process is gone, add --break-lock to 'elfatt-deploy restore', or remove "
            f"{LOCK_PATH} on the board"
            if gone
            else ", or end that process: it puts the board back"
        ),
    )
