"""How many kernels does the TensorRT-for-RTX builder make of our graphs, and of the naive ones?

    python benchmarks/kernels.py
    python benchmarks/kernels.py --models cswin_t_elfatt --blocks
    python benchmarks/kernels.py --write-baseline

Needs the extra `rtx`, and no GPU: the builder compiles for SM 8.6 and its verbose log lists the
kernels. Nothing runs, so there are no times here. 224 pixels, batch 1, weights of seed 0. Our FP16
graphs are the typed ones of `graph/half.py` without an island, the naive ones the torch modules
turned to half before export. `--write-baseline` stores the counts of the form with shifts, which
`tests/parity/test_kernels.py` holds later graphs against. Every model has a process of its own.
"""

import argparse
import json
import multiprocessing
import sys
from pathlib import Path

import _common

SIZE = 224
BASELINE = Path(__file__).parents[1] / "tests" / "data" / "kernels.json"
#: target that stands for each form
TARGETS = {"convolution": "ort", "shifts": "jp6"}
COLUMNS = (
    "model", "naive fp16", "convolution fp16", "shifts fp16", "shifts fp32",
    "fused attentions fp16: naive", "convolution", "shifts",
)  # fmt: skip


def counts_of(name):
    """Return (column, KernelCount or why there is none) of every graph of a model."""
    import naive

    from elfatt_deploy.engine import rtx
    from elfatt_deploy.errors import ElfattDeployError
    from elfatt_deploy.graph import half

    model, images = _common.our_model(name, SIZE), _common.noise(1, SIZE)
    found = {}

    def add(column, data):
        try:
            blocks = rtx.blocks_of_nodes(data, tuple(_taps(model)))
            found[column] = rtx.count(rtx.kernels(data), blocks)
        except ElfattDeployError as error:
            found[column] = error.message

    for form, target in TARGETS.items():
        graph = _common.our_graph(model, images, target)
        add(f"{form} fp16", half.mixed(graph, ()).SerializeToString())
        if form == "shifts":
            add("shifts fp32", graph.SerializeToString())
    if name in naive.NETS:
        net = naive.loaded(name, model).half()
        add("naive fp16", naive.exported(net, images.astype("float16")))
    return found


def _taps(model):
    from elfatt_deploy.export import exporter

    return exporter.tap_modules(model)


def cell(count):
    """Return the text of a count: all entries, and in brackets those that only synchronise."""
    if count is None:
        return ""
    if isinstance(count, str):
        return f"does not build: {count}".replace("|", "/")
    return f"{count.kernels} ({count.events})" if count.events else str(count.kernels)


def row(name, found):
    """Return the row of a model."""
    forms = ("naive fp16", "convolution fp16", "shifts fp16")
    counts = [found.get(column) for column in (*forms, "shifts fp32")]
    fused = [getattr(found.get(column), "fused_attention", "") for column in forms]
    return (name, *map(cell, counts), *fused)


def main():
    """Build every graph and print its kernels."""
    import tensorrt_rtx

    from elfatt_deploy.models import registry

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = sorted(registry.models())
    parser.add_argument("--models", nargs="+", default=names, choices=names, help="which models")
    parser.add_argument("--blocks", action="store_true", help="also kernels of each block")
    parser.add_argument("--write-baseline", action="store_true", help=f"store them in {BASELINE}")
    args = parser.parse_args()
    print(f"- kind: measured (counted by the builder), tensorrt_rtx {tensorrt_rtx.__version__}")
    baseline = json.loads(BASELINE.read_text()) if BASELINE.is_file() else {}
    blocks = []

    def rows(pool):
        for name in args.models:
            _common.note(f"{name}: exporting and building")
            found = pool.apply(counts_of, (name,))
            blocks.append((name, found["shifts fp16"]))
            baseline[name] = {
                precision: {"kernels": count.kernels, "fused_attention": count.fused_attention}
                for precision in ("fp32", "fp16")
                if not isinstance(count := found[f"shifts {precision}"], str)
            }
            if args.write_baseline:
                BASELINE.write_text(json.dumps(baseline, indent=1, sort_keys=True) + "\n")
            yield row(name, found)

    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        title = "Kernels at 224, batch 1, SM 8.6 (of them events between streams)"
        _common.table(title, COLUMNS, rows(pool))
    if args.blocks:
        for name, count in blocks:
            _common.table(f"{name}, shifts, fp16", ("block", "kernels"), count.blocks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
