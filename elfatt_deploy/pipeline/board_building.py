"""plan_on_board: bundle -> trtexec on a board -> plan, kept here for the next time."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import Bundle, Unavailable
from elfatt_deploy.device import boards, probes
from elfatt_deploy.device.boards import BoardFile
from elfatt_deploy.device.records import Snapshot
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine import trtexec
from elfatt_deploy.engine.config import BuildConfig, BuildDevice
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.errors import ElfattDeployError, UsageError
from elfatt_deploy.pipeline.building import (
    BuildRequest,
    config_of,
    manifest_of,
    put_in_place,
    with_cache,
    work_folder,
)
from elfatt_deploy.pipeline.devices import open_device
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.transport.base import Transport

#: below a bundle: plans of emulated boards, which must never be taken for real ones
SIMULATED_FOLDER = "simulated"
_CHANNELS = 3  # of `images` [B, 3, H, W]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """The trtexec of a board.

    Args:
        transport: to the board.
        snapshot: of the board.
        board: its file; Unavailable for an unknown board.
        program: trtexec there.
        tensorrt: its version.
    """

    transport: Transport
    snapshot: Snapshot
    board: BoardFile | Unavailable
    program: str
    tensorrt: str


def find_builder(
    transport: Transport, snapshot: Snapshot, board: BoardFile | Unavailable
) -> Builder:
    """Return the trtexec of a board.

    Raises:
        CommandError: it has none.
        EngineError: it does not tell its version.
    """
    known = snapshot.trtexec if isinstance(snapshot.trtexec, str) else "trtexec"
    program, tensorrt = trtexec.find_program(transport, known)
    return Builder(
        transport=transport, snapshot=snapshot, board=board, program=program, tensorrt=tensorrt
    )


def check_target(bundle: Bundle, board: BoardFile | Unavailable) -> None:
    """Refuse a bundle that was exported for another board.

    Raises:
        UsageError: it was.
    """
    target = bundle.manifest.target
    if isinstance(board, BoardFile) and board.target != target:
        raise UsageError(
            f"{bundle.path} was exported for {target}, and {board.name} takes {board.target}",
            hint=f"elfatt-deploy export --model {bundle.manifest.model.name} --precision "
            f"{bundle.manifest.precision} --target {board.target}",
        )


def existing_plan(builder: Builder, bundle: Bundle, config: BuildConfig) -> Plan | None:
    """Return the plan that an earlier build left for this board; None where there is none."""
    for manifest in sorted(_folder(bundle, builder.snapshot).glob(f"*/{plans.PLAN_MANIFEST_FILE}")):
        with contextlib.suppress(ElfattDeployError):  # torn or changed: it is built anew
            plan = plans.read_plan(manifest.parent)
            if _fits(plan, builder, bundle, config):
                return plan
    return None


def _fits(plan: Plan, builder: Builder, bundle: Bundle, config: BuildConfig) -> bool:
    found, board = plan.manifest, builder.board
    model_digest, _ = plans.bundle_digests(bundle)
    return (
        found.tensorrt == builder.tensorrt
        and found.precision == config.precision
        and found.profile == config.profile
        and found.islands == config.islands
        and found.model_sha256 == model_digest
        and found.simulated == builder.snapshot.simulated
        and (not isinstance(board, BoardFile) or found.device.sm == board.sm)
    )


def _folder(bundle: Bundle, snapshot: Snapshot) -> Path:
    return bundle.path / SIMULATED_FOLDER if snapshot.simulated else bundle.path


def build_on_board(builder: Builder, request: BuildRequest, progress: Progress = silent) -> Plan:
    """Build a bundle's plan by the board's trtexec, and bring it here with its proof.

    Raises:
        UsageError: the bundle, the precision or the batch does not go with the board.
        InputFileError: the bundle is missing, torn, or was changed since the export.
        EngineError: the build fails, or its result cannot be written.
        DeviceError: trtexec cannot be run there, or the connection is lost.
    """
    bundle = bundles.read_bundle(request.bundle)
    check_target(bundle, builder.board)
    config = config_of(bundle, request)
    memory = builder.snapshot.memory_total_bytes
    board = builder.board
    device = None
    if isinstance(board, BoardFile) and isinstance(memory, int):
        device = BuildDevice(name=board.title, sm=board.sm, memory_bytes=memory)
        config = with_cache(config, builder.tensorrt, device)
    parent = request.output / bundle.path.name if request.output else bundle.path
    if builder.snapshot.simulated:
        parent = parent / SIMULATED_FOLDER
    recipe = bundle.manifest.preprocessing
    with work_folder(parent) as folder:
        built = trtexec.build(
            bundle.model_path,
            config,
            folder,
            transport=builder.transport,
            trtexec=builder.program,
            progress=progress,
            device=device,
            image=(_CHANNELS, recipe.height, recipe.width),
        )
        progress("proving the precision")
        manifest = manifest_of(bundle, config, built, simulated=builder.snapshot.simulated)
        plans.write_manifest(folder, manifest)
        name = plans.folder_name(built.tensorrt, built.device, config.precision, config.profile)
        put_in_place(parent / name, folder)
    return plans.read_plan(parent / name)


def build_on_device(device: str, request: BuildRequest, progress: Progress = silent) -> Plan:
    """Build a bundle's plan on a device that is connected to for it.

    Args:
        device: `ssh://...` or `sim:BOARD`.
        request: what to build.
        progress: called with each stage.

    Raises:
        ElfattDeployError: as `build_on_board`; or the device cannot be reached.
    """
    progress(f"connecting to {device}")
    with open_device(device) as transport:
        snapshot = probes.snapshot(transport)
        builder = find_builder(transport, snapshot, boards.identify(snapshot))
        return build_on_board(builder, request, progress)


def plan_on_board(builder: Builder, request: BuildRequest, progress: Progress = silent) -> Plan:
    """Return the plan of a bundle for a board: the one that is there, or a new one.

    Raises:
        ElfattDeployError: as `build_on_board`.
    """
    bundle = bundles.read_bundle(request.bundle)
    check_target(bundle, builder.board)
    found = existing_plan(builder, bundle, config_of(bundle, request))
    return found or build_on_board(builder, request, progress)
