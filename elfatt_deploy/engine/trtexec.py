"""The build by trtexec, here or on a board: a command through a transport, and its output.

It leaves what `builder.build` leaves. Nothing of ours runs beside trtexec, which is what a board
with 4 GB needs, and a board needs no Python of ours at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from pathlib import Path

from elfatt_deploy import units
from elfatt_deploy.engine import memory
from elfatt_deploy.engine.config import (
    LAYERS_FILE,
    PLAN_FILE,
    BuildConfig,
    BuildDevice,
    BuiltPlan,
)
from elfatt_deploy.engine.dialects import Dialect, dialect_of, version_from_banner
from elfatt_deploy.engine.messages import Progress
from elfatt_deploy.engine.trtexec_command import Places, build_command, plugin_places
from elfatt_deploy.engine.trtexec_log import TrtexecLog, parse_log, why
from elfatt_deploy.errors import CommandError, CommandTimeout, EngineError, InputFileError
from elfatt_deploy.transport.base import CommandResult, Transport

#: where JetPack and the containers put it, without adding the folder to PATH
JETPACK_PROGRAM = "/usr/src/tensorrt/bin/trtexec"
#: a build on a Nano takes the better part of an hour
BUILD_TIMEOUT_S = 2 * 3600.0
_ASK_TIMEOUT_S = 120.0
#: the board whose workspace is taken where the GPU is not known before the build
_SMALLEST_BOARD_BYTES = 4096 * memory.MIB
_SHOWN = 8
#: status of a program that signal 9 ended: the kernel's OOM killer sends it
_KILLED = 128 + 9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One build, all but the workspace."""

    config: BuildConfig
    dialect: Dialect
    version: str
    places: Places
    image: tuple[int, int, int] | None
    transport: Transport
    progress: Progress
    timeout_s: float


class _OutOfMemory(Exception):
    """A failed attempt that a smaller workspace may mend."""


def build(
    model: Path,
    config: BuildConfig,
    folder: Path,
    *,
    transport: Transport,
    trtexec: str = "trtexec",
    progress: Progress = lambda stage: None,
    device: BuildDevice | None = None,
    image: tuple[int, int, int] | None = None,
    timeout_s: float = BUILD_TIMEOUT_S,
) -> BuiltPlan:
    """Build a plan where `transport` leads, and save it and its layer information in `folder`.

    Args:
        model: the ONNX file, here; weights in other files beside it are not sent along.
        config: how to build.
        folder: where `model.plan` and `layers.json` are written, each whole or not at all.
        transport: the machine that builds.
        trtexec: the program there.
        progress: called with each stage as it begins.
        device: the GPU there, for the forecast of the workspace; None takes that of the smallest
            board. What trtexec says of the GPU goes into the result.
        image: channels, height and width of the input, for a dynamic batch.
        timeout_s: longest time of one attempt.

    Raises:
        InputFileError: there is no ONNX file or plugin.
        EngineError: this version cannot build what is asked, the build fails, or its result cannot
            be written.
        CommandError: trtexec cannot be run.
        CommandTimeout: it does not end in time.
        DeviceError: files cannot be moved there or back.
    """
    for path in (model, *config.plugins):
        if not path.is_file():
            raise InputFileError(f"there is no file {path}")
    memory_bytes = device.memory_bytes if device else _SMALLEST_BOARD_BYTES
    forecast = memory.forecast(memory_bytes, model.stat().st_size, config.workspace_bytes)
    program, version = find_program(transport, trtexec)
    with transport.temporary_folder() as there:
        request = _Request(
            config=config,
            dialect=dialect_of(version),
            version=version,
            places=_places(program, there, model, config),
            image=image,
            transport=transport,
            progress=progress,
            timeout_s=timeout_s,
        )
        build_command(request.dialect, config, request.places, memory.MIB, image)  # or refuse
        _send(request, model)
        return _attempts(request, forecast.workspace_bytes, folder)


