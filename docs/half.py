"""Writes docs/half.md: mixed precision of every model of the paper, as emulated on a CPU.

    python docs/half.py [--models NAME[@SIZE] ...] [--results FILE]

Each row is one `export --precision fp16` for the default target: islands by the guard, parity of
the file in ONNX Runtime, parity of emulated FP16 on the sample photographs. Results are kept in a
file, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
import json
import tempfile
from pathlib import Path
from typing import Any

from elfatt_deploy import preprocessing
from elfatt_deploy.errors import ElfattDeployError
from elfatt_deploy.golden import NOISE
from elfatt_deploy.models import registry
from elfatt_deploy.pipeline import ExportRequest, export_bundle

HERE = Path(__file__).parent
LARGE = tuple(f"cswin_t_{kind}@{side}" for kind in ("elfatt", "effatt") for side in (512, 1024))
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxslim")
LEGEND = """\
Relative L2 error of the logits against FP32 PyTorch: the worst of four photographs (of one at 512
and 1024 pixels), seeded random weights. Emulated: every tensor is rounded to FP16 after each op,
sums of products are FP32 (`elfatt_deploy/graph/rounding.py` says what that is not). ONNX Runtime
computes FP16 graphs in FP32 on a CPU: its column proves the file, not the numerics. Flips are
changes of the best class that no rounding explains; 5e-3 and no flip are allowed. None of this was
run on a GPU.
"""


def main() -> None:
    """Fill the results, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [name for name, spec in registry.models().items() if not spec.ablation]
    parser.add_argument("--models", nargs="*", default=[*names, *LARGE])
    parser.add_argument("--results", type=Path, default=Path("half.json"))
    asked = parser.parse_args()
    results = json.loads(asked.results.read_text()) if asked.results.is_file() else {}
    for name in asked.models:
        if name not in results:
            results[name] = row_of(name)
            asked.results.write_text(json.dumps(results, indent=1))
            print(name, json.dumps(results[name]), flush=True)  # noqa: T201
    (HERE / "half.md").write_text(page({name: results[name] for name in asked.models}))


def row_of(name: str) -> dict[str, Any]:
    """Return what came of one export."""
    model, _, side = name.partition("@")
    size = int(side) if side else None
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for path in preprocessing.photograph_paths()[: 1 if size else None]:
            (images / path.name).symlink_to(path)
        request = ExportRequest(
            model=model,
            height=size,
            width=size,
            precision="fp16",
            images=images,
            output=Path(folder),
        )
        try:
            outcome = export_bundle(request)
        except ElfattDeployError as error:
            return {"verdict": error.message.partition("\n")[0]}
        if outcome.bundle is None or outcome.emulation is None:
            return {"verdict": "parity fails"}
        found = outcome.bundle.manifest.precision_map
    assert found is not None
    rows = [row for row in outcome.emulation.rows if row.inputs != NOISE]
    return {
        "verdict": "pass",
        "emulated": found.relative_l2,
        "no_islands": found.all_half,
        "ort": max(row.relative_l2 for row in outcome.parity.rows),
        "flips": sum(row.flips for row in rows),
        "top1": min(row.top1 for row in rows),
        "images": found.images,
        "islands": dict(collections.Counter(island.op for island in found.islands)),
    }


def page(results: dict[str, dict[str, Any]]) -> str:
    """Return the page."""
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES)
    lines = [
        "# Mixed precision of every model",
        "",
        f"Written by `python docs/half.py`; emulated on a CPU, with {versions}.",
        "",
        LEGEND,
        "| model | emulated FP16 | without islands | ONNX Runtime | top-1 kept | flips | islands |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in results.items():
        if row["verdict"] != "pass":
            lines.append(f"| {name} | {row['verdict']} | | | | | |")
            continue
        before = "not finite" if row["no_islands"] is None else f"{row['no_islands']:.1e}"
        islands = ", ".join(f"{count} {op}" for op, count in row["islands"].items()) or "none"
        lines.append(
            f"| {name} | {row['emulated']:.1e} | {before} | {row['ort']:.1e} | "
            f"{100 * row['top1']:.0f} % | {row['flips']} | {islands} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
