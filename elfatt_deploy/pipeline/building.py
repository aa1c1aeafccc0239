"""build_bundle: bundle -> builder (in process or trtexec) -> proof of precision -> manifest."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from elfatt_deploy import bundles, optional, recipes, units
from elfatt_deploy.artifacts import Bundle
from elfatt_deploy.engine import builder, gpu, layers, proof, trtexec
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine.config import (
    DEFAULT_PROFILE,
    BatchProfile,
    BuildConfig,
    BuildDevice,
    BuiltPlan,
    Precision,
)
from elfatt_deploy.engine.dialects import version_from_banner
from elfatt_deploy.engine.plan import Plan, PlanManifest
from elfatt_deploy.engine.proof import PrecisionProof
from elfatt_deploy.errors import (
    EngineError,
    MissingDependency,
    SchemaError,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.models import plugin_node
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.transport.local import Local

BUILDERS = ("auto", "tensorrt", "trtexec")
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")
_PACKAGES = ("tensorrt", "numpy")
_CHANNELS = 3  # of `images` [B, 3, H, W]
_ASK_TIMEOUT_S = 120.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What to build.

    Args:
        bundle: the bundle's folder.
        builder: `tensorrt`, `trtexec`, or `auto` for the first of them that is here.
        precision: None for that of the bundle.
        workspace_bytes: limit of the workspace; None for the forecast of the board's memory.
        timing_cache: folder that keeps tactic timings from build to build; None for none.
        plugins: plugin libraries to load first.
        profile: batches; None for what the bundle has, or a default where it is dynamic.
        output: folder in which the plan's folder is made; None means the bundle's own.
    """

    bundle: Path
    builder: str = "auto"
    precision: str | None = None
    workspace_bytes: int | None = None
    timing_cache: Path | None = None
    plugins: tuple[Path, ...] = ()
    profile: BatchProfile | None = None
    output: Path | None = None


def build_bundle(request: BuildRequest, progress: Progress = silent) -> Plan:
    """Build a bundle's plan, prove its precision, and write both beside their manifest.

    Raises:
        UnknownNameError: there is no such builder or precision.
        UsageError: a precision or batch that cannot be used with this bundle.
        InputFileError: the bundle is missing, torn, or was changed since the export.
        MissingDependency: no builder is here.
        EngineError: the build fails, or its result cannot be written.
        DeviceError: trtexec cannot be run.
    """
    if request.builder not in BUILDERS:
        raise UnknownNameError("builder", request.builder, BUILDERS)
    progress("reading the bundle")
    bundle = bundles.read_bundle(request.bundle)
    config = config_of(bundle, request)
    method, command = find_builder(request.builder)
    parent = request.output / bundle.path.name if request.output else bundle.path
    with work_folder(parent) as folder:
        if method == "tensorrt":
            built = _in_process(bundle, config, folder, progress)
        else:
            built = _by_trtexec(bundle, config, folder, command, progress)
        progress("proving the precision")
        plans.write_manifest(folder, manifest_of(bundle, config, built))
        name = plans.folder_name(built.tensorrt, built.device, config.precision, config.profile)
        put_in_place(parent / name, folder)
    return plans.read_plan(parent / name)


