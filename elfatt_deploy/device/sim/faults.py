"""What a simulated board can be told to do wrong.

A fault is a text, `NAME` or `NAME:COUNT`: the fault happens the first COUNT times that it could,
without a count each time. For `disk-full` the number is the room in MiB instead, 0 without one.
Faults stand in the board's `faults.json`, and those of `ELFATT_DEPLOY_SIM_FAULTS` (separated by
commas) are added to them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from elfatt_deploy.errors import UnknownNameError, UsageError

ENVIRONMENT = "ELFATT_DEPLOY_SIM_FAULTS"

#: name -> what happens
FAULTS = {
    "reboot-prompt": "nvpmodel wants a reboot for every change of the mode",
    "mode-refused": "nvpmodel cannot write a file of the new mode, and says so",
    "mode-readback-differs": "nvpmodel accepts a mode and stays in the old one",
    "wrong-watt-label": "the first two modes with watts in their names have each other's names",
    "trtexec-killed": "a build is ended by signal 9, as the kernel does where memory runs out",
    "trtexec-hangs": "trtexec stops in the middle and never ends by itself",
    "plan-rejected": "trtexec cannot deserialize a plan, although it is the right one",
    "disk-full": "files of trtexec and files that are pushed find no more than COUNT MiB of room",
    "sensor-vanishes": "the files of the first rail are gone from the middle of a run on",
    "over-current": "a counter of over-current events rises in the middle of a run",
    "thermal-trip": "temperatures rise to the trip point and the GPU's clock falls, mid-run",
    "board-reboots-mid-run": "the board reboots in the middle of a run of trtexec",
    "no-root": "sudo asks for a password",
    "no-trtexec": "there is no trtexec",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that was asked for; `count` is None without a number."""

    name: str
    count: int | None = None


def parse_fault(text: str) -> Fault:
    """Read `NAME` or `NAME:COUNT`.

    Raises:
        UnknownNameError: there is no such fault.
        UsageError: the count is not a number.
    """
    name, colon, count = text.strip().partition(":")
    if name not in FAULTS:
        raise UnknownNameError("fault", name, FAULTS)
    if colon and not count.isdecimal():
        raise UsageError(
            f"the fault '{text}' has a count that is not a number",
            hint=f"write {name} or {name}:2",
        )
    return Fault(name=name, count=int(count) if colon else None)


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Read several, empty texts left out.

    Raises:
        UnknownNameError: there is no such fault.
        UsageError: a count is not a number.
    """
    return tuple(parse_fault(text) for text in texts if text.strip())
