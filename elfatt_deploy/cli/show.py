"""How an export or a check is shown: the parity table, then one line on the file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import output

if TYPE_CHECKING:
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
                "parity": {**to_document(result.parity), "passed": result.parity.passed},
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


def _show_tables(result: Outcome) -> None:
    report = result.parity
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
                str(row.nonfinite),
                "pass" if row.passed else "FAIL",
            )
            for row in report.rows
        ],
        "max, p99 and mean are absolute errors of the logits; NaN counts NaN and Inf; top-1/5 is "
        f"agreement with the reference. Allowed: max {units.error(allowed.max_abs)} times the "
        f"largest logit (at least 1), rel. L2 {units.error(allowed.relative_l2)}, 1-cos "
        f"{units.error(1 - allowed.cosine)}.",
    )
    if result.layers:
        output.show_table(
            "blocks, in order",
            ("tensor", "error / spread", "verdict"),
            [
                (
                    layer.name,
                    units.error(layer.relative_error),
                    "FAIL" if layer.diverges else "pass",
                )
                for layer in result.layers
            ],
            "largest error among sampled values of the first image, over their standard deviation",
        )
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
    output.show(f"bundle: {result.bundle.path}")
