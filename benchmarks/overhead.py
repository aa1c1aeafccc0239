"""What `bench` adds to the time of a run: its worker against a bare loop, in fresh processes.

Both load the same file with the same settings of ONNX Runtime; the bare loop is
`perf_counter` around `InferenceSession.run` and nothing else. `pyperf`, the harness of the Python
project, is a third, independent timer of the same call. They take turns, so that a machine that
gets slower for a while meets all of them.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _common
import numpy as np

from elfatt_deploy.bench import processes
from elfatt_deploy.bench.cells import Failed
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.bench.worker import Task
from elfatt_deploy.runners.ort_runner import OrtRunner

#: inputs of cswin_t_elfatt at which a run takes about 6 and about 140 ms here on one thread
SIZES = (32, 256)
_MODEL = "cswin_t_elfatt"
#: before the timed runs of each process, in seconds
WARM_UP_S = 1.0

BARE = """
import gc, json, sys, time
import numpy as np
import onnxruntime

folder, warm_up, seconds, threads = sys.argv[1], *map(float, sys.argv[2:])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
options.add_session_config_entry("session.force_spinning_stop", "1")
session = onnxruntime.InferenceSession(
    folder + "/model.onnx", options, providers=["CPUExecutionProvider"]
)
with np.load(folder + "/golden.npz") as file:
    images = np.ascontiguousarray(file["images"][:1])
gc.disable()
begin = time.perf_counter()
while time.perf_counter() - begin < warm_up:
    session.run(None, {"images": images})
times, begin = [], time.perf_counter()
while time.perf_counter() - begin < seconds:
    start = time.perf_counter()
    session.run(None, {"images": images})
    times.append(time.perf_counter() - start)
times.sort()
print(json.dumps([1e3 * time for time in times]))
"""

PYPERF = """
import os
import numpy as np
import onnxruntime
import pyperf

folder, threads = os.environ["BUNDLE"], int(os.environ["THREADS"])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.add_session_config_entry("session.force_spinning_stop", "1")
session = onnxruntime.InferenceSession(
    folder + "/model.onnx", options, providers=["CPUExecutionProvider"]
)
with np.load(folder + "/golden.npz") as file:
    images = np.ascontiguousarray(file["images"][:1])
