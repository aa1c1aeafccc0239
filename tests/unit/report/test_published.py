"""The paper's numbers of speed: as printed, with every contradiction named."""

from __future__ import annotations

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.device import boards
from elfatt_deploy.errors import SchemaError, UnknownNameError
from elfatt_deploy.models import registry
from elfatt_deploy.report import published
from elfatt_deploy.report.published import PRECISIONS, figure4, speed_table, task_table

#: half of the last printed digit
HALF = 0.05


def _stated(holder, precision, model, power_w=None):
    return [
        one
        for one in holder.inconsistencies
        if (one.where, one.model, one.power_w) == (precision, model, power_w)
    ]


@pytest.mark.parametrize("number", [8, 9])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_printed_ratio_is_that_over_the_slowest_row_or_stated_as_inconsistent(number, precision):
    table = speed_table(number)
    for row in table.rows:
        ratio = table.recomputed_ratios(precision)[row.model]
        wrong = f"{ratio:.1f}" != row.printed_ratio(precision)
        stated = [
            one
            for one in _stated(table, precision, row.model)
            if one.recomputed == pytest.approx(ratio, abs=5e-4)
        ]
        assert wrong == bool(stated), row.method


def test_27_of_the_28_ratios_agree():
    agree = [
        f"{table.recomputed_ratios(precision)[row.model]:.1f}" == row.printed_ratio(precision)
        for table in (speed_table(8), speed_table(9))
        for precision in PRECISIONS
        for row in table.rows
    ]
    assert (len(agree), sum(agree)) == (28, 27)


@pytest.mark.parametrize(
    ("number", "precision", "slowest"),
    [
        (8, "fp32", "cswin_t_global"),
        (8, "mixed", "cswin_t_flatten"),
        (9, "fp32", "cswin_t_global"),
        (9, "mixed", "cswin_t_global"),
    ],
)
def test_the_baseline_is_the_slowest_model(number, precision, slowest):
    ratios = speed_table(number).recomputed_ratios(precision)
    assert min(ratios, key=ratios.get) == slowest


def test_every_stated_inconsistency_is_one():
    figure = figure4()
    for holder in (speed_table(8), speed_table(9), figure):
        for one in holder.inconsistencies:
            if one.power_w is None:
                rates = {row.model: row.images_per_s(one.where) for row in holder.rows}
                printed = {row.model: float(row.printed_ratio(one.where)) for row in holder.rows}
            else:
                rates = _at(figure, one.where, "images_per_s", one.power_w)
                printed = _at(figure, one.where, "ratio", one.power_w)
            ratio = rates[one.model] / rates[one.against]
            assert ratio == pytest.approx(one.recomputed, abs=5e-4), one.text
            assert printed[one.model] == one.printed
            assert abs(ratio - one.printed) > HALF


def _at(figure, precision, quantity, power_w):
    return {
        model: point.value
        for (model, power), point in figure.panel(precision, quantity).items()
        if power == power_w
    }


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_ratios_of_the_figure_follow_from_its_images_a_second(precision):
    """Within what both markers may be; 5 W in FP32 contradicts itself, as is stated."""
    figure = figure4()
    rates, ratios = (figure.panel(precision, what) for what in ("images_per_s", "ratio"))
    contradicted = set()
    for power_w in {power for _, power in rates}:
        here = {model: point for (model, power), point in rates.items() if power == power_w}
        slowest = min(here.values(), key=lambda point: point.value)
        for model, point in here.items():
            low = (point.value - point.uncertainty) / (slowest.value + slowest.uncertainty)
            high = (point.value + point.uncertainty) / (slowest.value - slowest.uncertainty)
            shown = ratios[model, power_w]
            if not low - shown.uncertainty <= shown.value <= high + shown.uncertainty:
                contradicted.add(power_w)
    assert contradicted <= {5.0}
    for power_w in contradicted:
        assert any(one.power_w == power_w for one in figure.inconsistencies)


