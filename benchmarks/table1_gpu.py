"""Images a second of the models of Table I on a GPU, and their ratio to GLOBAL beside the paper's.

    python benchmarks/table1_gpu.py --provider cuda --results table1.jsonl

Each family is measured interleaved with its GLOBAL model, by `bench`, for torch and ONNX Runtime,
in FP32 and FP16, at batch 1, 128 and 512. A cell that does not fit the memory says so. The paper's
are of an H20, mixed precision, its own batches, without FlashAttention-2: the ratio is what counts.
With `--provider cpu` it runs anywhere, and says nothing about a GPU.
"""

import argparse
import sys
from pathlib import Path

import _common

from elfatt_deploy.bench import contracts, protocol
from elfatt_deploy.bench.cells import BenchRequest
from elfatt_deploy.bench.stats import Ratio
from elfatt_deploy.errors import ElfattDeployError
from elfatt_deploy.pipeline import bench_models
from elfatt_deploy.pipeline.lookup import bundle_for
from elfatt_deploy.pipeline.measuring import keep_records
from elfatt_deploy.report import published
from elfatt_deploy.results.schema import Statistics

FAMILIES = ("cswin_t", "cswin_b", "swin_t", "swin_b")
KINDS = ("global", "local", "flatten", "agent", "effatt", "elfatt")
OTHERS = ("convnext_t", "vmamba_t")
COLUMNS = (
    "model", "runner", "precision", "batch", "images/s", "95 %", "ratio to GLOBAL", "95 %",
    "the paper's ratio", "validity",
)  # fmt: skip


def main():
    """Print a table a family, and keep the records."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--provider", default="cuda", choices=("cuda", "cpu"))
    add("--families", nargs="+", default=[*FAMILIES, "others"])
    add("--runners", nargs="+", default=["torch", "ort"])
    add("--precisions", nargs="+", default=["fp32", "fp16"])
    add("--batches", nargs="+", type=int, default=[1, 128, 512])
    add("--plan", default="default", choices=list(protocol.PLANS))
    add("--bundles", type=Path, default=Path("bundles"))
    add("--results", type=Path, default=Path("table1.jsonl"))
    args = parser.parse_args()
    for family in args.families:
        names = OTHERS if family == "others" else [f"{family}_{kind}" for kind in KINDS]
        rows = []
        for runner in args.runners:
            for precision in args.precisions:
                for batch in args.batches:
                    rows += measured(list(names), runner, precision, batch, args)
        _common.table(f"{family} on {args.provider}, plan {args.plan}", COLUMNS, rows)


def measured(names, runner, precision, batch, args):
    """Return the rows of one family under one set of conditions; a refusal is a row as well."""
    stored = "fp32" if runner == "torch" else precision
    try:
        # one bundle of any batch serves all, and its golden images stay few
        folders = [
            bundle_for(args.bundles, name, size=(None, None), precision=stored, batch="dynamic",
                       target="ort", progress=_common.note)[0]
            for name in names
        ]  # fmt: skip
        request = BenchRequest(
            bundles=tuple(folders),
            runner=runner,
            provider=args.provider,
            precision=precision,
            batch=batch,
            contract=contracts.contract("single-stream/1"),
            plan=protocol.PLANS[args.plan],
            baseline=names[0] if names[0].endswith("_global") else None,
        )
        report = bench_models(request, _common.note, command=tuple(sys.argv), results=args.results)
        keep_records(report, args.results)
    except ElfattDeployError as error:
        text = error.message.partition("\n")[0]
        return [(", ".join(names), runner, precision, batch, text, *[""] * 5)]
    ratios = {found.cell: found.time for found in report.ratios}
    return [
        row_of(name, record, ratios.get(name), runner, precision, batch)
        for name, record in zip(report.names, report.records, strict=True)
    ]


def row_of(name, record, ratio, runner, precision, batch):
    """Return the row of one model."""
    found = record.statistics
    if not isinstance(found, Statistics):
        return (name, runner, precision, batch, found.reason, *[""] * 5)
    span = found.images_per_s_interval
    family = name.rpartition("_")[0]
    paper = published.throughput_table().ratio(name, f"{family}_global", record.cell.height)
    cells = [f"{found.images_per_s:.1f}", f"{span.low:.1f}..{span.high:.1f}"]
    if isinstance(ratio, Ratio):
        low, high = 1 / ratio.interval.high, 1 / ratio.interval.low
        cells += [f"{1 / ratio.value:.2f}", f"{low:.2f}..{high:.2f}"]
    else:
        cells += ["", ""]
    words = " ".join(record.validity) or "valid"
    return (name, runner, precision, batch, *cells, f"{paper:.2f}" if paper else "", words)


if __name__ == "__main__":
    main()
