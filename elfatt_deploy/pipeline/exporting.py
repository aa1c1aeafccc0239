"""export_bundle: model -> weights -> golden -> rewrites -> ONNX -> simplify -> lint -> parity.

With a plugin, its node stands for the attention of the blocks that it covers.
With precision fp16, before lint: islands -> typed graph; after parity: parity of emulated FP16.

Of an ONNX file: names -> lint -> golden (not optimised) -> parity (optimised).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import artifacts, bundles, optional, preprocessing, recipes
from elfatt_deploy import golden as golden_files
from elfatt_deploy.artifacts import (
    Bundle,
    Counts,
    ModelIdentity,
    PluginUse,
    PrecisionMap,
    Preprocessing,
    Weights,
)
from elfatt_deploy.errors import InputFileError, UsageError
from elfatt_deploy.golden import Golden, GoldenInputs
from elfatt_deploy.models import own, plugin_node, pretrained, registry
from elfatt_deploy.models.settings import parse_settings
from elfatt_deploy.parity import prove
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.pipeline.manifest import manifest_of, plugin_use
from elfatt_deploy.pipeline.records import ExportPlan, ExportRequest, Outcome, Progress, silent
from elfatt_deploy.precision import guard
from elfatt_deploy.recipes import Target
from elfatt_deploy.runners.ort_runner import OrtRunner

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from elfatt_deploy.models.spec import ModelSpec
    from elfatt_deploy.models.weights import WeightChoice

#: batch traced for a dynamic graph: none of the sizes at which parity is proved
_TRACED_BATCH = 2
#: of an ONNX file that leaves its input size open, and the crop of torchvision's evaluation
ONNX_INPUT_SIZE, ONNX_CROP = 224, 0.875


def export_bundle(request: ExportRequest, progress: Progress = silent) -> Outcome:
    """Export a model, or take an ONNX file, and prove the file before it is called done.

    Raises:
        UsageError: a name, size or setting that cannot be used.
        MissingDependency: torch, onnx or ONNX Runtime is absent.
        InputFileError: the weights, images or ONNX file cannot be used.
        ExportError: the export fails, does not fit the target, or cannot be written.
    """
    # What can be refused at once is refused before torch is imported.
    batch = request.batch
    if batch not in (None, "dynamic") and not (isinstance(batch, int) and batch >= 1):
        raise UsageError(f"a batch of {batch!r}", hint="use a number from 1, or dynamic")
    tolerance(request.precision)
    target = recipes.target(request.target)
    _check_plugin(request, target)
    paths, name = preprocessing.parity_images(request.images)
    _check_weights(request)
    saved = _saved_map(request)
    if request.is_onnx:
        return _adopt_onnx(request, target, paths, name, saved, progress)
    settings = parse_settings(request.settings)
    spec = registry.get(request.model).configured(settings)
    height, width = spec.size(request.height, request.width)
    spec.config.map_sizes(height, width)
    folder = request.folder(height, width, batch or 1)
    bundles.check_writable(folder)
    for package in ("onnxruntime", "onnx", "onnxslim", "torch"):
        optional.load(package)
    from elfatt_deploy.models import weights as weight_files

    spec, choice = _weight_choice(request, spec, height, width, progress)
    progress("building the model")
    model, weights = weight_files.built(spec, height, width, choice)
    recipe = spec.preprocessing(height, width)
    plan = ExportPlan(
        folder=folder,
        identity=ModelIdentity(
            name=spec.name,
            family=spec.family,
            builder=spec.builder,
            settings=settings,
            config=artifacts.to_document(spec.config),
            height=height,
            width=width,
        ),
        weights=weights,
        preprocessing=recipe,
        target=target,
        batch=batch or 1,
        precision=request.precision,
        precision_map=saved,
        image_source=request.images.name if request.images else "scikit-image",
        plugin=request.plugin,
        counts=_counts(spec, height, width),
    )
    return export_module(model, golden_files.gather_inputs(recipe, paths, name), plan, progress)


def _check_plugin(request: ExportRequest, target: Target) -> None:
    """Refuse a plugin that is not known, and one where none can be used."""
    plugin_node.check_plugin(request.plugin)
    if request.plugin is None:
        return
    if request.is_onnx:
        raise UsageError(f"--plugin {request.plugin} rewrites a torch model, not {request.model}")
    if not target.trtexec:
        raise UsageError(
            f"--plugin {request.plugin} is for TensorRT, and target {target.name} is none",
            hint="choose --target jp4, jp5, jp6, jp7, jp7.2 or desktop, or leave --plugin away",
        )


def _check_weights(request: ExportRequest) -> None:
    """Refuse options on weights that do not go together, and a file that is not there."""
    named = request.weights is not None or request.pretrained
    if not named and (request.key_map or request.swap_halves):
        raise UsageError("--key-map and --swap-halves change a checkpoint: give --weights too")
    if request.pretrained and request.weights is not None:
        raise UsageError("--pretrained and --weights both name weights: give one of them")
    if request.is_onnx and (request.weights or request.pretrained or request.settings):
        raise UsageError(
            f"{request.model} holds its weights and its configuration: --weights, --pretrained and "
            "--set change a torch model"
        )
    if request.weights is not None and not request.weights.is_file():
        raise InputFileError(f"there is no weights file {request.weights}")


def _saved_map(request: ExportRequest) -> PrecisionMap | None:
    """Read the precision map that was asked for: a manifest that holds one, or the map alone."""
    path = request.precision_map
    if path is None:
        return None
    if request.precision != "fp16":
        raise UsageError("--precision-map says what stays FP32 in FP16: give --precision fp16 too")
    document = bundles.read_document(path)
    found = document.get("precision_map", document)
    if not isinstance(found, dict):  # the manifest of an fp32 bundle has none
        raise InputFileError(
            f"{path} holds no precision map", hint="name the manifest of an fp16 bundle"
        )
    return artifacts.from_document(PrecisionMap, found, str(path))


def _weight_choice(
    request: ExportRequest, spec: ModelSpec, height: int, width: int, progress: Progress
) -> tuple[ModelSpec, WeightChoice]:
    """Return where the weights come from; fetches the published ones where they are wanted."""
    from elfatt_deploy.models.weights import WeightChoice

    path, url = request.weights, ""
    if request.pretrained and isinstance(spec.config, own.OwnConfig):
        spec = own.resolved(spec.name, spec.config.source, pretrained=True)
    elif request.pretrained:

        def fetched(done: int, total: int | None) -> None:
            of = f" of {total / 2**20:.0f}" if total else ""
            progress(f"fetching the published weights: {done / 2**20:.0f}{of} MiB")

        size = height if height == width else None
        found = pretrained.fetch(spec.name, progress=fetched, input_size=size)
        path, url = found.path, found.url
    return spec, WeightChoice(
        path=path,
        key_map=request.key_map,
        swap_halves=request.swap_halves,
        seed=request.seed,
        url=url,
    )


def _counts(spec: ModelSpec, height: int, width: int) -> Counts | None:
    """Count a model of ours; a module of the user's may not run on the meta device."""
    from elfatt_deploy.models import counting

    return None if spec.own_weights else counting.count(spec, height, width)


