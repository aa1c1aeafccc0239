"""The attention micro-benchmark: what is asked, which cells it has, which of them can be timed.

A cell is one mechanism at one map size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from elfatt_deploy import units
from elfatt_deploy.artifacts import ParityRow, Tolerance, Unavailable
from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext

#: opset of the timed graphs: that of the default target
OPSET = 17
_HEAD_CHANNELS = 32
#: inputs, copies and inner tensors [N, C] at once; measured: 12 (EFFATT) to 19 (FLatten)
_MAPS = 20
#: share of the free memory that a cell may take
_MEMORY_SHARE = 0.8
#: what a cell may take where nobody says how much memory is free
_UNKNOWN_MEMORY_BYTES = 2**30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCell:
    """One mechanism at one size of the token map."""

    attention: str
    rows: int
    cols: int

    @property
    def tokens(self) -> int:
        """Number of tokens N."""
        return self.rows * self.cols

    @property
    def name(self) -> str:
        """Name for tables and warnings: `elfatt 56x56`."""
        return f"{self.attention} {self.rows}x{self.cols}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRequest:
    """What to time.

    Args:
        attentions: registered mechanisms.
        sizes: token maps as (rows, columns).
        dim: channels C.
        heads: heads h; None means one for each 32 channels.
        block: side of the square blocks of blockified attention.
        threads: threads within an op; 0 means ONNX Runtime's choice.
        rule: when to stop.
        seed: seed of weights, inputs and order.
        plot: file of the figure; None means no figure.
    """

    attentions: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    dim: int = 64
    heads: int | None = None
    block: int = 7
    threads: int = 1
    rule: StopRule = dataclasses.field(default_factory=StopRule)
    seed: int = 0
    plot: Path | None = None

    def __post_init__(self) -> None:
        """Reject what cannot be timed.

        Raises:
            UnknownNameError: there is no mechanism of that name.
            UsageError: a number that no attention can have.
        """
        for name in self.attentions:
            if name not in registry.ATTENTIONS:
                raise UnknownNameError("attention", name, registry.ATTENTIONS)
        if not self.attentions or not self.sizes:
            raise UsageError("there is no attention or no size to time")
        for name, value in (("dim", self.dim), ("heads", self.heads), ("block", self.block)):
            if value is not None and value < 1:
                raise UsageError(f"--{name} {value} is not a positive number")
        if self.threads < 0:
            raise UsageError(f"--threads {self.threads} is negative")
        if any(min(size) < 1 for size in self.sizes):
            raise UsageError(f"a map of {min(self.sizes)} tokens is empty")
        if self.dim % self.head_count:
            raise UsageError(
                f"--set heads={self.head_count} does not divide --dim {self.dim}",
                hint=f"use one of {', '.join(map(str, _divisors(self.dim)))} heads",
            )

    @property
    def head_count(self) -> int:
        """Heads h: those asked for, or one for each 32 channels."""
        return max(1, self.dim // _HEAD_CHANNELS) if self.heads is None else self.heads

    @property
    def cells(self) -> tuple[AttentionCell, ...]:
        """Every mechanism at every size, each once; small sizes first."""
        sizes = sorted(dict.fromkeys(self.sizes), key=lambda size: (size[0] * size[1], size))
        return tuple(
            AttentionCell(attention=name, rows=rows, cols=cols)
            for rows, cols in sizes
            for name in dict.fromkeys(self.attentions)
        )

    def context(self, cell: AttentionCell) -> AttentionContext:
        """Return the block of one cell; what the request leaves open is that of level 1."""
        return AttentionContext(
            dim=self.dim, heads=self.head_count, rows=cell.rows, cols=cell.cols, block=self.block
        )

    def needed_bytes(self, cell: AttentionCell, largest_bytes: int) -> int:
        """Estimate the memory that exporting, proving and running a cell takes.

        Args:
            cell: the cell.
            largest_bytes: size of its largest tensor. It counts twice: while torch traces the
                export, the scores and their softmax stand in memory together.
        """
        return 2 * largest_bytes + _MAPS * 4 * cell.tokens * self.dim


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def memory_refusal(needed: int, free: int | Unavailable) -> Unavailable | None:
    """Return why a cell is not run, or nothing.

    Args:
        needed: bytes that it takes, as `AttentionRequest.needed_bytes` estimates.
        free: bytes that can be taken now.
    """
    if isinstance(free, Unavailable):
        if needed <= _UNKNOWN_MEMORY_BYTES:
            return None
        return Unavailable(reason=f"needs {_gib(needed)}, and {free.reason}")
    if needed <= _MEMORY_SHARE * free:
        return None
    return Unavailable(
        reason=f"needs {_gib(needed)}, above {100 * _MEMORY_SHARE:.0f} % of the free {_gib(free)}"
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.1f} GiB"


def parity_refusal(row: ParityRow, allowed: Tolerance) -> Unavailable | None:
    """Return why a graph that differs from torch is not timed, or nothing."""
    if row.passed:
        return None
    return Unavailable(
        reason=f"parity failed: max error {units.error(row.max_abs)} (allowed "
        f"{units.error(allowed.max_abs * row.scale)}), rel. L2 {units.error(row.relative_l2)} "
        f"(allowed {units.error(allowed.relative_l2)}), {row.nonfinite} NaN or Inf"
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A cell before it is timed.

    Args:
        cell: the cell.
        parity: its graph in ONNX Runtime against torch; None where that was not reached.
        refused: why it is not timed; None where it is.
        run: one run of its graph.
    """

    cell: AttentionCell
    parity: ParityRow | None = None
    refused: Unavailable | None = None
    run: Callable[[], object] | None = None
