"""The FP16 guard: the smallest set of nodes that must stay FP32, found by measurement.

1. Each node is measured by itself (`local_error`). One whose values FP16 loses altogether, to an
   overflow or a division by zero, stays FP32; so does a softmax that the graph scales up before
   anything reads it, which is there for its small values (`export/rewrites.py`).
2. The whole graph is run as FP16 would compute it (`graph/rounding.py`). Where the logits are
   further off than the limit, nodes are added in the order of their own error, one, two, four, ...
   until they are not.
3. What was added in step 2 is taken away again, half of it, then quarters, down to single nodes,
   wherever the logits stay within the limit.

Every step is deterministic: the same graph and images give the same set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Island, PrecisionMap
from elfatt_deploy.errors import ExportError
from elfatt_deploy.parity import prove
from elfatt_deploy.precision import local_error
from elfatt_deploy.precision.local_error import LocalError, local_errors
from elfatt_deploy.runners.emulation import EmulationRunner

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

#: largest relative L2 error of the logits of any image; a quarter below what parity allows, for
#: other images than these
LIMIT = 3.75e-3
#: evaluations of the whole graph that the third step may take
_TRIES = 48
_SCALED = "scaled up before it is rounded: its values lie below the normal numbers of FP16"
_LARGEST = 65504.0
_SMALLEST_NORMAL = 2.0**-14

Progress = Callable[[str], None]


def precision_map(
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    logits: NDArray[np.float32],
    batch: int | str,
    progress: Progress,
) -> PrecisionMap:
    """Find the islands of an FP32 graph.

    Args:
        model: the graph, `images` to `logits`.
        images: real images [U, 3, H, W].
        logits: what FP32 gives for them, [U, classes].
        batch: batch size of the graph, or `dynamic`.
        progress: told what is going on.

    Raises:
        ExportError: not even FP32 islands everywhere bring the logits within the limit.
        RunnerError: ONNX Runtime cannot run the graph.
    """
    progress("measuring what FP16 does to each node")
    model = local_error.with_fixed_batch(model, batch)
    errors = local_errors(model, images, batch)
    search = _Search(model, images, logits, batch, progress)
    scaled = scaled_softmaxes(model)
    needed = [error for error in errors if error.fatal or error.node in scaled]
    rest = tuple(error for error in errors if error not in needed)
    chosen = needed + search.added(needed, _by_harm(rest))
    kept = needed + search.reduced(needed, chosen[len(needed) :])
    names = {error.node for error in kept}
    return PrecisionMap(
        islands=tuple(
            Island(
                node=e.node,
                op=e.op,
                reason=_SCALED if e.node in scaled else reason(e),
                local_error=_finite(e.relative),
            )
            for e in errors
            if e.node in names
        ),
        limit=LIMIT,
        relative_l2=search.error(names),
        all_half=_finite(search.error(())),
        images=len(images),
        tries=search.tries,
    )


def measured(
    found: PrecisionMap,
    model: onnx.ModelProto,
    images: NDArray[np.float32],
    logits: NDArray[np.float32],
    batch: int | str,
    progress: Progress,
) -> PrecisionMap:
    """Return a saved map with its error measured again on this graph; no search.

    Raises:
        ExportError: the graph has no such nodes.
        RunnerError: ONNX Runtime cannot run the graph.
    """
    search = _Search(model, images, logits, batch, progress)
    names = {island.node for island in found.islands}
    missing = sorted(names - {node.name for node in model.graph.node})
    if missing:
        raise ExportError(
            f"the precision map names nodes that this graph does not have: {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            hint="a map belongs to one model, input size and target; export without it to search",
        )
    return dataclasses.replace(
        found, relative_l2=search.error(names), images=len(images), tries=search.tries
    )


def scaled_softmaxes(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of each Softmax that only a Mul by a constant above 1 reads, and of the Mul.

    Such a product keeps small probabilities among the normal numbers of FP16, if it is taken before
    they are rounded.
    """
    helper = optional.load("onnx").numpy_helper
    graph = model.graph
    constants = {
        t.name: float(helper.to_array(t).reshape(())) for t in graph.initializer if _is_number(t)
    }
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = set()
    for node in graph.node:
        if node.op_type != "Softmax":
            continue
        after = readers.get(node.output[0], [])
        if len(after) == 1 and after[0].op_type == "Mul":
            factors = [constants.get(name, 0.0) for name in after[0].input]
            if max(factors) > 1:
                found |= {node.name, after[0].name}
    return frozenset(found)


