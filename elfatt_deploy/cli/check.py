"""`check`: a bundle against its golden outputs and its target; an ONNX file against a target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elfatt_deploy.cli import options, output, show
from elfatt_deploy.errors import UsageError

_TARGET = "jp6"


@output.guarded
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder that 'export' wrote, or an ONNX file.")],
    provider: Annotated[
        str, typer.Option("--provider", help="What ONNX Runtime runs on: cpu or cuda.")
    ] = "cpu",
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help=f"Where an ONNX file will run ({_TARGET} by default); a bundle knows its own.",
            autocompletion=options.complete_target,
        ),
    ] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Also compare the output of every block.")
    ] = False,
    runner: Annotated[
        str,
        typer.Option(
            "--runner",
            help="With --against: the runner to judge; ort, ort-plain (not optimised) or "
            "fp16-emulation.",
        ),
    ] = "ort",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="RUNNER",
            help="With --layers: compare every tensor with this runner, not with the golden "
            "outputs.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            help="Folder that 'build' wrote from this bundle: also run it on the GPU and compare.",
        ),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="A plugin library that the plan needs. Repeatable."),
    ] = None,
    builder: Annotated[
        str | None,
        typer.Option(
            "--builder",
            help="rtx: also build with TensorRT for RTX, which needs no GPU, and list its kernels "
            "by block.",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Check a bundle: file digests, target lint, parity of ONNX Runtime with PyTorch's outputs.

    Of an ONNX file from elsewhere: target lint, and ONNX Runtime with and without its
    optimisations. Needs no torch. Exit code 1 where something differs; in a bundle the first
    diverging tensor is named.
    """
    from elfatt_deploy import pipeline  # numpy: not on the way to --help

    with output.progress(quiet) as progress:
        if against is not None and not layers:
            raise UsageError("--against compares inner tensors: give --layers too")
        if plugin and plan is None:
            raise UsageError("--plugin goes with --plan: TensorRT alone loads it")
        if bundle.suffix == ".onnx":
            if layers or builder or plan:
                raise UsageError("--layers, --plan and --builder are for a bundle, not for a file")
            outcome = pipeline.check_onnx(
                bundle, target or _TARGET, provider=provider, progress=progress
            )
        elif target is not None:
            raise UsageError(
                "--target is for an ONNX file: a bundle was made for one target",
                hint=f"check the file in it: elfatt-deploy check {bundle}/model.onnx",
            )
        else:
            outcome = pipeline.check_bundle(
                bundle,
                provider=provider,
                layers=layers,
                runner=runner,
                against=against,
                builder=builder,
                plan=plan,
                plugins=tuple(plugin or ()),
                progress=progress,
            )
    return show.outcome(outcome, "check", json=json, quiet=quiet)
