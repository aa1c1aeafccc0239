"""One connection of the system's OpenSSH client that all commands to a machine share.

The first command connects; a master process of ssh then holds the connection, and each command is
a session in it. It connects in batch mode: nothing is ever asked for. The user's configuration and
known hosts count, and host keys are checked as they say. A dead link is noticed within 15 seconds.
If we are killed, the master ends by itself two minutes after its last session.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from elfatt_deploy.errors import ConnectError, DeviceError, MissingDependency
from elfatt_deploy.transport.ssh_target import SshTarget, connect_error

#: until there is a connection with keys exchanged
_CONNECT_S = 10
#: a link that is silent for three times so long is dead
_ALIVE_S = 5
#: the whole of connecting, say through a jump host
_ALL_S = 45
#: how long the master lives on without a session
_PERSIST_S = 120
#: a socket's path may have 107 bytes, and ssh adds 17 while it makes one
_LONGEST_FOLDER = 70

_SHARED = ("BatchMode=yes", "LogLevel=ERROR", "RemoteCommand=none", "RequestTTY=no")
_MASTER = (
    "ControlMaster=yes",
    f"ControlPersist={_PERSIST_S}",
    "ConnectionAttempts=1",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "ServerAliveCountMax=3",
    "TCPKeepAlive=yes",
)
# Where the master is gone, a session must not connect by itself and beside all checks.
_SESSION = ("ControlMaster=no", "ProxyCommand=false")


class Connection:
    """The shared connection to a machine; any number of threads may use it.

    Args:
        target: the machine.
        config: in place of the user's ssh configuration.
    """

    def __init__(self, target: SshTarget, config: Path | None) -> None:
        """Nothing is started."""
        self.target = target
        #: whether the last failure to connect may be gone by itself
        self.may_pass = True
        self._config = config
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._count = 0

    def ensure(self, connected: Callable[[], None]) -> None:
        """Connect if there is no connection, or if it was lost.

        Args:
            connected: called after each new connection.

        Raises:
            ConnectError: it cannot be reached, is not known, has changed or refuses us.
            MissingDependency: there is no ssh on this machine.
            DeviceError: there is no room for the connection's socket.
        """
        with self._lock:
            if self.stands():
                return
            self._connect()
        connected()

    def stands(self) -> bool:
        """Whether the master is there; a link that is dead unnoticed counts as standing."""
        return self._folder is not None and self._control("check") == 0

    def close(self) -> None:
        """End the master and every session in it, and remove its socket."""
        with self._lock:
            self._drop()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    def drop(self) -> None:
        """End the master, so that the next command connects anew."""
        with self._lock:
            self._drop()

    def session(self, line: str) -> tuple[str, ...]:
        """Return the command that gives `line` to the shell there."""
        return (*self._ssh(_SESSION), "-T", *self.target.options, line)

    def _connect(self) -> None:
        if shutil.which("ssh") is None:
            raise MissingDependency(
                f"no 'ssh' on this machine, and {self.target.name} is reached with it",
                hint="install OpenSSH's client: sudo apt-get install openssh-client",
            )
        if self._folder is None:
            self._folder = _private_folder()
        self._drop()
        self._count += 1  # a master that is still dying keeps the old socket
        said = self._folder / "said"
        limits = (f"ConnectTimeout={_CONNECT_S}", f"ServerAliveInterval={_ALIVE_S}")
        command = (*self._ssh((*_MASTER, *limits)), "-N", *self.target.options)
        # a file, no pipe: a jump host's process would hold a pipe open as long as it lives
        with said.open("w", encoding="utf-8") as stderr:
            try:
                status = _run(command, _ALL_S, stderr)
            except subprocess.TimeoutExpired:
                status = 255
                stderr.write(f"timed out after {_ALL_S} s\n")
        if status != 0 or not self.stands():
            text = said.read_text(encoding="utf-8", errors="replace")
            error, self.may_pass = connect_error(self.target, text or "Connection closed at once")
            raise error

    def _drop(self) -> None:
        if self._folder is not None and self._count:
            self._control("exit")

    def _control(self, what: str) -> int:
        try:
            return _run((*self._ssh(()), "-O", what, *self.target.options), _ALL_S)
        except subprocess.TimeoutExpired:
            return 255

    def _ssh(self, options: tuple[str, ...]) -> tuple[str, ...]:
        config = () if self._config is None else ("-F", str(self._config))
        pairs = (*_SHARED, f"ControlPath={self._folder}/{self._count}", *options)
        return ("ssh", *config, *(word for pair in pairs for word in ("-o", pair)))


def environment() -> Mapping[str, str]:
    """Return the variables that ssh gets: ours, but no locale that it would take to the board."""
    kept = {k: v for k, v in os.environ.items() if k != "LANG" and not k.startswith("LC_")}
    return {**kept, "LC_ALL": "C"}


def lost(name: str, command: str, said: str, *, stands: bool) -> ConnectError:
    """Return the error for a command whose end was not seen.

    Args:
        name: the machine.
        command: as typed.
        said: what ssh wrote to stderr.
        stands: whether the connection is still there.
    """
    # a session that the master does not take goes on to what _SESSION forbids, and says so last
    lines = [line for line in said.splitlines() if line and not line.startswith("kex_exchange")]
    last = (lines or ["no word"])[-1]
    if "refused by peer" in last:
        return ConnectError(
            f"{name} takes no further session over this connection for {command} (ssh: {last})",
            hint="run less at once, or raise MaxSessions in its sshd_config",
        )
    what = f"the shell on {name} was ended" if stands else f"the connection to {name} was lost"
    return ConnectError(
        f"{what} while it ran {command} (ssh: {last})",
        hint="run the same again when the machine is back: it connects anew",
    )


def _run(command: tuple[str, ...], timeout_s: float, stderr: IO[str] | None = None) -> int:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if stderr is None else stderr,
        env=dict(environment()),
        timeout=timeout_s,
        check=False,
        start_new_session=True,  # Ctrl-C in the terminal is ours, not the master's
    ).returncode


def _private_folder() -> Path:
    """Return a new folder for the socket: only ours, and with a short path.

    Raises:
        DeviceError: there is no room for one.
    """
    run = os.environ.get("XDG_RUNTIME_DIR", "")
    said = "no folder with a short path"
    for parent in (run, tempfile.gettempdir(), "/tmp"):
        if not parent or len(parent) > _LONGEST_FOLDER:
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="elfatt-", dir=parent))
        except OSError as error:
            said = f"{parent}: {error.strerror}"
    raise DeviceError(
        f"cannot make a folder for the connection's socket: {said}",
        hint="make room in /tmp, or name a folder with room in TMPDIR",
    )
