"""A simulated board on this machine: made, opened as a transport, told its faults."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from elfatt_deploy.device.sim import faults as fault_names
from elfatt_deploy.device.sim import profile, shell
from elfatt_deploy.device.sim.conf import conf_text, with_wrong_labels
from elfatt_deploy.device.sim.facts import FACTS_FILE, Facts, read_facts, write_facts
from elfatt_deploy.device.sim.host import write_whole
from elfatt_deploy.device.sim.machine import (
    CONF_PATH,
    FAULTS_FILE,
    Machine,
    parse_speed,
)
from elfatt_deploy.device.sim.tree import link_sensors, write_rails, write_tree
from elfatt_deploy.errors import ConnectError, DeviceError, UsageError
from elfatt_deploy.transport.base import CommandResult
from elfatt_deploy.transport.local import Local

PREFIX = "sim:"
#: folder of the simulated boards, in place of one in the folder for temporary files
FOLDER_VARIABLE = "ELFATT_DEPLOY_SIM_FOLDER"
_POLL_S = 0.2


class SimulatedBoard:
    """A simulated board in a folder. What is there already is kept, with its state.

    Args:
        name: of the board: `agx-orin-64gb`.
        folder: where it lies; made if it is missing.
        faults: what it does wrong, beside what `ELFATT_DEPLOY_SIM_FAULTS` asks for; None keeps
            what it was told before.
        seed: of all that is random, for a new board.
        speed: how many times as fast it computes as the rule says; None keeps what it was.

    Raises:
        UnknownNameError: there is no such board or fault.
        UsageError: a speed, or a fault's count, that is none, or the folder holds another board.
        DeviceError: the folder cannot be written.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        faults: Sequence[str] | None = None,
        *,
        seed: int = 0,
        speed: float | None = None,
    ) -> None:
        """Make the board, or take up the one that is there."""
        self.name = name
        self.folder = folder.resolve()
        fault_names.parse_faults(faults or ())
        facts = profile.facts_of(name)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / ".making").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.machine = self._take_up(facts, seed)
                if speed is not None:
                    with self.machine.changing() as state:
                        state.speed = parse_speed(str(speed))
                if faults is not None:
                    self.set_faults(faults)
        except OSError as error:
            raise DeviceError(
                f"cannot make a simulated board in {self.folder}: {error.strerror or error}",
                hint=f"make room, or name another folder in {FOLDER_VARIABLE}",
            ) from error

    @property
    def root(self) -> Path:
        """Folder of the board's files."""
        return self.folder / "root"

    @property
    def login(self) -> Path:
        """Program for the ForceCommand of an SSH server that stands for the board."""
        return self.folder / "login"

    @property
    def environment(self) -> Mapping[str, str]:
        """What the environment of a process on the board has more."""
        return shell.environment(self.folder, os.environ.get("PATH", os.defpath))

    def set_faults(self, faults: Sequence[str]) -> None:
        """Let the board do these things wrong from now on, and nothing else.

        Raises:
            UnknownNameError: there is no such fault.
            UsageError: a count is not a number.
        """
        parsed = fault_names.parse_faults(faults)
        names = {fault.name for fault in parsed}
        write_whole(self.folder / FAULTS_FILE, json.dumps([text.strip() for text in faults]) + "\n")
        with self.machine.changing() as state:
            state.used = {}
        write_rails(self.machine)
        self.machine.write_at_rest()
        self._write_conf(self.machine, wrong_labels="wrong-watt-label" in names)
        path = os.environ.get("PATH", os.defpath)
        shell.write_programs(self.folder, path, trtexec="no-trtexec" not in names)

    def open(self) -> SimulatedTransport:
        """Return a transport to it."""
        return SimulatedTransport(self)

    def _take_up(self, facts: Facts, seed: int) -> Machine:
        """Return the board of the folder; a new one, or one of older facts, is written first."""
        known = (self.folder / FACTS_FILE).exists()
        found = read_facts(self.folder) if known else facts
        if found.board != self.name:
            raise UsageError(
                f"{self.folder} holds the simulated board {found.board}",
                hint=f"name another folder in {FOLDER_VARIABLE}, or remove this one",
            )
        if not known or found != facts:
            write_facts(self.folder, facts)
        machine = Machine(self.folder)
        if not known:
            with machine.changing() as state:
                state.seed = seed
        if not known or found != facts:
            write_tree(machine)
            link_sensors(machine, profile.sensor_links(self.name))
            self._write_conf(machine, wrong_labels=False)
            machine.start_in(machine.state().mode if known else machine.conf().default)
        no_trtexec = machine.fault("no-trtexec") is not None
        shell.write_programs(
            self.folder, os.environ.get("PATH", os.defpath), trtexec=not no_trtexec
        )
        return machine

    def _write_conf(self, machine: Machine, *, wrong_labels: bool) -> None:
        modes, default = profile.modes_of(self.name, machine.facts)
        modes = with_wrong_labels(modes) if wrong_labels else modes
        machine.write(CONF_PATH, conf_text(machine.facts, modes, default).rstrip("\n"))


