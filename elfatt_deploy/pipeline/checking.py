"""check_bundle: digests -> lint -> parity, of emulated FP16 too; inner tensors where asked for.

check_onnx: lint -> parity with itself, not optimised.
"""

from __future__ import annotations

from pathlib import Path

from elfatt_deploy import bundles, preprocessing, recipes
from elfatt_deploy import golden as golden_files
from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.engine import rtx
from elfatt_deploy.errors import SchemaError, UnknownNameError, UsageError
from elfatt_deploy.parity import prove
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.pipeline.exporting import ONNX_CROP, ONNX_INPUT_SIZE
from elfatt_deploy.pipeline.records import Outcome, Progress, silent
from elfatt_deploy.runners.ort_runner import check_provider

#: builders that a check may ask; they need no GPU
BUILDERS = ("rtx",)


def check_bundle(
    path: Path,
    *,
    provider: str = "cpu",
    layers: bool = False,
    runner: str = "ort",
    against: str | None = None,
    builder: str | None = None,
    plan: Path | None = None,
    plugins: tuple[Path, ...] = (),
    progress: Progress = silent,
) -> Outcome:
    """Check a bundle: digests, target, and parity of ONNX Runtime with the golden outputs.

    Args:
        path: the bundle's folder.
        provider: what ONNX Runtime runs on, `cpu` or `cuda`.
        layers: whether every named inner tensor is compared as well.
        runner: with `against`, the runner that is judged.
        plan: a TensorRT plan of this bundle, whose logits are compared as well, on a GPU.
        plugins: plugin libraries that the plan needs.
        builder: `rtx` to build the graph with TensorRT for RTX and count its kernels.
        against: a runner that every inner tensor is compared with, in place of the golden outputs.
        progress: called with each stage as it begins.

    Raises:
        InputFileError: the bundle is missing, torn, or was changed since the export.
        SchemaError: its manifest does not read back.
        UnknownNameError: there is no such provider, runner or builder.
        PlanMismatch: the plan belongs to another place or another bundle.
        EngineError: the builder refuses the graph, or the plan does not run.
        UsageError: a runner is compared with itself; of a bundle that needs a plugin, the builder
            is asked, or its plan is run without the library.
        MissingDependency: onnx or ONNX Runtime is absent.
        RunnerError: ONNX Runtime refuses the file or the provider.
    """
    from elfatt_deploy.graph import lint, summary

    check_provider(provider)
    if builder not in (None, *BUILDERS):
        raise UnknownNameError("builder", str(builder), BUILDERS)
    progress("reading the bundle")
    bundle = bundles.read_bundle(path)
    manifest = bundle.manifest
    try:
        target = recipes.target(manifest.target)
        tolerance(manifest.precision)
    except UnknownNameError as error:
        raise SchemaError(f"the manifest of {path}: {error.message}") from error
    plugin = manifest.plugin
    if plan is not None and plugin is not None and not plugins:
        raise UsageError(
            f"{plan} needs the plugin {plugin.name}, and no library was given",
            hint=f"add --plugin path/to/{plugin.library}, the one that it was built with",
        )
    if builder is not None and plugin is not None:
        raise UsageError(
            f"{path} needs the plugin {plugin.name}, and TensorRT for RTX has no plugin layers",
            hint=f"export the model without --plugin {plugin.name}, and check that bundle with "
            f"--builder {builder}",
        )
    progress("checking the graph")
    used = plugin.name if plugin is not None else None
    found = lint.findings(summary.load(bundle.model_path), target, used)
    progress("comparing with the golden outputs")
    half = manifest.precision == "fp16"
    stored = "fp32" if half and target.fp16 == "flags" else manifest.precision
    report, errors = prove.prove(path, manifest.batch, stored, provider=provider, layers=layers)
    emulation = None
    islands = manifest.precision_map.islands if manifest.precision_map else ()
    names = tuple(island.node for island in islands)
    if half:
        progress("comparing emulated FP16 with the golden outputs")
        emulation = prove.prove_half(path, manifest.batch, names)
    engine = None
    if plan is not None:
        progress("running the plan")
        engine = prove.prove_plan(bundle, plan, plugins)
    kernels = None
    if builder is not None:
        progress("building with TensorRT for RTX")
        data = bundle.model_path.read_bytes()
        kernels = rtx.count(rtx.kernels(data), rtx.blocks_of_nodes(data, manifest.taps))
    if against is not None:
        progress(f"comparing {runner} with {against}, tensor by tensor")
        errors = prove.pairwise(path, manifest.batch, names, runner, against, provider)
    return Outcome(
        parity=report,
        bundle=bundle,
        findings=found,
        layers=errors if layers else (),
        compared=f"{runner} against {against}" if against else "",
        emulation=emulation,
        kernels=kernels,
        engine=engine,
    )


def check_onnx(
    path: Path,
    target_name: str,
    *,
    provider: str = "cpu",
    images: Path | None = None,
    progress: Progress = silent,
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
    height, width = adopt.asked_size(adopted, None, None, ONNX_INPUT_SIZE)
    recipe = Preprocessing(height=height, width=width, crop_share=ONNX_CROP)
    findings = lint.findings(adopted.model, target)
    progress("comparing with the file not optimised")
    inputs = golden_files.gather_inputs(recipe, paths, name)
    report = prove.against_plain(
        adopted.model.SerializeToString(), inputs, adopted.batch, provider=provider
    )
    return Outcome(parity=report, bundle=None, findings=findings)
