"""The build in process, through the `tensorrt` package: one way for TensorRT 8.2 to 11.

    network -> parse -> configure -> islands -> build -> plan, timing cache, layer information

What a version lacks is found by asking for the name, never by comparing versions: the containers
and JetPacks of one version differ.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import time
from pathlib import Path
from typing import Any

from elfatt_deploy import optional, units
from elfatt_deploy.engine import gpu, memory, messages, network
from elfatt_deploy.engine.config import (
    LAYERS_FILE,
    PLAN_FILE,
    BuildConfig,
    BuildDevice,
    BuiltPlan,
)
from elfatt_deploy.engine.messages import Log, Progress
from elfatt_deploy.engine.plan import write_atomic
from elfatt_deploy.errors import EngineError, InputFileError


def _silent(stage: str) -> None:
    """Show nothing."""


@dataclasses.dataclass(slots=True, kw_only=True)
class _Request:
    """One build, all but the workspace."""

    trt: Any
    model: Path
    config: BuildConfig
    progress: Progress


class _OutOfMemory(Exception):
    """A failed attempt that a smaller workspace may mend."""


def build(
    model: Path,
    config: BuildConfig,
    folder: Path,
    progress: Progress = _silent,
    *,
    device: BuildDevice | None = None,
) -> BuiltPlan:
    """Build a plan in this process, and save it and its layer information in `folder`.

    Args:
        model: the ONNX file.
        config: how to build.
        folder: where `model.plan` and `layers.json` are written, each whole or not at all.
        progress: called with each stage as it begins.
        device: the GPU; None asks the CUDA driver.

    Raises:
        MissingDependency: the package `tensorrt` is absent or does not import.
        InputFileError: the ONNX file or a plugin cannot be read.
        EngineError: this version cannot build what is asked, the file does not parse, the build
            fails, or its result cannot be written.
    """
    trt = optional.load("tensorrt")
    network.check_typing(trt, config)
    if not model.is_file():
        raise InputFileError(f"there is no ONNX file {model}")
    device = device or gpu.present()
    load_plugins(config.plugins)
    request = _Request(trt=trt, model=model, config=config, progress=progress)
    forecast = memory.forecast(device.memory_bytes, model.stat().st_size, config.workspace_bytes)
    warnings = _tight(forecast, device)
    workspace, attempts = forecast.workspace_bytes, 0
    while True:
        attempts += 1
        log, began = Log(trt), time.monotonic()
        try:
            plan = _attempt(request, workspace, log)
            break
        except _OutOfMemory as error:
            smaller = memory.next_workspace(workspace)
            if smaller is None or attempts == memory.MAX_ATTEMPTS:
                raise _exhausted(workspace, attempts, device, str(error)) from error
            warnings.append(
                f"out of memory with a workspace of {units.mebibytes(workspace)} MiB ({error}); "
                f"tried again with {units.mebibytes(smaller)} MiB"
            )
            workspace = smaller
            gc.collect()  # the failed builder's memory goes back before the next one takes its own
    seconds = time.monotonic() - began
    progress("reading the engine's layers")
    layers = _layer_information(trt, plan, log)
    write_atomic(folder / PLAN_FILE, plan)
    if layers:
        write_atomic(folder / LAYERS_FILE, layers.encode())
    return BuiltPlan(
        plan=folder / PLAN_FILE,
        layers=folder / LAYERS_FILE if layers else None,
        tensorrt=trt.__version__,
        device=device,
        method="tensorrt",
        typed=config.typed or not network.has_fp16_flag(trt),
        workspace_bytes=workspace,
        attempts=attempts,
        seconds=seconds,
        # A build that succeeds may log errors, such as tactics that found no memory.
        warnings=tuple(dict.fromkeys((*warnings, *log.warnings, *log.errors))),
    )


def _tight(forecast: memory.Forecast, device: BuildDevice) -> list[str]:
    if not forecast.tight:
        return []
    return [
        f"the build may need {units.mebibytes(forecast.peak_bytes)} of the "
        f"{units.mebibytes(device.memory_bytes)} MiB of {device.name}: close the desktop session, "
        "add swap, or give a smaller --workspace"
    ]


def _exhausted(workspace: int, attempts: int, device: BuildDevice, line: str) -> EngineError:
    return EngineError(
        f"out of memory on {device.name}, the last time with a workspace of "
        f"{units.mebibytes(workspace)} MiB ({attempts} builds tried): {line}",
        hint="free memory (close the desktop session, add 4 GB of swap), use a smaller batch or "
        "input, or build with --builder trtexec, which holds no Python process beside it",
    )


def load_plugins(plugins: tuple[Path, ...]) -> None:
    """Load plugin libraries, whose creators register themselves as they are loaded.

    Raises:
        InputFileError: one of them does not load.
    """
    for path in plugins:
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise InputFileError(
                f"the plugin library {path} does not load: {error}",
                hint="build it for this machine and this TensorRT",
            ) from error


def _attempt(request: _Request, workspace: int, log: Log) -> bytes:
    """Return the bytes of a plan."""
    trt, config = request.trt, request.config
    log.demand(
        trt.init_libnvinfer_plugins(log.logger, ""), "TensorRT does not register its plugins"
    )
    builder = trt.Builder(log.logger)
    net = network.create(trt, builder, config, log)
    request.progress("parsing the ONNX file")
    network.parse(trt, net, request.model, log)
    settings = log.demand(builder.create_builder_config(), "TensorRT made no builder configuration")
    _configure(trt, settings, config, workspace)
    network.add_profile(net, builder, settings, config.profile, log)
    if config.islands and config.precision == "fp16":
        settings.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        network.constrain(trt, net, config.islands)
    _use_timing_cache(settings, config.timing_cache, log)
    monitor = messages.monitor(trt, log, request.progress)
    if monitor is not None and hasattr(settings, "progress_monitor"):
        settings.progress_monitor = monitor
    request.progress(f"building with TensorRT {trt.__version__}: this takes minutes on a board")
    try:
        serialized = builder.build_serialized_network(net, settings)
    except MemoryError as error:
        raise _OutOfMemory(f"MemoryError {error}".strip()) from error
    if serialized is None and not log.interrupted:
        _explain_memory(log)
    plan = bytes(log.demand(serialized, f"TensorRT {trt.__version__} built no plan"))
    _save_timing_cache(settings, config.timing_cache, log)
    return plan


def _explain_memory(log: Log) -> None:
    """Tell the failure that more workspace mends from the one that less may mend."""
    lines = (*log.errors, *log.warnings)
    small = memory.workspace_too_small(lines)
    if small is not None:
        raise EngineError(f"TensorRT built no plan: {small}", hint="give a larger --workspace MIB")
    line = memory.out_of_memory(lines)
    if line is not None:
        raise _OutOfMemory(line)


def _configure(trt: Any, settings: Any, config: BuildConfig, workspace: int) -> None:
    flags = trt.BuilderFlag
    if config.precision == "fp16" and not config.typed:
        settings.set_flag(flags.FP16)
    if config.precision == "tf32":
        settings.set_flag(flags.TF32)
    else:  # it is on by default
        settings.clear_flag(flags.TF32)
    if hasattr(settings, "set_memory_pool_limit"):
        settings.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    else:  # before 8.4; the default there is 0, with which many tactics are lost
        settings.max_workspace_size = workspace
    settings.profiling_verbosity = trt.ProfilingVerbosity.DETAILED


def _use_timing_cache(settings: Any, path: Path | None, log: Log) -> None:
    """Begin with the timings of earlier builds; those that TensorRT refuses are left out."""
    if path is None:
        return
    try:
        stored = path.read_bytes() if path.exists() else b""
    except OSError as error:
        log.warnings.append(f"the timing cache {path} cannot be read: {error.strerror}")
        stored = b""
    for data in dict.fromkeys((stored, b"")):
        cache = settings.create_timing_cache(data)
        if cache is not None and settings.set_timing_cache(cache, False):
            return
        log.errors.clear()  # what TensorRT says about a stale cache is no failure of the build
        log.warnings.append(
            f"TensorRT refuses the timing cache {path}: it is torn, or of another version or GPU; "
            "an empty one takes its place"
        )
    log.demand(None, "TensorRT makes no timing cache", hint="build without --timing-cache")


def _save_timing_cache(settings: Any, path: Path | None, log: Log) -> None:
    """Keep the timings; a plan is not thrown away because they cannot be written."""
    if path is None:
        return
    cache = settings.get_timing_cache()
    data = cache.serialize() if cache is not None else None
    if data is None:
        log.warnings.append("TensorRT gives no timing cache back")
        return
    try:
        write_atomic(path, bytes(data))
    except EngineError as error:
        log.warnings.append(f"the timing cache is not kept: {error.message}")


def _layer_information(trt: Any, plan: bytes, log: Log) -> str:
    """Return what the engine inspector tells of the engine, JSON; empty where it tells nothing."""
    runtime = trt.Runtime(log.logger)
    engine = log.demand(
        runtime.deserialize_cuda_engine(plan), "TensorRT does not load the plan that it built"
    )
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON) if inspector else ""
    if not text:
        log.warnings.append("the engine inspector gives no layer information")
    return str(text or "")
