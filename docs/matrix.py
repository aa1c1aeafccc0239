"""Writes docs/matrix.md: every model of the paper against every target.

    python docs/matrix.py [--models NAME ...] [--results FILE]

Each cell is the outcome of an export: graph, lint of the file for that target, and parity of ONNX
Runtime with PyTorch on two photographs and two noise images. Targets of the same opset share a
file, which is linted for each of them. Models are exported once with a dynamic batch for every
opset and once with batch 1 for the default target. The parser of TensorRT for RTX, where it is
installed, reads the dynamic file of the default opset; it needs no GPU. Results are kept in a file,
so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import tempfile
from pathlib import Path

from elfatt_deploy import preprocessing, recipes
from elfatt_deploy.artifacts import ModelIdentity, to_document
from elfatt_deploy.errors import ElfattDeployError, ExportError
from elfatt_deploy.golden import gather_inputs
from elfatt_deploy.graph import lint, summary
from elfatt_deploy.models import registry, weights
from elfatt_deploy.pipeline import ExportPlan, export_module

HERE = Path(__file__).parent
DEFAULT = "jp6"
LEGEND = """\
`ok`: exported, fits the target's opsets, ops and ranks (`profiles/targets.toml`), and ONNX Runtime
gives the logits of PyTorch. What was not tried on a board is not claimed: TensorRT itself has
parsed none of these files but in the last column, where TensorRT for RTX did, without a GPU.
"""


def main() -> None:
    """Fill the results, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [name for name, spec in registry.models().items() if not spec.ablation]
    parser.add_argument("--models", nargs="*", default=names)
    parser.add_argument("--results", type=Path, default=Path("matrix.json"))
    asked = parser.parse_args()
    results = json.loads(asked.results.read_text()) if asked.results.is_file() else {}
    for name in asked.models:
        if name not in results:
            results[name] = outcomes(name)
            asked.results.write_text(json.dumps(results, indent=1))
            print(name, json.dumps(results[name]), flush=True)  # noqa: T201
    (HERE / "matrix.md").write_text(page({name: results[name] for name in asked.models}))


def outcomes(name: str) -> dict[str, str]:
    """Return what became of one model: target (or `batch 1`, `RTX parser`) -> ok or the reason."""
    spec = registry.get(name)
    height, width = spec.size(None, None)
    model, source = weights.built(spec, height, width, weights.WeightChoice())
    recipe = spec.preprocessing(height, width)
    inputs = gather_inputs(recipe, preprocessing.photograph_paths()[:2], "photos")
    identity = ModelIdentity(
        name=name,
        family=spec.family,
        builder=spec.builder,
        settings={},
        config=to_document(spec.config),
        height=height,
        width=width,
    )

    def exported(batch: int | str, target: str, folder: str) -> Path | str:
        plan = ExportPlan(
            folder=Path(folder) / "bundle",
            identity=identity,
            weights=source,
            preprocessing=recipe,
            target=recipes.target(target),
            batch=batch,
        )
        try:
            outcome = export_module(model, inputs, plan)
        except ExportError as error:
            return " ".join(error.message.split())
        if outcome.bundle is None:
            return f"parity fails: {outcome.parity.first_divergence}"
        return outcome.bundle.model_path

    cells: dict[str, str] = {}
    by_opset: dict[int, list[str]] = {}
    for target in recipes.targets().values():
        by_opset.setdefault(target.opset, []).append(target.name)
    for targets in by_opset.values():
        first = DEFAULT if DEFAULT in targets else targets[0]
        with tempfile.TemporaryDirectory() as folder:
            made = exported("dynamic", first, folder)
            cells[first] = made if isinstance(made, str) else "ok"
            for other in targets:
                if other != first:
                    cells[other] = made if isinstance(made, str) else fits(made, other)
            if first == DEFAULT:
                cells["RTX parser"] = made if isinstance(made, str) else parsed(made)
    with tempfile.TemporaryDirectory() as folder:
        made = exported(1, DEFAULT, folder)
        cells["batch 1"] = made if isinstance(made, str) else "ok"
    return cells


def fits(path: Path, target: str) -> str:
    """Return `ok`, or what does not fit a target."""
    try:
        return "; ".join(lint.findings(summary.load(path), recipes.target(target))) or "ok"
    except ElfattDeployError as error:
        return error.message


def parsed(path: Path) -> str:
    """Return `ok`, or what the parser of TensorRT for RTX says of a file."""
    try:
        import tensorrt_rtx as trt
    except ImportError:
        return "not tried: tensorrt_rtx is not installed"
    logger = trt.Logger(trt.Logger.ERROR)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt.Builder(logger).create_network(flags)
    onnx_parser = trt.OnnxParser(network, logger)
    if onnx_parser.parse(path.read_bytes()):
        return "ok"
    return "; ".join(onnx_parser.get_error(i).desc() for i in range(onnx_parser.num_errors))


def page(results: dict[str, dict[str, str]]) -> str:
    """Return the page; a reason is a numbered note below the table."""
    columns = [*recipes.targets(), "batch 1", "RTX parser"]
    notes: list[str] = []
    rows = []
    for name, cells in results.items():
        shown = []
        for column in columns:
            text = cells[column]
            if text != "ok" and text not in notes:
                notes.append(text)
            shown.append("ok" if text == "ok" else f"no [{notes.index(text) + 1}]")
        rows.append(f"| {name} | {' | '.join(shown)} |")
    heads = [f"{c} (opset {recipes.target(c).opset})" for c in recipes.targets()]
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("torch", "onnx", "onnxruntime", "onnxslim")
    )
    rtx = "tensorrt_rtx"
    if _installed(rtx):
        versions += f", {rtx} {importlib.metadata.version(rtx)}"
    return "\n".join(
        (
            "# Models and targets",
            "",
            "Written by `python docs/matrix.py`; measured, with " + versions + ".",
            "",
            LEGEND,
            f"| model | {' | '.join((*heads, f'batch 1, {DEFAULT}', 'RTX parser'))} |",
            f"| --- |{' --- |' * len(columns)}",
            *rows,
            "",
            *(f"[{i}] {note}  " for i, note in enumerate(notes, start=1)),
            "",
        )
    )


def _installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
