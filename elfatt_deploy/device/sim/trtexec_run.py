"""The run of a simulated plan: outputs are computed by ONNX Runtime, times come from the rule.

The run takes the wall time that it claims. What a query computes on is what `--loadInputs` names,
else random numbers; outputs are only computed where `--exportOutput` asks for them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elfatt_deploy import optional
from elfatt_deploy.device.sim import physics, trtexec_text
from elfatt_deploy.device.sim.busy import MIDDLE, Busy
from elfatt_deploy.device.sim.graph import Tensor, parse_model
from elfatt_deploy.device.sim.layer_info import layer_bytes, size_of
from elfatt_deploy.device.sim.machine import Machine
from elfatt_deploy.device.sim.trtexec_build import Built, Failed
from elfatt_deploy.device.sim.trtexec_options import Options
from elfatt_deploy.device.sim.trtexec_plan import Edge, Plan
from elfatt_deploy.device.sim.trtexec_text import Log
from elfatt_deploy.graph import plugin_body, plugin_nodes

if TYPE_CHECKING:
    import numpy as np

_DTYPES = {
    "FLOAT": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "INT64": "int64",
    "INT32": "int32", "INT8": "int8", "UINT8": "uint8", "BOOL": "bool",
}  # fmt: skip
#: the oldest version that leaves warm-up rows out of the exported times
_NO_WARM_UP = (8, 5)
_END_TO_END_BEFORE = (8, 4)
#: the first version whose layer times have a median
_WITH_MEDIAN = (8, 4)
_NAP_S = 0.05
#: images of a dynamic batch that are computed at once
_MOST_IMAGES = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Timing:
    """How the queries are timed.

    Args:
        compute_ms: GPU time of one.
        h2d_ms: copy in, 0 where copies are left out.
        d2h_ms: copy out.
        enqueue_ms: of the host.
        alone: whether a query begins when the one before has ended (`--exposeDMA`).
    """

    compute_ms: float
    h2d_ms: float
    d2h_ms: float
    enqueue_ms: float
    alone: bool = False

    def period_ms(self, row: dict[str, float]) -> float:
        """From one query's start to the next one's: copies and computing overlap, unless alone."""
        if self.alone:
            return row["latencyMs"]
        return max(row["computeMs"], row["h2dMs"], row["d2hMs"])


def run(machine: Machine, options: Options, log: Log, built: Built) -> None:
    """Run a plan, as long as the options say.

    Raises:
        Failed: shapes or files do not fit.
        MissingDependency: outputs are asked for and there is no onnxruntime here.
    """
    plan = built.plan
    shapes = _shapes(options, log, plan)
    files = _files(options, log, plan, shapes)
    for edge in (*plan.inputs, *plan.outputs):
        sides = "x".join(str(side) for side in shapes.get(edge.name, edge.shape))
        log.info(f"Created {_word(edge, plan)} binding for {edge.name} with dimensions {sides}")
    if options.text("--exportOutput"):  # before the clock starts: it is not what is timed
        outputs = _compute(built, files, shapes, machine.state().seed)
        _export_outputs(Path(options.text("--exportOutput")), plan, outputs)
    clocks = machine.clocks()
    timing = _timing(machine, options, clocks, plan, shapes)
    with Busy(machine) as busy:
        log.info("Starting inference")
        if machine.happens("trtexec-hangs"):
            while True:
                signal.pause()
        busy.start(clocks)
        rows, warm, wall_s = _queries(machine, options, timing, busy, clocks)
    _report(options, log, rows, warm, wall_s)
    if options.text("--exportProfile"):
        text = layer_times_text(plan, len(rows), timing.compute_ms, options.version)
        Path(options.text("--exportProfile")).write_text(text, encoding="utf-8")


def _word(edge: Edge, plan: Plan) -> str:
    return "input" if edge in plan.inputs else "output"


def _shapes(options: Options, log: Log, plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shapes of dynamic inputs.

    Raises:
        Failed: one is outside of the optimization profile.
    """
    asked = options.shapes("--shapes")
    if asked and not plan.dynamic:
        log.error(
            "Static model does not take explicit shapes since the shape of inference tensors will "
            "be determined by the model itself"
        )
        _fail(log)
    shapes = {**plan.best, **asked}
    for name, shape in shapes.items():
        low, high = plan.smallest[name], plan.largest[name]
        if not all(a <= side <= b for a, side, b in zip(low, shape, high, strict=True)):
            log.error(
                f"[TRT] Error[3]: IExecutionContext::setInputShape: Error Code 3: API Usage Error "
                f"(Parameter check failed: {name} with shape {shape} does not satisfy the "
                f"optimization profile from {low} to {high})"
            )
            _fail(log)
    return shapes


def _fail(log: Log) -> None:
    log.error("Inference set up failed")
    raise Failed


