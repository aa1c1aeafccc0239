"""Whether a graph parses and builds in TensorRT for RTX, and how many kernels it becomes.

The only parser and builder of the TensorRT family that work without a GPU. The builder compiles
for SM 8.6 and its verbose log lists the kernels, each with the ONNX nodes that it came from. A
plan of it runs on no Jetson and is thrown away; nothing runs here, so there are no times.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from elfatt_deploy import optional
from elfatt_deploy.errors import EngineError
from elfatt_deploy.graph import plugin_nodes
from elfatt_deploy.models import plugin_node

#: entries of the builder's list that wait for another stream and compute nothing
EVENTS = ("signal", "wait")
_FUSED_ATTENTION = "_gemm_mha"
#: findings of the parser that a message shows
_SHOWN = 3
_ENTRY = re.compile(r"^Name: (\S+), LayerType: (\w+)")
_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
#: what every message of a failure ends with where there is no GPU
_NO_GPU = re.compile(r"\s*\S*catchCudaError.*|\s*CUDA initialization failure.*", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One entry of the builder's list.

    Args:
        name: as the builder calls it.
        kind: its layer type, such as `kgen`, `gemm` or `signal`.
        nodes: names of the ONNX nodes that it came from; none for an event.
    """

    name: str
    kind: str
    nodes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelCount:
    """What a list of kernels amounts to.

    Args:
        kernels: all entries.
        events: those among them that only synchronise two streams.
        fused_attention: those among them that are a whole softmax attention.
        blocks: (block, entries), in the order in which they run; empty where no blocks were given.
    """

    kernels: int
    events: int
    fused_attention: int
    blocks: tuple[tuple[str, int], ...] = ()


def kernels(model: bytes) -> tuple[Kernel, ...]:
    """Build a serialized ONNX graph and return its kernels in the order in which they run.

    The graph is strongly typed: the types of the file decide. Takes 1 to 12 s for a model of T
    size and leaves nothing behind, so that it can run in a process of its own.

    Raises:
        MissingDependency: the package tensorrt_rtx is absent.
        EngineError: the graph needs a plugin, does not parse, or does not build.
    """
    if plugin_nodes.holds_nodes(model):
        raise EngineError(
            f"the graph needs the plugin {plugin_node.DOMAIN}, and TensorRT for RTX has no plugin "
            "layers",
            hint=f"export the model without --plugin {plugin_node.DOMAIN}",
        )
    trt = optional.load("tensorrt_rtx")
    log = _log(trt)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise EngineError(
            f"TensorRT for RTX {trt.__version__} does not take the graph: {_parse_errors(parser)}"
        )
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if builder.build_serialized_network(network, config) is None:
        said = (
            "; ".join(dict.fromkeys(map(_without_gpu_noise, log.errors))) or "it does not say why"
        )
        raise EngineError(f"TensorRT for RTX {trt.__version__} cannot build the graph: {said}")
    found = parsed_kernels(log.entries)
    if not found:
        raise EngineError(
            f"TensorRT for RTX {trt.__version__} built the graph and listed no kernel",
            hint="its log has another form: report the version",
        )
    return found


def parsed_kernels(lines: list[str]) -> tuple[Kernel, ...]:
    """Return the kernels in lines of the builder's verbose log."""
    return tuple(
        Kernel(name=entry[1], kind=entry[2], nodes=tuple(_ONNX_NODE.findall(line)))
        for line in lines
        if (entry := _ENTRY.match(line))
    )


def count(found: tuple[Kernel, ...], block_of: Mapping[str, str] | None = None) -> KernelCount:
    """Count kernels.

    Args:
        found: the kernels, in the order in which they run.
        block_of: block of each ONNX node, from `blocks_of_nodes`. A kernel counts for the block
            that most of its nodes belong to, and an event for the kernel before it.
    """
    blocks: Counter[str] = Counter()
    block = ""
    for kernel in found if block_of else ():
        votes = Counter(block_of[n] for n in kernel.nodes if block_of and n in block_of)
        block = votes.most_common(1)[0][0] if votes else block
        blocks[block] += 1
    return KernelCount(
        kernels=len(found),
        events=sum(kernel.kind in EVENTS for kernel in found),
        fused_attention=sum(_FUSED_ATTENTION in kernel.name for kernel in found),
        blocks=tuple(blocks.items()),
    )


def blocks_of_nodes(model: bytes, taps: tuple[str, ...]) -> dict[str, str]:
    """Return for each node of a graph the first tap at or behind it; `""` behind the last.

    Args:
        model: the serialized graph.
        taps: names of the tensors that blocks end with, as a manifest lists them.

    Raises:
        MissingDependency: the package onnx is absent.
    """
    nodes = optional.load("onnx").load_model_from_string(model).graph.node
    block, blocks = "", {}
    for node in reversed(nodes):
        block = next((name for name in node.output if name in taps), block)
        blocks[node.name] = block
    return blocks


def _log(trt: Any) -> Any:
    """Return a logger that keeps the errors and the list of kernels."""
    failures = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.entries: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in failures:
                self.errors.append(message)
            elif "LayerType: " in message:  # the whole list is one message
                self.entries.extend(message.splitlines())

    return Log()


def _parse_errors(parser: Any) -> str:
    """Return what the parser found, with the node, each once."""
    told = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        where = (
            f"node '{error.node_name()}' ({error.node_operator()}): " if error.node_name() else ""
        )
        told.append(where + _without_gpu_noise(error.desc()))
    told = list(dict.fromkeys(told))
    more = (f"and {len(told) - _SHOWN} more",) if len(told) > _SHOWN else ()
    return "; ".join((*told[:_SHOWN], *more)) or "it does not say why"


def _without_gpu_noise(text: str) -> str:
    return " ".join((_NO_GPU.sub("", text).strip() or text).split())
