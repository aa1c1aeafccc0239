"""What `bench` and `compare` make of the same model twice, and of one that is 5 % slower.

The slower one runs the very same file; after each run its process spins for 5 % of the time that
the run took. Both are measured interleaved by `bench`, and judged by `compare`, as a user would.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import shutil
import sys
import tempfile
from pathlib import Path

import _common

from elfatt_deploy.bench import contracts, processes, protocol
from elfatt_deploy.bench.cells import BenchRequest
from elfatt_deploy.bench.stats import Ratio
from elfatt_deploy.bench.worker import Task
from elfatt_deploy.pipeline import bench_models
from elfatt_deploy.results.compare import compare
from elfatt_deploy.results.store import Records

_MODEL = "cswin_t_elfatt"
_SLOW = """
import time
from elfatt_deploy.bench import worker
from elfatt_deploy.runners.ort_runner import OrtRunner

plain = OrtRunner.infer

def slower(self, feeds):
    start = time.perf_counter()
    found = plain(self, feeds)
    end = start + (time.perf_counter() - start) * {factor}
    while time.perf_counter() < end:
        pass
    return found

OrtRunner.infer = slower
worker.main()
"""


def main() -> None:
    """Print how often each verdict came."""
    parser = _common.parser(__doc__, rounds=20, warmup=1)
    parser.add_argument("--size", type=int, default=64, help="input of the model")
    parser.add_argument("--slowdown", type=float, default=0.05, help="as a share")
    parser.add_argument("--limit", type=float, default=0.03, help="slowdown that passes")
    parser.add_argument("--only", choices=("same", "slower"), help="one of the two rows")
    parser.add_argument("--plan", default="quick", choices=list(protocol.PLANS))
    parser.add_argument("--repetitions", type=int, help="of each cell; the plan's own by default")
    args = parser.parse_args()
    _common.header(args, "verdicts of compare, and the ratio of the interleaved cells")
    with tempfile.TemporaryDirectory() as folder:
        _common.note(f"exporting {_MODEL} at {args.size}")
        made = _common.bundle(_MODEL, args.size, Path(folder))
        slow = Path(folder).resolve() / "slow"
        shutil.copytree(made.path, slow)
        asked = {
            "same": ("the same twice", 0.0),
            "slower": (f"{100 * args.slowdown:g} % slower", args.slowdown),
        }
        rows = [
            tries(name, made.path, slow, slowdown, args)
            for only, (name, slowdown) in asked.items()
            if args.only in (None, only)
        ]
    _common.table(
        f"verdicts of {args.rounds} tries each, limit {100 * args.limit:g} %, plan {args.plan}"
        f"{f', {args.repetitions} repetitions' if args.repetitions else ''}",
        ("B is", "PASS", "INCONCLUSIVE", "FAIL", "differs by 2 %", "smallest ratio", "median",
         "largest", "with doubtful records let through"),
        rows,
    )  # fmt: skip


def tries(name: str, made: Path, slow: Path, slowdown: float, args) -> tuple[str, ...]:
    """Return a row of the table."""
    command = (sys.executable, "-c", _SLOW.format(factor=1 + slowdown))
    plan = protocol.PLANS[args.plan]
    plan = dataclasses.replace(plan, repetitions=args.repetitions or plan.repetitions)

    def of_task(task: Task) -> tuple[str, ...]:
        return command if Path(task.bundle) == slow else processes.WORKER

    workers = functools.partial(processes.run_workers, command=of_task)
    verdicts, allowed, ratios, differs = collections.Counter(), collections.Counter(), [], 0
    for number in range(args.rounds):
        request = BenchRequest(
            bundles=(made, slow),
            threads=args.threads[0],
            contract=contracts.contract("single-stream/1"),
            plan=plan,
            baseline=_MODEL,
            seed=args.seed + number,
        )
        report = bench_models(request, workers=workers)
        ratio = report.ratios[0].time
        if not isinstance(ratio, Ratio):
            sys.exit(f"{name}: {ratio.reason}")
        ratios.append(ratio.value)
        differs += ratio.differs(0.02)
        a, b = (Records(records=(record,)) for record in report.records)
        # the second of two cells of one model has a number of its own
        verdicts[compare(a, b, limit=args.limit, allowed=("variant",)).verdict] += 1
        doubtful = compare(a, b, limit=args.limit, allowed=("variant", "validity"))
        allowed[doubtful.verdict] += 1
        _common.note(f"{name}, try {number + 1}: {ratio.value:.3f} {ratio.interval}")
    ratios.sort()
    words = ", ".join(f"{count} {verdict}" for verdict, count in sorted(allowed.items()))
    return (
        name, *(str(verdicts[v]) for v in ("PASS", "INCONCLUSIVE", "FAIL")), str(differs),
        f"{ratios[0]:.3f}", f"{ratios[len(ratios) // 2]:.3f}", f"{ratios[-1]:.3f}", words,
    )  # fmt: skip


if __name__ == "__main__":
    main()
