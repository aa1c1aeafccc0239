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
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, or fp16 for mixed precision.")
    ] = "fp32",
    precision_map: Annotated[
        Path | None,
        typer.Option(
            "--precision-map",
            metavar="FILE",
            help="Manifest of an fp16 bundle: what stays FP32 is taken from it, not searched.",
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="Where it will run: jp4, jp5, jp6, jp7, jp7.2, desktop or ort; fixes the opset.",
            autocompletion=options.complete_target,
        ),
    ] = "jp6",
    plugin: Annotated[
        str | None,
        typer.Option(
            "--plugin",
            metavar="NAME",
            help="elfatt: one node of that TensorRT plugin for each attention block that it "
            "covers; to build it, TensorRT needs the plugin's library.",
        ),
    ] = None,
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

    With --precision fp16 the nodes that FP16 harms are found by measurement and stay FP32, and the
    emulated FP16 must agree too. Exit code 1, and no bundle, where outputs differ above tolerance.
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
        precision_map=precision_map,
        target=target,
        weights=weights,
        key_map=key_map,
        swap_halves=swap_halves,
        seed=seed,
        plugin=plugin,
        images=images,
        output=out,
    )
    with output.progress(quiet) as progress:
        outcome = export_bundle(request, progress)
    return show.outcome(outcome, "export", json=json, quiet=quiet)
