"""The first inner tensor that leaves the reference.

An export names the outputs of stem, blocks and mergings after their modules, and keeps a sample of
the reference values of each; so the place of a fault is found without torch.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy.errors import RunnerError
from elfatt_deploy.golden import Golden
from elfatt_deploy.parity.tolerance import TAP_LIMIT

if TYPE_CHECKING:
    from elfatt_deploy.runners.base import Runner


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TapError:
    """How far one inner tensor is off, relative to the spread of its reference values."""

    name: str
    relative_error: float

    @property
    def diverges(self) -> bool:
        """Whether that is more than rounding."""
        return not self.relative_error <= TAP_LIMIT


def tap_errors(runner: Runner, golden: Golden, batch: int) -> tuple[TapError, ...]:
    """Run the first golden image through a runner whose taps are outputs, and compare each tap.

    Args:
        runner: an open runner of the graph with its taps as outputs.
        golden: inputs and reference samples; its taps are in the order of the graph.
        batch: batch size to run.

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
        spread = float(reference.std()) or 1.0
        error = np.abs(first[chosen].astype(np.float64) - reference).max() / spread
        errors.append(TapError(name=name, relative_error=float(error)))
    return tuple(errors)


def first_divergence(errors: tuple[TapError, ...]) -> str:
    """Say in words where the first divergence is."""
    for error in errors:
        if error.diverges:
            return f"{error.name} (off by {error.relative_error:.1e} of its spread)"
    if not errors:
        return "not located: the graph has no named inner tensors"
    return f"after {errors[-1].name}, the last named tensor"