def config_of(bundle: Bundle, request: BuildRequest) -> BuildConfig:
    """Return how a bundle is built: typing and islands are the bundle's, the rest is asked for.

    Raises:
        UnknownNameError: there is no such precision.
        UsageError: a precision or batch that the bundle does not hold, or it needs a plugin that
            is not given.
        SchemaError: the bundle's target is unknown.
    """
    manifest = bundle.manifest
    try:
        target = recipes.target(manifest.target)
    except UnknownNameError as error:
        raise SchemaError(f"the manifest of {bundle.path}: {error.message}") from error
    if not target.trtexec:
        raise UsageError(
            f"{bundle.path} was exported for {target.name}, which is no TensorRT",
            hint="export it with --target jp4, jp5, jp6, jp7, jp7.2 or desktop",
        )
    _check_plugin(bundle, request)
    wanted = request.precision or manifest.precision
    precision = next((name for name in PRECISIONS if name == wanted), None)
    if precision is None:
        raise UnknownNameError("precision", wanted, PRECISIONS)
    mixed = manifest.precision == "fp16"
    if mixed and precision != "fp16":
        raise UsageError(
            f"{bundle.path} is an FP16 bundle: its plan is not {precision}",
            hint="export the model with --precision fp32",
        )
    typed = mixed and target.fp16 == "typed"
    if precision == "fp16" and not mixed and target.fp16 == "typed":
        raise UsageError(
            f"{bundle.path} is an FP32 bundle for {target.name}, where the file's types decide",
            hint="export the model with --precision fp16: it finds what must stay FP32",
        )
    return BuildConfig(
        precision=precision,
        typed=typed,
        islands=() if typed else islands_of(bundle),
        profile=_profile(bundle, request.profile),
        workspace_bytes=request.workspace_bytes,
        timing_cache=request.timing_cache,
        plugins=request.plugins,
    )


def _check_plugin(bundle: Bundle, request: BuildRequest) -> None:
    """Refuse a bundle whose plugin is not given; what a library holds, TensorRT alone can tell."""
    use = bundle.manifest.plugin
    if use is not None and not request.plugins:
        raise UsageError(
            f"{bundle.path} needs the TensorRT plugin {use.name} (op {use.op}, version "
            f"{use.version}), and no library was given",
            hint=f"build {use.library} for that machine as {plugin_node.LIBRARY_PAGE} tells, and "
            f"add --plugin path/to/{use.library}",
        )


def islands_of(bundle: Bundle) -> tuple[str, ...]:
    """Return the nodes that stay FP32, from the bundle's precision map."""
    found = bundle.manifest.precision_map
    return () if found is None else tuple(island.node for island in found.islands)


def _profile(bundle: Bundle, asked: BatchProfile | None) -> BatchProfile | None:
    batch = bundle.manifest.batch
    if isinstance(batch, str):
        return asked or DEFAULT_PROFILE
    if asked is not None and {asked.smallest, asked.best, asked.largest} != {batch}:
        raise UsageError(
            f"{bundle.path} has batch {batch} and no other",
            hint="leave --batch away, or export the model with --batch dynamic",
        )
    return None


def find_builder(asked: str) -> tuple[str, str]:
    """Return the builder to use, and the command of trtexec where it is that.

    Raises:
        MissingDependency: what is asked for is not here; with `auto`, neither of them.
    """
    broken: MissingDependency | None = None
    if asked in ("auto", "tensorrt"):
        try:
            optional.load("tensorrt")
        except MissingDependency as error:
            if asked == "tensorrt":
                raise
            broken = error
        else:
            return "tensorrt", ""
    command = shutil.which("trtexec") or shutil.which(trtexec.JETPACK_PROGRAM)
    if command is not None:
        return "trtexec", command
    what = f"the command 'trtexec' is neither on PATH nor at {trtexec.JETPACK_PROGRAM}"
    raise MissingDependency(
        f"{broken.message}, and {what}" if broken else what,
        hint="build on the machine that will run the plan; JetPack brings both builders, on a "
        f"desktop {optional.install_command('tensorrt')}; 'elfatt-deploy doctor' shows the state",
    ) from broken


def _in_process(bundle: Bundle, config: BuildConfig, folder: Path, progress: Progress) -> BuiltPlan:
    device = gpu.present()
    version = str(optional.load("tensorrt").__version__)
    config = with_cache(config, version, device)
    return builder.build(bundle.model_path, config, folder, progress, device=device)


def with_cache(config: BuildConfig, version: str, device: BuildDevice) -> BuildConfig:
    """Turn the folder of timing caches into the file for this TensorRT, GPU and typing.

    Raises:
        EngineError: the folder cannot be made.
    """
    if config.timing_cache is None:
        return config
    try:
        config.timing_cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(
            f"cannot write the timing caches in {config.timing_cache}: {error.strerror}",
            hint="choose another --timing-cache DIR",
        ) from error
    name = plans.timing_cache_name(version, device, config.typed)
    return dataclasses.replace(config, timing_cache=config.timing_cache / name)


