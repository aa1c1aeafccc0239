"""Putting a board back to what its journal says, and proving that it is.

Every step may be repeated: what is done already is done again, or found done. The journal is
removed only after mode, cores, clock limits, governors and fan read as they were found.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable
from pathlib import Path

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device import lock
from elfatt_deploy.device.control import Consent, Controls, Pace, Say, rights_hint, wait_until_back
from elfatt_deploy.device.interrupts import Interrupts
from elfatt_deploy.device.journal import Found, Journal, Phase
from elfatt_deploy.device.readback import BoardState
from elfatt_deploy.errors import (
    BusyError,
    CommandError,
    ConnectError,
    DeviceError,
    PowerModeError,
)
from elfatt_deploy.transport.base import Transport

#: readings after a change settle: a core or the GPU takes its time to come up
SETTLE_READS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What became of a restore.

    Args:
        device: as it was named.
        restored: whether there was something to put back; it is put back and read back then.
        mode: the power mode that the board is in; empty where nothing was asked.
        steps: what was done, in words.
        rebooted: whether the board was rebooted.
    """

    device: str
    restored: bool
    mode: str = ""
    steps: tuple[str, ...] = ()
    rebooted: bool = False


def restore(
    transport: Transport,
    device: str,
    *,
    journal_folder: Path | None = None,
    consent: Consent | None = None,
    say: Say | None = None,
    pace: Pace | None = None,
) -> RestoreReport:
    """Finish what a run began that was killed, or that lost its board.

    Args:
        transport: to the board.
        device: its name on the command line, by which its journal is found.
        journal_folder: where journals lie; None for the default.
        consent: what is allowed besides.
        say: called with what is being done.
        pace: how long is waited for what; None for the defaults.

    Raises:
        BusyError: the run that changed it still goes on, or somebody else uses the board.
        ConnectError: it cannot be reached.
        PowerModeError: it does not go back; the journal is kept.
        SchemaError: its journal cannot be read.
    """
    consent, say, pace = consent or Consent(), say or _silent, pace or Pace()
    journal = journals.read(device, journal_folder)
    if journal is None:
        return RestoreReport(device=device, restored=False)
    _check_owner(journal, consent)
    token = lock.new_token()
    work = Restoring(
        controls=Controls(transport),
        journal=dataclasses.replace(journal, owner=journals.this_process(), lock_token=token),
        folder=journal_folder,
        consent=consent,
        say=say,
        pace=pace,
    )
    with Interrupts() as interrupts:
        interrupts.hold()
        return work.persist(lambda: bool(interrupts.waiting))


def command_for(device: str, *, reboot: bool = False) -> str:
    """Return the exact command that finishes the restore of a device."""
    return f"elfatt-deploy restore --device {shlex.quote(device)}" + (
        " --allow-reboot" if reboot else ""
    )


def differences(found: Found, state: BoardState) -> tuple[str, ...]:
    """Return in what a board differs from how it was found, a text each."""
    texts = []
    if isinstance(state.mode, Unavailable):
        texts.append(f"power mode: {state.mode.reason}, was {found.mode_id} {found.mode_name}")
    elif state.mode.id != found.mode_id:
        texts.append(
            f"power mode: {state.mode.id} {state.mode.name}, was {found.mode_id} {found.mode_name}"
        )
    if state.online != found.online:
        texts.append(f"cores online: {state.online}, was {found.online}")
    files = dict(state.files)
    for path, value in found.files:
        now = files.get(path)
        if now != value:
            texts.append(f"{path}: {'absent' if now is None else now}, was {value}")
    if state.fan_service != found.fan_service:
        texts.append(f"nvfancontrol: {state.fan_service}, was {found.fan_service}")
    return tuple(texts)


def _silent(text: str) -> None:
    """Say nothing."""


