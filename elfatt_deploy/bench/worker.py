"""One repetition in a process of its own: `python -m elfatt_deploy.bench.worker`.

A JSON task in the first line of stdin, one JSON document on stdout, progress on stderr. Where
several take turns, `waiting BYTES` on stderr asks for one, and a line on stdin gives it. ONNX
Runtime cells load no torch.
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

from elfatt_deploy import artifacts, bundles, optional
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine_state, stats, taking
from elfatt_deploy.bench.cells import NO_GPU, Failed, Measured
from elfatt_deploy.bench.protocol import Limits, SteadyRule
from elfatt_deploy.bench.taking import Taken
from elfatt_deploy.bench.timing import StopRule, no_collector
from elfatt_deploy.engine import gpu
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.errors import ElfattDeployError, EngineError, PlanMismatch
from elfatt_deploy.golden import read_golden
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.runners.base import Runner
from elfatt_deploy.runners.ort_runner import OrtRunner
from elfatt_deploy.runners.torch_runner import TorchRunner
from elfatt_deploy.runners.trt_runner import TrtRunner
from elfatt_deploy.runners.trtexec_runner import TrtexecRunner
from elfatt_deploy.transport.local import Local

PROGRESS = "progress"
#: asks for a turn; after it the largest memory of the process so far, in bytes, or -1
WAITING = "waiting"
_STATUS = Path("/proc/self/status")
#: how often the running median is told, and over how many of the latest runs
_TELL_NS, _TELL_RUNS = 500_000_000, 64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a worker is told.

    Args:
        bundle: folder of the bundle.
        runner: `ort`, `torch`, `trt` or `trtexec`.
        provider: `cpu`, `cuda` or `tensorrt`.
        precision: what it runs in, whose tolerance the logits must keep.
        batch: images in a run.
        threads: threads within an op; 0 is the runner's own choice.
        in_flight: runs under way at once.
        limits: of the timed runs.
        steady: of the warm-up.
        contract: name of the timing contract.
        plan: the plan's folder, for the runners that run one.
        variant: `compile` for torch.
        plugins: plugin libraries to load before the plan.
        turns: whether it takes turns with others: only by the host's clock, one run in flight.
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
    contract: str = "single-stream/1"
    plan: str = ""
    variant: str = ""
    plugins: tuple[str, ...] = ()
    turns: bool = False


def task_from_document(document: dict[str, Any]) -> Task:
    """Turn the JSON of our own parent process into a task."""
    limits = dict(document["limits"])
    limits["enough"] = StopRule(**limits["enough"])
    typed = {
        "limits": Limits(**limits),
        "steady": SteadyRule(**document["steady"]),
        "plugins": tuple(document["plugins"]),
    }
    return Task(**{**document, **typed})


def measure(task: Task) -> Measured | Failed:
    """Load, compare one batch with the golden logits, warm up, time.

    Raises:
        ElfattDeployError: the bundle or the plan cannot be read or does not belong here, or the
            runner does not load or run it.
    """
    folder = Path(task.bundle)
    # of the file only this is kept: the taps are large, and are no part of the model's memory
    golden = read_golden(folder / artifacts.GOLDEN_FILE).batch(task.batch)
    images = golden.images
    with _runner(task, folder) as runner:
        notes = _admitted(task, folder, runner)
        logits = runner.infer({"images": images})["logits"]
        _check_gpu(task, runner)
        allowed = tolerance(task.precision)
        parity = compare.batch_report(golden, logits, runner.name, allowed)
        if not parity.passed:
            row = parity.rows[0]
            return Failed(
                reason=f"parity failed at batch {task.batch}: max error {row.max_abs:.1e} (allowed "
                f"{allowed.max_abs * row.scale:.1e}); it was not timed",
                parity=parity,
            )
        with no_collector():
            taken = _taken(task, runner, {"images": images})
        return Measured(
            runner=runner.name,
            version=_version(runner),
            parity=parity,
            warm_up=taken.warm_up,
            timed=taken.timed,
            host_peak_bytes=_host_peak(task),
            device_peak_bytes=_device_peak(task),
            foreign_cores=taken.foreign_cores,
            gpu=_gpu_name(task, runner),
            phases_ms=taken.phases_ms,
            notes=(*notes, *taken.notes),
        )


def _runner(task: Task, folder: Path) -> Runner:
    tf32 = task.precision == "tf32"
    if task.runner == "ort":
        path = str(folder / artifacts.MODEL_FILE)
        return OrtRunner(path, provider=task.provider, threads=task.threads, tf32=tf32)
    if task.runner == "trt":
        plugins = tuple(map(Path, task.plugins))
        return TrtRunner(Path(task.plan), bundle=bundles.read_bundle(folder), plugins=plugins)
    if task.runner == "trtexec":
        plan = plans.read_plan(Path(task.plan))
        dynamic = plan.manifest.profile is not None
        return TrtexecRunner(Local(), str(plan.path), dynamic=dynamic, plugins=task.plugins)
    optional.load("torch")
    from elfatt_deploy.models import weights

    manifest = bundles.read_bundle(folder).manifest
    return TorchRunner(
        weights.rebuilt(manifest.model, manifest.weights, None),
        device=task.provider,
        precision=task.precision,
        compiled=task.variant == "compile",
        threads=task.threads,
    )


def _admitted(task: Task, folder: Path, runner: Runner) -> tuple[str, ...]:
    """Refuse a plan of another place before it is loaded; return what is to be known of it."""
    if isinstance(runner, TrtRunner):
        return runner.notes  # it has refused on its own
    if not isinstance(runner, TrtexecRunner):
        return ()
    plan = plans.read_plan(Path(task.plan))
    try:
        device = gpu.present()
    except EngineError:  # trtexec tells it with its first run, see `_check_gpu`
        device = plan.manifest.device
    return plans.check_identity(
        plan, tensorrt=runner.version, device=device, bundle=bundles.read_bundle(folder)
    )


def _check_gpu(task: Task, runner: Runner) -> None:
    """Refuse to time a plan on another GPU than that it was built for."""
    if not isinstance(runner, TrtexecRunner) or runner.log is None or runner.log.device is None:
        return
    built, found = plans.read_plan(Path(task.plan)).manifest.device, runner.log.device
    if built.sm != found.sm:
        raise PlanMismatch(
            f"{task.plan} was built for {built.name} (SM {built.sm}), trtexec ran it on "
            f"{found.name} (SM {found.sm})"
        )


def _taken(task: Task, runner: Runner, feeds: dict[str, Any]) -> Taken:
    if isinstance(runner, TrtexecRunner):
        return taking.by_trtexec(runner, feeds, task.contract, task.limits, task.steady)
    if isinstance(runner, TrtRunner) and task.contract == "compute/1":
        return taking.by_events(runner, feeds, task.limits, task.steady, _Teller())
    run = functools.partial(runner.infer, feeds)
    turn = _wait if task.turns else None
    return taking.by_host_clock(run, task.limits, task.steady, task.in_flight, _Teller(), turn)


def _wait() -> None:
    """Ask the parent for a turn, and wait for it."""
    peak = peak_bytes()
    sys.stderr.write(f"{WAITING} {peak if isinstance(peak, int) else -1}\n")
    sys.stderr.flush()
    if not sys.stdin.readline():
        sys.exit("the process that gives the turns has ended")


def _version(runner: Runner) -> str:
    if isinstance(runner, TrtexecRunner):
        return f"tensorrt {runner.version}"
    package = {OrtRunner: "onnxruntime", TorchRunner: "torch", TrtRunner: "tensorrt"}[type(runner)]
    return f"{package} {optional.load(package).__version__}"


def _gpu_name(task: Task, runner: Runner) -> str | Unavailable:
    if task.provider == "cpu":
        return NO_GPU
    if isinstance(runner, TrtexecRunner) and runner.log and runner.log.device:
        return runner.log.device.name
    try:
        return gpu.present().name
    except EngineError as error:
        return Unavailable(reason=error.message)


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


def _host_peak(task: Task) -> int | Unavailable:
    if task.runner == "trtexec":
        return Unavailable(reason="trtexec is a process of its own, whose peak nobody reads")
    return peak_bytes()


def _device_peak(task: Task) -> int | Unavailable:
    if task.provider == "cpu":
        return Unavailable(reason="no device was used")
    if task.runner == "trtexec":
        return Unavailable(reason="trtexec does not tell it")
    if task.runner == "torch":
        return int(optional.load("torch").cuda.max_memory_reserved())
    return machine_state.gpu_bytes_of(os.getpid())


def main() -> None:
    """Read the task, measure, write the document."""
    try:
        outcome = measure(task_from_document(json.loads(sys.stdin.readline())))
    except ElfattDeployError as error:
        outcome = Failed(reason=str(error).replace("\n  next:", "; next:"))
    document = {type(outcome).__name__.lower(): artifacts.to_document(outcome)}
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
