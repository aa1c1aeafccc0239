"""A roofline: the time of each kernel is that of its arithmetic or of its memory traffic.

    time = sum over kernels of max(FLOPs / rate, bytes / bandwidth) + launches x launch cost

Rates and bandwidth follow the clocks, the multiprocessors and the memory clock of the power mode,
times the stated shares of `profiles/predict.toml`. Source of the idea: Williams, Waterman and
Patterson, "Roofline", Communications of the ACM 52 (2009).
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from elfatt_deploy.predict.constants import Constants
from elfatt_deploy.predict.kernels import Kernel, KernelTable, Kind, Precision, Regime
from elfatt_deploy.predict.machine import Machine

#: what a part of the network waits for: arithmetic, the memory, or the CPU that launches kernels
Limit = Literal["compute", "bandwidth", "launch"]

#: how often the matrix of scores goes through memory where attention is a product, a softmax and
#: another product: written, read, written, read
_SCORE_PASSES = 4
#: first compute capability whose tensor cores the plugin uses
_PLUGIN_TENSOR_SM = 75
#: kernels of such an attention beyond the one that is counted
_SCORE_KERNELS = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LevelEstimate:
    """The time of a part of the network, by what it waits for.

    Args:
        level: the part: `stem`, `1` to `4`, `head`.
        kernels: number of launches.
        by_limit_ms: what it waits for -> time.
    """

    level: str
    kernels: int
    by_limit_ms: dict[Limit, float]

    @property
    def total_ms(self) -> float:
        """Its whole time."""
        return sum(self.by_limit_ms.values())

    @property
    def limit(self) -> Limit:
        """What it waits for longest."""
        return max(self.by_limit_ms, key=lambda name: self.by_limit_ms[name])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A predicted time of one run of a batch."""

    batch: int
    levels: tuple[LevelEstimate, ...]

    @property
    def total_ms(self) -> float:
        """The time of the batch."""
        return sum(level.total_ms for level in self.levels)

    @property
    def kernels(self) -> int:
        """Number of launches."""
        return sum(level.kernels for level in self.levels)

    @property
    def launch_ms(self) -> float:
        """What of that time is launches."""
        return sum(level.by_limit_ms["launch"] for level in self.levels)

    @property
    def images_per_s(self) -> float:
        """Images a second, one batch after the other."""
        return 1000 * self.batch / self.total_ms


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a board reaches in a mode, for one regime and precision; operations and bytes a second.

    Args:
        flops: by the kind of the kernel.
        bytes_per_s: the memory.
        launch_s: time to launch a kernel.
        attention_in_parts: whether the scores of attention go through memory.
        plugin_tensor_flops: of the plugin, what it does on tensor cores where there are any.
    """

    flops: dict[Kind, float]
    bytes_per_s: float
    launch_s: float
    attention_in_parts: bool
    plugin_tensor_flops: float


def rates(machine: Machine, constants: Constants, regime: Regime, precision: Precision) -> Rates:
    """Return what a board reaches.

    Raises:
        UnknownNameError: nothing is stated of its compute capability.
    """
    eager = regime == "eager"
    launch = constants.launch.eager_cycles if eager else constants.launch.fused_cycles
    # TensorRT fuses attention in FP16 alone (docs/kernels.md)
    parts = machine.target in constants.attention_in_parts if eager else precision == "fp32"
    flops = _flops(machine, constants, regime, precision)
    tensor = precision == "fp16" and machine.sm >= _PLUGIN_TENSOR_SM
    return Rates(
        flops=flops,
        bytes_per_s=constants.fitted.memory * machine.bandwidth_bytes_per_s,
        launch_s=launch / machine.cpu_hz,
        attention_in_parts=parts,
        plugin_tensor_flops=flops["attention" if tensor else "plugin"],
    )


def _flops(
    machine: Machine, constants: Constants, regime: Regime, precision: Precision
) -> dict[Kind, float]:
    """Return the operations a second of each kind of kernel."""
    fitted, half = constants.fitted, constants.half_rate(machine)
    clocks = 2 * machine.sms * machine.gpu_hz
    product = convolution = attention = fitted.dense * machine.fp32_flops
    if precision == "fp16":
        peak = clocks * (half.eager if regime == "eager" else half.fused)
        product = convolution = (fitted.tensor if half.tensor_cores else fitted.dense) * peak
        attention = (fitted.attention if half.tensor_cores else fitted.dense) * peak
    elif regime == "eager" and half.tf32_convolutions:
        convolution = fitted.tensor * clocks * half.tf32_convolutions
    depthwise = fitted.depthwise * machine.fp32_flops
    return {
        "product": product,
        "convolution": convolution,
        "attention": attention,
        "plugin": fitted.dense * machine.fp32_flops,  # it adds up in FP32
        "depthwise": depthwise,
        "memory": depthwise,
    }


def estimate(
    table: KernelTable,
    machine: Machine,
    constants: Constants,
    *,
    regime: Regime,
    precision: Precision,
    batch: int,
) -> Estimate:
    """Return the predicted time of a model on a board in a power mode.

    Raises:
        UnknownNameError: nothing is stated of the board's compute capability.
    """
    reached = rates(machine, constants, regime, precision)
    levels: dict[str, list[Kernel]] = {}
    for kernel in table.kernels(regime, precision):
        levels.setdefault(kernel.level, []).append(kernel)
    return Estimate(
        batch=batch,
        levels=tuple(_level(name, kernels, reached, batch) for name, kernels in levels.items()),
    )


def _level(name: str, kernels: list[Kernel], reached: Rates, batch: int) -> LevelEstimate:
    by_limit: dict[Limit, float] = {"compute": 0.0, "bandwidth": 0.0, "launch": 0.0}
    launches = 0
    for kernel in kernels:
        limit, seconds = kernel_seconds(kernel, reached, batch)
        by_limit[limit] += 1000 * seconds * kernel.count
        launches += launches_of(kernel, parts=reached.attention_in_parts)
    by_limit["launch"] += 1000 * launches * reached.launch_s
    return LevelEstimate(level=name, kernels=launches, by_limit_ms=by_limit)


def kernel_seconds(kernel: Kernel, reached: Rates, batch: int) -> tuple[Limit, float]:
    """Return what one launch of a kernel waits for, and its time without the launch."""
    compute = kernel.flops * batch / reached.flops[kernel.kind]
    compute += kernel.tensor_flops * batch / reached.plugin_tensor_flops
    moved = moved_bytes(kernel, batch, parts=reached.attention_in_parts)
    memory = moved / reached.bytes_per_s
    return ("compute", compute) if compute > memory else ("bandwidth", memory)


def moved_bytes(kernel: Kernel, batch: int, *, parts: bool) -> float:
    """Return the bytes that one launch moves through the memory.

    Args:
        kernel: the kernel.
        batch: images in a run.
        parts: whether the scores of attention go through it.
    """
    activations = kernel.activation_bytes + _SCORE_PASSES * kernel.score_bytes * parts
    return activations * batch + kernel.weight_bytes


def launches_of(kernel: Kernel, *, parts: bool) -> int:
    """Return how often a kernel is launched; `parts` as for `moved_bytes`."""
    more = _SCORE_KERNELS if parts and kernel.kind == "attention" else 0
    return kernel.count * (1 + more)
