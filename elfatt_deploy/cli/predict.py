"""`predict`: how fast a model may be on a board that nobody here owns."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, to_document
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.pipeline.predicting import PredictedCell, PredictReport
    from elfatt_deploy.predict.plugin import Saving

_DEFAULT_MODEL = "cswin_t_elfatt"
_COLUMNS = (
    "model", "board", "power mode", "precision", "regime", "images/s", "band", "batch (ms)",
    "kernels", "limited by",
)  # fmt: skip

_METHOD = (
    "the sum over kernels of the longer of arithmetic and memory traffic, plus launches; clocks of "
    "the board files, constants of profiles/predict.toml, study in docs/prediction.md"
)
_LIMITS = (
    "limited by: what the stem, levels 1 to 4 and the head wait for longest: compute, bandwidth of "
    "the memory, launch by the CPU"
)


def _complete_board(incomplete: str) -> list[str]:
    """Return the board names that begin as typed."""
    from elfatt_deploy.device import boards

    return [name for name in boards.boards() if name.startswith(incomplete)]


@output.guarded
def command(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME[,NAME...]",
            help=f"Predict this model, or all. Repeatable. Without: {_DEFAULT_MODEL}.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    board: Annotated[
        list[str] | None,
        typer.Option(
            "--board",
            metavar="NAME",
            help="On this board; on all of them without. Repeatable.",
            autocompletion=_complete_board,
        ),
    ] = None,
    power: Annotated[
        str | None,
        typer.Option(
            "--power", metavar="MODE", help="In this power mode: 15W, a name or an id; else in all."
        ),
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="fp16, fp32 or both.")] = "fp16",
    batch: Annotated[int, typer.Option("--batch", help="Images in a run.")] = 1,
    regime: Annotated[
        str,
        typer.Option(
            "--regime",
            help="eager: a kernel for each op of PyTorch, as the paper measured; fused: grouped as "
            "TensorRT does; or both.",
        ),
    ] = "both",
    plugin: Annotated[
        str | None,
        typer.Option(
            "--plugin",
            metavar="NAME",
            help="elfatt: also with that plugin's node in the attention blocks that it covers, and "
            "what it saves in each.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE", help="Append a record of each to this file."),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Predict the speed of models on boards, without torch, without a board: a roofline.

    A prediction is no measurement: its records say so, and no table mixes the two. How far it was
    from published numbers is in docs/prediction.md: the band of the eager regime comes from there;
    it orders power modes well and attentions badly. Nothing tests the fused regime.
    """
    from elfatt_deploy.pipeline import predicting
    from elfatt_deploy.predict.kernels import Precision, known_models

    named = [name for text in model or [_DEFAULT_MODEL] for name in text.split(",")]
    request = predicting.PredictRequest(
        models=known_models() if named == ["all"] else tuple(dict.fromkeys(named)),
        boards=tuple(dict.fromkeys(board or ())),
        power=power,
        precisions=_chosen("--precision", precision, get_args(Precision)),
        regimes=_chosen("--regime", regime, predicting.REGIMES),
        plugin=plugin,
        batch=batch,
        results=results,
    )
    report = predicting.predict(request, command=("elfatt-deploy", *sys.argv[1:]))
    if json:
        output.show_json("predict", _document(report))
    else:
        _show_table(report)
    if not quiet:
        for reason in report.missing:
            output.say(f"warning: not predicted: {reason}")
        for line in report.unverified:
            output.say(f"warning: facts of the board file that nobody has checked: {line}")
    return 0


