"""Commands on this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from elfatt_deploy.errors import CommandError, CommandTimeout, DeviceError
from elfatt_deploy.transport.base import CommandResult, shown
from elfatt_deploy.transport.process import Deadline, Process


class Local:
    """This machine. Every command is the leader of a process group that ends with it.

    Args:
        environment: variables that commands get beside those of this process.
        name: what the machine is called in messages.
    """

    def __init__(
        self, environment: Mapping[str, str] | None = None, name: str = "this machine"
    ) -> None:
        """Keep both; nothing is started."""
        self.name = name
        self._environment = dict(environment or {})

    def __enter__(self) -> Local:
        """There is nothing to connect to."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """There is nothing to disconnect."""

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
        """
        deadline = Deadline(timeout_s)
        process = self.start(command)
        texts: dict[str, list[str]] = {"stdout": [], "stderr": []}

        def idle() -> None:
            if process.ended:  # what it left running holds the streams open
                process.kill_group()

        try:
            process.feed(((input or "").encode("utf-8", errors="replace"),))
            for name, line in process.lines(deadline, streams=("stdout", "stderr"), idle=idle):
                texts[name].append(line)
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            status = process.wait(deadline)
        except TimeoutError as error:
            raise CommandTimeout(
                f"{command[0]} did not end within {timeout_s:g} s: {shown(command)}",
                command=tuple(command),
                stderr="".join(texts["stderr"]),
            ) from error
        finally:
            process.end()
        return CommandResult(
            command=tuple(command),
            status=status,
            stdout="".join(texts["stdout"]),
            stderr="".join(texts["stderr"]),
            seconds=deadline.elapsed_s,
        )

    def start(self, command: Sequence[str]) -> Process:
        """Start a command for a caller that speaks with it meanwhile, and ends it.

        Raises:
            CommandError: there is no such program, or it may not be run.
        """
        try:  # the program is looked for in the PATH that it gets
            return Process(command, {**os.environ, **self._environment})
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            raise CommandError(
                f"cannot run {command[0]} on {self.name}: {error.strerror}",
                hint=f"install {command[0]}, or add its folder to PATH"
                if missing
                else f"check that {command[0]} is a program for this machine, and executable",
                command=tuple(command),
                status=127 if missing else 126,  # as a shell tells it
            ) from error

    def push(self, local: Path, remote: str) -> None:
        """Copy a file on this machine; see `Transport.push`.

        Raises:
            DeviceError: it cannot be read or written.
        """
        _copy(local, Path(remote))

    def pull(self, remote: str, local: Path) -> None:
        """Copy a file on this machine; see `Transport.pull`.

        Raises:
            DeviceError: it cannot be read or written.
        """
        _copy(Path(remote), local)

    def read_text(self, remote: str) -> str:
        """Return the text of a file.

        Raises:
            DeviceError: it cannot be read.
        """
        try:
            return Path(remote).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise DeviceError(f"cannot read {remote}: {error.strerror}") from error

    @contextlib.contextmanager
    def temporary_folder(self) -> Iterator[str]:
        """Give a new folder where TMPDIR says, and remove it at the end.

        Raises:
            DeviceError: it cannot be made.
        """
        try:
            folder = tempfile.mkdtemp(prefix="elfatt-deploy-")
        except OSError as error:
            raise DeviceError(
                f"cannot make a temporary folder: {error.strerror}",
                hint="make room, or name a folder with room in TMPDIR",
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy to a temporary name and rename: nothing partial is ever there under the real one."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise DeviceError(
            f"cannot copy {source} to {target}: {error.strerror or error}",
            hint="check that the file is there, and that there is room and permission to write",
        ) from error
