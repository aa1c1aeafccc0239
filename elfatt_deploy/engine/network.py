"""An ONNX file as a TensorRT network: typing, parser errors, islands, optimization profile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from elfatt_deploy.engine.config import BatchProfile, BuildConfig
from elfatt_deploy.engine.messages import Log
from elfatt_deploy.errors import EngineError

#: how TensorRT 8.6 and newer name the ONNX nodes that a layer came from
_NODE_OF = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def has_fp16_flag(trt: Any) -> bool:
    """Whether this TensorRT has a builder flag for FP16; 11 has none: its networks are typed."""
    return hasattr(trt.BuilderFlag, "FP16")


def check_typing(trt: Any, config: BuildConfig) -> None:
    """Refuse a precision that this version cannot give.

    Raises:
        EngineError: a typed network before TensorRT 9, or FP16 by flag from 11 on.
    """
    if config.typed and not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        raise EngineError(
            f"TensorRT {trt.__version__} has no strongly typed networks",
            hint="export the bundle for this board (--target jp4 or jp5): its builder takes FP16 "
            "by a flag",
        )
    if config.precision == "fp16" and not config.typed and not has_fp16_flag(trt):
        raise EngineError(
            f"TensorRT {trt.__version__} has no FP16 flag: the types of the file decide",
            hint="export the bundle with --precision fp16 for a target such as jp7.2 or desktop",
        )


def create(trt: Any, builder: Any, config: BuildConfig, log: Log) -> Any:
    """Return an empty network of explicit batch, strongly typed where that is asked for."""
    flags, known = 0, trt.NetworkDefinitionCreationFlag
    # Numbers of the flags changed between versions (STRONGLY_TYPED: 1 in 10, 0 in 11).
    for name, wanted in (("EXPLICIT_BATCH", True), ("STRONGLY_TYPED", config.typed)):
        if wanted and hasattr(known, name):
            flags |= 1 << int(getattr(known, name))
    return log.demand(builder.create_network(flags), "TensorRT made no network")


def parse(trt: Any, network: Any, model: Path, log: Log) -> None:
    """Fill the network from an ONNX file; weights in files beside it are found.

    Raises:
        EngineError: the parser refuses it; each of its errors names the node.
    """
    parser = trt.OnnxParser(network, log.logger)
    parsed = parser.parse_from_file(str(model))
    found = [_told(parser.get_error(index)) for index in range(parser.num_errors)]
    if not parsed or found:
        log.errors[:] = found or log.errors  # the log tells each of them again, in more lines
        log.demand(
            None,
            f"TensorRT {trt.__version__} does not parse {model}",
            hint=f"'elfatt-deploy check {model} --target TARGET' names what the target lacks",
        )


def _told(error: Any) -> str:
    """Return a parser error in one line; names of node and op came with TensorRT 9."""
    parts = [f"node {error.node()}"] if error.node() >= 0 else []
    for label, name in (("", "node_name"), ("op ", "node_operator")):
        if hasattr(error, name) and getattr(error, name)():
            parts.append(f"{label}{getattr(error, name)()}")
    where = ", ".join(parts)
    return f"{where}: {error.desc()}" if where else str(error.desc())


def constrain(trt: Any, network: Any, islands: tuple[str, ...]) -> int:
    """Keep the layers of `islands` in FP32 and return how many layers that are.

    The parser names a layer after its node, and from 8.6 on lists the nodes in the metadata of
    every layer; layers that it adds (a broadcast of a constant) have neither and follow their
    neighbours.

    Raises:
        EngineError: an island has no layer with a floating-point output.
    """
    single = trt.DataType.FLOAT
    floating = (single, trt.DataType.HALF)
    left, constrained = set(islands), 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        names = {layer.name, *_NODE_OF.findall(getattr(layer, "metadata", "") or "")}
        meant = names & set(islands)
        outputs = [
            number
            for number in range(layer.num_outputs)
            if layer.get_output(number).dtype in floating
        ]
        # Constants, and shapes in integers, have no precision to hold.
        if not meant or not outputs or layer.type == trt.LayerType.CONSTANT:
            continue
        layer.precision = single
        for number in outputs:
            layer.set_output_type(number, single)
        left -= meant
        constrained += 1
    if left:
        raise EngineError(
            "no layer of the network belongs to these FP32 islands: " + ", ".join(sorted(left)),
            hint="export the bundle again: its precision map is of another graph",
        )
    return constrained


def add_profile(
    network: Any, builder: Any, config: Any, profile: BatchProfile | None, log: Log
) -> None:
    """Add the optimization profile of a dynamic batch, shapes read from the network.

    Raises:
        EngineError: the profile and the graph do not fit, or a dimension beside the batch is open.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(int(side) for side in tensor.shape) for tensor in inputs}
    for name, shape in shapes.items():
        if any(side < 0 for side in shape[1:]):
            raise EngineError(
                f"the input '{name}' has the open shape {shape}: only the batch may be dynamic",
                hint="export the bundle again",
            )
    dynamic = {name: shape for name, shape in shapes.items() if shape and shape[0] < 0}
    if bool(dynamic) != (profile is not None):
        have, asked = ("dynamic", "gives no") if dynamic else ("fixed", "asks for a")
        raise EngineError(
            f"the batch of the graph is {have}, and the build {asked} range of batches",
            hint="give --batch SMALLEST-BEST-LARGEST for a dynamic bundle, and for no other",
        )
    if profile is None:
        return
    ranges = log.demand(builder.create_optimization_profile(), "TensorRT made no profile")
    for name, shape in dynamic.items():
        sizes = (profile.smallest, profile.best, profile.largest)
        ranges.set_shape(name, *((size, *shape[1:]) for size in sizes))
    added = config.add_optimization_profile(ranges)
    log.demand(added >= 0 or None, "TensorRT refuses the optimization profile")
