"""`check`: a bundle against its golden outputs and its target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from elfatt_deploy.cli import options, output, show


@output.guarded
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder that 'export' wrote.")],
    provider: Annotated[
        str, typer.Option("--provider", help="What ONNX Runtime runs on: cpu or cuda.")
    ] = "cpu",
    layers: Annotated[
        bool, typer.Option("--layers", help="Also compare the output of every block.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Check a bundle: file digests, target lint, parity of ONNX Runtime with PyTorch's outputs.

    Needs no torch. Exit code 1 where something differs; the first diverging tensor is named.
    """
    from elfatt_deploy.pipeline import check_bundle  # numpy: not on the way to --help

    with output.progress(quiet) as progress:
        outcome = check_bundle(bundle, provider=provider, layers=layers, progress=progress)
    return show.outcome(outcome, "check", json=json, quiet=quiet)
