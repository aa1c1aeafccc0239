"""A command on a board whose lines are stamped with the board's own clock.

Power samples carry the same clock, so that energy can be taken over the timed runs alone. A stamp
is the moment at which a line came out: with the 10 ms of `/proc/uptime` and the shell's own delay
it is late by some tens of milliseconds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from importlib import resources

from elfatt_deploy.errors import CommandError
from elfatt_deploy.transport.base import Transport, shown

_STATUS = "exit-status"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """What a command wrote.

    Args:
        command: the command.
        status: its exit status.
        lines: uptime of the board in seconds, and a line of either stream.
    """

    command: tuple[str, ...]
    status: int
    lines: tuple[tuple[float, str], ...]

    @property
    def text(self) -> str:
        """The lines alone."""
        return "\n".join(line for _, line in self.lines)

    def stamp_of(self, words: str) -> float | None:
        """Return when the first line that holds these words came out; None without one."""
        return next((stamp for stamp, line in self.lines if words in line), None)


@functools.cache
def _script() -> str:
    return (resources.files(__package__) / "scripts" / "stamped.sh").read_text(encoding="utf-8")


def run_stamped(
    transport: Transport,
    command: Sequence[str],
    *,
    timeout_s: float | None,
    on_line: Callable[[str], None] | None = None,
) -> Stamped:
    """Run a command on a board; a status other than 0 is the caller's to judge.

    Args:
        transport: to the board.
        command: the program and its arguments.
        timeout_s: its longest time; None for no limit.
        on_line: called with each line as it comes, without its stamp.

    Raises:
        CommandError: the board has no shell, or the program's status did not come back.
        CommandTimeout: it did not end in time.
        ConnectError: the connection was lost.
    """

    def tell(line: str) -> None:
        if on_line is not None:
            on_line(line.partition(" ")[2])

    result = transport.run(
        ("sh", "-c", _script(), "stamped", *command), timeout_s=timeout_s, on_line=tell
    )
    lines = []
    for text in result.stdout.splitlines():
        stamp, _, line = text.partition(" ")
        try:
            lines.append((float(stamp), line))
        except ValueError:
            continue  # a login shell's own words
    if not lines or not lines[-1][1].startswith(f"{_STATUS} "):
        raise CommandError(
            f"{command[0]} on {transport.name} did not come to its end: {shown(command)}",
            hint="look at the board's memory and at its kernel log (dmesg)",
            command=tuple(command),
            status=result.status,
            stderr=result.stderr,
        )
    return Stamped(
        command=tuple(command), status=int(lines[-1][1].split()[1]), lines=tuple(lines[:-1])
    )
