"""How the samples of one repetition are taken: by the host's clock, GPU events, or trtexec."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import contracts, protocol, stats
from elfatt_deploy.bench.machine_state import ForeignWork
from elfatt_deploy.bench.protocol import Limits, Run, SteadyRule, Timed, Turn, WarmUp, Watch
from elfatt_deploy.engine import trtexec_run
from elfatt_deploy.engine.trtexec_run import RunLength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from elfatt_deploy.runners.trt_runner import TrtRunner
    from elfatt_deploy.runners.trtexec_runner import TrtexecRunner

    Feeds = Mapping[str, NDArray[np.float32]]

#: runs between two looks at the clock, where the GPU's events take the times
_FIRST_CHUNK, _LARGEST_CHUNK, _CHUNK_MS = 16, 4096, 500.0
#: trtexec warms up by time: for half of what is measured, and at least this long
_WARM_S = 1.0
#: for the start of trtexec and the loading of a plan
_LOADING_S = 300.0
_NO_GRAPH = "trtexec could not launch by a CUDA graph and did without"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was taken: the fields of `Measured` that come of timing."""

    warm_up: WarmUp
    timed: Timed
    foreign_cores: float | Unavailable
    phases_ms: dict[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def by_host_clock(
    run: Run,
    limits: Limits,
    steady: SteadyRule,
    in_flight: int,
    watch: Watch,
    turn: Turn | None = None,
) -> Taken:
    """Time runs by the host's clock, one or several in flight, or in turns; see `protocol`."""
    warm = protocol.warm_up(run, steady)
    foreign = ForeignWork()
    if turn is not None:
        timed = protocol.in_turns(run, limits, _uncounted(turn, foreign), watch=watch)
    elif in_flight == 1:
        timed = protocol.one_in_flight(run, limits, watch=watch)
    else:
        timed = protocol.several_in_flight(run, limits, in_flight, watch=watch)
    return Taken(warm_up=warm, timed=timed, foreign_cores=foreign.cores())


def _uncounted(turn: Turn, foreign: ForeignWork) -> Turn:
    """Return a turn while whose waiting nothing counts as foreign: the other cells run."""

    def waited() -> None:
        foreign.pause()
        turn()
        foreign.resume()

    return waited


def by_events(
    runner: TrtRunner, feeds: Feeds, limits: Limits, steady: SteadyRule, watch: Watch
) -> Taken:
    """Time GPU compute by events on the GPU, each run the launch of one CUDA graph.

    Raises:
        EngineError: CUDA or TensorRT fails, or the CUDA library has no graphs.
    """
    warm = protocol.warm_up(lambda: runner.infer(feeds), steady)
    foreign = ForeignWork()
    times: list[float] = []
    start = time.perf_counter_ns()
    count, elapsed = _FIRST_CHUNK, 0
    while not limits.met(len(times), elapsed):
        chunk = runner.compute_ms(feeds, repetitions=count, warmup=1, graph=True)
        times += chunk
        elapsed = time.perf_counter_ns() - start
        watch([int(ms * 1e6) for ms in times], elapsed)
        wanted = int(_CHUNK_MS / max(stats.median(chunk), 1e-3))
        count = min(max(wanted, 1), _LARGEST_CHUNK)
    return Taken(
        warm_up=warm,
        timed=Timed(times_ms=tuple(times), wall_ms=elapsed / 1e6),
        foreign_cores=foreign.cores(),
    )


def by_trtexec(
    runner: TrtexecRunner, feeds: Feeds, contract: str, limits: Limits, steady: SteadyRule
) -> Taken:
    """Time a plan by trtexec, in one run of it.

    Raises:
        EngineError: trtexec fails, or its times cannot be believed.
        DeviceError: it cannot be run.
    """
    warm_s = min(steady.most_seconds, max(_WARM_S, limits.enough.seconds / 2))
    length = RunLength(
        warm_up_ms=round(1000 * warm_s),
        duration_s=limits.enough.seconds,
        iterations=limits.enough.rounds,
    )
    foreign, own, began = ForeignWork(), _of_children(), time.monotonic()
    times, warmed = runner.time(
        feeds, contract, length, timeout_s=limits.most_seconds + warm_s + _LOADING_S
    )
    cores = foreign.cores()
    if isinstance(cores, float):  # trtexec's own work is not foreign
        cores = max(0.0, cores - (_of_children() - own) / (time.monotonic() - began))
    # A contract with an exact number of runs: trtexec makes at least so many.
    count = contracts.contract(contract).runs or len(times.compute_ms)
    samples = times.samples_ms(contract)[:count]
    kept = runner.log is None or trtexec_run.graph_was_used(runner.log)
    return Taken(
        warm_up=WarmUp(runs=warmed, windows_ms=(), steady=_settled(samples, steady)),
        timed=Timed(
            times_ms=samples, wall_ms=max(times.end_ms[:count]) - min(times.start_ms[:count])
        ),
        foreign_cores=cores,
        phases_ms={name: values[:count] for name, values in times.phases_ms.items()},
        notes=() if kept else (_NO_GRAPH,),
    )


def _of_children() -> float:
    """Return the CPU time of all processes that were started here and have ended."""
    found = os.times()
    return found.children_user + found.children_system


def _settled(samples: Sequence[float], steady: SteadyRule) -> bool:
    """Whether the samples, cut into as many parts as the rule has windows, agree."""
    size = len(samples) // steady.windows
    if not size:
        return False
    parts = [samples[n * size : (n + 1) * size] for n in range(steady.windows)]
    return steady.agree([stats.median(part) for part in parts])
