"""bench_attention: module -> ONNX -> parity -> interleaved rounds -> report, and a figure."""

from __future__ import annotations

import contextlib
import functools

from elfatt_deploy import optional, units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import attention_report, machine, plot, timing
from elfatt_deploy.bench.attention import (
    OPSET,
    AttentionCell,
    AttentionRequest,
    Prepared,
    memory_refusal,
    parity_refusal,
)
from elfatt_deploy.bench.attention_report import AttentionReport
from elfatt_deploy.errors import ElfattDeployError
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.runners.ort_runner import OrtRunner


def bench_attention(request: AttentionRequest, progress: Progress = silent) -> AttentionReport:
    """Time attention alone.

    A cell that cannot be exported, does not fit in the memory or differs from torch stands in the
    report with the reason. Ctrl-C during the rounds ends them; what was measured is reported.

    Raises:
        UsageError: the figure's name has no format that we write.
        MissingDependency: torch, onnx, ONNX Runtime or (for a figure) matplotlib is absent.
        ExportError: the figure cannot be written.
        RunnerError: ONNX Runtime fails while a graph is timed.
    """
    if request.plot is not None:
        plot.check(request.plot)
    for package in ("onnxruntime", "onnx", "onnxslim", "torch"):
        optional.load(package)
    started, found = units.now(), machine.read_machine()
    with contextlib.ExitStack() as sessions:
        prepared = []
        for cell in request.cells:
            progress(f"{cell.name}: exporting and comparing with torch")
            prepared.append(_prepared_attention(request, cell, sessions))
        runs = {one.cell.name: one.run for one in prepared if one.run is not None}
        names = list(runs)
        timed = timing.interleaved(
            list(runs.values()),
            request.rule,
            seed=request.seed,
            watch=lambda number, index, elapsed_s: progress(
                f"round {number + 1}, {elapsed_s:.0f} s, {names[index]}"
            ),
        )
    report = attention_report.report(
        request, prepared, timed, machine=found, versions=versions(), started=started
    )
    if report.figure is not None:
        progress(f"drawing {report.figure}")
        plot.write(report, report.figure)
    return report


def _prepared_attention(
    request: AttentionRequest, cell: AttentionCell, sessions: contextlib.ExitStack
) -> Prepared:
    """Export one cell and hold it against torch; its session stays open on `sessions`."""
    from elfatt_deploy.export import attention
    from elfatt_deploy.graph import simplify

    context = request.context(cell)
    try:
        largest = attention.largest_tensor_bytes(cell.attention, context)
        needed = request.needed_bytes(cell, largest)
        refused = memory_refusal(needed, machine.available_bytes())
        if refused is not None:
            return Prepared(cell=cell, refused=refused)
        module = attention.build(cell.attention, context, request.seed)
        example = attention.example(module, request.seed)
        proto = attention.onnx_from_attention(module, example, opset=OPSET)
        data = simplify.simplified(proto).SerializeToString()
        runner = sessions.enter_context(OrtRunner(data, threads=request.threads))
        out = runner.infer(example.feeds)[attention.OUTPUT]
    except ElfattDeployError as error:
        return Prepared(cell=cell, refused=Unavailable(reason=error.message))
    allowed = tolerance("fp32")
    row = compare.parity_row("noise", 1, 1, example.expected, out, allowed)
    refused = parity_refusal(row, allowed)
    run = functools.partial(runner.infer, example.feeds) if refused is None else None
    return Prepared(cell=cell, parity=row, refused=refused, run=run)