def test_no_baseline_as_plotted_explains_the_ratios_of_5_w_in_fp32():
    figure = figure4()
    rates, ratios = _at(figure, "fp32", "images_per_s", 5.0), _at(figure, "fp32", "ratio", 5.0)
    needed = [rates[model] / ratios[model] for model in rates if model != "cswin_t_global"]
    assert min(needed) > rates["cswin_t_global"] + HALF


@pytest.mark.parametrize(("number", "power_w"), [(8, 60.0), (9, 10.0)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_tables_are_a_column_of_the_figure(number, power_w, precision):
    table, figure = speed_table(number), figure4()
    rates, ratios = (_at(figure, precision, what, power_w) for what in ("images_per_s", "ratio"))
    assert rates == {row.model: row.images_per_s(precision) for row in table.rows}
    assert ratios == {row.model: float(row.printed_ratio(precision)) for row in table.rows}
    setting = next(one for one in figure.settings if one.power_w == power_w == table.power_w)
    assert (setting.board, setting.mode) == (table.board, table.power)
    assert (setting.batch, setting.jetpack) == (table.batch, table.jetpack)


def test_the_figure_has_84_markers_of_images_a_second_and_84_of_ratios():
    figure = figure4()
    for quantity in ("images_per_s", "ratio"):
        markers = [
            point
            for precision in PRECISIONS
            for point in figure.panel(precision, quantity).values()
        ]
        assert len(markers) == 84
        assert all(point.value > 0 < point.uncertainty for point in markers)
    rates = [p for one in PRECISIONS for p in figure.panel(one, "images_per_s").values()]
    assert sum(bool(point.covered_by) for point in rates) == 51


def test_every_row_and_marker_names_a_model_of_ours_and_a_power_mode_of_a_board():
    names = {row.model for n in (8, 9) for row in speed_table(n).rows}
    names |= {row.model for n in (6, 7) for row in task_table(n).rows}
    names |= {series.model for series in figure4().series}
    assert names <= set(registry.models())
    for setting in figure4().settings:
        board = boards.board(setting.board)
        assert boards.find_mode(board.modes, setting.mode).budget_w == setting.power_w


@pytest.mark.parametrize(("number", "rows", "scores"), [(6, 28, 6), (7, 14, 2)])
def test_the_tables_of_other_tasks_are_whole(number, rows, scores):
    table = task_table(number)
    assert (table.number, len(table.rows)) == (number, rows)
    for row in table.rows:
        assert len(row.scores) == scores
        assert all(0 < float(score) < 100 for score in row.scores.values())
        assert float(row.gflops_nfa) >= float(row.gflops_fa or 0)
        assert bool(row.fps_fa) == bool(row.gflops_fa)


@pytest.mark.parametrize(("read", "number"), [(speed_table, 6), (task_table, 8)])
def test_a_table_of_another_kind_is_unknown(read, number):
    with pytest.raises(UnknownNameError, match=f"unknown table '{number}'"):
        read(number)


def test_a_wrong_field_is_refused_with_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "tables" / "speed"
    folder.mkdir(parents=True)
    shipped = recipes.profiles_folder() / "tables" / "speed" / "table8.toml"
    text = shipped.read_text(encoding="utf-8")
    (folder / "table8.toml").write_text(text.replace('fps_fp32 = "158"', 'fps = "158"'))
    monkeypatch.setattr(recipes, "profiles_folder", lambda: tmp_path)
    with pytest.raises(SchemaError, match=r"table8\.toml .*rows\.0\.fps"):
        published.speed_table.__wrapped__(8)


def test_table_1_is_whole_and_its_ratios_are_those_of_its_rows():
    table = published.throughput_table()
    assert len(table.rows) == 38
    for row in table.rows:
        assert registry.get(row.model).name == row.model
        assert row.images_per_s_nfa or row.images_per_s_fa
    row = {(r.model, r.resolution): r.images_per_s_nfa for r in table.rows}
    ratio = table.ratio("cswin_t_elfatt", "cswin_t_global", 224)
    assert ratio == row["cswin_t_elfatt", 224] / row["cswin_t_global", 224] > 1
    assert table.ratio("cswin_t_elfatt", "cswin_t_global", 448) is None
    assert table.ratio("convnext_t", "cswin_t_none", 224) is None
