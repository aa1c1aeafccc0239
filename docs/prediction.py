"""Fills the tables of docs/prediction.md and draws its figure: predictions beside Figure 4.

    python docs/prediction.py [--fit]

`--fit` fits the constants anew and prints them as `profiles/predict.toml` holds them; without it
the shipped ones are judged. A test checks that the two are the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.pipeline import predicting
from elfatt_deploy.predict import fitting
from elfatt_deploy.predict.constants import Band, Constants, Fitted, constants
from elfatt_deploy.predict.fitting import Point
from elfatt_deploy.predict.kernels import kernel_table, known_models
from elfatt_deploy.predict.roofline import estimate

HERE = Path(__file__).parent
BASELINE = HERE.parent / "tests" / "data" / "kernels.json"
ORIN, NANO = 87, 53
WORDS = {"fp32": "FP32", "fp16": "mixed"}
#: colours of Okabe and Ito, told apart by colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def main() -> None:
    """Write the page and the figure, or print fitted constants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fit", action="store_true")
    if parser.parse_args().fit:
        print(fitted_text())  # noqa: T201
        return
    stated = constants()
    draw(stated, HERE / "figures" / "prediction")
    path = HERE / "prediction.md"
    path.write_text(page(path.read_text(encoding="utf-8"), stated), encoding="utf-8")


def fitted_text() -> str:
    """Return fitted constants and the bands of the points that were not fitted, as TOML.

    The bands are those of the constants as they are printed.
    """
    fitted, tested = predicting.study_parts()
    found = rounded(fitting.fit(fitted, constants()))
    lines = ["[fitted]"]
    lines += [f"{name} = {value:g}" for name, value in dataclasses.asdict(found.fitted).items()]
    for band in bands(tested, found):
        lines += ["", "[[bands]]", f'boards = "{band.boards}"', f"sms = {list(band.sms)}"]
        lines += [f"low = {band.low:.2f}", f"high = {band.high:.2f}"]
        lines += [f"level = {band.level}", f"points = {band.points}"]
    return "\n".join(lines)


def rounded(found: Constants) -> Constants:
    """Return the same constants with three digits of the fitted ones."""
    digits = {
        name: float(f"{value:.3g}") for name, value in dataclasses.asdict(found.fitted).items()
    }
    return dataclasses.replace(found, fitted=Fitted(**digits))


def bands(tested: Sequence[Point], found: Constants) -> tuple[Band, ...]:
    """Return the band of Orin, and the one of all points for boards that were not published."""
    orin = [point for point in tested if point.machine.sm == ORIN]
    nano = [point for point in tested if point.machine.sm == NANO]
    return (
        fitting.band(orin, found, boards="AGX Orin", sms=(ORIN,)),
        fitting.band(nano, found, boards="Nano", sms=(NANO,)),
        fitting.band(tested, found, boards="AGX Orin and Nano", sms=()),
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f}"


def error_row(name: str, points: Sequence[Point], stated: Constants) -> list[str]:
    """Return a row of the table of errors."""
    found = fitting.errors(points, stated)
    signed = f"{100 * found.bias:+.1f}"
    return [
        name, str(found.points), percent(found.median), percent(found.worst), signed,
        f"{found.rank:.3f}",
    ]  # fmt: skip


def error_table(stated: Constants) -> str:
    """Return the errors of each part of the points."""
    fitted, tested = predicting.study_parts()
    rows = [error_row("fitted", fitted, stated), error_row("tested, all", tested, stated)]
    for name, sm in (("AGX Orin", ORIN), ("Nano", NANO)):
        here = [point for point in tested if point.machine.sm == sm]
        rows.append(error_row(f"tested, {name}", here, stated))
    for precision, word in WORDS.items():
        for name, sms in (("whole panel", (ORIN, NANO)), ("AGX Orin", (ORIN,)), ("Nano", (NANO,))):
            here = [p for p in tested if p.precision == precision and p.machine.sm in sms]
            rows.append(error_row(f"tested, {word}, {name}", here, stated))
    columns = ("points", "number", "median %", "worst %", "bias %", "rank correlation")
    return table(columns, rows)


def order_table(stated: Constants) -> str:
    """Return the rank correlation of the seven models within each mode."""
    rows = []
    for precision, word in WORDS.items():
        row = [word]
        for _, group in grouped(precision).items():
            row.append(f"{fitting.errors(group, stated).rank:.2f}")
        rows.append(row)
    return table(("panel", *(f"{watts:g} W" for watts in grouped("fp32"))), rows)


def grouped(precision: str) -> dict[float, list[Point]]:
    """Return the points of a panel by power."""
    found: dict[float, list[Point]] = {}
    for point, watts in predicting.study_points():
        if point.precision == precision:
            found.setdefault(watts, []).append(point)
    return found