def _files(
    options: Options, log: Log, plan: Plan, shapes: dict[str, tuple[int, ...]]
) -> dict[str, Path]:
    """Return the files of raw values that are fed; other inputs get random numbers.

    As the real one, trtexec is aborted by a file that is missing or of another size.
    """
    given = options.pairs("--loadInputs")
    files = {}
    for edge in plan.inputs:
        if edge.name not in given:
            log.info(f"Using random values for input {edge.name}")
            continue
        path = Path(given[edge.name])
        log.info(f"Using values loaded from {path} for input {edge.name}")
        shape = shapes.get(edge.name, edge.shape)
        wanted = size_of(Tensor(name=edge.name, shape=shape, dtype=edge.dtype))
        if not path.is_file():
            _abort(log, f"Cannot open file {path}!")
        size = path.stat().st_size
        if size != wanted:
            _abort(
                log,
                f"Unexpected file size for input file: {path}. Note: Input binding size is: "
                f"{wanted} bytes but the file size is {size} bytes.",
            )
        files[edge.name] = path
    for name in set(given) - {edge.name for edge in plan.inputs}:
        log.warning(f"Input tensor {name} of --loadInputs is not one of the engine")
    return files


def _abort(log: Log, what: str) -> None:
    """End as a C++ program does that throws and catches nothing."""
    log.bare("terminate called after throwing an instance of 'std::invalid_argument'", error=True)
    log.bare(f"  what():  {what}", error=True)
    os.kill(os.getpid(), signal.SIGABRT)


