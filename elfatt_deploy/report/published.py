"""What the paper published of speed: Tables I and VI to IX and Figure 4, with their doubts.

The data lies in `profiles/tables/speed/`; parameters and FLOPs of Tables I to V are read by
`recipes`. Numbers of tables are texts, so that their decimals are kept. "mixed" is the paper's word
for mixed precision, which is `fp16` elsewhere in this program.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.errors import UnknownNameError

Precision = Literal["fp32", "mixed"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "mixed")

#: the numbers of the tables of this file that are times on a board, and those that are not
SPEED_TABLES, TASK_TABLES = (8, 9), (6, 7)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inconsistency:
    """Where the source contradicts itself, or misleads.

    Args:
        where: the precision that it is about.
        text: what is wrong, in words.
        model: our model whose ratio it is about.
        against: our model that the ratio is recomputed against.
        printed: the ratio as printed or plotted.
        recomputed: images a second of `model` over those of `against`, to three decimals.
        power_w: the power of the point; None where the table has one power only.
    """

    where: Precision
    text: str
    model: str
    against: str
    printed: float
    recomputed: float
    power_w: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SpeedRow:
    """One row of Table VIII or IX, numbers as printed.

    Args:
        method: the row's name in the paper.
        model: our model of that row.
        resolution: side of the input in pixels.
        fps_fp32: images a second in FP32.
        ratio_fp32: its speed-up over the slowest row.
        fps_mixed: images a second in mixed precision.
        ratio_mixed: its speed-up over the slowest row.
        note: what had to be inferred.
    """

    method: str
    model: str
    resolution: int
    fps_fp32: str
    ratio_fp32: str
    fps_mixed: str
    ratio_mixed: str
    note: str = ""

    def images_per_s(self, precision: Precision) -> float:
        """Return the printed images a second."""
        return float(self.fps_fp32 if precision == "fp32" else self.fps_mixed)

    def printed_ratio(self, precision: Precision) -> str:
        """Return the printed speed-up."""
        return self.ratio_fp32 if precision == "fp32" else self.ratio_mixed


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTable:
    """Table VIII or IX: images a second on a board.

    Args:
        number: of the table.
        title: what it shows.
        source: where it is published.
        device: the board, in the paper's words.
        board: the same, as a name of `profiles/boards`.
        jetpack: version of JetPack.
        power: power mode; inferred.
        power_w: its power in the paper's Figure 4.
        batch: images in a run.
        repetitions: of which the mean is printed.
        dataset: where the images are from.
        not_stated: conditions that the paper does not tell.
        notes: what was inferred for the whole table.
        inconsistencies: where the numbers contradict each other.
        rows: its rows.
    """

    number: int
    title: str
    source: str
    device: str
    board: str
    jetpack: str
    power: str
    power_w: float
    batch: int
    repetitions: int
    dataset: str
    not_stated: tuple[str, ...]
    notes: tuple[str, ...]
    inconsistencies: tuple[Inconsistency, ...]
    rows: tuple[SpeedRow, ...]

    def recomputed_ratios(self, precision: Precision) -> dict[str, float]:
        """Return, by our model, images a second over those of the column's slowest row."""
        return _ratios({row.model: row.images_per_s(precision) for row in self.rows})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FigurePoint:
    """A marker of Figure 4.

    Args:
        power_w: its place on the horizontal axis.
        value: as plotted.
        uncertainty: half width of what it may be.
        origin: what the value was read from, such as `figure+ratio`.
        visible: share of the marker that no other one covers.
        covered_by: which ones do.
        note: what is doubtful about it.
    """

    power_w: float
    value: float
    uncertainty: float
    origin: str
    visible: float = 1.0
    covered_by: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FigureSeries:
    """The markers of one model in one of the four panels of Figure 4, by increasing power."""

    precision: Precision
    quantity: Literal["images_per_s", "ratio"]
    method: str
    model: str
    points: tuple[FigurePoint, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FigureSetting:
    """What stands behind a power of the horizontal axis: board, its power mode, JetPack, batch."""

    power_w: float
    board: str
    mode: str
    jetpack: str
    batch: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Figure 4: images a second and speed-up of seven models against power.

    Args:
        number: of the figure.
        title: what it shows.
        source: where it is published.
        notes: how well it could be read.
        settings: what each power means.
        inconsistencies: where the numbers contradict each other.
        series: all markers.
    """

    number: int
    title: str
    source: str
    notes: tuple[str, ...]
    settings: tuple[FigureSetting, ...]
    inconsistencies: tuple[Inconsistency, ...]
    series: tuple[FigureSeries, ...]

    def panel(
        self, precision: Precision, quantity: Literal["images_per_s", "ratio"]
    ) -> dict[tuple[str, float], FigurePoint]:
        """Return the markers of a panel, by our model and power."""
        return {
            (series.model, point.power_w): point
            for series in self.series
            if (series.precision, series.quantity) == (precision, quantity)
            for point in series.points
        }

    def recomputed_ratios(self, precision: Precision, power_w: float) -> dict[str, float]:
        """Return, by our model, images a second over those of the slowest model at that power."""
        points = self.panel(precision, "images_per_s")
        return _ratios({m: point.value for (m, power), point in points.items() if power == power_w})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One row of Table VI or VII, numbers as printed.

    Args:
        method: the row's name in the paper.
        model: our model of its backbone.
        schedule: how it was trained.
        scores: column -> value, in per cent.
        params: millions of parameters.
        fps_nfa: images a second without FlashAttention-2.
        fps_fa: with it; empty where the paper has a dash.
        gflops_nfa: giga multiply-accumulates.
        gflops_fa: the same without softmax attention's products.
    """

    method: str
    model: str
    schedule: str
    scores: dict[str, str]
    params: str
    fps_nfa: str
    fps_fa: str
    gflops_nfa: str
    gflops_fa: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskTable:
    """Table VI or VII: detection or segmentation with these backbones, on a server's GPU."""

    number: int
    title: str
    source: str
    device: str
    precision: Precision
    batch: int
    flops_input: str
    notes: tuple[str, ...]
    rows: tuple[TaskRow, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """One row of Table I: images a second of a server's GPU, in mixed precision.

    Args:
        method: the row's name in the paper.
        model: our model of that row.
        resolution: side of the input in pixels.
        batch: images in a run.
        images_per_s_nfa: without FlashAttention-2; None where the paper has a dash.
        images_per_s_fa: with it.
    """

    method: str
    model: str
    resolution: int
    batch: int
    images_per_s_nfa: int | None = None
    images_per_s_fa: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputTable:
    """The images a second of Table I."""

    number: int
    title: str
    source: str
    rows: tuple[ThroughputRow, ...]

    def ratio(self, model: str, baseline: str, resolution: int) -> float | None:
        """Return how many times as fast as another a model is printed, without FlashAttention-2.

        None where one of the two has no such row.
        """
        found = {
            row.model: row.images_per_s_nfa for row in self.rows if row.resolution == resolution
        }
        own, other = found.get(model), found.get(baseline)
        return own / other if own and other else None


@functools.cache
def throughput_table() -> ThroughputTable:
    """Return the images a second of Table I.

    Raises:
        SchemaError: the shipped file lacks a field or has one of the wrong type.
    """
    return from_document(ThroughputTable, *_document(1, (1,)))


@functools.cache
def speed_table(number: int) -> SpeedTable:
    """Return Table VIII or IX.

    Raises:
        UnknownNameError: the number is another one.
        SchemaError: the shipped file lacks a field or has one of the wrong type.
    """
    return from_document(SpeedTable, *_document(number, SPEED_TABLES))


@functools.cache
def task_table(number: int) -> TaskTable:
    """Return Table VI or VII.

    Raises:
        UnknownNameError: the number is another one.
        SchemaError: the shipped file lacks a field or has one of the wrong type.
    """
    return from_document(TaskTable, *_document(number, TASK_TABLES))


@functools.cache
def figure4() -> Figure:
    """Return Figure 4.

    Raises:
        SchemaError: the shipped file lacks a field or has one of the wrong type.
    """
    path = recipes.profiles_folder() / "tables" / "speed" / "figure4.toml"
    return from_document(Figure, recipes.read_toml(path), str(path))


def _document(number: int, known: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    """Return the file of a table, and its path for messages."""
    if number not in known:
        raise UnknownNameError("table", str(number), map(str, known))
    path = recipes.profiles_folder() / "tables" / "speed" / f"table{number}.toml"
    return recipes.read_toml(path), str(path)


def _ratios(images_per_s: dict[str, float]) -> dict[str, float]:
    slowest = min(images_per_s.values())
    return {model: value / slowest for model, value in images_per_s.items()}
