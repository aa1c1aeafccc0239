"""The spine: calls the stages in order and has no logic of its own.

export_bundle:  model -> weights -> golden -> rewrites -> ONNX -> simplify -> lint -> parity
check_bundle:   digests -> lint -> parity
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import __version__, artifacts, bundles, optional, preprocessing, recipes
from elfatt_deploy.artifacts import (
    Bundle,
    BundleManifest,
    Counts,
    GraphSummary,
    ModelIdentity,
    ParityReport,
    Preprocessing,
    Weights,
)
from elfatt_deploy.errors import (
    InputFileError,
    SchemaError,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.models import registry
from elfatt_deploy.models.config import parse_settings
from elfatt_deploy.parity import compare, locate
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.recipes import Target
from elfatt_deploy.runners.ort_runner import OrtRunner, check_provider

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.export.golden import GoldenInputs

Progress = Callable[[str], None]


def _silent(stage: str) -> None:
    """Show nothing."""


#: batch traced for a dynamic graph: none of the sizes at which parity is proved
_TRACED_BATCH = 2
_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxslim", "numpy")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export.

    Args:
        model: a registered name.
        settings: `key=value` texts that change its configuration.
        height: input rows; None means the model's own size.
        width: input columns; None means the model's own size.
        batch: a fixed batch size, or `dynamic`.
        precision: precision of the graph.
        target: a name of `profiles/targets.toml`.
        weights: a checkpoint; None means seeded random weights.
        key_map: `package.module:function` from a key of the checkpoint to one of the model.
        swap_halves: whether the checkpoint has the halves of ELFATT in the other order.
        seed: seed of the random weights.
        images: folder of images for parity; None means the sample photographs.
        output: folder in which the bundle's folder is made.
    """

    model: str
    settings: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None
    batch: int | str = 1
    precision: str = "fp32"
    target: str = "jp6"
    weights: Path | None = None
    key_map: str | None = None
    swap_halves: bool = False
    seed: int = 0
    images: Path | None = None
    output: Path = Path("bundles")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """Everything about an export but the module and its inputs; see `ExportRequest`."""

    folder: Path
    identity: ModelIdentity
    weights: Weights
    preprocessing: Preprocessing
    target: Target
    batch: int | str
    precision: str = "fp32"
    image_source: str = ""
    counts: Counts | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an export or a check came to.

    Args:
        parity: the comparison with the torch module.
        bundle: the bundle; None where an export failed parity, for then none is left.
        findings: what does not fit the target, a line each.
        layers: how far each named inner tensor is off, where that was asked for.
    """

    parity: ParityReport
    bundle: Bundle | None
    findings: tuple[str, ...] = ()
    layers: tuple[locate.TapError, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether parity holds and the file fits its target."""
        return self.parity.passed and not self.findings


def export_bundle(request: ExportRequest, progress: Progress = _silent) -> Outcome:
    """Export a registered model and prove the file before it is called done.

    Raises:
        UsageError: a name, size or setting that cannot be used.
        MissingDependency: torch, onnx or ONNX Runtime is absent.
        InputFileError: the weights or images cannot be used.
        ExportError: the export fails, does not fit the target, or cannot be written.
    """
    # What can be refused at once is refused before torch is imported.
    if request.batch != "dynamic" and not (isinstance(request.batch, int) and request.batch >= 1):
        raise UsageError(f"a batch of {request.batch!r}", hint="use a number from 1, or dynamic")
    tolerance(request.precision)
    target = recipes.target(request.target)
    settings = parse_settings(request.settings)
    spec = registry.get(request.model).configured(settings)
    height, width = request.height or spec.input_size, request.width or spec.input_size
    spec.config.map_sizes(height, width)
    paths, name = preprocessing.parity_images(request.images)
    if request.weights is None and (request.key_map or request.swap_halves):
        raise UsageError("--key-map and --swap-halves change a checkpoint: give --weights too")
    if request.weights is not None and not request.weights.is_file():
        raise InputFileError(f"there is no weights file {request.weights}")
    folder = request.output / bundles.folder_name(
        request.model,
        request.settings,
        height,
        width,
        request.batch,
        request.precision,
        request.target,
    )
    bundles.check_writable(folder)
    for package in ("onnxruntime", "onnx", "onnxslim", "torch"):
        optional.load(package)
    from elfatt_deploy.export import golden
    from elfatt_deploy.models import counting

    progress("building the model")
    model = spec.build(height, width)
    weights = _set_weights(model, request)
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
        batch=request.batch,
        precision=request.precision,
        image_source=request.images.name if request.images else "scikit-image",
        counts=counting.count(spec, height, width),
    )
    return export_module(model, golden.gather_inputs(recipe, paths, name), plan, progress)


