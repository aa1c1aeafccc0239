"""How an export or a check is shown: the parity table, then one line on the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import output

if TYPE_CHECKING:
    from elfatt_deploy.artifacts import ParityReport, PrecisionMap
    from elfatt_deploy.engine.rtx import KernelCount
    from elfatt_deploy.pipeline import Outcome


def outcome(result: Outcome, schema: str, *, json: bool, quiet: bool) -> int:
    """Show the outcome and return the exit code of its verdict."""
    bundle = result.bundle
    if json:
        output.show_json(
            schema,
            {
                "passed": result.passed,
                "bundle": str(bundle.path) if bundle else None,
                "findings": list(result.findings),
                "parity": _document(result.parity),
                "emulation": _document(result.emulation) if result.emulation else None,
                "engine": _document(result.engine) if result.engine else None,
                "kernels": to_document(result.kernels) if result.kernels else None,
                "compared": result.compared,
                "layers": [to_document(layer) for layer in result.layers],
                "manifest": to_document(bundle.manifest) if bundle else None,
            },
        )
    else:
        _show_tables(result)
    if bundle and not quiet:
        if bundle.manifest.weights.random:
            output.say(
                f"note: the weights are {bundle.manifest.weights.source}: this proves the graph, "
                "its logits classify nothing; give --weights FILE for a trained model"
            )
        for line in bundle.manifest.weights.resized:
            output.say(f"resized for this input size: {line}")
    if schema == "export" and bundle is None and not json:
        output.show("parity failed: no bundle was written")
    return 0 if result.passed else 1


def _document(report: ParityReport) -> dict[str, Any]:
    return {**to_document(report), "passed": report.passed}


def _show_parity(report: ParityReport) -> None:
    allowed = report.tolerance
    output.show_table(
        f"parity: {report.candidate} against {report.reference}",
        (
            "inputs",
            "batch",
            "max",
            "p99",
            "mean",
            "rel. L2",
            "1-cos",
            "top-1/5 %",
            "flips",
            "NaN",
            "verdict",
        ),
        [
            (
                f"{row.images} {row.inputs}",
                str(row.batch),
                units.error(row.max_abs),
                units.error(row.p99_abs),
                units.error(row.mean_abs),
                units.error(row.relative_l2),
                units.error(1 - row.cosine),
                f"{units.share(row.top1)}/{units.share(row.top5)}",
                str(row.flips),
                str(row.nonfinite),
                "pass" if row.passed else "FAIL",
            )
            for row in report.rows
        ],
        "max, p99 and mean are absolute errors of the logits; NaN counts NaN and Inf; top-1/5 is "
        "agreement with the reference, flips the changes of the best class that no rounding "
        f"explains. Allowed: max {units.error(allowed.max_abs)} times the largest logit (at least "
        f"1), rel. L2 {units.error(allowed.relative_l2)}, 1-cos {units.error(1 - allowed.cosine)}, "
        "no flip.",
    )


def _show_kernels(found: KernelCount) -> None:
    output.show_table(
        "kernels of TensorRT for RTX (SM 8.6), by block",
        ("up to tensor", "kernels"),
        [(block or "the logits", str(count)) for block, count in found.blocks],
        f"{found.kernels} in all, {found.fused_attention} of them fused attentions, "
        f"{found.events} signals between streams; counted by the builder, nothing ran",
    )


def _show_islands(found: PrecisionMap) -> None:
    before = "not finite" if found.all_half is None else units.error(found.all_half)
    output.show(
        f"mixed precision: {len(found.islands)} nodes stay FP32; emulated FP16 is off by "
        f"{units.error(found.relative_l2)} of the logits (rel. L2, worst of {found.images} images; "
        f"{before} with none of them)"
    )
    if found.islands:
        output.show_table(
            "nodes that stay FP32",
            ("node", "op", "reason"),
            [(island.node, island.op, island.reason) for island in found.islands],
        )


def _show_tables(result: Outcome) -> None:
    from elfatt_deploy.parity import locate  # numpy: not on the way to --help

    report = result.parity
    _show_parity(report)
    for other in (result.emulation, result.engine):
        if other:
            _show_parity(other)
    if result.layers:
        output.show_table(
            f"tensors, in order: {result.compared}" if result.compared else "blocks, in order",
            ("tensor", "error / spread", "verdict"),
            [
                (
                    layer.name,
                    units.error(layer.relative_error),
                    "FAIL" if layer.diverges else "pass",
                )
                for layer in result.layers
            ],
            "largest error over the standard deviation of the reference, first image"
            + ("" if result.compared else ", sampled values"),
        )
        if result.compared:
            output.show(f"first divergence: {locate.first_divergence(result.layers)}")
    if result.kernels:
        _show_kernels(result.kernels)
    for finding in result.findings:
        output.show(f"target: {finding}")
    if report.first_divergence:
        output.show(f"first divergence: {report.first_divergence}")
    if result.bundle is None:
        return
    manifest = result.bundle.manifest
    graph, model = manifest.graph, manifest.model
    output.show(
        f"{model.name} at {units.size(model.height, model.width)}, batch "
        f"{manifest.batch}, {manifest.precision}, weights {manifest.weights.source}: opset "
        f"{graph.opset}, {graph.nodes} nodes, {units.mebibytes(graph.initializer_bytes)} MiB of "
        f"weights, for {manifest.target}"
    )
    if manifest.plugin:
        used = manifest.plugin
        output.show(
            f"plugin {used.name}: {used.nodes} of {used.blocks} attention blocks are one "
            f"{used.op} node; TensorRT needs {used.library} to build it; {used.verified}"
        )
    if manifest.precision_map:
        _show_islands(manifest.precision_map)
    output.show(f"bundle: {result.bundle.path}")
