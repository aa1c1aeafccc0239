"""A closed set of warnings about a measurement; each says what to do."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Literal

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stats
from elfatt_deploy.bench.machine import Machine

#: MAD above this share of the median: a quiet machine stays below a hundredth
_UNSTABLE = 0.05
#: change of the median from the first to the second half of the rounds, as a share
_DRIFT = 0.05
#: load average above this share of the cores: something else was running
_BUSY = 0.5


class Kind(str, enum.Enum):
    """What is wrong."""

    FEW_ROUNDS = "few-rounds"
    UNSTABLE = "unstable"
    NOT_STEADY = "not-steady"
    DISTURBED = "disturbed"
    THROTTLED = "throttled"
    OFF_CLOCK = "off-clock"
    UNWATCHED = "unwatched"


Validity = Literal["throttled", "off-clock", "disturbed", "unwatched", "not-steady", "unstable"]

#: the kinds that say that something is wrong with the number itself, and their words
VALIDITY: dict[Kind, Validity] = {
    Kind.THROTTLED: "throttled",
    Kind.OFF_CLOCK: "off-clock",
    Kind.DISTURBED: "disturbed",
    Kind.UNWATCHED: "unwatched",
    Kind.NOT_STEADY: "not-steady",
    Kind.UNSTABLE: "unstable",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StabilityWarning:
    """One warning, about one cell or (`cell` empty) about the whole run."""

    kind: Kind
    cell: str
    message: str


def warnings_of(
    cell: str, samples_ms: Sequence[float], rounds: Sequence[int]
) -> tuple[StabilityWarning, ...]:
    """Return what is doubtful about the samples of one cell; the number of rounds is not judged."""
    found = []
    spread = stats.mad(samples_ms) / stats.median(samples_ms)
    if spread > _UNSTABLE:
        found.append(
            StabilityWarning(
                kind=Kind.UNSTABLE,
                cell=cell,
                message=f"{cell}: the samples spread by {100 * spread:.0f} % of the median (MAD); "
                "stop other programs and measure longer",
            )
        )
    medians = stats.by_round(samples_ms, rounds)
    if len(medians) >= 2 * stats.MIN_ROUNDS:
        half = len(medians) // 2
        change = stats.median(medians[half:].tolist()) / stats.median(medians[:half].tolist()) - 1
        if abs(change) > _DRIFT:
            found.append(
                StabilityWarning(
                    kind=Kind.NOT_STEADY,
                    cell=cell,
                    message=f"{cell}: the second half of the rounds took {100 * change:+.0f} %; "
                    "the machine got warm or busy, measure again",
                )
            )
    return tuple(found)


def run_warnings(machine: Machine, rounds: int) -> tuple[StabilityWarning, ...]:
    """Return what is doubtful about a whole run."""
    found = []
    if rounds < stats.MIN_ROUNDS:
        found.append(
            StabilityWarning(
                kind=Kind.FEW_ROUNDS,
                cell="",
                message=f"{rounds} rounds give no interval; use {stats.MIN_ROUNDS} or more",
            )
        )
    return (*found, *load_warnings(machine.load, machine.cores))


def load_warnings(load: float | Unavailable, cores: int) -> tuple[StabilityWarning, ...]:
    """Return whether something else was running before the measurement."""
    if isinstance(load, Unavailable) or load <= _BUSY * cores:
        return ()
    return (
        StabilityWarning(
            kind=Kind.DISTURBED,
            cell="",
            message=f"the load average was {load:.1f} on {cores} cores before "
            "the measurement; stop other programs",
        ),
    )
