"""The spine: calls the stages in order and has no logic of its own.

export_bundle:  model -> weights -> golden -> rewrites -> ONNX -> simplify -> lint -> parity
                an ONNX file -> names -> lint -> golden (not optimised) -> parity (optimised)
check_bundle:   digests -> lint -> parity
check_onnx:     lint -> parity of an ONNX file from elsewhere
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
from elfatt_deploy import golden as golden_files
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
from elfatt_deploy.golden import GoldenInputs
from elfatt_deploy.models import own, pretrained, registry
from elfatt_deploy.models.settings import parse_settings
from elfatt_deploy.parity import locate, prove
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.recipes import Target
from elfatt_deploy.runners.ort_runner import OrtRunner, check_provider

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from elfatt_deploy.models.spec import ModelSpec
    from elfatt_deploy.models.weights import WeightChoice

Progress = Callable[[str], None]


def _silent(stage: str) -> None:
    """Show nothing."""


#: batch traced for a dynamic graph: none of the sizes at which parity is proved
_TRACED_BATCH = 2
_PACKAGES = ("torch", "onnx", "onnxruntime", "onnxslim", "numpy", "timm")
#: of an ONNX file that leaves its input size open, and the crop of torchvision's evaluation
_ONNX_INPUT_SIZE, _ONNX_CROP = 224, 0.875


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to export.

    Args:
        model: a registered name, `package.module:function`, `timm/NAME`, or an ONNX file.
        settings: `key=value` texts that change its configuration.
        height: input rows; None means the model's own size.
        width: input columns; None means the model's own size.
        batch: a fixed batch size, or `dynamic`; None means 1, or what an ONNX file has.
        precision: precision of the graph.
        target: a name of `profiles/targets.toml`.
        weights: a checkpoint; None means seeded random weights, or those of your own module.
        pretrained: whether the published weights are fetched.
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
    batch: int | str | None = None
    precision: str = "fp32"
    target: str = "jp6"
    weights: Path | None = None
    pretrained: bool = False
    key_map: str | None = None
    swap_halves: bool = False
    seed: int = 0
    images: Path | None = None
    output: Path = Path("bundles")

    @property
    def is_onnx(self) -> bool:
        """Whether the model is an ONNX file from elsewhere."""
        return self.model.endswith(".onnx")

    def folder(self, height: int, width: int, batch: int | str) -> Path:
        """Return the folder of the bundle."""
        name = Path(self.model).stem if self.is_onnx else self.model
        return self.output / bundles.folder_name(
            name, self.settings, height, width, batch, self.precision, self.target
        )


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
        parity: the comparison with the reference.
        bundle: the bundle; None where an export failed parity, for then none is left, and where an
            ONNX file was checked.
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
    paths, name = preprocessing.parity_images(request.images)
    _check_weights(request)
    if request.is_onnx:
        return _adopt_onnx(request, target, paths, name, progress)
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
        image_source=request.images.name if request.images else "scikit-image",
        counts=_counts(spec, height, width),
    )
    return export_module(model, golden_files.gather_inputs(recipe, paths, name), plan, progress)


def _check_weights(request: ExportRequest) -> None:
    """Refuse options on weights that do not go together, and a file that is not there."""
    if request.weights is None and (request.key_map or request.swap_halves):
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
    from elfatt_deploy.graph import simplify

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
            tuple(rewrites.REWRITES),
            progress,
        )


def _adopt_onnx(
    request: ExportRequest, target: Target, paths: tuple[Path, ...], name: str, progress: Progress
) -> Outcome:
    """Make a bundle of an ONNX file from elsewhere; its graph stays as it is."""
    from elfatt_deploy.graph import adopt

    path = Path(request.model)
    progress("reading the ONNX file")
    adopted = adopt.adopt(path)
    height, width = adopt.asked_size(adopted, request.height, request.width, _ONNX_INPUT_SIZE)
    if request.batch not in (None, adopted.batch):
        raise UsageError(
            f"{path} has batch {adopted.batch}, not {request.batch}", hint="leave --batch away"
        )
    folder = request.folder(height, width, adopted.batch)
    recipe = Preprocessing(height=height, width=width, crop_share=_ONNX_CROP)
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
) -> Outcome:
    """Hold a graph against its target and its golden outputs; write it and its manifest."""
    from elfatt_deploy.graph import lint, summary

    lint.check(proto, plan.target)
    (folder / artifacts.MODEL_FILE).write_bytes(proto.SerializeToString())
    graph = summary.summarize(proto)
    progress("comparing with the reference")
    report, _ = prove.prove(folder, plan.batch, plan.precision, provider="cpu")
    if not report.passed:
        return Outcome(parity=report, bundle=None)
    manifest = _manifest(plan, folder, graph, taps, report, exporter, rewrites)
    bundles.write_manifest(folder, manifest)
    return Outcome(parity=report, bundle=Bundle(path=plan.folder, manifest=manifest))


def check_onnx(
    path: Path,
    target_name: str,
    *,
    provider: str = "cpu",
    images: Path | None = None,
    progress: Progress = _silent,
) -> Outcome:
    """Check an ONNX file from elsewhere: target lint, and ONNX Runtime optimised and not.

    Raises:
        UnknownNameError: there is no such target or provider.
        InputFileError: the file or the images cannot be read.
        ExportError: the file is no classifier of images.
        RunnerError: ONNX Runtime refuses the file or the provider.
    """
    from elfatt_deploy.graph import adopt, lint

    check_provider(provider)
    target = recipes.target(target_name)
    paths, name = preprocessing.parity_images(images)
    progress("reading the ONNX file")
    adopted = adopt.adopt(path)
    height, width = adopt.asked_size(adopted, None, None, _ONNX_INPUT_SIZE)
    recipe = Preprocessing(height=height, width=width, crop_share=_ONNX_CROP)
    findings = lint.findings(adopted.model, target)
    progress("comparing with the file not optimised")
    inputs = golden_files.gather_inputs(recipe, paths, name)
    report = prove.against_plain(
        adopted.model.SerializeToString(), inputs, adopted.batch, provider=provider
    )
    return Outcome(parity=report, bundle=None, findings=findings)


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
    report, errors = prove.prove(
        path, manifest.batch, manifest.precision, provider=provider, layers=layers
    )
    shown = errors if layers else ()
    return Outcome(parity=report, bundle=bundle, findings=found, layers=shown)


def _manifest(
    plan: ExportPlan,
    folder: Path,
    graph: GraphSummary,
    taps: tuple[str, ...],
    parity: ParityReport,
    exporter: str,
    rewrites: tuple[str, ...],
) -> BundleManifest:
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
        rewrites=rewrites,
        exporter=exporter,
        image_source=plan.image_source,
        taps=taps,
        parity=parity,
        versions=_versions(),
        files={
            name: bundles.sha256_of(folder / name)
            for name in (artifacts.MODEL_FILE, artifacts.GOLDEN_FILE)
        },
    )


def _versions() -> dict[str, str]:
    found = {"elfatt-deploy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
