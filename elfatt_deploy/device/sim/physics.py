"""The rule of times, power and temperature. Its numbers say nothing about a real board.

- ms of a query: fixed + 2 MACs / (peak x efficiency) + bytes / (bandwidth x share) + its launches
- busy W: idle + (max - idle) x GPU clock / highest x TPCs on / all, cut at the mode's budget
- degC: first-order lag towards ambient + rise x W / max W
"""

from __future__ import annotations

import dataclasses
import math

from elfatt_deploy.device.sim.facts import Facts


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What a board runs at.

    Args:
        cpu_hz: the fastest core.
        gpu_hz: the GPU.
        emc_hz: the memory controller.
        tpcs: TPCs that are on.
        budget_w: watts that the power mode allows.
    """

    cpu_hz: float
    gpu_hz: float
    emc_hz: float
    tpcs: int
    budget_w: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one query asks for.

    Args:
        macs_fp32: multiply-accumulates of FP32 products.
        macs_fp16: those of FP16 products.
        moved_bytes: weights and activations that are read or written.
        layers: layers that are launched.
        input_bytes: copied in.
        output_bytes: copied out.
    """

    macs_fp32: int
    macs_fp16: int
    moved_bytes: int
    layers: int
    input_bytes: int
    output_bytes: int


def peak_flops(facts: Facts, clocks: Clocks) -> float:
    """Return FP32 operations per second of the CUDA cores: two for each core and cycle."""
    return clocks.tpcs * facts.sms_per_tpc * facts.cores_per_sm * 2.0 * clocks.gpu_hz


def bandwidth(facts: Facts, clocks: Clocks) -> float:
    """Return bytes per second of the memory; it follows the memory controller's clock."""
    return facts.bandwidth_bytes_per_s * clocks.emc_hz / facts.emc_hz[1]


def compute_ms(
    facts: Facts, clocks: Clocks, work: Work, *, graph: bool, speed: float = 1.0
) -> float:
    """Return GPU compute time of one query, in ms.

    Args:
        facts: the board.
        clocks: what it runs at.
        work: the query.
        graph: whether it is launched as a CUDA graph.
        speed: how many times as fast the board is; the fixed time of a query stays.
    """
    rule = facts.rule
    peak = peak_flops(facts, clocks) * rule.efficiency
    arithmetic = 2.0 * (work.macs_fp32 + work.macs_fp16 / rule.fp16_gain) / peak
    memory = work.moved_bytes / (bandwidth(facts, clocks) * rule.bandwidth_share)
    slower = facts.cpu_khz[-1] * 1000.0 / clocks.cpu_hz
    launch = work.layers * (rule.graph_launch_us if graph else rule.launch_us * slower) * 1e-6
    return 1e3 * (rule.query_us * 1e-6 + (arithmetic + memory + launch) / speed)


def copy_ms(facts: Facts, clocks: Clocks, size_bytes: int) -> float:
    """Return the time of a copy to or from the GPU, in ms."""
    rate = bandwidth(facts, clocks) * facts.rule.copy_share
    return 1e3 * size_bytes / rate + facts.rule.copy_latency_us * 1e-3


def busy_w(facts: Facts, clocks: Clocks) -> float:
    """Return the watts of the whole board while its GPU computes."""
    share = clocks.gpu_hz / facts.gpu_hz[-1] * clocks.tpcs / facts.tpcs
    wanted = facts.idle_w + (facts.max_w - facts.idle_w) * share
    return max(facts.idle_w, min(wanted, clocks.budget_w))


def rail_mw(facts: Facts, watts: float) -> tuple[float, ...]:
    """Return milliwatts of each rail while the board takes `watts`."""
    above = max(0.0, watts - facts.idle_w)
    rest = min(watts, facts.idle_w)
    return tuple(1e3 * (rail.at_rest * rest + rail.when_busy * above) for rail in facts.rails)


def steady_c(facts: Facts, watts: float) -> float:
    """Return the temperature that `watts` lead to in the end."""
    return facts.rule.ambient_c + facts.rule.rise_c * watts / facts.max_w


def next_c(facts: Facts, now_c: float, watts: float, seconds: float) -> float:
    """Return the temperature after so many seconds at `watts`."""
    goal = steady_c(facts, watts)
    return goal + (now_c - goal) * math.exp(-seconds / facts.rule.time_constant_s)