def _check_owner(journal: Journal, consent: Consent) -> None:
    """Refuse a journal whose run may still go on."""
    alive = journal.owner.alive
    if alive is True:
        raise BusyError(
            f"{journal.device} is in use by {journal.owner}, since {journal.created}",
            hint="wait until it is done, or end that process: it puts the board back",
        )
    if isinstance(alive, Unavailable) and not consent.break_lock:
        raise BusyError(
            f"{journal.device} was changed by {journal.owner}, since {journal.created}; whether "
            "that still runs cannot be seen from here",
            hint=f"look there; if it is gone: {command_for(journal.device)} --break-lock",
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class Restoring:
    """The way back of one board.

    Args:
        controls: of the board.
        journal: what to go back to; replaced as the restore goes on.
        folder: where journals lie.
        consent: what is allowed.
        say: called with what is being done.
        pace: how long is waited for what.
    """

    controls: Controls
    journal: Journal
    folder: Path | None
    consent: Consent
    say: Say
    pace: Pace

    def persist(self, stop: Callable[[], bool]) -> RestoreReport:
        """Put the board back; where the connection is lost try again, for a bounded time.

        Args:
            stop: says whether to try no more.

        Raises:
            ConnectError: it stays away; the message has the command that finishes.
            PowerModeError: it does not go back; the message has the command that finishes.
        """
        until = time.monotonic() + self.pace.patience_s
        while True:
            try:
                return self.put_back()
            except (ConnectError, CommandError) as error:
                if time.monotonic() + self.pace.pause_s > until or stop():
                    self._give_up()
                    raise ConnectError(
                        f"{self.journal.device} is not put back: {error.message}. It was found in "
                        f"{self._shown}; the journal is kept",
                        hint=f"when it can be reached, run: {command_for(self.journal.device)}",
                    ) from error
                self.say(f"{error.message}; trying again to put {self.journal.device} back")
            except DeviceError as error:
                self._give_up()
                command = command_for(self.journal.device)
                if command not in error.hint:
                    error.hint = f"{error.hint}; then: {command}" if error.hint else command
                raise
            time.sleep(self.pace.pause_s)

    def put_back(self) -> RestoreReport:
        """Put the board back, once.

        Raises:
            DeviceError: it did not work; the journal is kept.
        """
        found, paths = self.journal.found, [path for path, _ in self.journal.found.files]
        boot_id = self.controls.boot_id()
        lock.take(
            self.controls,
            self.journal.lock_token,
            board_boot_id=boot_id,
            force=self.consent.break_lock,
        )
        state = self.controls.state(paths)
        steps: list[str] = []
        rebooted = False
        if self.journal.phase is not Phase.PREPARED or differences(found, state):
            self._note(Phase.RESTORING)
            steps += self._unpin(state)
            if isinstance(state.mode, Unavailable) or state.mode.id != found.mode_id:
                rebooted = self._mode_back()
                steps.append(f"power mode {self._shown}" + (", by a reboot" if rebooted else ""))
            steps += self._clocks_back()
        self._verify(paths)
        self._forget()
        return RestoreReport(
            device=self.journal.device,
            restored=True,
            mode=self._shown,
            steps=tuple(steps) or ("nothing had been changed",),
            rebooted=rebooted,
        )

    @property
    def _shown(self) -> str:
        return f"{self.journal.found.mode_id} {self.journal.found.mode_name}"

    def _note(self, phase: Phase) -> None:
        """Write the phase down where that can be done: a full disk here must not stop a restore."""
        self.journal = dataclasses.replace(self.journal, phase=phase)
        with contextlib.suppress(DeviceError):
            journals.write(self.journal, self.folder)

    def _give_up(self) -> None:
        """Leave the journal to whoever comes next, this process included."""
        lock.abandon(self.journal.lock_token)
        self.journal = dataclasses.replace(self.journal, owner=self.journal.owner.ended())
        with contextlib.suppress(DeviceError):
            journals.write(self.journal, self.folder)

    def _unpin(self, state: BoardState) -> list[str]:
        """Let the clocks of the mode in use go, if they are pinned since this start."""
        path = self.journal.pinned_file
        mode_id = None if isinstance(state.mode, Unavailable) else state.mode.id
        same_start = state.boot_id == self.journal.board_boot_id
        if path is None or not same_start or mode_id != self.journal.pinned_mode_id:
            return []
        self.say("letting the clocks go")
        self.controls.unpin_clocks(path)
        return ["clocks of the mode in use let go"]

    def _mode_back(self) -> bool:
        """Set the mode that was found; return whether that took a reboot."""
        found = self.journal.found
        self.say(f"going back to power mode {self._shown}")
        answer = self.controls.set_mode(found.mode_id)
        if answer.lacks_rights:
            raise PowerModeError(
                f"{self.journal.device} does not go back to mode {self._shown}: {answer.complaint}",
                hint=f"{rights_hint(self.controls.name)}; then: {command_for(self.journal.device)}",
                asked=self._shown,
            )
        state = self.controls.state()
        if not isinstance(state.mode, Unavailable) and state.mode.id == found.mode_id:
            return False
        read_back = "" if isinstance(state.mode, Unavailable) else state.mode.name
        self.controls.set_pending(found.mode_id)
        if not self.consent.reboot:
            raise PowerModeError(
                f"{self.journal.device} is in mode {read_back or 'unknown'} and goes back to "
                f"{self._shown} only with a reboot ({answer.complaint}). Its next start is set to "
                "that mode; the journal is kept",
                hint=f"reboot it when it suits you and run {command_for(self.journal.device)}, or "
                f"let it reboot now: {command_for(self.journal.device, reboot=True)}",
                asked=self._shown,
                read_back=read_back,
            )
        self._reboot(state)
        return True

    def _reboot(self, state: BoardState) -> None:
        if state.boot_id and state.boot_id == journals.host_boot_id():
            self.controls.reboot()
            raise PowerModeError(
                f"this board reboots now, to go back to mode {self._shown}; the journal is kept",
                hint=f"when it is up again: {command_for(self.journal.device)}",
                asked=self._shown,
            )
        self.controls.reboot()
        boot_id = wait_until_back(self.controls, state.boot_id, pace=self.pace, say=self.say)
        lock.take(self.controls, self.journal.lock_token, board_boot_id=boot_id)

    def _clocks_back(self) -> list[str]:
        path = self.journal.found.clocks_file
        if path is None or not self.controls.has(path):
            return []
        self.say("putting the clocks back")
        self.controls.unpin_clocks(path)
        return ["clocks and fan"]

    def _verify(self, paths: list[str]) -> None:
        """Read the board back until it is as it was found.

        Raises:
            PowerModeError: it does not become so.
        """
        found = self.journal.found
        left: tuple[str, ...] = ()
        for attempt in range(SETTLE_READS):
            time.sleep(self.pace.settle_s if attempt else 0)
            state = self.controls.state(paths)
            left = differences(found, state)
            if not left:
                return
        shown = "; ".join(left[:4]) + (f"; and {len(left) - 4} more" if len(left) > 4 else "")
        raise PowerModeError(
            f"{self.journal.device} is not as it was found: {shown}. The journal is kept",
            hint=f"try again: {command_for(self.journal.device)}. A reboot puts clocks back too",
            asked=self._shown,
            read_back="" if isinstance(state.mode, Unavailable) else state.mode.name,
        )

    def _forget(self) -> None:
        """Take away what the change left: stored clocks, our folder, lock, journal."""
        paths = (self.journal.pinned_file, self.journal.found.clocks_file)
        self.controls.forget(*(path for path in paths if path))
        if self.journal.work_folder:
            self.controls.remove_folder(self.journal.work_folder)
        lock.drop(self.controls, self.journal.lock_token)
        journals.remove(self.journal.device, self.folder)