def reason(error: LocalError) -> str:
    """Say in words why a node stays FP32."""
    if error.peak > _LARGEST:
        return f"values up to {error.peak:.2g}: FP16 ends at 65504"
    if error.fatal:
        return "a value becomes infinite or no number: a divisor is rounded to zero"
    if error.made < _SMALLEST_NORMAL:
        return f"results up to {error.made:.2g}: below the normal numbers of FP16"
    return f"by itself off by {error.relative:.1e} of its result"


def _by_harm(errors: tuple[LocalError, ...]) -> list[LocalError]:
    """Return the nodes that compute something, the most harmed first."""
    return sorted(
        (e for e in errors if not e.fatal and not e.movement and e.relative > 0),
        key=lambda e: -e.relative,
    )


def _is_number(tensor: onnx.TensorProto) -> bool:
    single = optional.load("onnx").TensorProto.FLOAT
    return bool(tensor.data_type == single and math.prod(tensor.dims) == 1)


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


class _Search:
    def __init__(
        self,
        model: onnx.ModelProto,
        images: NDArray[np.float32],
        logits: NDArray[np.float32],
        batch: int | str,
        progress: Progress,
    ) -> None:
        self.model, self.images, self.logits = model.SerializeToString(), images, logits
        self.batch, self.progress = batch, progress
        self.known: dict[frozenset[str], float] = {}

    @property
    def tries(self) -> int:
        """How often the whole graph was run."""
        return len(self.known)

    def error(self, islands: Collection[str]) -> float:
        """Return the largest relative L2 error of any image; inf where a logit is not finite."""
        key = frozenset(islands)
        if key not in self.known:
            self.progress(f"emulating FP16 with {len(key)} nodes in FP32")
            try:
                with EmulationRunner(self.model, islands=key) as runner:
                    found = prove.reference_logits(runner, self.images, self.batch)
            except ExportError:  # a weight that FP16 does not hold
                self.known[key] = float("inf")
                return self.known[key]
            distance = np.linalg.norm(found.astype(np.float64) - self.logits, axis=1)
            worst = float((distance / np.linalg.norm(self.logits, axis=1)).max())
            self.known[key] = worst if np.isfinite(worst) else float("inf")
        return self.known[key]

    def fits(self, errors: list[LocalError]) -> bool:
        """Whether these islands bring the logits within the limit."""
        return self.error({error.node for error in errors}) <= LIMIT

    def added(self, needed: list[LocalError], ordered: list[LocalError]) -> list[LocalError]:
        """Return the first 0, 1, 2, 4, ... of `ordered` that suffice."""
        count = 0
        while not self.fits(needed + ordered[:count]):
            if count >= len(ordered):
                worst = self.error({error.node for error in needed + ordered})
                raise ExportError(
                    f"FP16 leaves the logits off by {worst:.1e} whatever stays FP32 "
                    f"(allowed {LIMIT:.1e})",
                    hint="export it with --precision fp32, and check the model's own logits",
                )
            count = min(max(1, 2 * count), len(ordered))
        return ordered[:count]

    def reduced(self, needed: list[LocalError], chosen: list[LocalError]) -> list[LocalError]:
        """Take away what is not needed, the least harmed first."""
        start, size = self.tries, len(chosen) // 2
        while size and self.tries - start < _TRIES:
            for end in range(len(chosen), 0, -size):
                without = chosen[: max(0, end - size)] + chosen[end:]
                if self.tries - start < _TRIES and self.fits(needed + without):
                    chosen = without
            size //= 2
        return chosen