def _by_trtexec(
    bundle: Bundle, config: BuildConfig, folder: Path, command: str, progress: Progress
) -> BuiltPlan:
    """Build by trtexec on this machine; without the CUDA driver, the GPU is what trtexec says."""
    try:
        device = gpu.present()
    except EngineError:
        if config.timing_cache is not None:  # timings hold for one GPU, so it must be known
            raise
        device = None
    recipe = bundle.manifest.preprocessing
    with Local() as transport:
        if device is not None and config.timing_cache is not None:
            told = transport.run((command, "--help"), timeout_s=_ASK_TIMEOUT_S)
            version = version_from_banner(told.stdout + told.stderr) or "unknown"
            config = with_cache(config, version, device)
        return trtexec.build(
            bundle.model_path,
            config,
            folder,
            transport=transport,
            trtexec=command,
            progress=progress,
            device=device,
            image=(_CHANNELS, recipe.height, recipe.width),
        )


def _proof(bundle: Bundle, config: BuildConfig, built: BuiltPlan) -> PrecisionProof:
    """Judge the engine by its layers; without layer information nothing is proved."""
    found = layers.read_layers(built.layers) if built.layers else ()
    islands = islands_of(bundle) if config.precision == "fp16" else ()
    return proof.prove(found, config.precision, islands)


def _warnings(bundle: Bundle, config: BuildConfig, built: BuiltPlan) -> tuple[str, ...]:
    if config.precision == "fp16" and bundle.manifest.precision != "fp16":
        told = (
            "the bundle has no precision map: no layer is kept in FP32, and the accuracy of this "
            "plan is not proved; export the model with --precision fp16"
        )
        return (told, *built.warnings)
    return built.warnings


def manifest_of(
    bundle: Bundle, config: BuildConfig, built: BuiltPlan, *, simulated: bool = False
) -> PlanManifest:
    """Return the manifest of what was built, its precision judged by its layers."""
    evidence = _proof(bundle, config, built)
    model_digest, bundle_digest = plans.bundle_digests(bundle)
    files = [built.plan, *([built.layers] if built.layers else [])]
    return PlanManifest(
        created=units.now(),
        model=bundle.manifest.model.name,
        target=bundle.manifest.target,
        batch=bundle.manifest.batch,
        model_sha256=model_digest,
        bundle_sha256=bundle_digest,
        tensorrt=built.tensorrt,
        device=built.device,
        simulated=simulated,
        precision=config.precision,
        proof=evidence.verdict,
        evidence=evidence,
        typed=built.typed,
        islands=config.islands,
        profile=config.profile,
        workspace_bytes=built.workspace_bytes,
        attempts=built.attempts,
        build_seconds=built.seconds,
        method=built.method,
        command=built.command,
        warnings=_warnings(bundle, config, built),
        versions=versions(_PACKAGES),
        files={path.name: bundles.sha256_of(path) for path in files},
    )


@contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Give a folder in `parent` that is gone afterwards, unless it was renamed.

    Raises:
        EngineError: the folder cannot be written.
    """
    work: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".engine-", dir=parent))
    except OSError as error:
        raise EngineError(
            f"cannot write a plan in {parent}: {error.strerror or error}",
            hint="make room or choose another folder with -o DIR",
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def put_in_place(final: Path, work: Path) -> None:
    """Put `work` in the place of an older plan's folder; what is no such folder is left alone.

    Raises:
        EngineError: something else stands there, or it cannot be written.
    """
    if final.exists() and not (final / plans.PLAN_MANIFEST_FILE).is_file():
        raise EngineError(f"{final} exists and is not a plan", hint="move it away")
    old = work.with_name(f"{work.name}.old")
    try:
        work.chmod(0o755)  # mkdtemp makes it for the owner alone
        if final.exists():
            os.replace(final, old)
        try:
            os.replace(work, final)
        except BaseException:
            if old.exists():
                os.replace(old, final)
            raise
    except OSError as error:
        raise EngineError(f"cannot write {final}: {error.strerror or error}") from error
    shutil.rmtree(old, ignore_errors=True)
