"""Runs a plan by trtexec, here or on a board, the way a timing contract wants it.

trtexec keeps two inferences under way and copies with each of them; from 11 on it copies nothing,
launches by a CUDA graph and spins. Every option that decides this is given, so that a contract
means the same in all versions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from elfatt_deploy.engine.dialects import Dialect
from elfatt_deploy.engine.trtexec_log import TrtexecLog, parse_log, why
from elfatt_deploy.errors import (
    CommandTimeout,
    EngineError,
    PlanMismatch,
    UnknownNameError,
)
from elfatt_deploy.transport.base import CommandResult, Transport

#: told of each line that trtexec writes
OnLine = Callable[[str], None]
#: the input of every bundle
INPUT = "images"
#: what trtexec warns of where the launch by a CUDA graph failed, and was given up
_GRAPH_IGNORED = "--useCudaGraph flag has been ignored"
_GRAPH_REFUSED = "not permitted under CUDA graph capture mode"
_REFUSED_PLAN = ("deserializ", "Failed to read header", "engine file", "Engine could not be")
#: status of a program that signal 9 ended: the kernel's OOM killer sends it
_KILLED = 128 + 9
_SHOWN = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Launch:
    """How one inference follows another.

    Args:
        graph: whether each is the launch of a CUDA graph.
        spin: whether the host waits in a loop.
        transfers: whether each copies its input and output.
        alone: whether one begins when the one before has ended; else two are under way.
    """

    graph: bool
    spin: bool
    transfers: bool
    alone: bool


#: the contracts of `bench/contracts.py`; where they leave graph and waiting open, the faster way,
#: and for `paper/1` the plain one
_CONTRACTS = {
    "compute/1": _Launch(graph=True, spin=True, transfers=False, alone=False),
    "single-stream/1": _Launch(graph=True, spin=True, transfers=True, alone=True),
    "throughput/1": _Launch(graph=True, spin=True, transfers=True, alone=False),
    "paper/1": _Launch(graph=False, spin=False, transfers=True, alone=True),
}
_PARITY = _CONTRACTS["paper/1"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunPlaces:
    """Program and files of a run, as the machine that runs it names them.

    Args:
        program: trtexec.
        plan: the plan.
        times: where the times go; empty for nowhere.
        inputs: raw values of `images`; empty for random ones.
        outputs: where the outputs of the last inference go; empty for nowhere.
        layers: where the mean time of each layer goes; empty for nowhere.
        plugins: plugin libraries.
    """

    program: str
    plan: str
    times: str = ""
    inputs: str = ""
    outputs: str = ""
    layers: str = ""
    plugins: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunLength:
    """How long trtexec runs.

    Args:
        warm_up_ms: inferences that begin in this time are no samples.
        duration_s: least duration of the others together, in whole seconds (rounded up).
        iterations: least number of the others.
    """

    warm_up_ms: int
    duration_s: float
    iterations: int


def run_command(
    dialect: Dialect,
    contract: str,
    places: RunPlaces,
    length: RunLength,
    shape: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Return the command that times a plan by a contract.

    Args:
        dialect: of the version that will run it.
        contract: its name and version.
        places: program and files.
        length: how long.
        shape: of `images`, where the plan has a dynamic batch; None where it has not.

    Raises:
        UnknownNameError: there is no such contract.
        EngineError: trtexec cannot name a file.
    """
    if contract not in _CONTRACTS:
        raise UnknownNameError("contract", contract, _CONTRACTS)
    return _command(dialect, _CONTRACTS[contract], places, length, shape)


def parity_command(
    dialect: Dialect, places: RunPlaces, shape: Sequence[int] | None = None
) -> tuple[str, ...]:
    """Return the command that runs a plan once on given inputs and writes its outputs.

    The arguments are those of `run_command`.

    Raises:
        EngineError: trtexec cannot name a file.
    """
    once = RunLength(warm_up_ms=0, duration_s=0, iterations=1)
    return _command(dialect, _PARITY, places, once, shape)


def layers_command(
    dialect: Dialect, places: RunPlaces, shape: Sequence[int] | None = None
) -> tuple[str, ...]:
    """Return the command that takes the time of each layer, in a run apart from the timed one.

    The layers are timed one by one, without a CUDA graph: their sum is more than the plan takes.
    The arguments are those of `run_command`.

    Raises:
        EngineError: trtexec cannot name a file.
    """
    some = RunLength(warm_up_ms=500, duration_s=0, iterations=20)
    return _command(dialect, _PARITY, places, some, shape)