class SimulatedTransport(Local):
    """Commands on a simulated board; while it reboots nothing can be reached.

    Args:
        board: the board.
    """

    def __init__(self, board: SimulatedBoard) -> None:
        """Keep the board; nothing is started."""
        super().__init__(board.environment, f"{PREFIX}{board.name}")
        self.board = board

    def __enter__(self) -> SimulatedTransport:
        """There is nothing to connect to."""
        return self

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command to its end; see `Transport.run`.

        Raises:
            CommandError: there is no such program, or it may not be run.
            CommandTimeout: it did not end in time.
            ConnectError: the board reboots, or did so meanwhile.
        """
        boots = self._boots()
        result = super().run(command, timeout_s=timeout_s, input=input, on_line=on_line)
        if result.status != 0 and self.board.machine.state().boots != boots:
            raise ConnectError(
                f"{self.name} rebooted while it ran {command[0]}", hint="try again when it is back"
            )
        return result

    def push(self, local: Path, remote: str) -> None:
        """Copy a file to the board.

        Raises:
            ConnectError: the board reboots.
            DeviceError: it cannot be read or written, or has no room (the fault `disk-full`).
        """
        self._boots()
        room = self.board.machine.room_bytes()
        if room is not None and local.is_file() and local.stat().st_size > room:
            raise DeviceError(
                f"cannot copy {local} to {remote}: No space left on device",
                hint="check that the file is there, and that there is room and permission to write",
            )
        super().push(local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from the board.

        Raises:
            ConnectError: the board reboots.
            DeviceError: it cannot be read or written.
        """
        self._boots()
        super().pull(remote, local)

    def read_text(self, remote: str) -> str:
        """Return the text of a file on the board, by its whole path on this machine.

        Raises:
            ConnectError: the board reboots.
            DeviceError: it cannot be read.
        """
        self._boots()
        return super().read_text(remote)

    @contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give a new folder in the board's `/tmp`, and remove it at the end.

        Raises:
            ConnectError: the board reboots.
            DeviceError: it cannot be made.
        """
        self._boots()
        try:
            folder = tempfile.mkdtemp(prefix="elfatt-deploy-", dir=self.board.root / "tmp")
        except OSError as error:
            raise DeviceError(
                f"cannot make a temporary folder on {self.name}: {error.strerror}"
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def boot_id(self) -> str:
        """Return a text that is another one after each start of the board.

        Raises:
            ConnectError: the board reboots.
        """
        self._boots()
        return self.board.machine.read("/proc/sys/kernel/random/boot_id")

    def wait_until_back(
        self,
        timeout_s: float,
        progress: Callable[[str], None] | None = None,
        *,
        boot_id: str = "",
    ) -> None:
        """Wait until the board is there again; see `Ssh.wait_until_back`.

        Args:
            timeout_s: when to give up.
            progress: called with a line when the waiting begins.
            boot_id: what `boot_id()` gave before the restart.

        Raises:
            ConnectError: it did not come back in time.
        """
        machine, deadline = self.board.machine, time.monotonic() + timeout_s
        if progress is not None and machine.is_down():
            progress(f"waiting for {self.name}")
        while machine.is_down() or (boot_id and self.boot_id() == boot_id):
            if time.monotonic() > deadline:
                raise ConnectError(f"{self.name} did not come back within {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _boots(self) -> int:
        """Return how often the board has started.

        Raises:
            ConnectError: it is starting now.
        """
        machine = self.board.machine
        if machine.is_down():
            left = max(0.0, machine.down_until() - time.time())
            raise ConnectError(
                f"{self.name} reboots, and will be back in {left:.0f} s",
                hint="try again when it is back",
            )
        return machine.state().boots


def open_simulated(device: str) -> SimulatedTransport:
    """Open `sim:BOARD`; the board is made where there is none yet.

    It lies in the folder of `ELFATT_DEPLOY_SIM_FOLDER`, else in one of this user's among the
    temporary files, and stays there with its state.

    Raises:
        UsageError: the text does not begin with `sim:`.
        UnknownNameError: there is no such board.
        DeviceError: its folder cannot be written.
    """
    if not device.startswith(PREFIX):
        raise UsageError(f"'{device}' is no simulated board", hint="write sim:agx-orin-64gb")
    name = device.removeprefix(PREFIX)
    folder = os.environ.get(FOLDER_VARIABLE)
    return SimulatedBoard(name, (Path(folder) if folder else _own_folder()) / name).open()


def _own_folder() -> Path:
    """Return this user's folder among the temporary files, which all users can write.

    Raises:
        DeviceError: it cannot be made, or somebody else made it.
    """
    path = Path(tempfile.gettempdir()) / f"elfatt-deploy-sim-{os.getuid()}"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        ours = path.lstat().st_uid == os.getuid() and not path.is_symlink()
    except OSError as error:
        raise DeviceError(
            f"cannot make {path}: {error.strerror or error}",
            hint=f"name a folder of yours in {FOLDER_VARIABLE}",
        ) from error
    if not ours:
        raise DeviceError(
            f"{path} belongs to somebody else", hint=f"name a folder of yours in {FOLDER_VARIABLE}"
        )
    return path
