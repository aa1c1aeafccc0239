"""Turns the ops that a framework ran into kernels: one each, or grouped as a compiler does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Literal

from elfatt_deploy.predict.kernels import Kernel, Kind

#: how an op may be fused: a product stands alone, a reduction goes once into a group
Role = Literal["anchor", "reduction", "elementwise"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One tensor that an op reads or writes: which memory, and how much of it.

    `constant` where it depends on the weights alone.
    """

    storage: int
    size_bytes: int
    constant: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One op that the framework ran, for `Recording.batch` images.

    Args:
        level: part of the network.
        kind: kind of its kernel.
        role: how it may be fused.
        flops: floating-point operations.
        reads: tensors that it reads.
        writes: tensors that it writes.
        score_bytes: the matrix of scores of an attention.
        kernels: what it is as kernels of one image, where that is known: the plugin's node.
    """

    level: str
    kind: Kind
    role: Role
    flops: int
    reads: tuple[Use, ...]
    writes: tuple[Use, ...]
    score_bytes: int = 0
    kernels: tuple[Kernel, ...] = ()

    @property
    def constant(self) -> bool:
        """Whether it depends on the weights alone: a compiler does it once, beforehand."""
        return all(use.constant for use in self.writes)


def eager_kernels(ops: Iterable[Op], batch: int) -> tuple[Kernel, ...]:
    """Return a kernel for each op."""
    return _merged(_kernel([op], op.reads, op.writes, batch) for op in ops)


def fused_kernels(ops: Sequence[Op], batch: int) -> tuple[Kernel, ...]:
    """Return kernels grouped by simple rules, as an optimising compiler would.

    What depends on weights alone is done beforehand. Products, convolutions and attention are
    kernels of their own, each with the elementwise ops of one tensor that follow it at once
    (activation, folded BatchNorm). All ops between two of them are one kernel, with at most one
    reduction in it. A kernel reads what was made outside of it, and writes what is read outside.
    """
    groups: list[list[Op]] = []
    for op in ops:
        if op.constant:
            continue
        if groups and _joins(groups[-1], op):
            groups[-1].append(op)
        else:
            groups.append([op])
    last_read = _last_reads(groups)
    kernels: list[Kernel] = []
    for index, group in enumerate(groups):
        made = {use.storage for op in group for use in op.writes}
        reads = {
            (use.storage, use.constant): use
            for op in group
            for use in sorted(op.reads, key=lambda use: use.size_bytes)
            if use.storage not in made
        }
        writes = {
            use.storage: use
            for op in group
            for use in op.writes
            if last_read.get(use.storage, len(groups)) > index
        }
        if group[0].kernels:
            kernels += group[0].kernels
            continue
        kernels.append(_kernel(group, reads.values(), writes.values(), batch))
    return _merged(kernels)


def _joins(group: list[Op], op: Op) -> bool:
    """Whether an op becomes part of the group before it."""
    if op.role == "anchor":
        return False
    if group[0].role == "anchor":
        inputs = {use.storage for use in op.reads if not use.constant}
        return op.role == "elementwise" and inputs == {use.storage for use in group[-1].writes}
    return op.role == "elementwise" or all(other.role != "reduction" for other in group)


def _last_reads(groups: Sequence[Sequence[Op]]) -> dict[int, int]:
    """Return the index of the last group that reads each tensor."""
    return {
        use.storage: index for index, group in enumerate(groups) for op in group for use in op.reads
    }


def _kernel(ops: Sequence[Op], reads: Iterable[Use], writes: Iterable[Use], batch: int) -> Kernel:
    used = (*reads, *writes)
    first = ops[0]
    return Kernel(
        level=first.level,
        kind=first.kind,
        count=1,
        flops=sum(op.flops for op in ops) / batch,
        activation_bytes=sum(use.size_bytes for use in used if not use.constant) / batch,
        weight_bytes=float(sum(use.size_bytes for use in used if use.constant)),
        score_bytes=sum(op.score_bytes for op in ops) / batch,
    )


def _merged(kernels: Iterable[Kernel]) -> tuple[Kernel, ...]:
    """Return the same kernels with equal ones counted; `memory` ones of a level as their mean.

    What only moves data has a time that is linear in its bytes, so that a mean loses nothing.
    """
    counts: dict[Kernel, int] = {}
    moving: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        if kernel.kind == "memory" and not kernel.flops:
            moving.setdefault(kernel.level, []).append(kernel)
        else:
            counts[kernel] = counts.get(kernel, 0) + 1
    means = [
        Kernel(
            level=level,
            kind="memory",
            count=len(group),
            flops=0.0,
            activation_bytes=sum(k.activation_bytes for k in group) / len(group),
            weight_bytes=sum(k.weight_bytes for k in group) / len(group),
        )
        for level, group in moving.items()
    ]
    found = [dataclasses.replace(kernel, count=count) for kernel, count in counts.items()]
    return tuple(sorted([*found, *means], key=lambda k: (_ORDER.index(k.level), k.kind, -k.flops)))


_ORDER = ("stem", "1", "2", "3", "4", "head")
