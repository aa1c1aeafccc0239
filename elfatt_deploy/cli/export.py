"""`export`: a model to a verified bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elfatt_deploy.cli import options, output, show


@output.guarded
def command(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="A name that 'models' lists, your package.module:function, timm/NAME, or a .onnx "
            "file.",
            autocompletion=options.complete_model,
        ),
    ] = "cswin_t_elfatt",
    weights: Annotated[
        Path | None,
        typer.Option("--weights", help=".safetensors or .pth; without it, seeded random weights."),
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Fetch the published weights, where there are any.")
    ] = False,
    key_map: Annotated[
        str | None,
        typer.Option(
            "--key-map",
            metavar="PKG.MOD:FUNC",
            help="Function from a key of the weights file to a key of the model, or None.",
        ),
    ] = None,
    swap_halves: Annotated[
        bool,
        typer.Option("--swap-halves", help="The weights file has ELFATT's softmax half first."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of random weights.")] = 0,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N|dynamic",
            help="Batch size of the graph; 1 without it, or what a .onnx file has.",
        ),
    ] = None,
    resolution: options.Resolution = None,
    precision: Annotated[str, typer.Option("--precision", help="fp32.")] = "fp32",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="Where it will run: jp4, jp5, jp6, jp7, jp7.2, desktop or ort; fixes the opset.",
            autocompletion=options.complete_target,
        ),
    ] = "jp6",
    settings: options.Settings = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of images for parity; sample photographs without."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder in which the bundle is made.")
    ] = Path("bundles"),
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Export a model to ONNX, prove it against PyTorch, and write a bundle.

    Exit code 1, and no bundle, where ONNX Runtime and PyTorch differ above tolerance.
    """
    from elfatt_deploy.pipeline import ExportRequest, export_bundle  # numpy: not for --help

    height, width = options.parse_resolution(resolution)
    request = ExportRequest(
        model=model,
        settings=tuple(settings or ()),
        height=height,
        width=width,
        batch=options.parse_batch(batch),
        pretrained=pretrained,
        precision=precision,
        target=target,
        weights=weights,
        key_map=key_map,
        swap_halves=swap_halves,
        seed=seed,
        images=images,
        output=out,
    )
    with output.progress(quiet) as progress:
        outcome = export_bundle(request, progress)
    return show.outcome(outcome, "export", json=json, quiet=quiet)