def value_table(precision: str, stated: Constants) -> str:
    """Return published / predicted images a second of every point of a panel."""
    fitted, _ = predicting.study_parts()
    groups = grouped(precision)
    rows: dict[str, list[str]] = {}
    for group in groups.values():
        for point in group:
            ours, theirs = fitting.predicted(point, stated), point.images_per_s
            mark = "*" if point in fitted else ""
            cell = f"{theirs:g} / {ours:.3g} ({100 * (ours / theirs - 1):+.0f}){mark}"
            rows.setdefault(point.model, [point.model]).append(cell)
    return table(("model", *(f"{watts:g} W" for watts in groups)), list(rows.values()))


def choices_line(stated: Constants) -> str:
    """Return the error on unseen Orin points over every choice of three models to fit."""
    names = tuple(dict.fromkeys(point.model for point, _ in predicting.study_points()))
    medians, all_points, worst = [], [], []
    for models in itertools.combinations(names, 3):
        fitted, tested = predicting.study_parts(models)
        found = fitting.fit(fitted, stated)
        orin = fitting.errors([p for p in tested if p.machine.sm == ORIN], found)
        medians.append(orin.median)
        worst.append(orin.worst)
        all_points.append(fitting.errors(tested, found).median)
    text = (
        "Over all {n} choices of three of the seven models, the median error on the 44 other "
        "points of the AGX Orin is {a} to {b} %, {c} % in the middle; the worst point of a choice "
        "is {d} to {e} % off. On all 72 other points the median error is {f} to {g} %, {h} % in "
        "the middle."
    )
    return text.format(
        n=len(medians), a=percent(min(medians)), b=percent(max(medians)),
        c=percent(float(np.median(medians))), d=percent(min(worst)), e=percent(max(worst)),
        f=percent(min(all_points)), g=percent(max(all_points)),
        h=percent(float(np.median(all_points))),
    )  # fmt: skip


def plain_line(stated: Constants) -> str:
    """Return the errors of a rule without memory: FLOPs / peak, one factor a precision."""
    fitted, tested = predicting.study_parts()
    off: dict[int, list[float]] = {ORIN: [], NANO: []}
    for precision in WORDS:
        factors = [
            math.log(p.images_per_s / plain(p, stated)) for p in fitted if p.precision == precision
        ]
        factor = math.exp(float(np.mean(factors)))
        for point in tested:
            if point.precision == precision:
                error = abs(factor * plain(point, stated) / point.images_per_s - 1)
                off[point.machine.sm].append(error)
    return ", ".join(
        f"{name} median {percent(float(np.median(off[sm])))} %, worst {percent(max(off[sm]))} %"
        for name, sm in (("AGX Orin", ORIN), ("Nano", NANO))
    )


def plain(point: Point, stated: Constants) -> float:
    """Return the images a second at the peak of the machine, were there no memory."""
    machine = point.machine
    flops = sum(k.flops * k.count for k in kernel_table(point.model).eager_fp32)
    peak = machine.fp32_flops
    if point.precision == "fp16":
        peak *= stated.half_rate(machine).eager / machine.cores_per_sm
    return peak / flops


def launch_line(stated: Constants) -> str:
    """Return what another cost of launches would do to the Nano."""
    _, tested = predicting.study_parts()
    nano = [point for point in tested if point.machine.sm == NANO]
    found = []
    for factor in (0, 1, 2, 3):
        launch = dataclasses.replace(
            stated.launch, eager_cycles=factor * stated.launch.eager_cycles
        )
        error = fitting.errors(nano, dataclasses.replace(stated, launch=launch))
        found.append(f"{factor}: {percent(error.median)} %")
    return ", ".join(found)


def kernel_counts() -> str:
    """Return our fused kernels beside those of the builder, where it was asked."""
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    rows = []
    for model in sorted(set(baseline) & set(known_models())):
        counts, counted = baseline[model], kernel_table(model)
        fused = sum(kernel.count for kernel in counted.fused)
        eager = sum(kernel.count for kernel in counted.eager_fp32)
        built = counts["fp16"]["kernels"]
        rows.append([model, str(eager), str(fused), str(built), f"{fused / built:.2f}"])
    columns = ("model", "eager", "fused, by rule", "builder, FP16", "rule / builder")
    return table(columns, rows)


