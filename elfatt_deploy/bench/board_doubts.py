"""What is doubtful about a cell that a board ran: warnings that say what to do."""

from __future__ import annotations

from collections.abc import Sequence

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stability, stats
from elfatt_deploy.bench.stability import Kind, StabilityWarning
from elfatt_deploy.device.boards import BoardFile
from elfatt_deploy.device.records import NvpmodelMode, Snapshot

#: range of the repetitions' medians above this share of their median
_SPREAD = 0.05
#: versions of Jetson Linux differ by a step of the clock; another mode differs by far more
_CAP = 0.1
#: a locked clock that was read below this share of its maximum did not hold
_CLOCK = 0.99


def board_warnings(
    name: str,
    before: Snapshot,
    after: Snapshot,
    repetitions_ms: Sequence[Sequence[float]],
    *,
    unlocked: str,
    mislabelled: str = "",
) -> list[StabilityWarning]:
    """Return what is doubtful about one cell.

    Args:
        name: of the cell.
        before: the board before its first repetition.
        after: the board after its last one.
        repetitions_ms: the times of each repetition.
        unlocked: why its clocks were not locked; empty where they were.
        mislabelled: what `mislabelled` says of its power mode.
    """
    found: list[StabilityWarning] = []

    def add(kind: Kind, text: str) -> None:
        found.append(StabilityWarning(kind=kind, cell=name, message=f"{name}: {text}"))

    samples = [time for times in repetitions_ms for time in times]
    numbers = [i for i, times in enumerate(repetitions_ms) for _ in times]
    if samples:
        found.extend(stability.warnings_of(name, samples, numbers))
        medians = [stats.median(times) for times in repetitions_ms if times]
        spread = (max(medians) - min(medians)) / stats.median(medians)
        if spread > _SPREAD and not any(warning.kind is Kind.UNSTABLE for warning in found):
            add(Kind.UNSTABLE, f"runs of trtexec differ by {100 * spread:.0f} %; use --strict")
    for text in risen(before, after):
        add(Kind.THROTTLED, f"{text}; see to cooling and to the power supply, then measure again")
    if unlocked:
        add(Kind.OFF_CLOCK, f"the clocks were not locked and may move: {unlocked}")
    elif before.mode != after.mode:
        add(Kind.OFF_CLOCK, f"the power mode changed from {before.mode} to {after.mode}")
    for text in () if unlocked else _moved(after):
        add(Kind.OFF_CLOCK, text)
    if mislabelled:
        add(Kind.OFF_CLOCK, mislabelled)
    users = before.gpu_users
    if isinstance(users, tuple) and users:
        add(Kind.DISTURBED, f"others use the GPU ({', '.join(users)}); stop them")
    if isinstance(before.swap_used_bytes, int) and before.swap_used_bytes > 64 * 2**20:
        add(
            Kind.DISTURBED,
            f"{before.swap_used_bytes / 2**20:.0f} MiB of swap are in use; stop other programs, "
            "the desktop first",
        )
    if isinstance(before.cores_online, int):
        found.extend(stability.load_warnings(before.load, before.cores_online))
    return found


def mislabelled(mode: NvpmodelMode, board: BoardFile | Unavailable) -> str:
    """Return how a power mode differs from what its board's file knows by that name; else nothing.

    Watts are only a name in the board's own configuration, which anybody can edit.
    """
    if isinstance(board, Unavailable):
        return ""
    for known in board.modes:
        here, there = mode.gpu_max_hz, known.gpu_max_hz
        if known.name != mode.name or not (isinstance(here, float) and isinstance(there, float)):
            continue
        if abs(here / there - 1) > _CAP:
            return (
                f"the board's configuration caps the GPU at {here / 1e6:g} MHz in mode "
                f"{mode.name}, where {board.name} has {there / 1e6:g} MHz: compare its "
                "/etc/nvpmodel.conf with NVIDIA's"
            )
    return ""


def risen(before: Snapshot, after: Snapshot) -> tuple[str, ...]:
    """Return which counters of over-current and thermal events rose, a line each."""
    first = {counter.name: counter.value for counter in before.counters}
    lines = []
    for counter in after.counters:
        was, now = first.get(counter.name), counter.value
        if isinstance(was, int) and isinstance(now, int) and now > was:
            lines.append(f"the counter {counter.name} rose from {was} to {now}: the board slowed")
    return tuple(lines)


def _moved(after: Snapshot) -> list[str]:
    """Return locked clocks that stand below their maximum, a line each."""
    texts = []
    for clock in after.clocks:
        now, most = clock.now_hz, clock.max_hz
        if isinstance(now, Unavailable) or isinstance(most, Unavailable) or clock.name == "emc":
            continue
        if now < _CLOCK * most:
            texts.append(
                f"the {clock.name} clock was locked and stood at {now / 1e6:.0f} of "
                f"{most / 1e6:.0f} MHz afterwards"
            )
    return texts
