"""The build of a simulated plan: the ONNX file is really read, nothing is compiled."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from elfatt_deploy.device.sim import layer_info
from elfatt_deploy.device.sim.graph import (
    ForeignNode,
    Graph,
    foreign_node,
    parse_model,
    read_graph,
)
from elfatt_deploy.device.sim.layer_info import Precisions
from elfatt_deploy.device.sim.machine import Machine
from elfatt_deploy.device.sim.trtexec_options import Options
from elfatt_deploy.device.sim.trtexec_plan import Edge, Plan, plan_bytes
from elfatt_deploy.device.sim.trtexec_text import Log
from elfatt_deploy.graph import plugin_body
from elfatt_deploy.models import plugin_node

_CACHE_MAGIC = "elfatt-deploy simulated timing cache 1"
_LIBRARY = "[TRT] "
_PLUGIN_OPTIONS = ("--plugins", "--staticPlugins", "--dynamicPlugins")


class Failed(Exception):
    """A run that ends with FAILED; what is wrong has been written."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A plan and the ONNX file in it."""

    plan: Plan
    model: bytes


def build(machine: Machine, options: Options, log: Log) -> Built:
    """Build the plan of `--onnx`.

    Raises:
        Failed: the file cannot be built.
        MissingDependency: there is no onnx here.
    """
    facts, began = machine.facts, time.monotonic()
    path = Path(options.text("--onnx"))
    log.info("Start parsing network model" + ("." if facts.version >= (9,) else ""))
    if machine.happens("trtexec-killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        data = path.read_bytes()
        model = parse_model(data)
    except (OSError, ValueError) as error:
        log.error(f"{_LIBRARY}ModelImporter.cpp:735: Failed to parse ONNX model from file: {path}")
        _fail_parsing(log, began, facts.version)
        raise Failed from error
    # The plain ops that compute the same stand for nodes that a library brings.
    plain = plugin_body.expanded(model) if holds_plugin(options, log) else model
    foreign = foreign_node(plain, facts.ops)
    if foreign is not None:
        _refuse_node(log, foreign)
        _fail_parsing(log, began, facts.version)
        raise Failed
    graph = _graph(model, options, log)
    _finish(log, began, facts.version)
    precisions = _precisions(options, facts.sm)
    _use_timing_cache(machine, options, log, data)
    detailed = options.text("--profilingVerbosity") == "detailed"
    if options.text("--profilingVerbosity") == "verbose":
        detailed = True
    plan = _plan(machine, options, graph, precisions, data, detailed)
    log.info(
        f"{_LIBRARY}Detected {len(graph.inputs)} inputs and {len(graph.outputs)} output network "
        "tensors."
    )
    if facts.version >= (10, 13):
        log.info(f"Created engine with size: {len(data) / 2**20:g} MiB")
    log.info(f"Engine built in {time.monotonic() - began:g} sec.")
    return Built(plan=plan, model=data)


def holds_plugin(options: Options, log: Log) -> bool:
    """Whether a library is loaded that holds the plugin `elfatt`, by its name; it is not run.

    Raises:
        Failed: a library is not there.
    """
    libraries = [Path(name) for name in options.texts(*_PLUGIN_OPTIONS)]
    for path in libraries:
        if not path.is_file():
            log.error(f"Could not load library {path}: cannot open shared object file")
            _fail_engine(log)
            raise Failed
    return any(path.name.endswith(plugin_node.LIBRARY) for path in libraries)


def _graph(model: Any, options: Options, log: Log) -> Graph:
    """Return the graph at the best shapes of its profile.

    Raises:
        Failed: shapes do not fit the file.
    """
    best = options.shapes("--optShapes") or options.shapes("--shapes")
    try:
        graph = read_graph(model, best)
    except ValueError as error:
        log.error(f"Dynamic dimensions required for input, but no shapes were provided: {error}")
        log.error("Network And Config setup failed")
        _fail_engine(log)
        raise Failed from error
    if best and not graph.dynamic:
        log.error(
            "Static model does not take explicit shapes since the shape of inference tensors will "
            "be determined by the model itself"
        )
        log.error("Network And Config setup failed")
        _fail_engine(log)
        raise Failed
    return graph


def _precisions(options: Options, sm: int) -> Precisions:
    typed = options.has("--stronglyTyped") or options.version >= (11,)
    constrained = options.text("--precisionConstraints") in ("obey", "prefer")
    listed = options.pairs("--layerPrecisions") if constrained else {}
    return Precisions(
        fp16=options.has("--fp16") and not typed,
        tf32=not options.has("--noTF32"),
        islands=tuple(name for name, word in listed.items() if word == "fp32"),
        sm=sm,
    )


def _plan(
    machine: Machine,
    options: Options,
    graph: Graph,
    precisions: Precisions,
    data: bytes,
    detailed: bool,
) -> Plan:
    facts = machine.facts
    best = {t.name: t.shape for t in graph.inputs if t.name in graph.dynamic}
    return Plan(
        board=facts.board,
        tensorrt=facts.tensorrt,
        sm=facts.sm,
        sha256=hashlib.sha256(data).hexdigest(),
        inputs=tuple(Edge(name=t.name, shape=t.shape, dtype=t.dtype) for t in graph.inputs),
        outputs=tuple(Edge(name=t.name, shape=t.shape, dtype=t.dtype) for t in graph.outputs),
        dynamic=graph.dynamic,
        smallest={**best, **options.shapes("--minShapes")},
        best=best,
        largest={**best, **options.shapes("--maxShapes")},
        work=layer_info.work_of(graph, precisions),
        layers=layer_info.document(graph, precisions, facts.version, detailed=detailed),
    )


def _finish(log: Log, began: float, version: tuple[int, ...]) -> None:
    if version >= (9,):
        log.info(f"Finished parsing network model. Parse time: {time.monotonic() - began:g}")
    else:
        log.info("Finish parsing network model")


def _fail_parsing(log: Log, began: float, version: tuple[int, ...]) -> None:
    log.error("Failed to parse onnx file")
    _finish(log, began, version)
    log.error("Parsing model failed")
    _fail_engine(log)


def _fail_engine(log: Log) -> None:
    log.error("Failed to create engine from model or file.")
    log.error("Engine set up failed")


def _refuse_node(log: Log, node: ForeignNode) -> None:
    """Write that the parser has no importer for a node, nor a plugin of its name."""
    head = f"{_LIBRARY}ModelImporter.cpp"
    first = node.outputs[0] if node.outputs else ""
    log.error(f'{head}:773: While parsing node number {node.number} [{node.op} -> "{first}"]:')
    log.error(f"{head}:774: --- Begin node ---")
    lines = [*(f'input: "{name}"' for name in node.inputs)]
    lines += [f'output: "{name}"' for name in node.outputs]
    lines += [f'name: "{node.name}"', f'op_type: "{node.op}"', ""]
    log.error(f"{head}:775: " + "\n".join(lines))
    log.error(f"{head}:776: --- End node ---")
    log.error(
        f"{head}:779: ERROR: builtin_op_importers.cpp:4870 In function "
        "importFallbackPluginImporter:"
    )
    log.bare(
        '[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and '
        'namespace correct?"',
        error=True,
    )


def save(machine: Machine, options: Options, log: Log, built: Built) -> None:
    """Write the plan of `--saveEngine`.

    Raises:
        Failed: there is no room for it.
    """
    name = options.text("--saveEngine")
    if not name:
        return
    data, room = plan_bytes(built.plan, built.model), machine.room_bytes()
    try:
        if room is not None and len(data) > room:
            Path(name).write_bytes(data[:room])  # what a full disk leaves of a file
            raise OSError("No space left on device")
        Path(name).write_bytes(data)
    except OSError as error:
        log.error(f"Saving engine to file failed: {name}: {error.strerror or error}")
        _fail_engine(log)
        raise Failed from error


def export_layers(options: Options, log: Log, plan: Plan) -> None:
    """Write the layer information of `--exportLayerInfo`."""
    name = options.text("--exportLayerInfo")
    if not name:
        return
    # TensorRT writes a line for each layer and parts the nodes of one by the bare byte 0x1E.
    text = json.dumps(plan.layers, indent=1).replace("\\u001e", "\x1e")
    try:
        Path(name).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        log.error(f"Failed to write {name}: {error.strerror}")


def _use_timing_cache(machine: Machine, options: Options, log: Log, data: bytes) -> None:
    """Read and write the file of `--timingCacheFile`; one of another board is left out."""
    name, facts = options.text("--timingCacheFile"), machine.facts
    if not name:
        log.info(
            f"{_LIBRARY}Local timing cache in use. Profiling results in this builder pass will "
            "not be stored."
        )
        return
    owner = f"{facts.board} {facts.tensorrt}"
    known: list[str] = []
    with contextlib.suppress(OSError, UnicodeDecodeError):
        lines = Path(name).read_text(encoding="utf-8").splitlines()
        if lines[:2] == [_CACHE_MAGIC, owner]:
            known = lines[2:]
            log.info(f"Loaded {Path(name).stat().st_size} bytes of timing cache from {name}")
        elif lines:
            log.warning(
                f"{_LIBRARY}The timing cache in {name} is of another device or version; it is "
                "not used."
            )
    digest = hashlib.sha256(data).hexdigest()
    lines = [_CACHE_MAGIC, owner, *dict.fromkeys((*known, digest))]
    with contextlib.suppress(OSError):
        Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        log.info(f"Saved {Path(name).stat().st_size} bytes of timing cache to {name}")