def share_table(stated: Constants) -> str:
    """Return what the predicted time of ELFATT is made of, in each mode."""
    counted, rows, seen = kernel_table("cswin_t_elfatt"), [], set()
    for point, watts in predicting.study_points():
        for precision, word in WORDS.items():
            if (watts, precision) in seen:
                continue
            seen.add((watts, precision))
            guess = estimate(
                counted, point.machine, stated,
                regime="eager", precision=precision, batch=point.batch,
            )  # fmt: skip
            parts = {"compute": 0.0, "bandwidth": 0.0, "launch": 0.0}
            for level in guess.levels:
                for limit, time in level.by_limit_ms.items():
                    parts[limit] += time / guess.total_ms
            rows.append([f"{watts:g} W", word, *(f"{100 * part:.0f}" for part in parts.values())])
    columns = ("power", "precision", "compute %", "bandwidth %", "launch %")
    return table(columns, rows)


def draw(stated: Constants, path: Path) -> None:
    """Draw predicted against published images a second, a panel for each precision."""
    matplotlib = optional.load("matplotlib")
    figure_module = optional.load("matplotlib.figure")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "prediction"
    figure = figure_module.Figure(figsize=(10, 5.2), facecolor="white", layout="constrained")
    panels = figure.subplots(1, 2)
    fitted, _ = predicting.study_parts()
    names = list(dict.fromkeys(point.model for point, _ in predicting.study_points()))
    for axes, (precision, word) in zip(panels, WORDS.items(), strict=True):
        draw_panel(axes, word, [p for g in grouped(precision).values() for p in g], fitted, stated)
    handles = [mark(matplotlib, "o", colour, colour) for colour in COLOURS]
    handles += [
        mark(matplotlib, "o", "#888888", "#888888"),
        mark(matplotlib, "^", "#888888", "#888888"),
    ]
    handles += [mark(matplotlib, "o", "#888888", "white")]
    figure.legend(
        handles, [*names, "AGX Orin, batch 128", "Nano, batch 1", "fitted, not a test"],
        loc="outside lower center", ncols=5, frameon=False, fontsize=9,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)


def mark(matplotlib: Any, shape: str, edge: str, face: str) -> Any:
    """Return a marker of the legend."""
    line = matplotlib.lines.Line2D
    return line([], [], ls="", marker=shape, color=edge, markerfacecolor=face, markersize=7)


def draw_panel(
    axes: Any, word: str, points: list[Point], fitted: Sequence[Point], stated: Constants
) -> None:
    """Draw one panel."""
    span = np.array([1.7, 480.0])
    axes.plot(span, span, color="#666666", linewidth=1)
    axes.fill_between(span, 0.8 * span, 1.2 * span, color="#DDDDDD", linewidth=0)
    colours = dict(zip(dict.fromkeys(p.model for p in points), COLOURS, strict=True))
    for point in points:
        colour = colours[point.model]
        axes.plot(
            point.images_per_s, fitting.predicted(point, stated),
            marker="^" if point.machine.sm == NANO else "o", ls="", color=colour, markersize=6,
            markerfacecolor="white" if point in fitted else colour,
        )  # fmt: skip
    axes.set(
        xscale="log", yscale="log", xlim=span, ylim=span, title=word,
        xlabel="published (images/s)", ylabel="predicted (images/s)", aspect="equal",
    )  # fmt: skip
    ticks = [2, 5, 10, 20, 50, 100, 200, 400]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks, [str(tick) for tick in ticks])
        axis.set_ticks([], minor=True)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)


def page(text: str, stated: Constants) -> str:
    """Return the page with its tables filled: each stands between two comments with its name."""
    for name, made in FILLED.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        indent = before.rpartition("\n")[2]
        after = rest.partition(end)[2]
        lines = ["", *made(stated).splitlines(), ""]
        filled = "\n".join(indent + line if line else "" for line in lines)
        text = f"{before}{begin}\n{filled}\n{indent}{end}{after}"
    return text


def constants_table(stated: Constants) -> str:
    """Return the fitted constants."""
    meaning = {
        "dense": "share of the FP32 peak that products, convolutions and attention reach",
        "tensor": "share of the peak of tensor cores that products and convolutions reach",
        "attention": "share of the peak of tensor cores that attention in one kernel reaches",
        "depthwise": "share of the FP32 peak that depthwise convolutions reach",
        "memory": "share of the memory's bandwidth that kernels reach",
    }
    rows = [[name, f"{getattr(stated.fitted, name):.3g}", text] for name, text in meaning.items()]
    return table(("constant", "value", "meaning"), rows)


FILLED: dict[str, Callable[[Constants], str]] = {
    "constants": constants_table,
    "errors": error_table,
    "choices": choices_line,
    "order": order_table,
    "fp32": lambda stated: value_table("fp32", stated),
    "mixed": lambda stated: value_table("fp16", stated),
    "shares": share_table,
    "plain": plain_line,
    "launch": launch_line,
    "counts": lambda _: kernel_counts(),
}


if __name__ == "__main__":
    main()