def _compute(
    built: Built, files: dict[str, Path], shapes: dict[str, tuple[int, ...]], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the outputs, by ONNX Runtime on this machine's CPU, in the types of the file."""
    import numpy as np

    ort = optional.load("onnxruntime")
    chance = np.random.default_rng(seed)
    fed = {}
    for edge in built.plan.inputs:
        shape, dtype = shapes.get(edge.name, edge.shape), np.dtype(_DTYPES[edge.dtype])
        if edge.name in files:
            fed[edge.name] = np.fromfile(files[edge.name], dtype=dtype).reshape(shape)
        else:
            fed[edge.name] = chance.uniform(-1.0, 1.0, shape).astype(dtype)
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
    settings.log_severity_level = 3
    model = built.model
    if plugin_nodes.holds_nodes(model):
        model = plugin_body.expanded(parse_model(model)).SerializeToString()
    session = ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    names = [edge.name for edge in built.plan.outputs]
    parts = [session.run(names, part) for part in _slices(built.plan, fed)]
    return {name: np.concatenate(of) if len(of) > 1 else of[0]
            for name, *of in zip(names, *parts, strict=True)}  # fmt: skip


def _slices(
    plan: Plan, fed: dict[str, np.ndarray[Any, Any]]
) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
    """Yield what is fed in parts of a few images, where the batch is open.

    A board's GPU holds what this machine may not: global attention over 128 images of 3136 tokens
    has 20 GB of scores in ONNX Runtime.
    """
    count = len(next(iter(fed.values())))
    if not plan.dynamic or any(len(value) != count for value in fed.values()):
        yield fed
        return
    for start in range(0, count, _MOST_IMAGES):
        yield {name: value[start : start + _MOST_IMAGES] for name, value in fed.items()}


def _export_outputs(path: Path, plan: Plan, outputs: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write the file of `--exportOutput`: values with six digits, as C++ streams write them."""
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        for n, edge in enumerate(plan.outputs):
            value = outputs[edge.name]
            dims = "x".join(str(side) for side in value.shape)
            file.write(f'{", " if n else "  "}{{ "name" : "{edge.name}"\n')
            file.write(f'  , "dimensions" : "{dims}"\n  , "values" : [ ')
            file.write(", ".join(f"{number:g}" for number in value.ravel().tolist()))
            file.write(" ]\n  }\n")
        file.write("]\n")


def _timing(
    machine: Machine,
    options: Options,
    clocks: physics.Clocks,
    plan: Plan,
    shapes: dict[str, tuple[int, ...]],
) -> _Timing:
    facts, new = machine.facts, options.version >= (11,)
    graph = not options.has("--noCudaGraph") if new else options.has("--useCudaGraph")
    copies = options.has("--includeDataTransfers") if new else not options.has("--noDataTransfers")
    built_for = sum(math.prod(shape) for shape in plan.best.values())
    scale = sum(math.prod(shape) for shape in shapes.values()) / built_for if built_for else 1.0
    work = dataclasses.replace(
        plan.work,
        macs_fp32=round(plan.work.macs_fp32 * scale),
        macs_fp16=round(plan.work.macs_fp16 * scale),
        moved_bytes=round(plan.work.moved_bytes * scale),
    )
    in_bytes, out_bytes = work.input_bytes * scale, work.output_bytes * scale
    rule, speed = facts.rule, machine.speed()
    launch_us = rule.graph_launch_us if graph else rule.launch_us * work.layers
    return _Timing(
        compute_ms=physics.compute_ms(facts, clocks, work, graph=graph, speed=speed),
        h2d_ms=physics.copy_ms(facts, clocks, round(in_bytes / speed)) if copies else 0.0,
        d2h_ms=physics.copy_ms(facts, clocks, round(out_bytes / speed)) if copies else 0.0,
        enqueue_ms=launch_us * 1e-3,
        alone=options.has("--exposeDMA"),
    )


def _queries(
    machine: Machine, options: Options, timing: _Timing, busy: Busy, clocks: physics.Clocks
) -> tuple[list[dict[str, float]], list[dict[str, float]], float]:
    """Run the queries in real time; timed rows, warm-up rows, and the wall time of the former."""
    chance = machine.chance("times")
    noise = machine.facts.rule.noise
    warm_ms = options.number("--warmUp", 200.0)
    duration_ms = 1e3 * options.number("--duration", 3.0)
    least = int(options.number("--iterations", 10))
    began, now_ms, slower = time.monotonic(), 0.0, 1.0
    warm: list[dict[str, float]] = []
    rows: list[dict[str, float]] = []
    middle = False
    while now_ms < warm_ms or len(rows) < least or now_ms - warm_ms < duration_ms:
        timed = now_ms + timing.h2d_ms >= warm_ms  # by the start of its computing, as trtexec
        done = max(
            0.0 if not duration_ms else (now_ms - warm_ms) / duration_ms,
            1.0 if not duration_ms and len(rows) * 2 >= least else 0.0,
        )
        if timed and not middle and done >= MIDDLE:
            middle = True
            slower = busy.middle(clocks)
        factor = slower * max(0.5, 1.0 + chance.gauss(0.0, noise))
        row = _row(timing, now_ms, factor)
        (rows if timed else warm).append(row)
        now_ms += timing.period_ms(row)
        ahead = began + now_ms / 1e3 - time.monotonic()
        if ahead > _NAP_S:  # the real time that the claimed one takes
            time.sleep(ahead)
    time.sleep(max(0.0, began + now_ms / 1e3 - time.monotonic()))
    if not middle:
        busy.middle(clocks)
    return rows, warm, (rows[-1]["endD2hMs"] - rows[0]["startH2dMs"]) / 1e3


def _row(timing: _Timing, start_ms: float, factor: float) -> dict[str, float]:
    """Return one query's times, from the start of its copy in."""
    begin = start_ms + timing.h2d_ms
    compute = timing.compute_ms * factor
    end = begin + compute
    return {
        "startEnqMs": start_ms,
        "endEnqMs": start_ms + timing.enqueue_ms,
        "startH2dMs": start_ms,
        "endH2dMs": begin,
        "startComputeMs": begin,
        "endComputeMs": end,
        "startD2hMs": end,
        "endD2hMs": end + timing.d2h_ms,
        "h2dMs": timing.h2d_ms,
        "computeMs": compute,
        "d2hMs": timing.d2h_ms,
        "latencyMs": timing.h2d_ms + compute + timing.d2h_ms,
        "endToEndMs": end + timing.d2h_ms - start_ms,
    }


def _report(
    options: Options,
    log: Log,
    rows: list[dict[str, float]],
    warm: list[dict[str, float]],
    wall_s: float,
) -> None:
    """Write what trtexec says after a run, and the file of `--exportTimes`."""
    end_to_end = options.version < _END_TO_END_BEFORE
    log.info(f"Warmup completed {len(warm)} queries over {options.number('--warmUp', 200):g} ms")
    log.info(f"Timing trace has {len(rows)} queries over {wall_s:g} s")
    log.info("")
    count = int(options.number("--avgRuns", 10))
    for line in trtexec_text.average_lines(rows, count, end_to_end=end_to_end):
        log.info(line)
    log.info("")
    percents = options.percentiles()
    for line in trtexec_text.summary_lines(rows, wall_s, percents, end_to_end=end_to_end):
        log.info(line)
    name = options.text("--exportTimes")
    if name:
        kept = rows if options.version >= _NO_WARM_UP else [*warm, *rows]
        Path(name).write_text(times_text(kept, end_to_end=end_to_end), encoding="utf-8")


def times_text(rows: list[dict[str, float]], *, end_to_end: bool) -> str:
    """Return the file of `--exportTimes`: six digits, 8.2 with the end-to-end latency."""
    parts = []
    for row in rows:
        fields = (
            f"{json.dumps(key)} : {value:g}"
            for key, value in row.items()
            if end_to_end or key != "endToEndMs"
        )
        parts.append(f"{{ {', '.join(fields)} }}")
    return "[\n  " + "\n, ".join(parts) + "\n]\n"


def layer_times_text(plan: Plan, count: int, compute_ms: float, version: tuple[int, ...]) -> str:
    """Return the file of `--exportProfile`; names are not escaped, as trtexec does not.

    A layer's share of the query is its share of the tensors that all layers read and write; where
    the plan was built without details, all have the same.
    """
    sizes = layer_bytes(plan.layers)
    total = sum(sizes.values())
    lines = [f'{{ "count" : {count} }}']
    for name, size in sizes.items():
        share = size / total if total else 1 / len(sizes)
        mean = f"{compute_ms * share:g}"
        median = "" if version < _WITH_MEDIAN else f'"medianMs" : {mean}, '
        lines.append(
            f'{{ "name" : "{name}", "timeMs" : {compute_ms * share * count:g}, '
            f'"averageMs" : {mean}, {median}"percentage" : {100 * share:g} }}'
        )
    return "[\n  " + "\n, ".join(lines) + "\n]\n"