def _command(
    dialect: Dialect,
    launch: _Launch,
    places: RunPlaces,
    length: RunLength,
    shape: Sequence[int] | None,
) -> tuple[str, ...]:
    command = [places.program, f"--loadEngine={places.plan}"]
    command += [f"{dialect.plugins}{path}" for path in places.plugins]
    if shape is not None:
        command.append(f"--shapes={INPUT}:{'x'.join(map(str, shape))}")
    if places.inputs:
        # trtexec splits the list at commas and each part at a colon, and takes quotes off.
        if set(places.inputs) & set(",:'"):
            raise EngineError(
                f"trtexec cannot name the file {places.inputs}: comma, colon and quote mean "
                "something to it",
                hint="use a work folder without them in its name",
            )
        command.append(f"--loadInputs={INPUT}:{places.inputs}")
    command += [
        f"--warmUp={length.warm_up_ms}",
        f"--duration={math.ceil(length.duration_s)}",
        f"--iterations={length.iterations}",
        dialect.graph if launch.graph else dialect.no_graph,
        dialect.spin if launch.spin else dialect.no_spin,
        dialect.transfers if launch.transfers else dialect.no_transfers,
        "--exposeDMA" if launch.alone else "",
        f"--exportTimes={places.times}" if places.times else "",
        f"--exportOutput={places.outputs}" if places.outputs else "",
        # without a run of its own 8.5 to 10 print no summary, by which a run is judged
        "--separateProfileRun" if places.layers else "",
        f"--exportProfile={places.layers}" if places.layers else "",
    ]
    return tuple(filter(None, command))


def run(
    transport: Transport,
    command: tuple[str, ...],
    version: str,
    *,
    timeout_s: float,
    on_line: OnLine | None = None,
) -> TrtexecLog:
    """Run a plan, and believe it only where all signs agree.

    Args:
        transport: the machine.
        command: of `run_command` or `parity_command`.
        version: TensorRT's, for messages.
        timeout_s: when it is ended.
        on_line: told of each line of its output.

    Raises:
        PlanMismatch: trtexec does not load the plan.
        EngineError: it fails in any other way.
        CommandError: it cannot be started.
        CommandTimeout: it does not end in time.
    """
    lines: list[str] = []

    def keep(line: str) -> None:
        lines.append(line)
        if on_line is not None:
            on_line(line)

    try:
        result = transport.run(command, timeout_s=timeout_s, on_line=keep)
    except CommandTimeout as error:
        last = " | ".join(line.strip() for line in lines[-2:]) or "(none)"
        raise CommandTimeout(
            f"trtexec on {transport.name} did not end within {timeout_s:g} s; its last words: "
            f"{last}",
            hint="look at the machine's memory and load, or allow more time",
            command=command,
            stderr=error.stderr,
        ) from error
    log = parse_log("\n".join(lines))
    _judge(transport.name, version, result, log)
    return log


def graph_was_used(log: TrtexecLog) -> bool:
    """Whether a launch by a CUDA graph that was asked for took place."""
    return not any(_GRAPH_IGNORED in line or _GRAPH_REFUSED in line for line in log.warnings)


def _judge(name: str, version: str, result: CommandResult, log: TrtexecLog) -> None:
    if result.status == 0 and log.verdict == "passed" and not log.fatal and log.summary:
        return
    told = "".join(f"\n  {line}" for line in log.errors[:_SHOWN])
    if log.unknown_options:
        raise EngineError(
            f"trtexec of TensorRT {version} does not know {', '.join(log.unknown_options)}",
            hint="this is a fault of profiles/trtexec.toml: please report it with this message",
        )
    if any(word in line for line in log.errors for word in _REFUSED_PLAN):
        raise PlanMismatch(
            f"trtexec of TensorRT {version} on {name} does not load the plan:{told}",
            hint="a plan runs on the GPU and the TensorRT that built it: build it again there",
        )
    if result.status == _KILLED or log.out_of_memory:
        raise EngineError(
            f"trtexec on {name} ran out of memory: {log.out_of_memory or 'it was killed'}",
            hint="free memory (close the desktop session), or use a smaller batch or input",
        )
    reason = why(result.status, log, "performance summary")
    raise EngineError(
        f"trtexec on {name} did not run the plan: {reason}{told}",
        hint="the lines above are what TensorRT said; "
        "'elfatt-deploy doctor' shows the versions to put into a bug report",
    )