def _chosen(option: str, text: str, known: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the one that is named, or all for `both`.

    Raises:
        UsageError: there is none of that name.
    """
    if text == "both":
        return known
    if text not in known:
        raise UsageError(f"{option} {text}", hint=f"use {', '.join(known)} or both")
    return (text,)


def _show_table(report: PredictReport) -> None:
    from elfatt_deploy.results.parts import Prediction

    bands = dict.fromkeys(
        f"band, {cell.record.cell.variant}: {cell.record.prediction.band}"
        for cell in report.cells
        if isinstance(cell.record.prediction, Prediction)
    )
    output.show_table(
        f"PREDICTED, not measured: batch {report.request.batch}",
        _COLUMNS,
        [_row(cell) for cell in report.cells],
        "\n".join((*bands, f"method {report.constants.method}: {_METHOD}", _LIMITS)),
    )
    if report.savings:
        _show_savings(report.savings)


def _show_savings(savings: tuple[Saving, ...]) -> None:
    """Show what the node saves in a block of each level, and over all levels of a model."""
    rows = []
    for model, precision in dict.fromkeys((one.model, one.precision) for one in savings):
        mine = [one for one in savings if (one.model, one.precision) == (model, precision)]
        rows += [
            (model, precision, one.level, str(one.blocks), f"{one.launches:g}",
             units.mebibytes(round(one.moved_bytes)))
            for one in mine
        ]  # fmt: skip
        launches = sum(one.launches * one.blocks for one in mine)
        moved = sum(one.moved_bytes * one.blocks for one in mine)
        blocks = sum(one.blocks for one in mine)
        rows.append(
            (
                model,
                precision,
                "whole model",
                str(blocks),
                f"{launches:g}",
                units.mebibytes(round(moved)),
            )
        )
    output.show_table(
        "PREDICTED: what the plugin's node saves, of one image at batch 1",
        ("model", "precision", "level", "blocks with it", "launches a block", "MiB a block"),
        rows,
        "against the fused regime, a mean over the blocks of a level, and the sum for the model; "
        "the same on every board; bytes through the memory",
    )


def _row(cell: PredictedCell) -> tuple[str, ...]:
    asked, guess = cell.record.cell, cell.estimate
    return (
        asked.model,
        asked.device,
        asked.power,
        asked.precision,
        asked.variant,
        units.images_per_second(guess.images_per_s),
        _span(cell),
        units.milliseconds(guess.total_ms),
        str(guess.kernels),
        _limits(cell),
    )


def _span(cell: PredictedCell) -> str:
    from elfatt_deploy.results.parts import Statistics

    found = cell.record.statistics
    spread = found.images_per_s_interval if isinstance(found, Statistics) else found
    if not isinstance(spread, Interval):
        return "-"
    low, high = map(units.images_per_second, (spread.low, spread.high))
    return f"{low}..{high}"


def _limits(cell: PredictedCell) -> str:
    """Return `compute`, or `compute (stem, 1), launch (2, 3, 4, head)`."""
    found: dict[str, list[str]] = {}
    for level in cell.estimate.levels:
        found.setdefault(level.limit, []).append(level.level)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{limit} ({', '.join(levels)})" for limit, levels in found.items())


def _document(report: PredictReport) -> dict[str, Any]:
    return {
        "source": "predicted",
        "method": report.constants.method,
        "constants": to_document(report.constants),
        "predictions": [
            {
                **{
                    name: getattr(cell.record.cell, name)
                    for name in ("model", "height", "width", "batch", "precision")
                },
                "board": cell.machine.board,
                "power_mode": cell.machine.mode,
                "regime": cell.record.cell.variant,
                "images_per_s": cell.estimate.images_per_s,
                "p50_ms": cell.estimate.total_ms,
                "statistics": to_document(cell.record.statistics),
                "prediction": to_document(cell.record.prediction),
                "kernels": cell.estimate.kernels,
                "levels": [
                    {"level": level.level, "kernels": level.kernels, "limit": level.limit,
                     "by_limit_ms": level.by_limit_ms}
                    for level in cell.estimate.levels
                ],
                "machine": to_document(cell.machine),
                "key": cell.record.key,
            }
            for cell in report.cells
        ],
        "savings": [
            {
                **to_document(one),
                "launches_saved_per_block": one.launches,
                "bytes_saved_per_block": one.moved_bytes,
            }
            for one in report.savings
        ],
        "missing": list(report.missing),
        "unverified": list(report.unverified),
    }  # fmt: skip
