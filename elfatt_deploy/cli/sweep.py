"""`sweep`: the power-mode profiler."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from elfatt_deploy.cli import board_tables, options, output
from elfatt_deploy.errors import UsageError


def _complete_recipe(incomplete: str) -> list[str]:
    from elfatt_deploy.bench import sweep

    return [name for name in sweep.recipe_names() if name.startswith(incomplete)]


@output.guarded
def command(
    recipe: Annotated[
        str,
        typer.Argument(
            help="paper-table8, paper-table9, or a TOML file.", autocompletion=_complete_recipe
        ),
    ],
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="local, ssh://user@board or sim:BOARD; local by default. Repeatable: several "
            "boards are swept at once.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="JSON Lines that each record is appended to; RECIPE.jsonl by default.",
        ),
    ] = None,
    folder: Annotated[
        Path,
        typer.Option(
            "--bundles", metavar="DIR", help="Where bundles are looked up, and exported to."
        ),
    ] = Path("bundles"),
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="A plugin library of the board. Repeatable."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="About 10 s a cell; not to be quoted.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="600 s of timed inferences a cell.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--again", help="Leave out cells that the results hold, or measure all again."
        ),
    ] = True,
    any_board: Annotated[
        bool, typer.Option("--any-board", help="Measure another board than the recipe's.")
    ] = False,
    allow_reboot: Annotated[
        bool,
        typer.Option("--allow-reboot", help="Start the board anew where a power mode demands it."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the commands for the board; change nothing.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave what was pushed on the board.")
    ] = False,
    rate: Annotated[
        float, typer.Option("--rate", help="Samples of power a second; 0 for none.")
    ] = 10.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the order.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure every cell of a recipe on a board, mode by mode, and put the board back.

    Nothing of ours is installed on the board: it needs a POSIX shell, trtexec and nvpmodel. Each
    record is stored at once; the same command goes on where one ended, however it ended.
    """
    from elfatt_deploy.bench import protocol, sweep
    from elfatt_deploy.pipeline import rehearsing, sweeping

    if quick and strict:
        raise UsageError("--quick and --strict exclude each other: give one of them")
    asked = sweep.read_recipe(recipe)
    store = results or Path(f"{asked.name}.jsonl")
    devices = device or ["local"]
    if len(set(devices)) < len(devices):
        raise UsageError("--device names one board twice")
    if len(devices) > 1:
        from elfatt_deploy.cli import several

        return several.run(devices, store, json=json, quiet=quiet)
    request = sweeping.SweepRequest(
        recipe=asked,
        device=devices[0],
        results=store,
        folder=folder,
        plugins=tuple(plugin or ()),
        plan=protocol.PLANS["quick" if quick else "strict" if strict else "default"],
        seed=seed,
        again=not resume,
        any_board=any_board,
        allow_reboot=allow_reboot,
        keep=keep,
        rate_hz=rate,
        command=tuple(sys.argv),
    )
    with output.progress(quiet) as progress:
        if dry_run:
            lines = rehearsing.rehearse(request, progress)
        else:
            report = sweeping.sweep(request, progress)
    if dry_run:
        output.show("\n".join(lines))
        return 0
    return board_tables.show(report, json=json, quiet=quiet)
