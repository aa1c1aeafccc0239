"""`models`: what can be exported, its size, and the paper's tables beside our counts."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elfatt_deploy import optional, recipes, units
from elfatt_deploy.artifacts import Counts
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import MissingDependency, UsageError
from elfatt_deploy.models import registry
from elfatt_deploy.models.settings import parse_settings
from elfatt_deploy.recipes import PublishedRow

if TYPE_CHECKING:
    from elfatt_deploy.models.spec import ModelSpec

_CONVENTION = (
    "GFLOPs are giga multiply-accumulates of one image, counted on the model: convolutions, linear "
    "layers, matrix products, 5 per LayerNorm element, 2 per BatchNorm element, 4 per resized one, "
    "1 per pooled one; FA leaves out softmax attention's products."
)


@output.guarded
def command(
    name: Annotated[
        str | None,
        typer.Argument(help="Show this model's levels.", autocompletion=options.complete_model),
    ] = None,
    table: Annotated[
        int | None, typer.Option("--table", help="Table 1 to 5 of the paper beside our counts.")
    ] = None,
    settings: options.Settings = None,
    resolution: options.Resolution = None,
    json: options.Json = False,
) -> int:
    """List models with parameters and GFLOPs; with NAME, its levels; with --table, the paper's.

    Exit code 1 where a count differs from the paper's printed digits.
    """
    if table is not None:
        if name or settings or resolution:
            raise UsageError(
                "--table shows the paper's rows: it takes no NAME, --set, --resolution"
            )
        return _paper_table(table, json)
    if name is not None:
        return _one(name, tuple(settings or ()), resolution, json)
    if settings or resolution:
        raise UsageError("--set and --resolution change one model: give its NAME too")
    return _listing(json)


def _counts(spec: ModelSpec, settings: tuple[str, ...], height: int, width: int) -> Counts | None:
    """Return stored counts or counts made now; None without torch, or for a user's module."""
    stored = recipes.stored_counts().get(recipes.count_key(spec.name, settings, height, width))
    if stored is not None or spec.own_weights:
        return stored
    try:
        optional.load("torch")
    except MissingDependency:
        return None
    from elfatt_deploy.models import counting

    return counting.count(spec, height, width)


def _listing(json: bool) -> int:
    entries: list[dict[str, Any]] = []
    for name, spec in registry.models().items():
        counts = _counts(spec, (), spec.input_size, spec.input_size)
        entries.append(
            {
                "name": name,
                "family": spec.family,
                "params": counts and counts.params,
                "gflops_nfa": counts and counts.gflops_nfa,
                "gflops_fa": counts and counts.gflops_fa,
                "input_size": spec.input_size,
                "ablation": spec.ablation,
                "paper_rows": _paper_rows(name),
                "summary": spec.summary,
            }
        )
    if json:
        output.show_json("models", {"models": entries})
        return 0
    output.show_table(
        "models",
        ("name", "params (M)", "nFA (G)", "FA (G)", "px", "paper", "mixing"),
        [
            (
                str(e["name"]),
                *_count_cells(e["params"], e["gflops_nfa"], e["gflops_fa"]),
                str(e["input_size"]),
                ", ".join(e["paper_rows"]),
                str(e["summary"]),
            )
            for e in entries
        ],
        _CONVENTION,
    )
    return 0


def _count_cells(params: Any, nfa: Any, fa: Any) -> tuple[str, str, str]:
    if params is None:
        return ("-", "-", "-")
    return (units.millions(params), units.giga(nfa), units.giga(fa))


def _paper_rows(name: str) -> list[str]:
    """Return the tables in which the model, as it is, has a row."""
    return [
        table.source.rpartition(" ")[2]
        for table in map(recipes.published_table, recipes.published_numbers())
        if any(row.model == name and not row.settings for row in table.rows)
    ]


