"""The changes themselves, a power mode and pinned clocks: journaled before, read back after.

Nothing here puts a board back: that is `restoring.py`, from the journal that is kept here.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from pathlib import Path

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device import lock
from elfatt_deploy.device.control import (
    Answer,
    Consent,
    Controls,
    Pace,
    Say,
    rights_hint,
    wait_until_back,
)
from elfatt_deploy.device.journal import Journal, Phase
from elfatt_deploy.device.readback import BoardState, ReadBack, beyond, unpinned
from elfatt_deploy.device.records import NvpmodelMode
from elfatt_deploy.device.restoring import SETTLE_READS, command_for
from elfatt_deploy.errors import ConnectError, PowerModeError

#: where stored clocks lie on the board: it survives a reboot, unlike /tmp
_STORE_FOLDER = "/var/tmp/elfatt-deploy"
#: the service that sets the mode at the start may come late
_READS_AFTER_REBOOT = 60


@dataclasses.dataclass(slots=True, kw_only=True)
class Changing:
    """A board that is being changed.

    Args:
        controls: of the board.
        journal: what was found, and how far the change has come; replaced as it goes on.
        folder: where journals lie; None for the default.
        paths: files to watch besides those of the clocks.
        consent: what is allowed.
        say: called with what is being done.
        pace: how long is waited for what.
    """

    controls: Controls
    journal: Journal
    folder: Path | None
    paths: tuple[str, ...]
    consent: Consent
    say: Say
    pace: Pace

    @property
    def is_here(self) -> bool:
        """Whether the board is the machine that this program runs on."""
        boot_id = self.journal.board_boot_id
        return bool(boot_id) and boot_id == journals.host_boot_id()

    def set_mode(self, mode: NvpmodelMode) -> ReadBack:
        """Set a power mode and read it back.

        Clocks that were pinned here are let go before: pins belong to a mode.

        Raises:
            PowerModeError: the board refuses, does not keep it, may not be told, or would have to
                be rebooted, which was not allowed.
            ConnectError: the board was lost; the session can go on when it answers again.
        """
        asked = f"{mode.id} {mode.name}"
        state = self._state()
        now = state.mode
        if not isinstance(now, Unavailable) and now.id == mode.id and not beyond(state, mode):
            return ReadBack(mode=now, clocks=state.clocks, cores=state.cores)
        self._prepare()
        self._let_go()
        self._note(phase=Phase.CHANGING, intended=f"power mode {asked}")
        self.say(f"setting power mode {asked}")
        answer = self.controls.set_mode(mode.id)
        if answer.wants_reboot:
            self._reboot_into(mode, answer)
        elif answer.lacks_rights:
            raise self._no_rights(f"setting power mode {asked}", answer)
        read_back = self._kept(mode, answer)
        self._note(phase=Phase.CHANGED)
        return read_back

    def lock_clocks(self, *, fan: bool = False) -> ReadBack:
        """Pin all clocks to the highest of the mode, and read back that they are.

        Args:
            fan: let the fan run at its fastest, too.

        Raises:
            PowerModeError: the board has no jetson_clocks, may not be told, or its clocks move.
        """
        state = self._state()
        self._prepare()
        self._let_go()
        if self.journal.found.clocks_file is None:
            raise PowerModeError(
                f"{self.controls.name} has no jetson_clocks, which pins clocks",
                hint="measure without pinned clocks, or install nvidia-l4t-core on the board",
            )
        mode_id = None if isinstance(state.mode, Unavailable) else state.mode.id
        path = _new_file()
        self._note(
            phase=Phase.CHANGING,
            intended="clocks pinned" + (", fan at its fastest" if fan else ""),
            pinned_file=path,
            pinned_mode_id=mode_id,
        )
        self.say("pinning the clocks")
        self._store(path)
        answer = self.controls.pin_clocks(fan=fan)
        if answer.lacks_rights:
            raise self._no_rights("pinning the clocks", answer)
        moving = unpinned(self._state())
        if moving:
            raise PowerModeError(
                f"jetson_clocks did not pin the clocks of {self.controls.name}: "
                f"{'; '.join(moving[:4])}" + (f" ({answer.complaint})" if answer.said else ""),
                hint="try 'sudo jetson_clocks' on the board by hand",
            )
        self._note(phase=Phase.CHANGED)
        return self.read_back()

    def read_back(self) -> ReadBack:
        """Return what the board says that it is in.

        Raises:
            PowerModeError: it names no mode, or was rebooted since.
        """
        state = self._state()
        if isinstance(state.mode, Unavailable):
            raise PowerModeError(f"{self.controls.name} names no power mode: {state.mode.reason}")
        return ReadBack(mode=state.mode, clocks=state.clocks, cores=state.cores)

    def note_folder(self, path: str) -> None:
        """Write down which temporary folder on the board is ours.

        Raises:
            DeviceError: the journal cannot be written.
        """
        self._note(work_folder=path)

    def _note(self, **changes: object) -> None:
        """Change the journal, and wait until that is on the disk."""
        self.journal = dataclasses.replace(self.journal, **changes)  # type: ignore[arg-type]
        journals.write(self.journal, self.folder)

    def _state(self) -> BoardState:
        """Read the board; refuse one that was started again behind our back.

        Raises:
            ConnectError: it was.
        """
        state = self.controls.state(self.paths)
        before = self.journal.board_boot_id
        if state.boot_id and state.boot_id != before:
            self._note(
                board_boot_id=state.boot_id,
                phase=Phase.CHANGED,
                pinned_file=None,
                pinned_mode_id=None,
            )
            lock.take(self.controls, self.journal.lock_token, board_boot_id=state.boot_id)
            raise ConnectError(
                f"{self.controls.name} was started again meanwhile: pinned clocks are lost, and "
                "what ran there is gone",
                hint="look for the reason (power supply, over-current, a watchdog), and go on with "
                "the same command",
            )
        return state

    def _prepare(self) -> None:
        """Have the clocks stored as they were found, before the first change."""
        journal = self.journal
        if journal.found.clocks_file is not None or journal.phase is not Phase.PREPARED:
            return
        path = _new_file()
        self._note(found=dataclasses.replace(journal.found, clocks_file=path))
        answer, stored = self.controls.store_clocks(path)
        if not stored and not answer.missing:
            raise self._not_stored(answer)
        if not stored:
            self._note(found=journal.found)

    def _store(self, path: str) -> None:
        answer, stored = self.controls.store_clocks(path)
        if not stored:
            raise self._not_stored(answer)

    def _not_stored(self, answer: Answer) -> PowerModeError:
        if answer.lacks_rights:
            return self._no_rights("storing the clocks", answer)
        return PowerModeError(
            f"jetson_clocks did not store the clocks of {self.controls.name}: {answer.complaint}",
            hint=f"look at the room under {_STORE_FOLDER} on the board",
        )

    def _kept(self, mode: NvpmodelMode, answer: Answer) -> ReadBack:
        """Read a new mode back until the board is in it and does what it says.

        Raises:
            PowerModeError: it does not come to that.
        """
        asked = f"{mode.id} {mode.name}"
        reads = _READS_AFTER_REBOOT if answer.wants_reboot else SETTLE_READS
        for attempt in range(reads):
            time.sleep(self.pace.settle_s if attempt else 0)
            state = self._state()
            now = state.mode
            wrong: tuple[str, ...] = ()
            if isinstance(now, Unavailable) or now.id != mode.id:
                continue
            wrong = beyond(state, mode)
            if not wrong:
                return ReadBack(mode=now, clocks=state.clocks, cores=state.cores)
        shown = now.reason if isinstance(now, Unavailable) else f"{now.id} {now.name}"
        raise PowerModeError(
            f"{self.controls.name} was told to take power mode {asked} and says that it is in "
            f"{shown}" + (f", where {'; '.join(wrong)}" if wrong else f" ({answer.complaint})"),
            hint="look at 'nvpmodel -q' and at /etc/nvpmodel.conf on the board",
            asked=asked,
            read_back="" if isinstance(now, Unavailable) else now.name,
        )

    def _let_go(self) -> None:
        """Unpin what this session pinned."""
        path = self.journal.pinned_file
        if path is not None:
            self.say("letting the clocks go")
            self.controls.unpin_clocks(path)
            self.controls.forget(path)
            self._note(pinned_file=None, pinned_mode_id=None)

    def _reboot_into(self, mode: NvpmodelMode, answer: Answer) -> None:
        asked = f"{mode.id} {mode.name}"
        if not self.consent.reboot:
            raise PowerModeError(
                f"{self.controls.name} takes mode {asked} only with a reboot "
                f"({answer.complaint}); the mode is as it was",
                hint="add --allow-reboot to let it reboot, also on the way back",
                asked=asked,
            )
        boot_id = self.journal.board_boot_id
        self._note(phase=Phase.REBOOTING)
        self.controls.set_pending(mode.id)
        self.controls.reboot()
        if self.is_here:
            raise PowerModeError(
                f"this board reboots now, into mode {asked}",
                hint="when it is up again, give the same command: it goes on from there; "
                f"to put the board back instead: {command_for(self.journal.device)}",
                asked=asked,
            )
        boot_id = wait_until_back(self.controls, boot_id, pace=self.pace, say=self.say)
        self._note(
            phase=Phase.CHANGED, board_boot_id=boot_id, pinned_file=None, pinned_mode_id=None
        )
        lock.take(self.controls, self.journal.lock_token, board_boot_id=boot_id)

    def _no_rights(self, what: str, answer: Answer) -> PowerModeError:
        return PowerModeError(
            f"{what} needs root rights on {self.controls.name}: {answer.complaint}",
            hint=rights_hint(self.controls.name),
            asked=what,
        )


def _new_file() -> str:
    return f"{_STORE_FOLDER}/clocks-{secrets.token_hex(6)}.conf"
