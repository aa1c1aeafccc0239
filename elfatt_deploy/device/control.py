"""Single steps of changing a board, by `scripts/control.sh`, and what the answers mean.

Exit statuses of nvpmodel and jetson_clocks are not trusted: both end with 0 after failures. What
they say is looked at for refusals, and what came of it is read back by whoever calls a step.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import time
from collections.abc import Callable, Sequence
from importlib import resources

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import nvpmodel
from elfatt_deploy.device.readback import WATCHED, BoardState
from elfatt_deploy.device.records import ModeNow
from elfatt_deploy.errors import (
    CommandError,
    ConnectError,
    DeviceError,
    PowerModeError,
    ProbeError,
)
from elfatt_deploy.transport.base import Transport

#: longest time of a step; a change of mode takes seconds, its tool can hang
_STEP_S = 60.0
#: how the name of every temporary folder of ours begins, on whatever machine
_OURS = "elfatt-deploy-"

Say = Callable[[str], None]

_RIGHTS = re.compile(
    r"password is required|not in the sudoers|not allowed to (?:execute|run)|may not run sudo"
    r"|must be run as root|as a root user|sudo: not found|sudo: command not found"
    r"|Error opening \S+: 13\b|permission denied",
    re.IGNORECASE,
)
_ERROR = re.compile(r"error|fail|not found|denied|required", re.IGNORECASE)
_EARLY = re.compile(r"run the script after (\d+) Seconds", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What the user allows besides the change itself.

    Args:
        reboot: that the board is rebooted where a mode cannot be had otherwise.
        break_lock: that a lock on the board is broken whose owner cannot be asked.
    """

    reboot: bool = False
    break_lock: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long is waited for what.

    Args:
        patience_s: a lost connection is tried for again.
        reboot_s: a reboot.
        pause_s: between two tries.
        settle_s: between two readings after a change.
    """

    patience_s: float = 120.0
    reboot_s: float = 300.0
    pause_s: float = 2.0
    settle_s: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a tool on the board said and what it ended with."""

    status: int
    said: str

    @property
    def wants_reboot(self) -> bool:
        """Whether nvpmodel asks for a reboot; the change was not made then."""
        return nvpmodel.needs_reboot(self.said)

    @property
    def lacks_rights(self) -> bool:
        """Whether it says that the user may not do this."""
        return _RIGHTS.search(self.said) is not None

    @property
    def missing(self) -> bool:
        """Whether there is no such program."""
        return self.status == 127 and not self.lacks_rights

    @property
    def complaint(self) -> str:
        """The last line that tells of an error; else the last line; else the status."""
        lines = [line.strip() for line in self.said.splitlines() if line.strip()]
        errors = [line for line in lines if _ERROR.search(line)]
        return (errors or lines or [f"it ended with status {self.status}"])[-1]