def find_program(transport: Transport, trtexec: str = "trtexec") -> tuple[str, str]:
    """Return the program and its TensorRT version, which its help begins with.

    Args:
        transport: the machine.
        trtexec: the program there; by its bare name it is also looked for where JetPack puts it.

    Raises:
        CommandError: there is no such program, or it cannot be run.
        CommandTimeout: it does not answer.
        EngineError: it names no version.
    """
    names = (trtexec, JETPACK_PROGRAM) if trtexec == "trtexec" else (trtexec,)
    for name in names:
        try:
            result = transport.run((name, "--help"), timeout_s=_ASK_TIMEOUT_S)
        except CommandError as error:
            if error.status != 127:
                raise
            continue
        if result.status == 127:  # a transport with a shell on the other side
            continue
        version = version_from_banner(result.stdout + result.stderr)
        if version is None:
            raise EngineError(
                f"{name} on {transport.name} names no TensorRT version: "
                f"{_last_lines(result.stdout + result.stderr)}",
                hint="name the trtexec that belongs to TensorRT, such as " + JETPACK_PROGRAM,
            )
        return name, version
    raise CommandError(
        f"there is no trtexec on {transport.name}: tried {' and '.join(names)}",
        hint="install the TensorRT that belongs to it (on a Jetson: JetPack), or build in process "
        "with the tensorrt package: --builder tensorrt",
        command=(trtexec, "--help"),
        status=127,
    )


def _places(program: str, there: str, model: Path, config: BuildConfig) -> Places:
    return Places(
        program=program,
        model=f"{there}/{model.name}",
        plan=f"{there}/{PLAN_FILE}",
        layers=f"{there}/{LAYERS_FILE}",
        timing_cache=f"{there}/timing.cache" if config.timing_cache else "",
        plugins=plugin_places(there, config.plugins),
    )


def _send(request: _Request, model: Path) -> None:
    config, places = request.config, request.places
    request.transport.push(model, places.model)
    for path, remote in zip(config.plugins, places.plugins, strict=True):
        request.transport.push(path, remote)
    if config.timing_cache is not None and config.timing_cache.is_file():
        request.transport.push(config.timing_cache, places.timing_cache)


def _attempts(request: _Request, workspace: int, folder: Path) -> BuiltPlan:
    """Build, with half of the workspace again while memory runs out."""
    notes: list[str] = []
    for attempt in range(1, memory.MAX_ATTEMPTS + 1):
        command = build_command(
            request.dialect, request.config, request.places, workspace, request.image
        )
        try:
            log, seconds = _attempt(request, command)
            break
        except _OutOfMemory as error:
            smaller = memory.next_workspace(workspace)
            if smaller is None or attempt == memory.MAX_ATTEMPTS:
                raise EngineError(
                    f"out of memory on {request.transport.name}, the last time with a workspace of "
                    f"{units.mebibytes(workspace)} MiB ({attempt} builds tried): {error}",
                    hint="free memory (close the desktop session, add 4 GB of swap), or use a "
                    "smaller batch or input",
                ) from error
            notes.append(
                f"out of memory with a workspace of {units.mebibytes(workspace)} MiB ({error}); "
                f"tried again with {units.mebibytes(smaller)} MiB"
            )
            workspace = smaller
    if log.device is None:
        raise EngineError(f"trtexec of TensorRT {request.version} does not say which GPU it used")
    plan, layers = _fetch(request, folder)
    return BuiltPlan(
        plan=plan,
        layers=layers,
        tensorrt=log.version or request.version,
        device=log.device,
        method="trtexec",
        command=command,
        typed=request.config.typed or request.dialect.always_typed,
        workspace_bytes=workspace,
        attempts=attempt,
        seconds=seconds,
        # A build that succeeds may log errors, such as tactics that found no memory.
        warnings=tuple(dict.fromkeys((*notes, *log.warnings, *log.errors))),
    )


def _attempt(request: _Request, command: tuple[str, ...]) -> tuple[TrtexecLog, float]:
    """Run trtexec once; what it wrote, and the seconds it took."""
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        stage = _stage(line, request.version)
        if stage:
            request.progress(stage)

    try:
        result = request.transport.run(command, timeout_s=request.timeout_s, on_line=on_line)
    except CommandTimeout as error:
        raise CommandTimeout(
            f"trtexec on {request.transport.name} did not end within {request.timeout_s:g} s; its "
            f"last words: {_last_lines(chr(10).join(lines))}",
            hint="look at the machine's memory and load, or allow more time",
            command=command,
            stderr=error.stderr,
        ) from error
    log = parse_log("\n".join(lines))
    _judge(request, result, log)
    return log, result.seconds


