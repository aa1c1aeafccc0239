"""Commands and files on a machine that is reached over SSH, with nothing of ours installed there.

Needed on the other side: a POSIX shell and its usual programs, and sha256sum to copy files.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from elfatt_deploy.errors import CommandError, CommandTimeout, ConnectError, DeviceError
from elfatt_deploy.transport import ssh_files
from elfatt_deploy.transport.base import CommandResult, shown
from elfatt_deploy.transport.process import Deadline, Process
from elfatt_deploy.transport.ssh_connection import Connection, environment, lost
from elfatt_deploy.transport.ssh_shell import END_GROUP, Orphan, RemoteCommand
from elfatt_deploy.transport.ssh_target import SshTarget

#: to end a command on the other side, at most
_END_S = 10.0
#: between two tries to reach a machine that restarts
_RETRY_S = 1.0
_BOOT_ID = 'cat "${ELFATT_DEPLOY_ROOT:-}/proc/sys/kernel/random/boot_id"'
_MAKE_FOLDER = 'mktemp -d "${TMPDIR:-/tmp}/elfatt-deploy-XXXXXX"'


class Ssh:
    """A machine behind SSH; see `ssh_connection` for how it connects and what it trusts.

    A connection that is lost while a command runs is a ConnectError; the next call connects anew.
    Commands end with their connection: what was cut off is ended there at the latest when the next
    connection stands. Several threads may call at once; they share one connection.

    Args:
        target: the machine.
        config: in place of the user's ssh configuration.
    """

    def __init__(self, target: SshTarget, *, config: Path | None = None) -> None:
        """Keep where to connect; nothing is started."""
        self.name = target.name
        self._connection = Connection(target, config)
        self._orphans: list[Orphan] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Ssh:
        """Connect.

        Raises:
            ConnectError: it cannot be reached, is not known, has changed or refuses us.
            MissingDependency: there is no ssh on this machine.
        """
        try:
            self._connect()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect; what still runs in the connection ends."""
        self._connection.close()

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
            ConnectError: there is no connection, or it was lost before the command's end.
        """
        chunks = None if input is None else (input.encode("utf-8", errors="replace"),)
        return self._run(command, Deadline(timeout_s), chunks, on_line=on_line)

    def exchange(
        self,
        command: Sequence[str],
        *,
        chunks: Iterable[bytes] | None = None,
        sink: Callable[[bytes], object] | None = None,
    ) -> CommandResult:
        """Run a command whose input or output are bytes, with no limit in time.

        Args:
            command: the program and its arguments.
            chunks: for its standard input; None for an empty one.
            sink: gets its standard output, which the result lacks then.

        Raises:
            CommandError: there is no such program, or it may not be run.
            ConnectError: there is no connection, or it was lost before the command's end.
        """
        return self._run(command, Deadline(None), chunks, sink=sink)

    def push(self, local: Path, remote: str) -> None:
        """Copy a file from here to there; see `ssh_files.push`.

        Raises:
            DeviceError: it cannot be read here or written there.
            ConnectError: the connection was lost; the next try goes on where this one ended.
        """
        ssh_files.push(self, local, remote)

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file from there to here; see `ssh_files.pull`.

        Raises:
            DeviceError: it cannot be read there or written here.
            ConnectError: the connection was lost; the next try goes on where this one ended.
        """
        ssh_files.pull(self, remote, local)

    def read_text(self, remote: str) -> str:
        """Return the text of a file there.

        Raises:
            DeviceError: it cannot be read.
            ConnectError: there is no connection, or it was lost.
        """
        done = self.run(("cat", "--", remote))
        if done.status != 0:
            raise DeviceError(f"cannot read {remote} on {self.name}: {ssh_files.reason(done)}")
        return done.stdout

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give a new folder where TMPDIR says there, and remove it at the end if it can be reached.

        Raises:
            DeviceError: it cannot be made.
            ConnectError: there is no connection, or it was lost.
        """
        done = self.run(("sh", "-c", _MAKE_FOLDER))
        if done.status != 0:
            raise DeviceError(
                f"cannot make a temporary folder on {self.name}: {ssh_files.reason(done)}",
                hint=f"make room there: ssh {self._connection.target.typed} df -h /tmp",
            )
        folder = done.stdout.strip()
        try:
            yield folder
        finally:
            with contextlib.suppress(DeviceError):  # a lost machine keeps it until it restarts
                self.run(("rm", "-rf", "--", folder), timeout_s=60)

    def boot_id(self) -> str:
        """Return a text that is another one after each start of the machine.

        Raises:
            DeviceError: it cannot be read.
            ConnectError: there is no connection, or it was lost.
        """
        done = self.run(("sh", "-c", _BOOT_ID), timeout_s=30)
        if done.status != 0:
            raise DeviceError(f"{self.name} does not tell its boot: {ssh_files.reason(done)}")
        return done.stdout.strip()

    def wait_until_back(
        self,
        timeout_s: float,
        progress: Callable[[str], None] | None = None,
        *,
        boot_id: str = "",
    ) -> None:
        """Try to connect until the machine is there again, say after a restart.

        Args:
            timeout_s: when to give up.
            progress: called with a line about each try that failed.
            boot_id: what `boot_id()` gave before the restart: a machine that still tells the same
                has not gone down yet, and is waited for.

        Raises:
            ConnectError: it did not come back in time, or it shows another host key.
        """
        deadline = Deadline(timeout_s)
        self._connection.drop()
        while True:
            try:
                self._connect()
                if not boot_id or self.boot_id() != boot_id:
                    return
                failed = ConnectError(f"{self.name} has not restarted yet")
                self._connection.drop()
            except DeviceError as error:
                if isinstance(error, ConnectError) and not self._connection.may_pass:
                    raise
                failed = ConnectError(error.message, hint=error.hint)
            if deadline.left_s == 0:
                raise ConnectError(
                    f"{self.name} did not come back within {timeout_s:g} s: {failed.message}",
                    hint=failed.hint,
                ) from failed
            if progress is not None:
                progress(f"waiting for {self.name}, {deadline.elapsed_s:.0f} s: {failed.message}")
            time.sleep(min(_RETRY_S, deadline.left_s or 0))

    def _run(
        self,
        command: Sequence[str],
        deadline: Deadline,
        chunks: Iterable[bytes] | None,
        *,
        on_line: Callable[[str], None] | None = None,
        sink: Callable[[bytes], object] | None = None,
    ) -> CommandResult:
        remote, process = self._open(command, chunks)
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        whole = False
        try:
            if sink is not None:
                ssh_files.drain(process.stdout, remote.word, sink)
            streams = ("stderr",) if sink is not None else ("stdout", "stderr")
            for name, line in process.lines(
                deadline, streams=streams, idle=lambda: self._let_go(remote)
            ):
                text = remote.text_of(name, line)
                if text:
                    texts[name].append(text)
                    if on_line is not None:
                        on_line(text.rstrip("\n"))
            # another status than 0: the connection was lost, and maybe a part of a stream with it
            whole = process.wait(deadline) == 0 or remote.let_go
        except TimeoutError as error:
            raise CommandTimeout(
                f"{command[0]} on {self.name} did not end within {deadline.timeout_s:g} s: "
                f"{shown(command)}",
                command=tuple(command),
                stderr="".join(texts["stderr"]),
            ) from error
        finally:
            if not whole:
                self._end(remote)
            process.end()
        self._refuse(remote, command)
        if remote.status is None or not whole:
            said = "".join((*remote.before, *texts["stderr"]))
            raise lost(self.name, shown(command), said, stands=self._connection.stands())
        return CommandResult(
            command=tuple(command),
            status=remote.status,
            stdout="".join(texts["stdout"]),
            stderr="".join(texts["stderr"]),
            seconds=deadline.elapsed_s,
        )

    def _refuse(self, remote: RemoteCommand, command: Sequence[str]) -> None:
        """Raise CommandError for a command that could not be started."""
        if not remote.refused:
            return
        missing = remote.refused == "missing"
        raise CommandError(
            f"cannot run {command[0]} on {self.name}: "
            + ("No such file or directory" if missing else "Permission denied"),
            hint=f"install {command[0]} there, or name its path"
            if missing
            else f"check that {command[0]} is a program for that machine, and executable",
            command=tuple(command),
            status=127 if missing else 126,  # as a shell tells it
        )

    def _connect(self) -> None:
        self._connection.ensure(self._end_orphans)

    def _open(
        self, command: Sequence[str], chunks: Iterable[bytes] | None
    ) -> tuple[RemoteCommand, Process]:
        remote = RemoteCommand(command, has_input=chunks is not None)
        self._connect()
        process = Process(self._connection.session(remote.line), environment())
        # without input it stays open: it is the lifeline of the command
        process.feed(_all(remote.header, chunks or ()), close=chunks is not None)
        return remote, process

    def _let_go(self, remote: RemoteCommand) -> None:
        """End what a command left running that holds its streams open."""
        if remote.status is not None and remote.pid is not None and not remote.let_go:
            remote.let_go = True
            self._end_group(remote.pid, "")

    def _end(self, remote: RemoteCommand) -> None:
        """End a command there that is not wanted any more; where that fails, when we are back."""
        if remote.pid is None or remote.status is not None:
            return
        if not (self._connection.stands() and self._end_group(remote.pid, remote.word)):
            self._remember(remote)

    def _remember(self, remote: RemoteCommand) -> None:
        if remote.pid is not None:
            with self._lock:
                self._orphans.append(Orphan(remote.pid, remote.word))

    def _end_orphans(self) -> None:
        with self._lock:
            orphans, self._orphans = self._orphans, []
        for orphan in orphans:
            self._end_group(orphan.pid, orphan.word)

    def _end_group(self, pid: int, word: str) -> bool:
        """End a process group there, over the connection that stands; whether that was done."""
        remote = RemoteCommand(("sh", "-c", END_GROUP, "sh", str(pid), word), has_input=False)
        try:
            process = Process(self._connection.session(remote.line), environment())
        except OSError:
            return False
        try:
            process.feed((remote.header,), close=False)
            for name, line in process.lines(
                Deadline(_END_S), streams=("stdout", "stderr"), idle=lambda: None
            ):
                remote.text_of(name, line)
        except TimeoutError:
            return False
        finally:
            process.end()
        return remote.status == 0


def _all(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
