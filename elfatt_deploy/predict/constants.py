"""The stated constants of a prediction: `profiles/predict.toml`."""

from __future__ import annotations

import dataclasses
import functools

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.errors import UnknownNameError
from elfatt_deploy.predict.machine import Machine


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What was fitted on published times; the same for all models, modes and boards.

    Args:
        dense: share of the FP32 peak that products, convolutions and attention reach.
        tensor: share of the peak of tensor cores that products and convolutions reach.
        attention: share of the peak of tensor cores that attention in one kernel reaches.
        depthwise: share of the FP32 peak that depthwise convolutions reach, in any precision.
        memory: share of the memory's bandwidth that kernels reach.
    """

    dense: float
    tensor: float
    attention: float
    depthwise: float
    memory: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What it takes to launch a kernel; stated, not fitted.

    Args:
        eager_cycles: CPU cycles of a launch by PyTorch.
        fused_cycles: CPU cycles of a launch in a compiled engine.
        least: share of that which it costs at least: for the uncertainty.
        most: times that which it costs at most.
        source: where that is from.
    """

    eager_cycles: float
    fused_cycles: float
    least: float
    most: float
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class HalfRate:
    """FP16 multiply-adds of a multiprocessor in a clock, by compute capability.

    Args:
        sm: compute capability, 87 for 8.7.
        fused: what a compiled engine can use.
        eager: what PyTorch uses, which adds up in FP32.
        tensor_cores: whether they are done by tensor cores.
        tf32_convolutions: TF32 multiply-adds in a clock, which PyTorch uses for convolutions in
            FP32 unless told otherwise; 0 where the GPU has none.
        source: where that is from.
    """

    sm: int
    fused: int
    eager: int
    tensor_cores: bool
    tf32_convolutions: int
    source: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """How far published values lay from predicted ones, on points that were not fitted.

    Args:
        boards: what the points were measured on, in words.
        sms: compute capabilities that it is used for; empty for all others.
        low: published / predicted images a second, a low quantile.
        high: a high quantile.
        level: share of the points between the two.
        points: number of them.
    """

    boards: str
    sms: tuple[int, ...]
    low: float
    high: float
    level: float
    points: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """All constants of a prediction.

    Args:
        method: name and version of the rules that they belong to.
        fitted: those fitted on published times.
        launch: cost of a launch.
        attention_in_parts: targets whose PyTorch has no fused attention.
        half_rates: FP16 rate of each compute capability.
        bands: uncertainty.
    """

    method: str
    fitted: Fitted
    launch: Launch
    attention_in_parts: tuple[str, ...]
    half_rates: tuple[HalfRate, ...]
    bands: tuple[Band, ...]

    def half_rate(self, machine: Machine) -> HalfRate:
        """Return the FP16 rate of a board.

        Raises:
            UnknownNameError: its compute capability has none.
        """
        for rate in self.half_rates:
            if rate.sm == machine.sm:
                return rate
        known = (str(rate.sm) for rate in self.half_rates)
        raise UnknownNameError("compute capability", str(machine.sm), known)

    def band(self, machine: Machine) -> Band:
        """Return the uncertainty of an eager prediction for a board."""
        named = (band for band in self.bands if machine.sm in band.sms)
        return next(named, next(band for band in self.bands if not band.sms))


@functools.cache
def constants() -> Constants:
    """Return the shipped constants.

    Raises:
        SchemaError: the shipped file lacks a field or has one of the wrong type.
    """
    path = recipes.profiles_folder() / "predict.toml"
    return from_document(Constants, recipes.read_toml(path), str(path))
