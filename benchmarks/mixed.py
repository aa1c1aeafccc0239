"""Which converter makes the better mixed-precision graph of a model: ours, or a library's?

    python benchmarks/mixed.py --models cswin_t_elfatt swin_t_flatten

The same FP32 graph goes through each: the package's (islands from the guard); onnxconverter-common
with its own list of ops that stay FP32, and with the guard's islands and no list; ModelOpt AutoCast
with its defaults and the photographs as calibration data. What each leaves is judged alike: error
of the logits in emulated FP16 (the worst of the photographs), casts and nodes, whether the
TensorRT-for-RTX parser takes it as strongly typed, and the kernels that its builder makes. A
library that is not installed gets a row that says so. Nothing is timed but the conversion.
"""

import argparse
import importlib.metadata
import tempfile
import time
from pathlib import Path

import _common
import kernels
import naive
import numpy as np

COLUMNS = (
    "model",
    "converter",
    "emulated rel. L2",
    "casts",
    "nodes",
    "kernels",
    "fused attentions",
    "seconds",
)


def ours(model, islands):
    """Convert with the package."""
    from elfatt_deploy.graph import half

    return half.mixed(model, islands)


def common(model, **options):
    """Convert with onnxconverter-common."""
    from onnxconverter_common import float16

    return float16.convert_float_to_float16(
        model, keep_io_types=True, min_positive_val=0.0, max_finite_val=65504.0, **options
    )


def autocast(model, images):
    """Convert with ModelOpt AutoCast."""
    import onnx
    from modelopt.onnx import autocast

    with tempfile.TemporaryDirectory() as folder:
        source, data = Path(folder) / "model.onnx", Path(folder) / "data.npz"
        onnx.save(model, source)
        np.savez(data, images=images[:1])
        return autocast.convert_to_mixed_precision(
            onnx_path=str(source),
            low_precision_type="fp16",
            keep_io_types=True,
            calibration_data=str(data),
        )


def judged(mixed, images, logits):
    """Return error, casts, nodes, kernels and fused attentions of a converted graph."""
    from elfatt_deploy.errors import ElfattDeployError
    from elfatt_deploy.parity import prove
    from elfatt_deploy.runners.emulation import EmulationRunner

    casts = sum(node.op_type == "Cast" for node in mixed.graph.node)
    try:
        with EmulationRunner(mixed.SerializeToString(), threads=1) as runner:
            found = prove.reference_logits(runner, images, 1)
        worst = (np.linalg.norm(found - logits, axis=1) / np.linalg.norm(logits, axis=1)).max()
        error = f"{worst:.1e}"
    except ElfattDeployError as broken:
        error = f"does not run: {str(broken)[:80]}"
    try:
        names = kernels.kernels(mixed.SerializeToString())
        built = (len(names), sum("mha" in str(name) for name in names))
    except (SystemExit, ElfattDeployError) as broken:
        built = (f"refused: {str(broken)[:80]}", "-")
    return (error, casts, len(mixed.graph.node), *built)


def rows_of(name):
    """Yield a row for each converter."""
    import copy

    from elfatt_deploy import preprocessing
    from elfatt_deploy.golden import gather_inputs
    from elfatt_deploy.models import registry
    from elfatt_deploy.precision import guard

    _common.note(f"{name}: exporting, searching islands")
    recipe = registry.get(name).preprocessing(naive.SIZE, naive.SIZE)
    images = gather_inputs(recipe, preprocessing.photograph_paths(), "photos").images[:4]
    model = _common.our_model(name, naive.SIZE)
    logits = _common.torch_logits(model, images)
    graph = _common.our_graph(model, images[:1])
    start = time.perf_counter()
    found = guard.precision_map(graph, images, logits, 1, lambda _: None)
    search = time.perf_counter() - start
    islands = [island.node for island in found.islands]
    ways = {
        f"ours ({len(islands)} islands, search {search:.0f} s)": lambda: ours(graph, islands),
        "ours, no island": lambda: ours(graph, ()),
        "onnxconverter-common": lambda: common(copy.deepcopy(graph)),
        "onnxconverter-common, our islands": lambda: common(
            copy.deepcopy(graph), op_block_list=[], node_block_list=islands
        ),
        "ModelOpt AutoCast": lambda: autocast(graph, images),
    }
    for way, convert in ways.items():
        _common.note(f"{name}: {way}")
        start = time.perf_counter()
        try:
            mixed = convert()
        except ImportError as missing:
            yield (name, way, f"not installed: {missing.name}", *[""] * 5)
            continue
        seconds = time.perf_counter() - start
        yield (name, way, *judged(mixed, images, logits), f"{seconds:.1f}")


def main():
    """Read the options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["cswin_t_elfatt", "swin_t_flatten"])
    args = parser.parse_args()
    packages = ("onnx", "onnxruntime", "onnxconverter-common", "nvidia-modelopt", "tensorrt-rtx")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    print(
        "- kind: emulated FP16 on a CPU; kernels counted by the TensorRT-for-RTX builder (SM 8.6)"
    )
    print(f"- versions: {', '.join(versions)}")
    rows = (row for name in args.models for row in rows_of(name))
    _common.table("Mixed precision at 224, batch 1, opset 17", COLUMNS, rows)


if __name__ == "__main__":
    main()
