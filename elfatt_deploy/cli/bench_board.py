"""`bench` on a board: one cell of each model in one power mode, by way of a sweep."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy.cli import board_tables, output
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.bench.protocol import BenchPlan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BoardOptions:
    """The options of `bench` that go with a board.

    Args:
        device: `local`, `ssh://...` or `sim:BOARD`.
        power: power mode; None leaves the board in the one it is in.
        models: names.
        bundles: folders of bundles, in place of models.
        plugins: plugin libraries of that board, which their plans need.
        precision: `fp32`, `tf32` or `fp16`.
        batch: images in a run; None for 1, or what the bundle has.
        size: rows and columns of the input; None for each model's own.
        contract: the timing contract.
        plan: how long.
        folder: where bundles are looked up, and exported to.
        results: file that the records are appended to; None for none.
        allow_reboot: whether the board may be started anew.
        seed: of the order.
    """

    device: str
    power: str | None
    models: tuple[str, ...]
    bundles: tuple[Path, ...]
    plugins: tuple[Path, ...]
    precision: str
    batch: int | None
    size: tuple[int | None, int | None]
    contract: str
    plan: BenchPlan
    folder: Path
    results: Path | None
    allow_reboot: bool
    seed: int


def run(asked: BoardOptions, *, json: bool, quiet: bool) -> int:
    """Measure on a board, and show it; returns the exit code.

    Raises:
        UsageError: bundles of several batches or precisions are named in one call.
        ElfattDeployError: as `sweep`.
    """
    from elfatt_deploy import bundles as bundle_files
    from elfatt_deploy.bench.sweep import SweepRecipe
    from elfatt_deploy.pipeline import sweeping

    given = tuple(bundle_files.read_bundle(path) for path in asked.bundles)
    if asked.size[0] != asked.size[1]:
        raise UsageError(
            "--resolution on a board is one number",
            hint="name the bundle of another shape with --bundle DIR",
        )
    names = asked.models or tuple(dict.fromkeys(b.manifest.model.name for b in given))
    sizes = {b.manifest.batch for b in given}
    if len(sizes) > 1:
        raise UsageError("the bundles have different batches: measure those of one in one call")
    stored = next(iter(sizes), 1)
    batch = asked.batch or (1 if isinstance(stored, str) else stored)
    recipe = SweepRecipe(
        name="bench",
        title="bench",
        models=names,
        precisions=tuple(dict.fromkeys(b.manifest.precision for b in given)) or (asked.precision,),
        modes=(asked.power,) if asked.power else (),
        contracts=(asked.contract,),
        batch=batch,
        target=given[0].manifest.target if given else "",
        resolution=asked.size[0],
    )
    request = sweeping.SweepRequest(
        recipe=recipe,
        device=asked.device,
        results=asked.results,
        folder=asked.folder,
        bundles=given,
        plugins=asked.plugins,
        plan=asked.plan,
        seed=asked.seed,
        again=True,  # who asks for one number wants it now
        any_board=True,
        allow_reboot=asked.allow_reboot,
        command=tuple(sys.argv),
    )
    with output.progress(quiet) as progress:
        report = sweeping.sweep(request, progress)
    return board_tables.show(report, json=json, quiet=quiet)
