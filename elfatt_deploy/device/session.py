"""Changing a board for the time of a `with` block, and putting it back whatever happens.

The journal is on the disk before the first change. The board is put back, and read back, at the end
of the block, on an exception, on Ctrl-C and on signals that end the program; after a SIGKILL, a
crash or a reboot by the next session or by `restore`.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device import lock
from elfatt_deploy.device.changing import Changing
from elfatt_deploy.device.control import Consent, Controls, Pace, Say
from elfatt_deploy.device.interrupts import Interrupts
from elfatt_deploy.device.journal import Found, Journal, Phase
from elfatt_deploy.device.readback import BoardState, ReadBack
from elfatt_deploy.device.records import NvpmodelMode, Snapshot
from elfatt_deploy.device.restoring import RestoreReport, Restoring, restore
from elfatt_deploy.errors import DeviceError, PowerModeError
from elfatt_deploy.transport.base import Transport

if TYPE_CHECKING:
    from elfatt_deploy.device.boards import BoardFile

#: arguments of a mode's parameters whose files must read the same again afterwards
_LIMITS = ("MIN_FREQ", "MAX_FREQ", "_PG_MASK")


class BoardSession:
    """One change of one board.

    Args:
        transport: to the board.
        snapshot: of the board.
        board: its board file; unavailable for an unknown board.
        device: its name on the command line.
        journal_folder: where journals lie; None for the default.
        consent: what is allowed besides the change.
        say: called with what is being done, a line each.
        pace: how long is waited for what; None for the defaults.
    """

    def __init__(
        self,
        transport: Transport,
        snapshot: Snapshot,
        board: BoardFile | Unavailable,
        *,
        device: str,
        journal_folder: Path | None = None,
        consent: Consent | None = None,
        say: Say | None = None,
        pace: Pace | None = None,
    ) -> None:
        """Nothing is changed, or even read, before `with`."""
        self._controls = Controls(transport)
        self._board = board
        self._device = device
        self._folder = journal_folder
        self._consent = consent or Consent()
        self._say: Say = say or (lambda text: None)
        self._pace = pace or Pace()
        self._paths = _paths(snapshot)
        self._interrupts = Interrupts()
        self._change: Changing | None = None
        #: what the restore at the end did; None before it
        self.report: RestoreReport | None = None

    def __enter__(self) -> BoardSession:
        """Finish what an earlier run left, take the board, and write down what it is in.

        Raises:
            BusyError: somebody else uses the board.
            DeviceError: it cannot be read, or the journal cannot be written.
        """
        self._interrupts.__enter__()
        # where a signal hits between two statements of `with` itself
        atexit.register(self.close)
        try:
            self._open()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the board back and read it back.

        Raises:
            ConnectError: it cannot be reached; the message has the command that finishes.
            PowerModeError: it does not go back; the message has the command that finishes.
        """
        try:
            self.close()
        except BaseException as failure:
            self._interrupts.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._interrupts.__exit__(kind, error, trace)

    def close(self) -> None:
        """Put the board back; a second call does nothing.

        Raises:
            ConnectError: it cannot be reached; the message has the command that finishes.
            PowerModeError: it does not go back; the message has the command that finishes.
        """
        self._interrupts.hold()
        atexit.unregister(self.close)
        change, self._change = self._change, None
        if change is None or (change.journal.phase is Phase.REBOOTING and change.is_here):
            return  # this very board goes down now: the next run goes on from the journal
        work = Restoring(
            controls=change.controls,
            journal=change.journal,
            folder=change.folder,
            consent=change.consent,
            say=change.say,
            pace=change.pace,
        )
        self.report = work.persist(lambda: bool(self._interrupts.waiting))

    def note_folder(self, path: str) -> None:
        """Write down which temporary folder on the board is ours, so that a restore removes it.

        Raises:
            DeviceError: the journal cannot be written.
        """
        self._opened.note_folder(path)

    @property
    def found(self) -> Found:
        """What the board is put back to."""
        return self._opened.journal.found

    def set_mode(self, mode: NvpmodelMode) -> ReadBack:
        """Set a power mode and read it back.

        Clocks that this session pinned are let go before: pins belong to a mode.

        Raises:
            PowerModeError: the board refuses, does not keep it, may not be told, or would have to
                be rebooted, which was not allowed.
            ConnectError: the board was lost; the session can go on when it answers again.
        """
        return self._opened.set_mode(mode)

    def lock_clocks(self, *, fan: bool = False) -> ReadBack:
        """Pin all clocks to the highest of the mode, and read back that they are.

        Args:
            fan: let the fan run at its fastest, too.

        Raises:
            PowerModeError: the board has no jetson_clocks, may not be told, or its clocks move.
            ConnectError: the board was lost; the session can go on when it answers again.
        """
        return self._opened.lock_clocks(fan=fan)

    def read_back(self) -> ReadBack:
        """Return what the board says that it is in.

        Raises:
            PowerModeError: it names no mode, or was started again since.
            ConnectError: the board was lost.
        """
        return self._opened.read_back()

    @property
    def _opened(self) -> Changing:
        if self._change is None:
            raise ValueError("a BoardSession is used with 'with'")
        return self._change

    def _open(self) -> None:
        left = journals.read(self._device, self._folder)
        if left is not None and left.phase is Phase.REBOOTING and left.owner.alive is False:
            self._adopt(left)
            return
        if left is not None:
            self._say(f"{self._device} was left changed by {left.owner}: putting it back first")
            restore(
                self._controls.transport,
                self._device,
                journal_folder=self._folder,
                consent=self._consent,
                say=self._say,
                pace=self._pace,
            )
        boot_id, token = self._controls.boot_id(), lock.new_token()
        try:
            lock.take(self._controls, token, board_boot_id=boot_id, force=self._consent.break_lock)
            journal = self._new_journal(self._controls.state(self._paths), token)
            journals.create(journal, self._folder)
        except BaseException:
            with contextlib.suppress(DeviceError):
                lock.drop(self._controls, token)
            raise
        self._change = self._changing(journal)

    def _adopt(self, left: Journal) -> None:
        """Go on with a change whose reboot ended the program that asked for it."""
        boot_id, token = self._controls.boot_id(), lock.new_token()
        lock.take(self._controls, token, board_boot_id=boot_id)
        change = self._changing(
            dataclasses.replace(
                left,
                owner=journals.this_process(),
                lock_token=token,
                board_boot_id=boot_id,
                phase=Phase.CHANGED,
                pinned_file=None,
                pinned_mode_id=None,
            )
        )
        journals.write(change.journal, self._folder)
        self._change = change
        self._say(f"going on after the reboot that {left.owner} asked for")

    def _new_journal(self, state: BoardState, token: str) -> Journal:
        if isinstance(state.mode, Unavailable):
            raise PowerModeError(
                f"{self._controls.name} names no power mode, so that there is none to go back to: "
                f"{state.mode.reason}",
                hint="look at 'nvpmodel -q' on the board; nothing was changed",
            )
        return Journal(
            device=self._device,
            board="" if isinstance(self._board, Unavailable) else self._board.name,
            created=units.now(),
            owner=journals.this_process(),
            board_boot_id=state.boot_id,
            found=Found(
                mode_id=state.mode.id,
                mode_name=state.mode.name,
                online=state.online,
                files=state.lasting,
                fan_service=state.fan_service,
            ),
            lock_token=token,
        )

    def _changing(self, journal: Journal) -> Changing:
        return Changing(
            controls=self._controls,
            journal=journal,
            folder=self._folder,
            paths=self._paths,
            consent=self._consent,
            say=self._say,
            pace=self._pace,
        )


def _paths(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the files to watch that the board's own configuration and its clocks name."""
    found: list[str] = []
    if not isinstance(snapshot.nvpmodel, Unavailable):
        for parameter in snapshot.nvpmodel.parameters:
            found += [path for name, path in parameter.paths if name.endswith(_LIMITS)]
    for clock in snapshot.clocks:
        if clock.name == "gpu":
            found += [f"{clock.folder}/{name}_freq" for name in ("min", "max", "cur")]
            found.append(f"{clock.folder}/governor")
    return tuple(dict.fromkeys(found))


__all__ = ["BoardSession", "Consent", "Pace", "ReadBack", "RestoreReport", "restore"]
