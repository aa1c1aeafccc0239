"""`eval`: accuracy on labelled images, and agreement with the torch model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import options, output

if TYPE_CHECKING:
    from elfatt_deploy.evaluation.records import EvalOutcome, Share

_WORST = 5
_NAMED = 10


@output.guarded
def command(
    model: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="Folder that 'export' wrote, or an ONNX file.")
    ],
    data: Annotated[
        Path, typer.Option("--data", help="Folder with a sub-folder of images for each class.")
    ],
    runner: Annotated[str, typer.Option("--runner", help="What runs it: ort or torch.")] = "ort",
    provider: Annotated[str, typer.Option("--provider", help="On what: cpu or cuda.")] = "cpu",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help="The checkpoint behind the bundle, for the torch model."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="File with a line for each class in order, as in 'n01440764 tench'."
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", min=1, help="Images in a run; the graph's own, or 8, without."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Only so many images, spread evenly over the folder."),
    ] = None,
    no_agreement: Annotated[
        bool, typer.Option("--no-agreement", help="Do not run the FP32 torch model beside it.")
    ] = False,
    resolution: Annotated[
        str | None,
        typer.Option(
            "--resolution", metavar="N|HxW", help="Input size of an ONNX file that leaves it open."
        ),
    ] = None,
    preprocess: Annotated[
        list[str] | None,
        typer.Option(
            "--preprocess",
            metavar="KEY=VALUE",
            help="For an ONNX file: crop=0.875, interpolation=bicubic, mean=0.5-0.5-0.5, "
            "std=0.5-0.5-0.5. Repeatable.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the logs, from which a run goes on.")
    ] = Path("evals"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure top-1 and top-5 on labelled images, and agreement with the FP32 torch model.

    Every prediction is logged at once: after Ctrl-C the same command goes on. Exit code 1 where an
    image could not be read: it is named and left out of all shares.
    """
    # numpy: not on the way to --help
    from elfatt_deploy.evaluation.evaluate import EvalInterrupted
    from elfatt_deploy.evaluation.records import EvalRequest
    from elfatt_deploy.pipeline import evaluate_bundle

    height, width = options.parse_resolution(resolution)
    request = EvalRequest(
        model=model,
        data=data,
        runner=runner,
        provider=provider,
        weights=weights,
        labels=labels,
        batch=batch,
        limit=limit,
        agreement=not no_agreement,
        height=height,
        width=width,
        preprocess=tuple(preprocess or ()),
        output=out,
    )
    try:
        with output.progress(quiet) as progress:
            outcome = evaluate_bundle(request, progress)
    except EvalInterrupted as stop:
        output.say(str(stop))
        raise
    if json:
        output.show_json("eval", _document(outcome))
    else:
        _show_tables(outcome)
    if not quiet:
        for note in outcome.notes:
            output.say(f"note: {note}")
    return 0 if outcome.complete else 1


def _document(outcome: EvalOutcome) -> dict[str, object]:
    return {
        "complete": outcome.complete,
        "images": outcome.images,
        "images_per_s": outcome.images_per_s,
        **to_document(outcome),
    }


def _show_tables(outcome: EvalOutcome) -> None:
    recipe = outcome.preprocessing
    rows = [_row(f"{outcome.runner}, {outcome.precision}", outcome.top1, outcome.top5)]
    if outcome.reference_top1 is not None:
        rows.append(_row(str(outcome.reference), outcome.reference_top1, outcome.reference_top5))
    if outcome.agreement_top1 is not None:
        rows.append(_row("same for both", outcome.agreement_top1, outcome.agreement_top5))
    output.show_table(
        f"eval: {outcome.name} on {outcome.images} images of {outcome.data}",
        ("", "top-1 (%)", "95 % interval", "top-5 (%)", "95 % interval"),
        rows,
        f"Intervals are Wilson's. {outcome.classes} classes, {len(outcome.per_class)} of them with "
        f"images ({outcome.class_order}). Images: shorter side "
        f"{recipe.height}/{recipe.crop_share:g}, {recipe.interpolation}, centre crop "
        f"{units.size(recipe.height, recipe.width)}, mean {_list(recipe.mean)}, std "
        f"{_list(recipe.std)} ({outcome.preprocessing_source}).",
    )
    worst = outcome.worst(_WORST)
    if worst:
        output.show_table(
            "worst classes",
            ("class", "name", "right", "images"),
            [
                (str(entry.index), entry.name, str(entry.correct), str(entry.images))
                for entry in worst
            ],
        )
    if outcome.agreement_note:
        output.show(f"agreement with torch not measured: {outcome.agreement_note}")
    if outcome.nonfinite:
        output.show(f"{outcome.nonfinite} images gave NaN or Inf: counted as wrong")
    for entry in outcome.unreadable[:_NAMED]:
        output.show(f"unreadable, left out: {entry.image}: {entry.reason}")
    if len(outcome.unreadable) > _NAMED:
        output.show(f"unreadable, left out: {len(outcome.unreadable)} images in all")
    output.show(_effort(outcome))
    output.show(f"log: {outcome.log}")


def _row(name: str, top1: Share, top5: Share | None) -> tuple[str, ...]:
    return (name, *_cells(top1), *_cells(top5))


def _cells(share: Share | None) -> tuple[str, str]:
    if share is None:
        return ("-", "-")
    return (
        units.percent(share.value),
        f"{units.percent(share.low)} - {units.percent(share.high)}",
    )


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _effort(outcome: EvalOutcome) -> str:
    ran = outcome.images - outcome.resumed
    earlier = f"{outcome.resumed} images were in the log already; " if outcome.resumed else ""
    if outcome.images_per_s is None:
        return f"{earlier}nothing was left to run"
    return (
        f"{earlier}{ran} images run in {units.seconds(outcome.wall_s)} s at batch {outcome.batch}: "
        f"{units.rate(outcome.images_per_s)} images per wall-clock second with reading and "
        "preparing them, which is no benchmark"
    )
