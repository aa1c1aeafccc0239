"""rehearse: the commands that a sweep would run on a board, without running them."""

from __future__ import annotations

from collections.abc import Sequence

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Bundle
from elfatt_deploy.bench.sweep import SweepMode, cells_of
from elfatt_deploy.device import boards, probes
from elfatt_deploy.device.records import NvpmodelMode
from elfatt_deploy.engine import dialects, memory, trtexec_command, trtexec_run
from elfatt_deploy.engine.trtexec_command import Places, plugin_places
from elfatt_deploy.engine.trtexec_run import RunPlaces
from elfatt_deploy.errors import EngineError
from elfatt_deploy.pipeline import board_building, board_measuring, sweeping
from elfatt_deploy.pipeline.board_building import Builder
from elfatt_deploy.pipeline.board_run import check_jetson
from elfatt_deploy.pipeline.building import config_of
from elfatt_deploy.pipeline.devices import open_device
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.pipeline.sweeping import SweepRequest
from elfatt_deploy.transport.base import shown

#: stands for the folder on the board, whose name is made when it is
_WORK = "WORK"


def rehearse(request: SweepRequest, progress: Progress = silent) -> tuple[str, ...]:
    """Return the commands of a sweep, in their order; the board is read, and nothing is changed.

    Args:
        request: what to sweep.
        progress: called with each stage.

    Raises:
        ElfattDeployError: as `sweeping.sweep`, as far as it reads.
    """
    with open_device(request.device) as transport:
        snapshot = probes.snapshot(transport)
        check_jetson(request.device, snapshot)
        board = boards.identify(snapshot)
        builder = board_building.find_builder(transport, snapshot, board)
    sweeping.check_board(request, board)
    modes = sweeping.modes_of(request.recipe, snapshot, board)
    bundles = sweeping.bundles_of(request, board, progress)
    lines = [
        f"# {request.device}: {snapshot.model}, TensorRT {builder.tensorrt}; files are pushed to a "
        f"new folder {_WORK}, which is removed at the end",
        "# before anything is changed: jetson_clocks --store; at the end, on every way out: "
        "jetson_clocks --restore, nvpmodel -m (the mode that was found), both read back",
    ]
    entered: SweepMode | None = None
    refused: dict[tuple[str, str], str] = {}  # "" where a plan can be built
    for cell in cells_of(request.recipe, tuple(modes), request.seed):
        if cell.mode != entered:
            lines += _mode_lines(cell.mode, modes[cell.mode])
            entered = cell.mode
        bundle = bundles[cell.model, cell.precision]
        network = (cell.model, cell.precision)
        if network not in refused:
            try:
                lines += _build_lines(request, builder, bundle, cell.precision)
                refused[network] = ""
            except EngineError as error:  # in the sweep a record that says so
                refused[network] = error.message
        if refused[network]:
            lines.append(f"# {' '.join(network)} {cell.contract}: fails, {refused[network]}")
            continue
        lines.append(f"# {cell.model} {cell.precision} {cell.contract}: {_times(request)}")
        places = RunPlaces(
            program=builder.program,
            plan=f"{_WORK}/{bundle.path.name}.plan",
            times=f"{_WORK}/times.json",
            plugins=plugin_places(_WORK, request.plugins),
        )
        command = board_measuring.timing_command(
            builder, cell.contract, places, request.plan, _shape(request, bundle)
        )
        lines.append(shown(command))
    return tuple(lines)


def _times(request: SweepRequest) -> str:
    again = (
        ""
        if request.plan.name == "quick" or not request.rate_hz
        else (
            f", sampled at {request.rate_hz:g} Hz, once without the sampler, and, once for each "
            "plan and mode, with --exportProfile"
        )
    )
    return f"{request.plan.repetitions} times{again}"


def _mode_lines(asked: SweepMode, mode: NvpmodelMode | None) -> Sequence[str]:
    if mode is None:
        return ["# the power mode is left as it is", "sudo -n jetson_clocks"]
    reboot = " (by a reboot)" if asked.reboot else ""
    return [f"# power mode {mode.name}{reboot}", f"sudo -n nvpmodel -m {mode.id}",
            "sudo -n jetson_clocks"]  # fmt: skip


def _build_lines(
    request: SweepRequest, builder: Builder, bundle: Bundle, precision: str
) -> Sequence[str]:
    batch = board_measuring.batch_of(request, bundle)
    asked = board_measuring.build_request(bundle, precision, batch, request.plugins)
    config = config_of(bundle, asked)
    if board_building.existing_plan(builder, bundle, config) is not None:
        return [f"# {bundle.path.name}: its plan is there already, and is pushed"]
    dialect = dialects.dialect_of(builder.tensorrt)
    total = builder.snapshot.memory_total_bytes
    forecast = memory.forecast(
        total if isinstance(total, int) else 4 * 2**30,
        bundle.model_path.stat().st_size,
        config.workspace_bytes,
    )
    recipe = bundle.manifest.preprocessing
    name = f"{_WORK}/{bundle.path.name}"
    build = trtexec_command.build_command(
        dialect,
        config,
        Places(
            program=builder.program,
            model=f"{_WORK}/model.onnx",
            plan=f"{name}.plan",
            layers=f"{name}.layers.json",
            plugins=plugin_places(_WORK, request.plugins),
        ),
        forecast.workspace_bytes,
        (3, recipe.height, recipe.width),
    )
    parity = trtexec_run.parity_command(
        dialect,
        RunPlaces(
            program=builder.program,
            plan=f"{name}.plan",
            inputs=f"{_WORK}/images.bin",
            outputs=f"{_WORK}/logits.json",
            plugins=plugin_places(_WORK, request.plugins),
        ),
        _shape(request, bundle),
    )
    target = recipes.target(bundle.manifest.target)
    return [f"# {bundle.path.name} ({target.summary}): build, then parity", shown(build),
            shown(parity)]  # fmt: skip


def _shape(request: SweepRequest, bundle: Bundle) -> tuple[int, ...] | None:
    if not isinstance(bundle.manifest.batch, str):
        return None
    recipe = bundle.manifest.preprocessing
    return (board_measuring.batch_of(request, bundle), 3, recipe.height, recipe.width)
