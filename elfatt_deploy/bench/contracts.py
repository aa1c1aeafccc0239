"""The named timing contracts, and how far each runner on this machine can keep them.

A number without its contract means nothing: latency with and without copies, one and two runs in
flight differ by more than most optimisations do.
"""

from __future__ import annotations

import dataclasses

from elfatt_deploy.errors import UnknownNameError, UsageError

#: repetitions of the paper's measurements (Tables VIII and IX)
PAPER_RUNS = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a time means.

    Args:
        name: its name and version; a change of meaning is a new version.
        in_flight: runs that are under way at once.
        transfers: whether copies to and from the device are in the time.
        cuda_graph: whether the work is launched as a CUDA graph; `recorded`: the record says.
        sync: how the host waits for the device.
        reports: what is shown of it.
        quantity: what one sample is.
        runs: exact number of timed runs of a repetition; None where the stop rule decides.
    """

    name: str
    in_flight: int
    transfers: str
    cuda_graph: str
    sync: str
    reports: str
    quantity: str
    runs: int | None = None


CONTRACTS: dict[str, Contract] = {
    contract.name: contract
    for contract in (
        Contract(
            name="compute/1",
            in_flight=2,
            transfers="no",
            cuda_graph="yes",
            sync="spin",
            reports="median, p90, p95, p99 of GPU compute",
            quantity="GPU compute time of a batch",
        ),
        Contract(
            name="single-stream/1",
            in_flight=1,
            transfers="yes, pinned",
            cuda_graph="recorded",
            sync="recorded",
            reports="end-to-end latency p50, p90, p99; images/s = 1000 x batch / p50 (ms)",
            quantity="end-to-end latency of a batch",
        ),
        Contract(
            name="throughput/1",
            in_flight=2,
            transfers="yes",
            cuda_graph="yes",
            sync="spin",
            reports="images/s = batch x runs / wall-clock time",
            quantity="end-to-end latency of a batch with another one in flight",
        ),
        Contract(
            name="paper/1",
            in_flight=1,
            transfers="not stated",
            cuda_graph="not stated",
            sync="not stated",
            reports=f"mean of {PAPER_RUNS} repetitions",
            quantity="end-to-end latency of a batch",
            runs=PAPER_RUNS,
        ),
    )
}


def contract(name: str) -> Contract:
    """Return a contract.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in CONTRACTS:
        raise UnknownNameError("contract", name, CONTRACTS)
    return CONTRACTS[name]


#: runner -> what it runs on
RUNNERS: dict[str, tuple[str, ...]] = {
    "ort": ("cpu", "cuda", "tensorrt"),
    "torch": ("cpu", "cuda"),
    "trt": ("tensorrt",),
    "trtexec": ("tensorrt",),
}
#: those that run a plan, not a bundle
PLAN_RUNNERS = ("trt", "trtexec")

_CLOCK = "host clock around each run, from array to array"
_ON_CPU = "CPU: no device transfers, no CUDA graph, no stream to wait for"
_ON_CUDA = (
    "CUDA: copies from and to pageable, not pinned memory are in each run; no CUDA graph; the run "
    "returns when the device is done, in the runner's own way of waiting"
)
_TWO = {
    "ort": "two threads share one session",
    "torch": "two threads share one module and Python's lock",
}
_SPINNING = "ONNX Runtime's worker threads stop spinning between runs"
_TF32_OPEN = "ONNX Runtime's TensorRT provider has no switch for TF32: FP32 may multiply in it"
_TRT_EVENTS = (
    "GPU events before and after each run, launched by a CUDA graph; one in flight, not two: the "
    "host waits for each run before the next"
)
_TRT_CLOCK = (
    "copies from and to pinned memory; no CUDA graph; the host waits as CUDA does where nothing "
    "was chosen"
)
_TRTEXEC_SUM = (
    "a sample is trtexec's latency: copy in, GPU compute and copy out added up by the GPU's "
    "clock, without the host's share and without waiting for the run before"
)
_TRTEXEC = {
    "compute/1": "trtexec's GPU compute time; two in flight, CUDA graph, spinning, no copies",
    "single-stream/1": f"{_TRTEXEC_SUM}; one in flight (--exposeDMA), CUDA graph, spinning",
    "throughput/1": f"{_TRTEXEC_SUM}; wall-clock time from the first copy in to the last copy out",
    "paper/1": f"{_TRTEXEC_SUM}; one in flight (--exposeDMA), no CUDA graph, not spinning",
}
_TRTEXEC_WARM = "warm-up by time, in trtexec; it settled where five fifths of the runs agree"


def differences(contract: Contract, runner: str, provider: str) -> tuple[str, ...]:
    """Return how a runner keeps a contract, and where it differs; the text is in the record.

    Args:
        contract: the contract.
        runner: `ort`, `torch`, `trt` or `trtexec`.
        provider: `cpu`, `cuda` or `tensorrt`.

    Raises:
        UnknownNameError: there is no such runner.
        UsageError: the runner does not run on that, or cannot keep the contract at all.
    """
    if runner not in RUNNERS:
        raise UnknownNameError("runner", runner, RUNNERS)
    if provider not in RUNNERS[runner]:
        raise UsageError(
            f"--runner {runner} does not run on {provider}",
            hint=f"use --provider {' or '.join(RUNNERS[runner])}",
        )
    if runner == "trtexec":
        return _TRTEXEC[contract.name], _TRTEXEC_WARM
    if runner == "trt":
        return _of_trt(contract)
    if contract.name == "compute/1":
        raise UsageError(
            f"{runner} on {provider} cannot keep {contract.name}: it does not show the time of GPU "
            "compute alone",
            hint="use --contract single-stream/1, which has the copies in it, or throughput/1; or "
            "measure a plan: --plan DIR",
        )
    found = [_CLOCK, _ON_CPU if provider == "cpu" else _ON_CUDA]
    if contract.in_flight > 1:
        found.append(_TWO[runner])
    if runner == "ort" and provider == "cpu":
        found.append(_SPINNING)
    if provider == "tensorrt":
        found.append(_TF32_OPEN)
    return tuple(found)


def _of_trt(contract: Contract) -> tuple[str, ...]:
    if contract.name == "compute/1":
        return (_TRT_EVENTS,)
    if contract.in_flight > 1:
        raise UsageError(
            f"trt cannot keep {contract.name}: it has one run in flight",
            hint="use --runner trtexec, which has two",
        )
    return _CLOCK, _TRT_CLOCK
