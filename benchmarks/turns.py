"""How much the ratio of a model to itself scatters, by how long the turns of the two processes are.

Each round measures one repetition of the same model in two fresh processes that take turns, as
`bench` does with several models. A turn as long as the repetition is one after the other. The last
column shows whether one run that is not timed is enough to fill the caches again.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import _common

from elfatt_deploy.bench import processes, stats
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.protocol import TURN_SECONDS, Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.bench.worker import Task

_MODEL = "cswin_t_elfatt"
_WORKER = """
from elfatt_deploy.bench import protocol, worker
protocol.TURN_SECONDS = {seconds!r}
worker.main()
"""


def main() -> None:
    """Print the scatter for each length of a turn."""
    parser = _common.parser(__doc__, rounds=12, warmup=1)
    parser.add_argument("--size", type=int, default=64, help="input of the model")
    parser.add_argument("--seconds", type=float, default=3.0, help="timed runs of a repetition")
    parser.add_argument("--turns", type=float, nargs="+", default=[TURN_SECONDS, 0.2, 1.0, 3.0])
    args = parser.parse_args()
    _common.header(args, "ratio of a model to itself, of two processes that take turns")
    with tempfile.TemporaryDirectory() as folder:
        made = _common.bundle(_MODEL, args.size, Path(folder))
        task = Task(
            bundle=str(made.path.resolve()),
            runner="ort",
            provider="cpu",
            precision="fp32",
            batch=1,
            threads=args.threads[0],
            in_flight=1,
            limits=Limits(enough=StopRule(rounds=3, seconds=args.seconds), most_seconds=600),
            steady=SteadyRule(tolerance=-1.0, most_seconds=0.5),  # the bound alone ends it
            turns=True,
        )
        found: dict[float, list[tuple[float, float, float]]] = {
            seconds: [] for seconds in args.turns
        }
        for number in range(args.rounds):
            _common.note(f"round {number + 1} of {args.rounds}")
            for seconds, ratios in found.items():
                ratios.append(pair(task, seconds))
    rows = []
    for seconds, ratios in found.items():
        by_turn, whole, first = zip(*ratios, strict=True)
        rows.append(
            (
                f"{seconds:g}",
                *(f"{100 * statistics.stdev(values):.2f}" for values in (by_turn, whole)),
                *(f"{statistics.median(values):.4f}" for values in (by_turn, whole, first)),
            )
        )
    _common.table(
        f"scatter (standard deviation) and median of {args.rounds} ratios, {_MODEL} at "
        f"{args.size}, {args.seconds:g} s timed in each process",
        (
            "turn (s)",
            "scatter by turn (%)",
            "of medians (%)",
            "median by turn",
            "of medians",
            "first run / its turn",
        ),
        rows,
    )


def pair(task: Task, seconds: float) -> tuple[float, float, float]:
    """Measure one pair of processes.

    Returns the ratio by turn, that of the two medians, and first timed run / median of its turn.
    """
    command = (sys.executable, "-c", _WORKER.format(seconds=seconds))
    ran = sorted(processes.run_workers((task, task), command=lambda _: command), key=lambda r: r[0])
    timed = [measured(one.outcome).timed for _, one in ran]
    a, b = timed
    return (
        stats.turn_ratio(b.times_ms, b.turns, a.times_ms, a.turns),
        stats.median(b.times_ms) / stats.median(a.times_ms),
        stats.median(
            [
                turn[0] / stats.median(turn)
                for one in timed
                for turn in stats.by_turn(one.times_ms, one.turns)
            ]
        ),
    )


def measured(outcome: Measured | Failed) -> Measured:
    """Return what was measured, or end."""
    if isinstance(outcome, Failed):
        sys.exit(outcome.reason)
    return outcome


if __name__ == "__main__":
    main()