def export_module(
    model: nn.Module, inputs: GoldenInputs, plan: ExportPlan, progress: Progress = _silent
) -> Outcome:
    """Export a torch module from images [B, 3, H, W] to logits [B, classes] and prove the file.

    Where parity fails no bundle is left, and the report names the first diverging tensor.

    Raises:
        ExportError: the module does not run or export, does not fit the target, or the bundle
            cannot be written.
        RunnerError: ONNX Runtime refuses the file.
    """
    from elfatt_deploy.export import exporter, golden, rewrites
    from elfatt_deploy.graph import lint, simplify, summary

    with bundles.new_folder(plan.folder) as folder:
        progress("running the torch module")
        logits, taps = golden.reference_run(model, inputs.images)
        progress(f"exporting to opset {plan.target.opset}")
        size = _TRACED_BATCH if isinstance(plan.batch, str) else plan.batch
        proto = exporter.onnx_from_torch(
            rewrites.rewritten(model),
            exporter.example_images(inputs.images, size),
            opset=plan.target.opset,
            dynamic_batch=isinstance(plan.batch, str),
        )
        progress("simplifying and checking the graph")
        proto = simplify.simplified(proto)
        tap_names = simplify.drop_outputs(proto, exporter.OUTPUT)
        simplify.strip_metadata(proto)
        lint.check(proto, plan.target)
        (folder / artifacts.MODEL_FILE).write_bytes(proto.SerializeToString())
        golden.write_golden(
            folder / artifacts.GOLDEN_FILE,
            inputs,
            logits,
            {name: taps[name] for name in tap_names if name in taps},
        )
        graph = summary.summarize(proto)
        del proto
        progress("comparing with the torch module")
        report, _ = _parity(folder, plan.batch, plan.precision, provider="cpu")
        if not report.passed:
            return Outcome(parity=report, bundle=None)
        manifest = _manifest(plan, folder, graph, tap_names, report)
        bundles.write_manifest(folder, manifest)
    return Outcome(parity=report, bundle=Bundle(path=plan.folder, manifest=manifest))


def check_bundle(
    path: Path, *, provider: str = "cpu", layers: bool = False, progress: Progress = _silent
) -> Outcome:
    """Check a bundle: digests, target, and parity of ONNX Runtime with the golden outputs.

    Args:
        path: the bundle's folder.
        provider: what ONNX Runtime runs on, `cpu` or `cuda`.
        layers: whether every named inner tensor is compared as well.
        progress: called with each stage as it begins.

    Raises:
        InputFileError: the bundle is missing, torn, or was changed since the export.
        SchemaError: its manifest does not read back.
        UnknownNameError: there is no such provider.
        MissingDependency: onnx or ONNX Runtime is absent.
        RunnerError: ONNX Runtime refuses the file or the provider.
    """
    from elfatt_deploy.graph import lint, summary

    check_provider(provider)
    progress("reading the bundle")
    bundle = bundles.read_bundle(path)
    manifest = bundle.manifest
    try:
        target = recipes.target(manifest.target)
        tolerance(manifest.precision)
    except UnknownNameError as error:
        raise SchemaError(f"the manifest of {path}: {error.message}") from error
    progress("checking the graph")
    found = lint.findings(summary.load(bundle.model_path), target)
    progress("comparing with the golden outputs")
    report, errors = _parity(
        path, manifest.batch, manifest.precision, provider=provider, layers=layers
    )
    shown = errors if layers else ()
    return Outcome(parity=report, bundle=bundle, findings=found, layers=shown)


def _parity(
    folder: Path, batch: int | str, precision: str, *, provider: str, layers: bool = False
) -> tuple[ParityReport, tuple[locate.TapError, ...]]:
    """Compare logits; where they fail, or `layers` is set, the named inner tensors as well."""
    golden = compare.read_golden(folder / artifacts.GOLDEN_FILE)
    with OrtRunner(str(folder / artifacts.MODEL_FILE), provider=provider) as runner:
        report = compare.compare(runner, golden, batch, tolerance(precision))
    if report.passed and not layers:
        return report, ()
    errors = _tap_errors(folder / artifacts.MODEL_FILE, golden, batch, provider)
    if not report.passed:
        report = dataclasses.replace(report, first_divergence=locate.first_divergence(errors))
    return report, errors


def _tap_errors(
    model: Path, golden: compare.Golden, batch: int | str, provider: str
) -> tuple[locate.TapError, ...]:
    """Run the graph once with every named inner tensor as an output."""
    from elfatt_deploy.graph import simplify, summary

    proto = summary.load(model)
    simplify.add_outputs(proto, tuple(golden.taps))
    with OrtRunner(proto.SerializeToString(), provider=provider) as runner:
        return locate.tap_errors(runner, golden, compare.batches_of(batch)[0])


def _manifest(
    plan: ExportPlan,
    folder: Path,
    graph: GraphSummary,
    taps: tuple[str, ...],
    parity: ParityReport,
) -> BundleManifest:
    from elfatt_deploy.export import rewrites

    return BundleManifest(
        schema=artifacts.MANIFEST_SCHEMA,
        version=artifacts.MANIFEST_VERSION,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        model=plan.identity,
        weights=plan.weights,
        precision=plan.precision,
        target=plan.target.name,
        batch=plan.batch,
        preprocessing=plan.preprocessing,
        counts=plan.counts,
        graph=graph,
        rewrites=tuple(rewrites.REWRITES),
        exporter="torch.onnx (TorchScript)",
        image_source=plan.image_source,
        taps=taps,
        parity=parity,
        versions=_versions(),
        files={
            name: bundles.sha256_of(folder / name)
            for name in (artifacts.MODEL_FILE, artifacts.GOLDEN_FILE)
        },
    )


def _set_weights(model: nn.Module, request: ExportRequest) -> Weights:
    if request.weights is None:
        from elfatt_deploy.models import seeded

        seeded.fill(model, request.seed)
        return Weights(source=f"random({request.seed})")
    from elfatt_deploy.models import checkpoints

    rename = checkpoints.key_map(request.key_map) if request.key_map else None
    checkpoints.load(model, request.weights, rename=rename, swap_halves=request.swap_halves)
    return Weights(source=request.weights.name, sha256=bundles.sha256_of(request.weights))


def _versions() -> dict[str, str]:
    found = {"elfatt-deploy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
