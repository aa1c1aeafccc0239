"""The program: its verbs and global options."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from elfatt_deploy import __version__
from elfatt_deploy.cli import (
    bench,
    build,
    check,
    compare,
    device,
    doctor,
    export,
    models,
    predict,
    report,
    restore,
    results,
    sweep,
)
from elfatt_deploy.cli import eval as evaluate

app = typer.Typer(
    name="elfatt-deploy",
    help="Efficient-attention vision transformers from PyTorch to measured TensorRT plans.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("models")(models.command)
app.command("export")(export.command)
app.command("check")(check.command)
app.command("build")(build.command)
app.command("eval")(evaluate.command)
app.command("bench")(bench.command)
app.command("sweep")(sweep.command)
app.add_typer(results.app, name="results")
app.add_typer(device.app, name="device")
app.command("compare")(compare.command)
app.command("restore")(restore.command)
app.command("predict")(predict.command)
app.command("report")(report.command)
app.command("doctor")(doctor.command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"elfatt-deploy {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Hold the global options."""
    # `--model my_module:make` names a file of the current folder, as it does for `python -m`. Last,
    # so that nothing there can take the place of an installed package.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