pyperf.Runner().bench_func("run", session.run, None, {"images": images})
"""


def pyperf(folder: Path, threads: int, seconds: float) -> list[float]:
    """Return the times that pyperf takes in one process of its own, in ms."""
    with tempfile.TemporaryDirectory() as work:
        script, result = Path(work) / "run.py", Path(work) / "run.json"
        script.write_text(PYPERF)
        least = _least_ms(folder, threads)
        warm, values = (max(3, int(1e3 * each / least)) for each in (WARM_UP_S, seconds))
        subprocess.run(
            f"{sys.executable} {script} --quiet --processes 1 --loops 1 --warmups {warm} "
            f"--values {values} --output {result} "
            "--inherit-environ BUNDLE,THREADS,GLIBC_TUNABLES".split(),
            env={**os.environ, "BUNDLE": str(folder), "THREADS": str(threads)},
            capture_output=True,
            check=True,
        )
        runs = json.loads(result.read_text())["benchmarks"][0]["runs"]
    return sorted(1e3 * value for run in runs for value in run.get("values", ()))


@functools.cache
def _least_ms(folder: Path, threads: int) -> float:
    """Return about how long a run takes: pyperf counts runs, not seconds."""
    return bare(folder, threads, 0.5)[0]


def bare(folder: Path, threads: int, seconds: float) -> list[float]:
    """Return the times of the bare loop in ms."""
    numbers = map(str, (WARM_UP_S, seconds, threads))
    done = subprocess.run(
        [sys.executable, "-c", BARE, folder, *numbers], capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def ours(folder: Path, threads: int, seconds: float) -> list[float]:
    """Return the times that the worker of `bench` takes, in ms."""
    found = processes.run_worker(
        Task(
            bundle=str(folder),
            runner="ort",
            provider="cpu",
            precision="fp32",
            batch=1,
            threads=threads,
            in_flight=1,
            limits=Limits(enough=StopRule(rounds=3, seconds=seconds), most_seconds=10 * seconds),
            steady=SteadyRule(tolerance=-1.0, most_seconds=WARM_UP_S),  # the bound alone ends it
        )
    )
    if isinstance(found, Failed):
        sys.exit(found.reason)
    return list(found.timed.times_ms)


def alternating(size: int, folder: Path, args: argparse.Namespace) -> tuple[str, ...]:
    """Let single runs take turns in one process; returns a row of the table.

    Other programs slow both down alike, even where they come and go within seconds.
    """
    with np.load(folder / "golden.npz") as file:
        feeds = {"images": np.ascontiguousarray(file["images"][:1])}
    session = _common.session(str(folder / "model.onnx"), args.threads[0])
    with OrtRunner(str(folder / "model.onnx"), threads=args.threads[0]) as runner:
        runs = {
            "bench": functools.partial(runner.infer, feeds),
            "bare": functools.partial(session.run, None, feeds),
        }
        times: dict[str, list[float]] = {"bench": [], "bare": []}
        order, shuffle = list(runs), random.Random(args.seed).shuffle
        begin = time.perf_counter()
        while time.perf_counter() - begin < 4 * args.seconds:
            shuffle(order)
            for name in order:
                start = time.perf_counter()
                runs[name]()
                times[name].append(1e3 * (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(times["bench"], times["bare"], strict=True)]
    return (
        f"{_MODEL} at {size}",
        f"{statistics.median(times['bare']):.2f}",
        f"{statistics.median(times['bench']):.2f}",
        f"{statistics.median(ratios):.4f}",
        f"{min(times['bench']) / min(times['bare']):.4f}",
        str(len(ratios)),
    )


def row(size: int, folder: Path, args: argparse.Namespace) -> tuple[str, ...]:
    """Measure one model in pairs; returns a row of the table."""
    candidates = {"bench": ours, "bare": bare, "pyperf": pyperf}
    samples: dict[str, list[list[float]]] = {name: [] for name in candidates}
    shuffle = random.Random(args.seed).shuffle
    for number in range(-args.warmup, args.rounds):
        order = list(candidates)
        shuffle(order)
        for name in order:
            times = candidates[name](folder, args.threads[0], args.seconds)
            if number >= 0:
                samples[name].append(times)
    medians = {name: [statistics.median(t) for t in each] for name, each in samples.items()}
    fastest = {name: min(map(min, each)) for name, each in samples.items()}
    cells = [f"{_MODEL} at {size}", f"{statistics.median(medians['bench']):.2f}"]
    for other in ("bare", "pyperf"):
        ratios = [a / b for a, b in zip(medians["bench"], medians[other], strict=True)]
        cells += [
            f"{statistics.median(medians[other]):.2f}",
            f"{statistics.median(ratios):.4f}",
            f"{min(ratios):.4f}..{max(ratios):.4f}",
            f"{fastest['bench'] / fastest[other]:.4f}",
        ]
    return tuple(cells)


def main() -> None:
    """Print a table of the ratios."""
    parser = _common.parser(__doc__, rounds=5, warmup=1)
    parser.add_argument("--seconds", type=float, default=4.0, help="timed runs of one process")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="of the input")
    args = parser.parse_args()
    _common.header(args, "latency of a run, wall clock, CPU provider of ONNX Runtime")
    rows, turns = [], []
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            _common.note(f"exporting {_MODEL} at {size}")
            bundle = _common.bundle(_MODEL, size, Path(folder))
            turns.append(alternating(size, bundle.path, args))
            rows.append(row(size, bundle.path, args))
    _common.table(
        "bench / bare loop, single runs take turns in one process",
        ("model", "bare (ms)", "bench (ms)", "median ratio", "ratio of the fastest", "pairs"),
        turns,
    )
    columns = ["model", "bench (ms)"]
    for other in ("bare loop", "pyperf"):
        columns += [f"{other} (ms)", "ratio", "min..max of pairs", "ratio of the fastest runs"]
    _common.table(
        f"bench / others in fresh processes, median of {args.rounds} interleaved rounds",
        columns,
        rows,
    )


if __name__ == "__main__":
    main()