class Controls:
    """The steps, on one board."""

    def __init__(self, transport: Transport) -> None:
        """Nothing is run yet."""
        self.transport = transport

    @property
    def name(self) -> str:
        """The board, in a message."""
        return self.transport.name

    def state(self, paths: Sequence[str] = ()) -> BoardState:
        """Read what the board is in; `paths` are files to read besides those of the clocks.

        Raises:
            DeviceError: it cannot be reached, or has no shell.
        """
        words = self._run("state", *dict.fromkeys((*WATCHED, *paths)))
        answer = words.answer
        mode: ModeNow | Unavailable
        try:
            mode = nvpmodel.parse_query(answer.said)
        except ProbeError:
            mode = Unavailable(reason=f"nvpmodel -q: {answer.complaint}")
        uptime = words.first("uptime")
        return BoardState(
            boot_id=words.first("boot-id"),
            uptime_s=float(uptime) if uptime else Unavailable(reason="no /proc/uptime"),
            mode=mode,
            online=words.first("online"),
            files=tuple(dict(words.pairs("file")).items()),
            fan_service=words.first("fan"),
        )

    def boot_id(self) -> str:
        """Return the identity of the board's last start; empty where it tells none."""
        return self._run("boot", timeout_s=20.0).first("boot-id")

    def set_mode(self, mode_id: int) -> Answer:
        """Ask for a power mode; a question of nvpmodel's finds no answer."""
        return self._run("mode", str(mode_id)).answer

    def store_clocks(self, path: str) -> tuple[Answer, bool]:
        """Have jetson_clocks store the clocks; the second value says whether the file is there."""
        words = self._run("store", path)
        return words.answer, bool(words.first("stored"))

    def pin_clocks(self, *, fan: bool = False) -> Answer:
        """Pin the clocks to the highest of the mode; with `fan` that as well.

        Old releases refuse for the first 90 s after a start: those are waited for.
        """
        verb = "pin-and-fan" if fan else "pin"
        answer = self._run(verb).answer
        early = _EARLY.search(answer.said)
        if early:
            time.sleep(min(int(early[1]) + 1, 91))
            answer = self._run(verb).answer
        return answer

    def unpin_clocks(self, path: str) -> Answer:
        """Have jetson_clocks restore what it stored in a file."""
        return self._run("unpin", path).answer

    def has(self, path: str) -> bool:
        """Whether a file is there."""
        return bool(self._run("has", path).first("file"))

    def forget(self, *paths: str) -> None:
        """Remove stored clocks."""
        self._run("forget", *paths)

    def remove_folder(self, path: str) -> None:
        """Remove a folder for temporary files that is ours by its name; any other is left alone."""
        if path.rpartition("/")[2].startswith(_OURS):
            self.transport.run(("rm", "-rf", "--", path), timeout_s=_STEP_S)

    def set_pending(self, mode_id: int) -> Answer:
        """Write which mode the next start applies, and read that back.

        Raises:
            PowerModeError: it was not written.
        """
        words = self._run("pending", str(mode_id))
        answer = Answer(status=0, said="\n".join(words.values("said")))
        if f"pmode:{mode_id:04d}" not in words.first("pending"):
            raise PowerModeError(
                f"{self.name} did not take mode {mode_id} for its next start "
                f"(/var/lib/nvpmodel/status): {answer.complaint}",
                hint=rights_hint(self.name) if answer.lacks_rights else "",
                asked=str(mode_id),
                read_back=words.first("pending"),
            )
        return answer

    def reboot(self) -> None:
        """Tell the board to reboot; the connection may go while it does.

        Raises:
            PowerModeError: it cannot be told.
        """
        try:
            answer = self._run("reboot").answer
        except DeviceError:
            return  # gone already: whether it comes back is seen by the one who waits
        if 0 < answer.status < 128:  # above, the shutdown ended it
            raise PowerModeError(
                f"{self.name} cannot be rebooted: {answer.complaint}",
                hint=rights_hint(self.name),
            )

    def take_lock(self, token: str, owner: str) -> Words:
        """Try to take the lock on the board; `owner` is written into it."""
        return self._run("take", token, owner)

    def drop_lock(self, token: str) -> bool:
        """Take the lock away that bears this token (empty: that names no owner)."""
        return "dropped" in self._run("drop", token).words

    def _run(self, *arguments: str, timeout_s: float = _STEP_S) -> Words:
        """Run a verb of the script.

        Raises:
            CommandError: it did not come to its end.
        """
        command = ("sh", "-s", "--", *arguments)
        result = self.transport.run(command, timeout_s=timeout_s, input=_script())
        words = Words(lines=tuple(result.stdout.splitlines()))
        if "end" not in words.words:
            raise CommandError(
                f"'{arguments[0]}' did not come to its end on {self.name}: "
                f"{result.stderr.strip() or f'status {result.status}'}",
                hint="check that the board has a POSIX shell and room for processes",
                command=command,
                status=result.status,
                stderr=result.stderr,
            )
        return words


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The answer of the script: lines of a word and a value."""

    lines: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The first word of each line."""
        return tuple(line.partition(" ")[0] for line in self.lines)

    def values(self, word: str) -> tuple[str, ...]:
        """Return the values of a word, in order."""
        return tuple(
            line.partition(" ")[2] for line in self.lines if line.partition(" ")[0] == word
        )

    def first(self, word: str) -> str:
        """Return the first value of a word; an empty text where there is none."""
        return next(iter(self.values(word)), "")

    def pairs(self, word: str) -> tuple[tuple[str, str], ...]:
        """Return the values of a word, each cut at its first space."""
        return tuple(
            (head, tail) for head, _, tail in (text.partition(" ") for text in self.values(word))
        )

    @property
    def answer(self) -> Answer:
        """What the tool said that the verb ran."""
        status = self.first("status")
        return Answer(
            status=int(status) if status.isdecimal() else 1, said="\n".join(self.values("said"))
        )


@functools.cache
def _script() -> str:
    return (resources.files(__package__) / "scripts" / "control.sh").read_text(encoding="utf-8")


def rights_hint(name: str) -> str:
    """Return what gives a user the rights to change a board."""
    return (
        f"log in to {name} as root, or put this line into /etc/sudoers.d/elfatt-deploy there (with "
        "'sudo visudo'), USER being the user's name: USER ALL=(root) NOPASSWD: "
        "/usr/sbin/nvpmodel, /usr/bin/jetson_clocks, /usr/bin/tee, /usr/bin/cat, /usr/sbin/reboot"
    )


def wait_until_back(controls: Controls, before: str, *, pace: Pace, say: Say) -> str:
    """Wait until a board that was told to reboot has started again.

    Args:
        controls: of the board.
        before: identity of its last start; one that still tells it has not gone down yet.
        pace: how long is waited.
        say: called with what is waited for.

    Returns:
        The identity of its new start.

    Raises:
        ConnectError: it did not come back in that time.
    """
    waiter = getattr(controls.transport, "wait_until_back", None)
    until = time.monotonic() + pace.reboot_s
    say(f"{controls.name} reboots: waiting for it")
    while (left := until - time.monotonic()) > 0:
        try:
            boot_id = controls.boot_id()
            if boot_id and boot_id != before:
                return boot_id
        except ConnectError:
            if waiter is not None:
                waiter(left, say)
                continue
        except DeviceError:
            pass  # half up, or half down: it answers, but not yet as it should
        time.sleep(min(pace.pause_s, left))
    raise ConnectError(
        f"{controls.name} did not come back within {pace.reboot_s:g} s of its reboot",
        hint="look at the board itself; the journal is kept",
    )
