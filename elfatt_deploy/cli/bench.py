"""`bench`: how long it takes, measured here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elfatt_deploy.bench.timing import StopRule
from elfatt_deploy.cli import bench_attention as bench_attention_output
from elfatt_deploy.cli import bench_models as bench_models_output
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import UsageError

if TYPE_CHECKING:
    from elfatt_deploy.bench.attention import AttentionRequest
    from elfatt_deploy.bench.cells import BenchRequest

_ALL = "all"
_DEFAULT_MODEL = "cswin_t_elfatt"
_DEFAULT_SIZES = "14x14,28x28,56x56,112x112"
_DEFAULT_RULE = StopRule()
#: rounds that --seconds alone asks for: as many as an interval needs
_LEAST_ROUNDS = 5


def _complete_attention(incomplete: str) -> list[str]:
    """Return the mechanisms that begin as the last name typed."""
    from elfatt_deploy.models import registry

    before, comma, last = incomplete.rpartition(",")
    names = (_ALL, *registry.ATTENTIONS)
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
            f"where there is none. Without --model, --bundle and --attention: {_DEFAULT_MODEL}.",
            autocompletion=_complete_models,
        ),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", metavar="DIR", help="Measure this bundle. Repeatable."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where bundles are looked up and made.")
    ] = Path("bundles"),
    resolution: options.Resolution = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images in a run; 1, or what the bundle has.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Precision of the bundles: fp32 or fp16.")
    ] = "fp32",
    runner: Annotated[str, typer.Option("--runner", help="ort, or torch.")] = "ort",
    provider: Annotated[str, typer.Option("--provider", help="cpu, or cuda.")] = "cpu",
    contract: Annotated[
        str,
        typer.Option(
            "--contract", help="What a time means: single-stream/1, throughput/1 or paper/1."
        ),
    ] = "single-stream/1",
    quick: Annotated[
        bool, typer.Option("--quick", help="About 10 s a model; not to be quoted.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="600 s of timed runs a model, 10 repetitions.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="NAME", help="Compare the others with this model."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE", help="Append the records to this JSON Lines."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", help="Threads of the runner; its own choice, and 1 with --attention."
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
    dim: Annotated[int, typer.Option("--dim", help="With --attention: channels.")] = 64,
    heads: Annotated[
        int | None,
        typer.Option("--heads", help="With --attention: heads; one for each 32 channels."),
    ] = None,
    block: Annotated[
        int,
        typer.Option("--block", help="With --attention: side of blockified attention's blocks."),
    ] = 7,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            help="With --attention: least number of rounds; without --rounds and --seconds "
            f"{_DEFAULT_RULE.rounds} rounds and {_DEFAULT_RULE.seconds:g} s, the later of them.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="With --attention: least duration of the rounds together."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="With --attention: draw time against tokens: .png, .svg, .pdf.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights, inputs and order.")] = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Measure models, or attention alone, by a named timing contract on this machine.

    Models are measured interleaved, each repetition in a fresh process; their logits are held
    against the bundle first. Exit code 1 where they differ: that model is not timed.
    """
    from elfatt_deploy.bench import contracts, protocol  # numpy: not on the way to --help
    from elfatt_deploy.bench.attention import AttentionRequest
    from elfatt_deploy.bench.cells import BenchRequest

    _check(
        attention,
        {
            "--model": model is not None,
            "--bundle": bool(bundle),
            "--resolution": resolution is not None,
            "--batch": batch is not None,
            "--quick": quick,
            "--strict": strict,
            "--baseline": baseline is not None,
            "--results": results is not None,
        },
        {
            "--heads": heads is not None,
            "--rounds": rounds is not None,
            "--seconds": seconds is not None,
            "--plot": plot is not None,
        },
    )
    if attention is not None:
        asked = AttentionRequest(
            attentions=_attentions(attention),
            sizes=_sizes(size),
            dim=dim,
            heads=heads,
            block=block,
            threads=1 if threads is None else threads,
            rule=_rule(rounds, seconds),
            seed=seed,
            plot=plot,
        )
        return _attention(asked, json=json, quiet=quiet)
    height, width = options.parse_resolution(resolution)
    names = _names(model) if model else () if bundle else (_DEFAULT_MODEL,)
    request = BenchRequest(
        models=names,
        bundles=tuple(bundle or ()),
        folder=folder,
        height=height,
        width=width,
        runner=runner,
        provider=provider,
        precision=precision,
        batch=batch,
        threads=threads or 0,
        contract=contracts.contract(contract),
        plan=protocol.PLANS["quick" if quick else "strict" if strict else "default"],
        baseline=baseline,
        seed=seed,
    )
    return _models(request, results, json=json, quiet=quiet)


def _check(
    attention: str | None, for_models: dict[str, bool], for_attention: dict[str, bool]
) -> None:
    """Refuse options of the one kind of measurement with the other.

    Raises:
        UsageError: one of them was given, or two that exclude each other.
    """
    other, words = (for_attention, "goes with --attention")
    if attention is not None:
        other, words = (for_models, "does not go with --attention, which times mechanisms alone")
    for option, given in other.items():
        if given:
            raise UsageError(f"{option} {words}")
    if for_models["--quick"] and for_models["--strict"]:
        raise UsageError("--quick and --strict exclude each other: give one of them")


def _attention(request: AttentionRequest, *, json: bool, quiet: bool) -> int:
    from elfatt_deploy.pipeline import bench_attention

    with output.progress(quiet) as progress:
        report = bench_attention(request, progress)
    return bench_attention_output.show(report, json=json, quiet=quiet)


def _models(request: BenchRequest, results: Path | None, *, json: bool, quiet: bool) -> int:
    from elfatt_deploy.pipeline import bench_models
    from elfatt_deploy.results import store

    with output.progress(quiet) as progress:
        report = bench_models(request, progress, command=tuple(sys.argv))
    code = bench_models_output.show(report, json=json, quiet=quiet)
    if results is not None:
        for record in report.records:  # shown first: a full disk must not lose the numbers
            if record.repetitions or not report.interrupted:
                store.append(results, record)
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


def _attentions(text: str) -> tuple[str, ...]:
    """Turn `elfatt,global` into names, and `all` into those of every mechanism."""
    from elfatt_deploy.models import registry

    names = tuple(name.strip() for name in text.split(","))
    return tuple(registry.ATTENTIONS) if _ALL in names else names


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Turn `14x14,28x56` into rows and columns.

    Raises:
        UsageError: a part of it is no size.
    """
    sizes = []
    for part in text.split(","):
        rows, _, cols = part.strip().lower().partition("x")
        if not (rows.isdecimal() and cols.isdecimal() and int(rows) and int(cols)):
            raise UsageError(
                f"--size {part.strip()} is not a size",
                hint="write rows x columns, as in 56x56, and a comma between two sizes",
            )
        sizes.append((int(rows), int(cols)))
    return tuple(sizes)


def _rule(rounds: int | None, seconds: float | None) -> StopRule:
    """Return the stop rule: what is given alone counts alone."""
    if rounds is None and seconds is None:
        return _DEFAULT_RULE
    return StopRule(rounds=_LEAST_ROUNDS if rounds is None else rounds, seconds=seconds or 0.0)