def _one(name: str, settings: tuple[str, ...], resolution: str | None, json: bool) -> int:
    spec = registry.get(name).configured(parse_settings(settings))
    height, width = spec.size(*options.parse_resolution(resolution))
    counts = _counts(spec, settings, height, width)
    levels = spec.config.levels_at(height, width)
    if json:
        document = {"name": name, "settings": list(settings), "height": height, "width": width}
        measured = counts and {
            "params": counts.params,
            "gflops_nfa": counts.gflops_nfa,
            "gflops_fa": counts.gflops_fa,
        }
        output.show_json(
            "model",
            {**document, "counts": measured, "levels": [dataclasses.asdict(row) for row in levels]},
        )
        return 0
    title = f"{name} ({spec.family}) at {units.size(height, width)}"
    if levels:
        output.show_table(
            title + "".join(f", {item}" for item in settings),
            ("level", "map", "channels", "heads", "blocks", "mixing", "window"),
            [
                (
                    str(row.level),
                    f"{row.rows}x{row.cols}",
                    str(row.channels),
                    str(row.heads or "-"),
                    str(len(row.blocks)),
                    _pattern(row.blocks),
                    str(row.window or "-"),
                )
                for row in levels
            ],
            "window: side of the blocks or windows, or width of the stripes, in tokens",
        )
    if spec.own_weights:
        output.show(f"{title}: a module that is not ours is neither known inside nor counted")
    elif counts is None:
        output.say(f"counts of these settings need torch: {optional.install_command('torch')}")
    else:
        output.show(
            f"{units.millions(counts.params)} M parameters, {units.giga(counts.gflops_nfa)} GFLOPs "
            f"nFA, {units.giga(counts.gflops_fa)} FA\n{_CONVENTION}"
        )
    return 0


def _pattern(blocks: tuple[str, ...]) -> str:
    """Return `elfatt`, `global / elfatt in turn`, or `2 agent, 16 local`."""
    kinds = list(dict.fromkeys(blocks))
    if len(kinds) == 1:
        return kinds[0]
    if len(kinds) == 2 and all(kind == kinds[i % 2] for i, kind in enumerate(blocks)):
        return f"{' / '.join(kinds)} in turn"
    runs = ((kind, len(list(run))) for kind, run in itertools.groupby(blocks))
    return ", ".join(f"{count} {kind}" for kind, count in runs)


def _paper_table(number: int, json: bool) -> int:
    published = recipes.published_table(number)
    rows = [_paper_row(row) for row in published.rows]
    disagree = [row for row in rows if row["agree"] is False]
    if json:
        head = {"table": number, "title": published.title, "source": published.source}
        output.show_json("paper-table", {**head, "rows": rows})
        return 1 if disagree else 0
    output.show_table(
        f"Table {number}: {published.title} ({published.source})",
        ("row", "our model", "px", "params", "nFA (G)", "FA (G)", "agree"),
        [
            (
                row["method"],
                " ".join((row["model"], *row["settings"])) if row["params"] else "-",
                str(row["resolution"]),
                *(
                    f"{row[key] or '-'} / {row[f'paper_{key}'] or '-'}"
                    for key in ("params", "gflops_nfa", "gflops_fa")
                ),
                {True: "yes", False: "NO", None: "-"}[row["agree"]],
            )
            for row in rows
        ],
        "ours (counted) / the paper's (published, as printed), params in M; - is absent. "
        + _CONVENTION,
    )
    for row in rows:
        if row["note"]:
            output.show(f"{row['method']}: {row['note']}")
    compared = [row for row in rows if row["agree"] is not None]
    output.show(f"{len(compared) - len(disagree)} of {len(compared)} compared rows agree")
    return 1 if disagree else 0


def _paper_row(row: PublishedRow) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "method": row.method,
        "resolution": row.resolution,
        "note": row.note,
        "model": row.model,
        "settings": list(row.settings),
        "paper_params": row.params,
        "paper_gflops_nfa": row.gflops_nfa,
        "paper_gflops_fa": row.gflops_fa,
        "params": None,
        "gflops_nfa": None,
        "gflops_fa": None,
        "agree": None,
    }
    if row.model not in registry.models():
        return cells
    spec = registry.get(row.model).configured(parse_settings(row.settings))
    counts = _counts(spec, row.settings, row.resolution, row.resolution)
    if counts is None:
        return cells
    ours = {
        "params": units.as_printed(counts.params / 1e6, row.params),
        "gflops_nfa": units.as_printed(counts.gflops_nfa, row.gflops_nfa),
        "gflops_fa": units.as_printed(counts.gflops_fa, row.gflops_fa) if row.gflops_fa else None,
    }
    agree = all(value is None or value == cells[f"paper_{key}"] for key, value in ours.items())
    return {**cells, **ours, "agree": agree}