def export_module(
    model: nn.Module, inputs: GoldenInputs, plan: ExportPlan, progress: Progress = silent
) -> Outcome:
    """Export a torch module from images [B, 3, H, W] to logits [B, classes] and prove the file.

    Where parity fails no bundle is left, and the report names the first diverging tensor.

    Raises:
        ExportError: the module does not run or export, does not fit the target, or the bundle
            cannot be written.
        RunnerError: ONNX Runtime refuses the file.
    """
    from elfatt_deploy.export import exporter, golden, plugin, rewrites
    from elfatt_deploy.graph import simplify

    with bundles.new_folder(plan.folder) as folder:
        progress("running the torch module")
        logits, taps = golden.reference_run(model, inputs.images)
        use, names = None, tuple(rewrites.rewrites_for(plan.target.local, plan.precision))
        if plan.plugin is not None:
            model = plugin.with_nodes(model)
            use, names = plugin_use(*plugin.blocks_of(model)), (plugin.REWRITE, *names)
        progress(f"exporting to opset {plan.target.opset}")
        size = _TRACED_BATCH if isinstance(plan.batch, str) else plan.batch
        proto = exporter.onnx_from_torch(
            rewrites.rewritten(model, plan.target.local, plan.precision),
            exporter.example_images(inputs.images, size),
            opset=plan.target.opset,
            dynamic_batch=isinstance(plan.batch, str),
        )
        progress("simplifying and checking the graph")
        proto = simplify.simplified(proto)
        tap_names = simplify.drop_outputs(proto, exporter.OUTPUT)
        simplify.strip_metadata(proto)
        golden_files.write_golden(
            folder / artifacts.GOLDEN_FILE,
            inputs,
            logits,
            {name: taps[name] for name in tap_names if name in taps},
        )
        return _proved(
            plan,
            folder,
            proto,
            tap_names,
            "torch.onnx (TorchScript)",
            names,
            progress,
            use,
        )


