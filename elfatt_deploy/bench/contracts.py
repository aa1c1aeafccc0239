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


def differences(contract: Contract, runner: str, provider: str) -> tuple[str, ...]:
    """Return how a runner keeps a contract, and where it differs; the text is in the record.

    Args:
        contract: the contract.
        runner: `ort` or `torch`.
        provider: `cpu` or `cuda`.

    Raises:
        UnknownNameError: there is no such runner.
        UsageError: the runner cannot keep the contract at all.
    """
    if runner not in _TWO:
        raise UnknownNameError("runner", runner, _TWO)
    if contract.name == "compute/1":
        raise UsageError(
            f"{runner} on {provider} cannot keep {contract.name}: it does not show the time of GPU "
            "compute alone",
            hint="use --contract single-stream/1, which has the copies in it, or throughput/1",
        )
    found = [_CLOCK, _ON_CPU if provider == "cpu" else _ON_CUDA]
    if contract.in_flight > 1:
        found.append(_TWO[runner])
    if runner == "ort" and provider == "cpu":
        found.append(_SPINNING)
    return tuple(found)
