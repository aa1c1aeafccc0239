"""One repetition in a process of its own: `python -m elfatt_deploy.bench.worker`.

A JSON task on stdin, one JSON document on stdout, progress on stderr. ONNX Runtime cells load no
torch.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elfatt_deploy import artifacts, bundles, optional
from elfatt_deploy.artifacts import ParityReport, Unavailable
from elfatt_deploy.bench import machine_state, protocol, stats
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.machine_state import ForeignWork
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.timing import StopRule, no_collector
from elfatt_deploy.errors import ElfattDeployError
from elfatt_deploy.golden import read_golden
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.runners.base import Runner
from elfatt_deploy.runners.ort_runner import OrtRunner
from elfatt_deploy.runners.torch_runner import TorchRunner

PROGRESS = "progress"
_STATUS = Path("/proc/self/status")
#: how often the running median is told, and over how many of the latest runs
_TELL_NS, _TELL_RUNS = 500_000_000, 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is told.

    Args:
        bundle: folder of the bundle.
        runner: `ort` or `torch`.
        provider: `cpu` or `cuda`.
        precision: of the bundle, whose tolerance the logits must keep.
        batch: images in a run.
        threads: threads within an op; 0 is the runner's own choice.
        in_flight: runs under way at once.
        limits: of the timed runs.
        steady: of the warm-up.
    """

    bundle: str
    runner: str
    provider: str
    precision: str
    batch: int
    threads: int
    in_flight: int
    limits: Limits
    steady: SteadyRule


def task_from_document(document: dict[str, Any]) -> Task:
    """Turn the JSON of our own parent process into a task."""
    limits = dict(document["limits"])
    limits["enough"] = StopRule(**limits["enough"])
    return Task(
        **{**document, "limits": Limits(**limits), "steady": SteadyRule(**document["steady"])}
    )


def measure(task: Task) -> Measured | Failed:
    """Load, compare one batch with the golden logits, warm up, time.

    Raises:
        ElfattDeployError: the bundle cannot be read, or the runner does not load or run it.
    """
    folder = Path(task.bundle)
    golden = read_golden(folder / artifacts.GOLDEN_FILE)
    chosen = np.resize(np.arange(len(golden.images)), task.batch)
    images, expected = np.ascontiguousarray(golden.images[chosen]), golden.logits[chosen]
    name, count, reference = (
        "+".join(dict.fromkeys(golden.sets)),
        len(set(chosen)),
        golden.reference,
    )
    del golden  # the taps are large, and are no part of the model's memory
    with _runner(task, folder) as runner:
        logits = runner.infer({"images": images})["logits"]
        allowed = tolerance(task.precision)
        row = compare.parity_row(name, task.batch, count, expected, logits, allowed)
        parity = ParityReport(
            reference=reference, candidate=runner.name, tolerance=allowed, rows=(row,)
        )
        if not parity.passed:
            return Failed(
                reason=f"parity failed at batch {task.batch}: max error {row.max_abs:.1e} (allowed "
                f"{allowed.max_abs * row.scale:.1e}); it was not timed",
                parity=parity,
            )
        run = functools.partial(runner.infer, {"images": images})
        with no_collector():
            warm = protocol.warm_up(run, task.steady)
            foreign = ForeignWork()
            if task.in_flight == 1:
                timed = protocol.one_in_flight(run, task.limits, watch=_Teller())
            else:
                timed = protocol.several_in_flight(
                    run, task.limits, task.in_flight, watch=_Teller()
                )
            cores = foreign.cores()
        return Measured(
            runner=runner.name,
            version=_version(task.runner),
            parity=parity,
            warm_up=warm,
            timed=timed,
            host_peak_bytes=peak_bytes(),
            device_peak_bytes=_device_peak(task),
            foreign_cores=cores,
        )


def _runner(task: Task, folder: Path) -> Runner:
    if task.runner == "ort":
        path = str(folder / artifacts.MODEL_FILE)
        return OrtRunner(path, provider=task.provider, threads=task.threads)
    optional.load("torch")
    from elfatt_deploy.models import weights

    manifest = bundles.read_bundle(folder).manifest
    module = weights.rebuilt(manifest.model, manifest.weights, None)
    return TorchRunner(module, device=task.provider, threads=task.threads)


def _version(runner: str) -> str:
    package = "onnxruntime" if runner == "ort" else "torch"
    return f"{package} {optional.load(package).__version__}"


class _Teller:
    """Tells the running median on stderr, between two runs and only now and then."""

    def __init__(self) -> None:
        self._next_ns = _TELL_NS

    def __call__(self, times: Sequence[int], elapsed_ns: int) -> None:
        if elapsed_ns < self._next_ns:
            return
        self._next_ns = elapsed_ns + _TELL_NS
        recent = stats.median(times[-_TELL_RUNS:]) / 1e6
        sys.stderr.write(f"{PROGRESS} {len(times)} {recent!r}\n")
        sys.stderr.flush()


def peak_bytes() -> int | Unavailable:
    """Return the largest memory that this process had in use.

    The kernel's `VmHWM` where there is one: `getrusage` of a child begins with the peak of the
    process that started it.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return Unavailable(reason="this system tells no peak memory")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _device_peak(task: Task) -> int | Unavailable:
    if task.provider == "cpu":
        return Unavailable(reason="no device was used")
    if task.runner == "torch":
        return int(optional.load("torch").cuda.max_memory_reserved())
    return machine_state.gpu_bytes_of(os.getpid())


def main() -> None:
    """Read the task, measure, write the document."""
    try:
        outcome = measure(task_from_document(json.loads(sys.stdin.read())))
    except ElfattDeployError as error:
        outcome = Failed(reason=str(error).replace("\n  next:", "; next:"))
    document = {type(outcome).__name__.lower(): artifacts.to_document(outcome)}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
