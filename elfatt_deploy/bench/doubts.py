"""What is doubtful about the cells of `bench`: warnings that say what to do, and validity words."""

from __future__ import annotations

from collections.abc import Sequence

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stability, stats
from elfatt_deploy.bench.cells import Measured, Sentinel
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.bench.stability import VALIDITY, Kind, StabilityWarning, Validity

#: range of the repetitions' medians above this share of their median: fresh processes disagree
_SPREAD = 0.05
#: share of all cores that other programs may use meanwhile
_FOREIGN = 0.1
#: change of the sentinel from first to last, as a share
_DRIFT = 0.05
_FIXED = "performance"


def cell_warnings(name: str, repetitions: Sequence[Measured], cores: int) -> list[StabilityWarning]:
    """Return what is doubtful about one cell.

    Args:
        name: of the cell.
        repetitions: in their order.
        cores: logical processors of the machine.
    """
    if not repetitions:
        return []
    found: list[StabilityWarning] = []

    def add(kind: Kind, text: str) -> None:
        found.append(StabilityWarning(kind=kind, cell=name, message=f"{name}: {text}"))

    times = [time for one in repetitions for time in one.timed.times_ms]
    numbers = [i for i, one in enumerate(repetitions) for _ in one.timed.times_ms]
    found.extend(stability.warnings_of(name, times, numbers))
    medians = [stats.median(one.timed.times_ms) for one in repetitions]
    spread = (max(medians) - min(medians)) / stats.median(medians)
    if spread > _SPREAD and not any(warning.kind is Kind.UNSTABLE for warning in found):
        add(
            Kind.UNSTABLE,
            f"fresh processes differ by {100 * spread:.0f} %; stop other programs, use --strict",
        )
    unsettled = sum(not one.warm_up.steady for one in repetitions)
    if unsettled and not any(warning.kind is Kind.NOT_STEADY for warning in found):
        add(
            Kind.NOT_STEADY,
            f"{unsettled} of {len(repetitions)} warm-ups did not settle in the time they have; "
            "stop other programs, use --strict",
        )
    foreign = [c for one in repetitions if isinstance(c := one.foreign_cores, float)]
    if foreign and max(foreign) > _FOREIGN * cores:
        add(
            Kind.DISTURBED,
            f"other programs kept up to {max(foreign):.1f} of {cores} cores busy; stop them "
            "(see 'top')",
        )
    return found


def machine_warnings(
    before: State, after: State, cores: int, *, provider: str, sentinel: Sentinel | None
) -> list[StabilityWarning]:
    """Return what is doubtful about the machine under all cells of a call."""
    found: list[StabilityWarning] = []

    def add(kind: Kind, text: str) -> None:
        found.append(StabilityWarning(kind=kind, cell="", message=text))

    found.extend(stability.load_warnings(before.load, cores))
    if isinstance(before.swap_used_bytes, int) and before.swap_used_bytes:
        add(
            Kind.DISTURBED,
            f"{before.swap_used_bytes / 2**20:.0f} MiB of swap are in use; close programs, or "
            "'sudo swapoff -a && sudo swapon -a'",
        )
    if provider == "cuda" and isinstance(before.gpu_processes, tuple) and before.gpu_processes:
        add(
            Kind.DISTURBED,
            f"others compute on the GPU ({'; '.join(before.gpu_processes)}); stop them",
        )
    slowed = _slowed(before.throttle_events, after.throttle_events)
    if slowed:
        add(
            Kind.THROTTLED,
            f"the processor slowed itself down {slowed} times; let it cool, then measure again",
        )
    if isinstance(before.governor, str) and before.governor != _FIXED:
        add(
            Kind.OFF_CLOCK,
            f"the CPU governor is '{before.governor}', so the clock may move; "
            f"'sudo cpupower frequency-set -g {_FIXED}'",
        )
    blind = (before.clock_hz, before.throttle_events)
    if all(isinstance(value, Unavailable) for value in blind):
        add(
            Kind.UNWATCHED,
            "this system shows neither its clocks nor throttling, as in a virtual machine; quote "
            "numbers of a machine that does",
        )
    if sentinel is not None and abs(sentinel.drift) > _DRIFT:
        add(
            Kind.DISTURBED,
            f"the sentinel {sentinel.name} took {100 * sentinel.drift:+.0f} % after all others; "
            "the machine got warm or busy, measure again",
        )
    return found


def _slowed(before: dict[str, int] | Unavailable, after: dict[str, int] | Unavailable) -> int:
    if isinstance(before, Unavailable) or isinstance(after, Unavailable):
        return 0
    return sum(max(0, count - before.get(name, count)) for name, count in after.items())


def words(warnings: Sequence[StabilityWarning]) -> tuple[Validity, ...]:
    """Return the words of validity that stand in warnings, each once, in a fixed order."""
    kinds = {warning.kind for warning in warnings}
    return tuple(word for kind, word in VALIDITY.items() if kind in kinds)
