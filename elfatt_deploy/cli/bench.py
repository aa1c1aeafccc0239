"""`bench`: how long it takes, measured here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy.cli import attention_options, bench_board, options, output
from elfatt_deploy.cli import bench_attention as bench_attention_output
from elfatt_deploy.cli import bench_models as bench_models_output
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.bench.attention import AttentionRequest
    from elfatt_deploy.bench.cells import BenchRequest

_DEFAULT_MODEL = "cswin_t_elfatt"
_DEFAULT_SIZES = "14x14,28x28,56x56,112x112"
_DEFAULT_DIM = 64
_SETTINGS = "; ".join(f"{key}: {words}" for key, words in attention_options.SETTINGS.items())


def _complete_attention(incomplete: str) -> list[str]:
    """Return the mechanisms that begin as the last name typed."""
    from elfatt_deploy.models import registry

    before, comma, last = incomplete.rpartition(",")
    names = (attention_options.ALL, *registry.ATTENTIONS)
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def _complete_models(incomplete: str) -> list[str]:
    """Return the models that begin as the last name typed."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in options.complete_model(last)]


@output.guarded
def command(
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME[,NAME...]",
            help="Measure these models: the newest bundle of each below --folder, exported first "
            f"where there is none. Without any of these: {_DEFAULT_MODEL}.",
            autocompletion=_complete_models,
        ),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Measure this bundle; with --plan, the one it was built from. Repeatable.",
        ),
    ] = None,
    plan: Annotated[
        list[Path] | None,
        typer.Option(
            "--plan",
            metavar="DIR",
            help="Measure this TensorRT plan, a folder that 'build' wrote. Repeatable.",
        ),
    ] = None,
    plugin: Annotated[
        list[Path] | None,
        typer.Option("--plugin", help="A plugin library that a plan needs. Repeatable."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where bundles are looked up and made.")
    ] = Path("bundles"),
    resolution: options.Resolution = None,
    batch: Annotated[
        int | None,
        typer.Option("--batch", help="Images in a run; 1, or what the bundle or plan has."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="fp32, fp16, or tf32 (on CUDA); a plan has its own."),
    ] = "fp32",
    runner: Annotated[
        str | None,
        typer.Option(
            "--runner",
            help="ort (default) or torch; of a plan trt (in process, default) or trtexec.",
        ),
    ] = None,
    variant: Annotated[
        str,
        typer.Option("--variant", help="compile: with --runner torch, torch.compile."),
    ] = "",
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="cpu (default) or cuda; with --runner ort also tensorrt."),
    ] = None,
    contract: Annotated[
        str,
        typer.Option(
            "--contract",
            help="What a time means: single-stream/1, throughput/1, paper/1; of a plan compute/1.",
        ),
    ] = "single-stream/1",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", help="Threads of the runner; its own choice, and 1 with --attention."
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="About 10 s a model; not to be quoted."),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="600 s of timed runs a model, 20 repetitions."),
    ] = False,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Seed of weights, inputs and order."),
    ] = 0,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="local, ssh://user@board or sim:BOARD: a board runs plans, by its trtexec.",
        ),
    ] = "local",
    power: Annotated[
        str | None,
        typer.Option(
            "--power",
            metavar="MODE",
            help="Power mode of the board: 15W, MAXN, a name or an id; it is put back afterwards.",
        ),
    ] = None,
    allow_reboot: Annotated[
        bool,
        typer.Option(
            "--allow-reboot",
            help="Start the board anew where the power mode demands it.",
        ),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME", help="Compare the others with this model."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="FILE",
            help="Append the records to this JSON Lines. A call that is cut short goes on where it "
            "stopped when it is given again.",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Go on with the same call, cut short, or measure all anew; by default it goes on "
            "where that began within a day.",
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            "--attention",
            metavar="NAME[,NAME...]",
            help="Time these mechanisms alone: names of 'models', or all.",
            autocompletion=_complete_attention,
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            "--size", metavar="HxW[,HxW...]", help="With --attention: token maps, rows x columns."
        ),
    ] = _DEFAULT_SIZES,
    dim: Annotated[int, typer.Option("--dim", help="With --attention: channels.")] = _DEFAULT_DIM,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help=f"With --attention: {_SETTINGS}. Repeatable."
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure models, or attention alone, by a named timing contract on this machine.

    Models are measured interleaved (on the CPU in turns), each repetition in a fresh process;
    their logits are held against the bundle first. Exit code 1 where they differ: that model is
    not timed.
    """
    from elfatt_deploy.bench import contracts, protocol  # numpy: not on the way to --help
    from elfatt_deploy.bench.cells import BenchRequest

    for_models = {
        "--model": model is not None,
        "--bundle": bool(bundle),
        "--plan": bool(plan),
        "--plugin": bool(plugin),
        "--resolution": resolution is not None,
        "--batch": batch is not None,
        "--runner": runner is not None,
        "--variant": bool(variant),
        "--provider": provider is not None,
        "--quick": quick,
        "--strict": strict,
        "--baseline": baseline is not None,
        "--results": results is not None,
        "--resume": resume is not None,
    }
    if attention is not None:
        _refuse(for_models, "does not go with --attention, which times mechanisms alone")
        asked = attention_options.request(attention, size, dim, settings or (), threads, seed)
        return _attention(asked, json=json, quiet=quiet)
    alone = {
        "--set": bool(settings),
        "--size": size != _DEFAULT_SIZES,
        "--dim": dim != _DEFAULT_DIM,
    }
    _refuse(alone, "goes with --attention")
    if quick and strict:
        raise UsageError("--quick and --strict exclude each other: give one of them")
    if resume is not None and results is None:
        raise UsageError("--resume and --no-resume go with --results, which keeps what is measured")
    height, width = options.parse_resolution(resolution)
    if device != "local" or power is not None:
        not_there = {
            "--plan": bool(plan),
            "--runner": runner not in (None, "trtexec"),
            "--variant": bool(variant),
            "--provider": provider is not None,
            "--threads": threads is not None,
            "--baseline": baseline is not None,
            "--resume": resume is not None,
        }
        _refuse(not_there, "does not go with --device and --power: a board runs trtexec")
        return bench_board.run(
            bench_board.BoardOptions(
                device=device,
                power=power,
                models=_names(model) if model else () if bundle else (_DEFAULT_MODEL,),
                bundles=tuple(bundle or ()),
                plugins=tuple(plugin or ()),
                precision=precision,
                batch=batch,
                size=(height, width),
                contract=contract,
                plan=protocol.PLANS["quick" if quick else "strict" if strict else "default"],
                folder=folder,
                results=results,
                allow_reboot=allow_reboot,
                seed=seed,
            ),
            json=json,
            quiet=quiet,
        )
    _refuse({"--allow-reboot": allow_reboot}, "goes with --power")
    _refuse({"--plugin": bool(plugin) and not plan}, "goes with --plan, --device and --power")
    chosen = runner or (contracts.PLAN_RUNNERS[0] if plan else "ort")
    request = BenchRequest(
        models=_names(model) if model else () if bundle or plan else (_DEFAULT_MODEL,),
        bundles=tuple(bundle or ()),
        plans=tuple(plan or ()),
        plugins=tuple(plugin or ()),
        folder=folder,
        height=height,
        width=width,
        runner=chosen,
        provider=provider or contracts.RUNNERS.get(chosen, ("cpu",))[0],
        precision=precision,
        variant=variant,
        batch=batch,
        threads=threads or 0,
        contract=contracts.contract(contract),
        plan=protocol.PLANS["quick" if quick else "strict" if strict else "default"],
        baseline=baseline,
        seed=seed,
    )
    return _models(request, results, resume, json=json, quiet=quiet)


def _refuse(given: dict[str, bool], words: str) -> None:
    """Refuse options of the one kind of measurement with the other.

    Raises:
        UsageError: one of them was given.
    """
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} {words}")


def _attention(request: AttentionRequest, *, json: bool, quiet: bool) -> int:
    from elfatt_deploy.pipeline import bench_attention

    with output.progress(quiet) as progress:
        report = bench_attention(request, progress)
    return bench_attention_output.show(report, json=json, quiet=quiet)


def _models(
    request: BenchRequest, results: Path | None, resume: bool | None, *, json: bool, quiet: bool
) -> int:
    from elfatt_deploy.pipeline import bench_models
    from elfatt_deploy.pipeline.measuring import keep_records

    with output.progress(quiet) as progress:
        report = bench_models(
            request, progress, command=tuple(sys.argv), results=results, resume=resume
        )
    code = bench_models_output.show(report, json=json, quiet=quiet)
    if results is not None:
        keep_records(report, results)  # shown first: a full disk must not hide the numbers
    return code


def _names(text: str) -> tuple[str, ...]:
    """Turn `cswin_t_elfatt,cswin_t_global` into names.

    Raises:
        UsageError: one of them is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UsageError(f"--model '{text}' has an empty name", hint="write a comma between two")
    return names
