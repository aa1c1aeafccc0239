"""`build`: a bundle to a TensorRT plan whose precision is proved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import options, output
from elfatt_deploy.engine.config import DEFAULT_PROFILE, BatchProfile
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.engine.plan import Plan
    from elfatt_deploy.engine.proof import PrecisionProof

_SHOWN_WARNINGS = 5


@output.guarded
def command(
    bundle: Annotated[Path, typer.Argument(help="Folder that 'export' wrote.")],
    device: Annotated[
        str,
        typer.Option("--device", help="Where to build: local, ssh://user@board or sim:BOARD."),
    ] = "local",
    builder: Annotated[
        str,
        typer.Option(
            "--builder",
            help="tensorrt (in process), trtexec, or auto: the first of them that is here.",
        ),
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="fp32, tf32 or fp16; the bundle's own by default."),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(
            "--workspace",
            metavar="MIB",
            min=1,
            help="Limit of the workspace in MiB; by default what the board's memory bears. Halved "
            "where a build runs out of memory.",
        ),
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(
            "--timing-cache",
            metavar="DIR",
            help="Folder that keeps tactic timings from build to build, a file for each TensorRT, "
            "GPU and typing.",
        ),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="A plugin library to load first. Repeatable."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch",
            metavar="N|MIN-BEST-MAX",
            help=f"Batches of a dynamic bundle; {DEFAULT_PROFILE} without it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the plan, under the bundle's name; in it by default."
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Build a bundle's TensorRT plan on the machine that will run it.

    On a board its own trtexec builds, and the plan is brought here; nothing of ours is installed
    there. A plan runs on the GPU and the TensorRT that built it and no other. It is called FP16
    only where its layers show it; otherwise the record says fp16-unproven. Exit code 1 where they
    show another precision than the one asked for.
    """
    from elfatt_deploy.pipeline import board_building, building  # numpy: not on the way to --help

    if device != "local" and builder == "tensorrt":
        raise UsageError(
            f"--builder tensorrt runs in this process, not on {device}",
            hint="leave --builder away: a board builds by its trtexec",
        )
    request = building.BuildRequest(
        bundle=bundle,
        builder=builder,
        precision=precision,
        workspace_bytes=None if workspace is None else workspace * 2**20,
        timing_cache=timing_cache,
        plugins=tuple(plugin or ()),
        profile=_parse_batches(batch),
        output=out,
    )
    with output.progress(quiet) as progress:
        if device == "local":
            plan = building.build_bundle(request, progress)
        else:
            plan = board_building.build_on_device(device, request, progress)
    if json:
        output.show_json("build", {"plan": str(plan.path), "manifest": to_document(plan.manifest)})
    else:
        _show(plan)
    if not quiet:
        _warn(plan)
    return 1 if _contradicted(plan.manifest.evidence) else 0


def _contradicted(proof: PrecisionProof | None) -> bool:
    """Whether the layers speak against what was asked for; doubt and a part of it do not."""
    if proof is None:
        return False
    doubted = proof.verdict.endswith(("-unproven", "-partial")) and proof.asked in proof.verdict
    return bool(proof.islands_in_fp16) or not (proof.proved or doubted)


def _parse_batches(text: str | None) -> BatchProfile | None:
    """Turn `8`, or `1-8-16` (smallest, best, largest), into a profile."""
    if text is None:
        return None
    parts = text.split("-")
    if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
        raise UsageError(
            f"--batch {text} is not a batch", hint="write 8, or smallest-best-largest as in 1-8-16"
        )
    smallest, best, largest = (int(part) for part in (parts if len(parts) == 3 else 3 * parts))
    return BatchProfile(smallest=smallest, best=best, largest=largest)


def _show(plan: Plan) -> None:
    manifest = plan.manifest
    output.show_table(
        f"plan of {manifest.model}",
        ("TensorRT", "GPU", "SM", "precision", "proved", "builder", "workspace MiB", "built in s"),
        [
            (
                manifest.tensorrt,
                manifest.device.name,
                str(manifest.device.sm),
                manifest.precision,
                manifest.proof,
                manifest.method,
                units.mebibytes(manifest.workspace_bytes),
                units.seconds(manifest.build_seconds),
            )
        ],
        _basis(manifest.evidence),
    )
    output.show(f"wrote {plan.path}")


def _basis(proof: PrecisionProof | None) -> str:
    if proof is None or not proof.layers:
        return "proved: the builder gave no layer information."
    return (
        f"proved: what the layer information shows; {proof.deciding} of {proof.layers} layers hold "
        "products and decide."
    )


def _warn(plan: Plan) -> None:
    """Show the first warnings; all of them are in the manifest."""
    proof, warnings = plan.manifest.evidence, plan.manifest.warnings
    if proof is not None and not proof.proved:
        islands = f", {len(proof.islands_in_fp16)} FP32 islands run in FP16"
        output.say(
            f"warning: {proof.asked} was asked for and the layers show {proof.verdict}"
            + (islands if proof.islands_in_fp16 else "")
        )
    for line in warnings[:_SHOWN_WARNINGS]:
        output.say(f"warning: {line}")
    if len(warnings) > _SHOWN_WARNINGS:
        output.say(f"{len(warnings) - _SHOWN_WARNINGS} more warnings stand in plan.json")
