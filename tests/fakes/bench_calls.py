"""Calls of `bench` with a fast invented worker, in processes that are killed. Run it as a script:

    bench_calls.py MODE FOLDER SEED TIMES

MODE `kill`: the same call is begun TIMES times and killed (SIGKILL) at a random moment each time;
`full`: it runs into a full disk as often; `interrupt`: it gets Ctrl-C. After each, what was kept is
held against what there was before. Then the call runs to its end. Prints what it came to.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

from elfatt_deploy import optional
from elfatt_deploy.artifacts import ParityReport, Tolerance, Unavailable
from elfatt_deploy.bench import contracts, partial, protocol
from elfatt_deploy.bench.cells import BenchRequest, Measured, Ran
from elfatt_deploy.bench.protocol import Timed, WarmUp
from elfatt_deploy.errors import ExportError
from elfatt_deploy.pipeline import measuring
from elfatt_deploy.results import store

REPETITIONS = 6


def _bundle(folder):
    path = Path(__file__).parent / "bundle.py"
    spec = importlib.util.spec_from_file_location("fake_bundle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.write(folder, target="ort")


class Calls:
    """The same call again and again."""

    def __init__(self, folder, seed):
        self.folder, self.random = folder, random.Random(seed)
        self.results, self.done = folder / "results.jsonl", folder / "done.txt"
        self.kills, self.stored, self.call_s = 0, 0, 0.0
        #: one number for each measurement that was kept or stored
        self.seen = set()
        plan = dataclasses.replace(protocol.PLANS["quick"], repetitions=REPETITIONS)
        self.request = BenchRequest(
            bundles=(_bundle(folder / "a"), _bundle(folder / "b")),
            contract=contracts.contract("single-stream/1"),
            plan=plan,
        )

    def workers(self, tasks, tell):
        for number, _ in enumerate(tasks):
            yield number, Ran(outcome=self.one(), started="2030-01-02", duration_s=0.01)

    def one(self):
        time.sleep(0.01)
        number = float(time.monotonic_ns())
        with self.done.open("a") as file:
            file.write(f"{number!r}\n")
        return Measured(
            runner="fake",
            version="fake 1",
            parity=ParityReport(
                reference="a",
                candidate="b",
                tolerance=Tolerance(max_abs=1, relative_l2=1, cosine=0),
                rows=(),
            ),
            warm_up=WarmUp(runs=1, windows_ms=(1.0,), steady=True),
            timed=Timed(times_ms=(number, number), wall_ms=3.0),
            host_peak_bytes=1,
            device_peak_bytes=Unavailable(reason="none"),
            foreign_cores=0.0,
        )

    def call(self):
        report = measuring.bench_models(self.request, workers=self.workers, results=self.results)
        measuring.keep_records(report, self.results)
        return report

    def child(self, prepare=lambda: None):
        """Begin the call in a process of its own."""
        pid = os.fork()
        if pid:
            return pid
        status = 1
        with contextlib.suppress(ExportError):
            prepare()
            self.call()
            status = 0
        os._exit(status)

    def warm(self):
        """Import what a call needs, and see how long it takes."""
        for _ in range(2):
            began, results = time.monotonic(), self.folder / "warm.jsonl"
            report = measuring.bench_models(self.request, workers=self.workers, results=results)
            measuring.keep_records(report, results)
        self.call_s = time.monotonic() - began
        self.done.unlink()

    def kill(self):
        pid = self.child()
        time.sleep(self.random.uniform(0.0, 1.2 * self.call_s))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def interrupt(self):
        pid = self.child()
        time.sleep(self.random.uniform(0.3, 0.9) * self.call_s)
        os.kill(pid, signal.SIGINT)
        os.waitpid(pid, 0)

    def full(self):
        """No file of the child may grow beyond a size that it soon reaches."""
        largest = max((p.stat().st_size for p in self.folder.glob("*.partial")), default=0)
        limit = largest + self.random.randrange(1, 9000)

        def prepare():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

        os.waitpid(self.child(prepare), 0)

    def measured(self):
        """Return the numbers of all measurements that ever ended."""
        if not self.done.exists():
            return set()
        return set(map(float, self.done.read_text().split()))

    def check(self):
        """Nothing that was kept or stored is lost; of a call at most the cell in flight is."""
        records = store.read(self.results).records if self.results.exists() else ()
        assert len(records) >= self.stored, "a stored record is lost"
        self.stored = len(records)
        seen = {one.samples_ms[0] for record in records for one in record.repetitions}
        for path in self.folder.glob("*.partial"):
            with partial.opened(path) as kept:
                visits = {(visit.cell, visit.repetition) for visit in kept.visits}
                assert len(visits) == len(kept.visits), "a cell was measured twice"
                seen |= {visit.measured.timed.times_ms[0] for visit in kept.visits}
        assert seen >= self.seen, f"{len(self.seen - seen)} measurements are lost"
        self.seen = seen
        lost = self.measured() - seen
        assert len(lost) <= self.kills, f"{len(lost)} lost by {self.kills} ends"

    def end(self):
        """Let the call end, and return what is stored of its last sitting."""
        report = self.call()
        assert not list(self.folder.glob("*.partial")), "the side file is still there"
        self.check()
        records = store.read(self.results).latest.values()
        assert [len(record.repetitions) for record in records] == [REPETITIONS] * 2
        assert [r.key for r in records] == [r.key for r in report.records]
        return {
            "records": len(store.read(self.results).records),
            "taken over": any("were taken over" in note for note in report.notes),
            "calls": len(self.measured()) / 2 / REPETITIONS,
            "measured": len(self.measured()),
            "lost": len(self.measured() - self.seen),
        }


def main():
    mode, folder, seed, times = sys.argv[1:]
    # two processes of git, or its import, would be most of a call's time
    measuring.git_state = lambda: Unavailable(reason="a test")
    optional.load("onnxruntime")
    calls = Calls(Path(folder), int(seed))
    calls.warm()
    for _ in range(int(times)):
        calls.kills += 1
        getattr(calls, mode)()
        calls.check()
    sys.stdout.write(json.dumps(calls.end()) + "\n")


if __name__ == "__main__":
    main()
