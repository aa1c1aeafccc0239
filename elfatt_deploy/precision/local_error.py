"""What FP16 does to each node by itself, measured in one pass over real images.

The FP32 graph runs as it is. Beside each node stands a twin that reads the same exact values
rounded to FP16, and whose result is rounded to FP16; the difference between the two is the error
that this node alone would bring in. Only sums leave the graph, so that memory does not grow with
the number of nodes.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.graph import half, rounding
from elfatt_deploy.parity import compare
from elfatt_deploy.runners.ort_runner import OrtRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

_SUMS = ("error", "energy", "peak")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LocalError:
    """What FP16 does to one node whose inputs are exact.

    Args:
        node: its name.
        op: its op.
        relative: |FP16 result - exact| / |exact|, both over all values of all images; inf where a
            value is lost to an overflow or a division by zero.
        peak: largest magnitude that the node reads or makes.
        made: largest magnitude that it makes.
        movement: whether the op only moves values.
    """

    node: str
    op: str
    relative: float
    peak: float
    made: float
    movement: bool

    @property
    def fatal(self) -> bool:
        """Whether FP16 loses a value altogether."""
        return not math.isfinite(self.relative)


def local_errors(
    model: onnx.ModelProto, images: NDArray[np.float32], batch: int | str
) -> tuple[LocalError, ...]:
    """Measure every floating-point node of an FP32 graph on images [U, 3, H, W], in its order.

    Args:
        model: the graph; its first input takes the images.
        images: real images.
        batch: batch size of the graph, or `dynamic`.

    Raises:
        RunnerError: ONNX Runtime cannot run the graph.
    """
    probed = _Probes(model)
    totals: dict[str, NDArray[np.float64]] = {}
    with OrtRunner(probed.model.SerializeToString(), optimised=False) as runner:
        for chosen in batches(images, batch):
            values = runner.infer({probed.input: chosen})
            for tensor in probed.tensors:
                error, energy, peak = (float(values[f"{tensor}/{name}"]) for name in _SUMS)
                before = totals.get(tensor, np.zeros(3))
                totals[tensor] = np.array(
                    (before[0] + error, before[1] + energy, max(before[2], peak))
                )
    return tuple(_of_node(node, made, read, totals) for node, made, read in probed.nodes)


def with_fixed_batch(model: onnx.ModelProto, batch: int | str) -> onnx.ModelProto:
    """Return the graph for one batch size, that of `batches`: itself where it has but one.

    ONNX Runtime needs minutes in place of seconds to open the graph with its thousands of probes
    where the batch is a symbol.

    Args:
        model: the graph.
        batch: its batch size, or `dynamic`.
    """
    if isinstance(batch, int):
        return model
    fixed = copy.deepcopy(model)
    for tensor in (*fixed.graph.input, *fixed.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = compare.batches_of(batch)[0]
    del fixed.graph.value_info[:]  # those name the symbol
    return fixed


def batches(images: NDArray[np.float32], batch: int | str) -> Iterator[NDArray[np.float32]]:
    """Yield the images in batches of the graph's size, the first ones again where they run out."""
    size = compare.batches_of(batch)[0]
    order = np.resize(np.arange(len(images)), -(-len(images) // size) * size)
    for start in range(0, len(order), size):
        yield np.ascontiguousarray(images[order[start : start + size]])


def _of_node(
    node: onnx.NodeProto,
    made: tuple[str, ...],
    read: tuple[str, ...],
    totals: dict[str, NDArray[np.float64]],
) -> LocalError:
    relative = 0.0
    for name in made:
        error, energy, _ = totals[name]
        if not math.isfinite(error):
            relative = math.inf
        elif error > 0:
            relative = max(relative, math.sqrt(error / energy) if energy > 0 else math.inf)
    return LocalError(
        node=node.name,
        op=node.op_type,
        relative=relative,
        peak=max(totals[name][2] for name in (*made, *read)),
        made=max(totals[name][2] for name in made),
        movement=node.op_type in rounding.MOVEMENTS,
    )


class _Probes:
    """The graph with a twin of every node, and the sums as its outputs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.onnx = optional.load("onnx")
        self.model = copy.deepcopy(model)
        graph = self.model.graph
        self.floats = half.float_tensors(model)
        self.weights = {t.name: t for t in graph.initializer if t.name in self.floats}
        self.input = graph.input[0].name
        self.tensors: list[str] = []
        self.nodes: list[tuple[onnx.NodeProto, tuple[str, ...], tuple[str, ...]]] = []
        self.added: list[onnx.NodeProto] = []
        self.rounded: dict[str, str] = {}
        self._sums(self.input, self._rounded(self.input))
        for node in model.graph.node:
            self.added.append(node)
            made = tuple(name for name in node.output if name in self.floats)
            if made and any(True for _ in half.reads_as_data(node, self.floats)):
                self._probe(node, made)
        del graph.node[:], graph.output[:], graph.value_info[:]
        graph.node.extend(self.added)
        for tensor in self.tensors:
            for name in _SUMS:
                kind = self.onnx.TensorProto.FLOAT
                info = self.onnx.helper.make_tensor_value_info(f"{tensor}/{name}", kind, None)
                graph.output.append(info)

    def _probe(self, node: onnx.NodeProto, made: tuple[str, ...]) -> None:
        twin = copy.deepcopy(node)
        twin.name = f"{node.name}/twin"
        read = []
        for place, name in half.reads_as_data(node, self.floats):
            twin.input[place] = self._rounded(name)
            if name not in self.weights:
                read.append(name)
        for place, name in enumerate(node.output):
            twin.output[place] = f"{name}/twin" if name else ""
        self.added.append(twin)
        # The sums stand beside their tensor: at the end, all tensors would live till then.
        for name in made:
            self.added.extend(rounding.round_trip(f"{name}/twin", f"{name}/twin-half"))
            self._sums(name, f"{name}/twin-half")
        for name in read:  # of nodes without a twin
            self._sums(name, self._rounded(name))
        self.nodes.append((node, made, tuple(read)))

    def _rounded(self, name: str) -> str:
        if name not in self.rounded:
            made = self.rounded[name] = f"{name}/rounded"
            if name in self.weights:
                helper = self.onnx.numpy_helper
                with np.errstate(over="ignore"):
                    values = helper.to_array(self.weights[name]).astype(np.float16)
                tensor = helper.from_array(values.astype(np.float32), made)
                self.model.graph.initializer.append(tensor)
            else:
                self.added.extend(rounding.round_trip(name, made))
        return self.rounded[name]

    def _sums(self, tensor: str, twin: str) -> None:
        if tensor in self.tensors:
            return
        self.tensors.append(tensor)
        make = self.onnx.helper.make_node
        self.added += [
            make("Sub", [twin, tensor], [f"{tensor}/off"]),
            make("ReduceSumSquare", [f"{tensor}/off"], [f"{tensor}/error"], keepdims=0),
            make("ReduceSumSquare", [tensor], [f"{tensor}/energy"], keepdims=0),
            make("Abs", [tensor], [f"{tensor}/magnitude"]),
            make("ReduceMax", [f"{tensor}/magnitude"], [f"{tensor}/peak"], keepdims=0),
        ]
