"""The answer of `scripts/snapshot.sh`: its lines as readings, before anything is made of them."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import ProbeError

_FIRST = "#elfatt-deploy snapshot 1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One file or command: its value, and the lines of its text where it is one."""

    path: str
    value: str | Unavailable
    lines: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All readings in the order of the answer, and the lines that are none."""

    readings: tuple[Reading, ...]
    malformed: tuple[str, ...]

    def all(self, path: str) -> Iterator[Reading]:
        """Yield the readings whose path matches a pattern (`*` and `?`, as in a shell)."""
        return (r for r in self.readings if fnmatch.fnmatchcase(r.path, path))

    def first(self, path: str) -> Reading:
        """Return the first reading whose path matches; one that says it is not there otherwise."""
        absent = Reading(path=path, value=Unavailable(reason=f"there is no {path}"))
        return next(self.all(path), absent)


def parse_answer(text: str) -> Answer:
    """Return what the script wrote, as readings.

    Raises:
        ProbeError: it is not the script's, or it ends early.
    """
    lines = text.splitlines()
    if not lines or lines[0] != _FIRST:
        shown = lines[0][:80] if lines else "nothing"
        raise ProbeError(
            f"the board's answer does not begin as it should; it begins with: {shown}",
            hint="see that logging in there writes nothing by itself, say from a .bashrc",
        )
    if lines[-1] != "@end":
        raise ProbeError(f"the board's answer ends early, with: {lines[-1][:80]}")
    readings: list[Reading] = []
    malformed: list[str] = []
    for line in lines[1:-1]:
        kind, (path, tab, value) = line[:1], line[1:].partition("\t")
        if kind == "|" and readings:
            last = readings[-1]
            readings[-1] = dataclasses.replace(last, lines=(*last.lines, line[1:]))
        elif kind in ("=", "!") and tab:
            reason = Unavailable(reason=f"{path}: {value.strip() or 'it is empty'}")
            readings.append(Reading(path=path, value=reason if kind == "!" else value.strip()))
        elif kind not in ("", "@"):
            malformed.append(line)
    return Answer(readings=tuple(readings), malformed=tuple(malformed))