def _adopt_onnx(
    request: ExportRequest,
    target: Target,
    paths: tuple[Path, ...],
    name: str,
    saved: PrecisionMap | None,
    progress: Progress,
) -> Outcome:
    """Make a bundle of an ONNX file from elsewhere; its graph stays as it is."""
    from elfatt_deploy.graph import adopt

    path = Path(request.model)
    progress("reading the ONNX file")
    adopted = adopt.adopt(path)
    height, width = adopt.asked_size(adopted, request.height, request.width, ONNX_INPUT_SIZE)
    if request.batch not in (None, adopted.batch):
        raise UsageError(
            f"{path} has batch {adopted.batch}, not {request.batch}", hint="leave --batch away"
        )
    folder = request.folder(height, width, adopted.batch)
    recipe = Preprocessing(height=height, width=width, crop_share=ONNX_CROP)
    inputs = golden_files.gather_inputs(recipe, paths, name)
    plan = ExportPlan(
        folder=folder,
        identity=ModelIdentity(
            name=path.stem,
            family="ONNX file",
            builder="",
            settings={},
            config={"renamed": list(adopted.renamed)},
            height=height,
            width=width,
        ),
        weights=Weights(source=path.name, sha256=bundles.sha256_of(path)),
        preprocessing=recipe,
        target=target,
        batch=adopted.batch,
        precision=request.precision,
        precision_map=saved,
        image_source=request.images.name if request.images else "scikit-image",
    )
    with bundles.new_folder(folder) as work:
        progress("running the file without optimisations")
        with OrtRunner(adopted.model.SerializeToString(), optimised=False) as runner:
            logits = prove.reference_logits(runner, inputs.images, adopted.batch)
            golden_files.write_golden(
                work / artifacts.GOLDEN_FILE, inputs, logits, {}, reference=runner.name
            )
        return _proved(plan, work, adopted.model, (), "none: the file is the user's", (), progress)


def _proved(
    plan: ExportPlan,
    folder: Path,
    proto: onnx.ModelProto,
    taps: tuple[str, ...],
    exporter: str,
    rewrites: tuple[str, ...],
    progress: Progress,
    use: PluginUse | None = None,
) -> Outcome:
    """Hold a graph against its target and its golden outputs; write it and its manifest."""
    from elfatt_deploy.graph import half, lint, summary

    golden = golden_files.read_golden(folder / artifacts.GOLDEN_FILE)
    found = _precision_map(plan, proto, golden, progress) if plan.precision == "fp16" else None
    islands = tuple(island.node for island in found.islands) if found else ()
    stored = plan.precision
    if found and plan.target.fp16 == "typed":
        progress("converting the graph to FP16")
        proto = half.mixed(proto, islands)
    elif found:
        stored = "fp32"  # the builder makes it FP16, by its flag
    lint.check(proto, plan.target, plan.plugin)
    (folder / artifacts.MODEL_FILE).write_bytes(proto.SerializeToString())
    graph = summary.summarize(proto)
    progress("comparing with the reference")
    report, _ = prove.prove(folder, plan.batch, stored, provider="cpu")
    emulation = None
    if found:
        progress("comparing emulated FP16 with the reference")
        emulation = prove.prove_half(folder, plan.batch, islands)
    outcome = Outcome(parity=report, bundle=None, emulation=emulation)
    if not outcome.passed:
        return outcome
    manifest = manifest_of(plan, folder, graph, taps, outcome, exporter, rewrites, found, use)
    bundles.write_manifest(folder, manifest)
    return dataclasses.replace(outcome, bundle=Bundle(path=plan.folder, manifest=manifest))


def _precision_map(
    plan: ExportPlan, proto: onnx.ModelProto, golden: Golden, progress: Progress
) -> PrecisionMap:
    """Search the nodes that stay FP32 on the real golden images, or measure a saved map on them."""
    real = [row for row, owner in enumerate(golden.sets) if owner != golden_files.NOISE]
    images, logits = golden.images[real], golden.logits[real]
    if plan.precision_map is not None:
        return guard.measured(plan.precision_map, proto, images, logits, plan.batch, progress)
    return guard.precision_map(proto, images, logits, plan.batch, progress)