def _stage(line: str, version: str) -> str | None:
    """Return the stage that a line of trtexec begins; None for any other line."""
    if "Start parsing network model" in line:
        return "parsing the ONNX file"
    if "Finish parsing network model" in line or "Finished parsing network model" in line:
        return f"building with TensorRT {version}: this takes minutes on a board"
    return "saving the engine" if "Engine built in" in line else None


def _judge(request: _Request, result: CommandResult, log: TrtexecLog) -> None:
    """Raise unless all signs agree: PASSED alone is printed after failures, too.

    Raises:
        _OutOfMemory: memory ran out.
        EngineError: any other failure.
    """
    passed = result.status == 0 and log.verdict == "passed" and not log.fatal
    if passed and _has_plan(request):
        return
    if log.parser_errors:
        raise EngineError(
            f"TensorRT {request.version} does not parse the ONNX file:\n  "
            + "\n  ".join(str(error) for error in log.parser_errors[:_SHOWN]),
            hint="'elfatt-deploy check FILE --target TARGET' names what the target lacks",
        )
    if log.unknown_options:
        raise EngineError(
            f"trtexec of TensorRT {request.version} does not know "
            + ", ".join(log.unknown_options),
            hint="this is a fault of profiles/trtexec.toml: please report it with this message",
        )
    if log.workspace_too_small:
        raise EngineError(
            f"TensorRT built no plan: {log.workspace_too_small}",
            hint="give a larger --workspace MIB",
        )
    # Of a run that ended well the same lines are warnings about tactics that were left out.
    ran_out = log.out_of_memory and (result.status != 0 or log.fatal)
    if ran_out or result.status == _KILLED:
        raise _OutOfMemory(log.out_of_memory or "trtexec was killed")
    raise EngineError(
        f"trtexec on {request.transport.name} made no plan: {why(result.status, log, 'plan')}"
        + "".join(f"\n  {line}" for line in log.errors[:_SHOWN]),
        hint="the lines above are what TensorRT said; "
        "'elfatt-deploy doctor' shows the versions to put into a bug report",
    )


def _has_plan(request: _Request) -> bool:
    """Whether there is a plan with something in it."""
    result = request.transport.run(("test", "-s", request.places.plan), timeout_s=_ASK_TIMEOUT_S)
    return result.status == 0


def _last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-2:]) or "(none)"


def _fetch(request: _Request, folder: Path) -> tuple[Path, Path | None]:
    """Bring plan, layer information and timing cache here; the plan comes last."""
    places, config = request.places, request.config
    layers: Path | None = folder / LAYERS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if layers is not None and not _pull(request, places.layers, layers):
            layers = None
        if config.timing_cache is not None:
            config.timing_cache.parent.mkdir(parents=True, exist_ok=True)
            _pull(request, places.timing_cache, config.timing_cache)
        _pull(request, places.plan, folder / PLAN_FILE)
    except OSError as error:
        raise EngineError(
            f"cannot write {error.filename or folder}: {error.strerror or error}",
            hint="make room or choose another folder with -o DIR",
        ) from error
    return folder / PLAN_FILE, layers


def _pull(request: _Request, remote: str, local: Path) -> bool:
    """Copy a file here under a temporary name and rename it; whether there is one."""
    asked = request.transport.run(("test", "-s", remote), timeout_s=_ASK_TIMEOUT_S)
    if asked.status != 0:
        return False
    handle, name = tempfile.mkstemp(prefix=f".{local.name}.", dir=local.parent)
    os.close(handle)
    work = Path(name)
    try:
        request.transport.pull(remote, work)
        work.chmod(0o644)  # mkstemp makes it for the owner alone
        os.replace(work, local)
    finally:
        with contextlib.suppress(OSError):
            work.unlink(missing_ok=True)
    return True
