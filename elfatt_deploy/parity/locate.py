"""The first inner tensor that leaves the reference.

Against the golden outputs: an export names the outputs of stem, blocks and mergings after their
modules and keeps a sample of the reference values of each, so that the place of a fault is found
without torch. Against another runner of the same graph: every floating-point tensor of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.errors import RunnerError
from elfatt_deploy.golden import Golden

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from elfatt_deploy.runners.base import Runner


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorError:
    """How far one inner tensor is off.

    Args:
        name: the tensor.
        relative_error: largest error over the spread of the reference values.
        limit: what is more than rounding.
    """

    name: str
    relative_error: float
    limit: float

    @property
    def diverges(self) -> bool:
        """Whether that is more than rounding."""
        return not self.relative_error <= self.limit


def tap_errors(runner: Runner, golden: Golden, batch: int, limit: float) -> tuple[TensorError, ...]:
    """Run the first golden image through a runner whose taps are outputs, and compare each tap.

    Args:
        runner: an open runner of the graph with its taps as outputs.
        golden: inputs and reference samples; its taps are in the order of the graph.
        batch: batch size to run.
        limit: how far a tensor may be off.

    Raises:
        RunnerError: the runner fails or lacks a tap.
    """
    outputs = runner.infer({"images": np.repeat(golden.images[:1], batch, axis=0)})
    errors = []
    for name, reference in golden.taps.items():
        if name not in outputs:
            raise RunnerError(f"{runner.name} gives no tensor '{name}'")
        first = outputs[name].reshape(batch, -1)[0]
        chosen = golden.tap_positions[name]
        if chosen[-1] != first.size - 1:
            raise RunnerError(f"tensor '{name}' has another size than in the reference")
        error = _relative_error(first[chosen], reference)
        errors.append(TensorError(name=name, relative_error=error, limit=limit))
    return tuple(errors)


def pair_errors(
    reference: Runner,
    candidate: Runner,
    names: tuple[str, ...],
    images: NDArray[np.float32],
    limit: float,
) -> tuple[TensorError, ...]:
    """Run each of two runners once and compare the tensors that both give.

    Args:
        reference: an open runner with the tensors as outputs.
        candidate: the one that is judged.
        names: tensors, in the order of the graph.
        images: [B, 3, H, W].
        limit: how far a tensor may be off.

    Raises:
        RunnerError: a runner fails, or they share no tensor.
    """
    expected = reference.infer({"images": images})
    found = candidate.infer({"images": images})
    shared = [name for name in names if name in expected and name in found]
    if not shared:
        raise RunnerError(
            f"{candidate.name} and {reference.name} share no tensor: there is nothing to compare"
        )
    return tuple(
        TensorError(
            name=name, relative_error=_relative_error(found[name], expected[name]), limit=limit
        )
        for name in shared
    )


def first_divergence(errors: tuple[TensorError, ...]) -> str:
    """Say in words where the first divergence is."""
    for error in errors:
        if error.diverges:
            return f"{error.name} (off by {error.relative_error:.1e} of its spread)"
    if not errors:
        return "not located: the graph has no named inner tensors"
    return f"after {errors[-1].name}, the last named tensor"


def _relative_error(found: NDArray[np.floating], reference: NDArray[np.floating]) -> float:
    """Return the largest error over the spread of the reference; inf where a value is lost."""
    exact = reference.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(found.astype(np.float64).reshape(exact.shape) - exact)
        error[(found.reshape(exact.shape) == reference)] = 0  # two infinities of one sign
        spread = float(exact.std()) if exact.size else 0.0
    worst = float(error.max(initial=0))
    if not np.isfinite(worst):
        return float("inf")
    return worst / (spread if np.isfinite(spread) and spread else 1.0)
