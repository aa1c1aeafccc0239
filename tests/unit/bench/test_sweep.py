"""Which cells a recipe asks for, in which order, and what it may not ask for."""

from __future__ import annotations

import pytest

from elfatt_deploy.bench.sweep import (
    SweepMode,
    SweepRecipe,
    cells_of,
    read_recipe,
    recipe_names,
    remaining,
)
from elfatt_deploy.errors import (
    InputFileError,
    SchemaError,
    UnknownNameError,
    UsageError,
)
from elfatt_deploy.models import registry

SLOW = SweepMode(asked="15W", id=1, rank=408e6, reboot=True)
FAST = SweepMode(asked="MAXN", id=0, rank=float("inf"))
MIDDLE = SweepMode(asked="50W", id=3, rank=816e6)


def recipe(**changes):
    return SweepRecipe(
        **{
            "name": "try",
            "title": "a try",
            "models": ("a", "b", "c"),
            "precisions": ("fp32", "fp16"),
            "contracts": ("paper/1", "compute/1"),
            **changes,
        }
    )


def test_every_cell_comes_once_and_modes_follow_each_other():
    cells = cells_of(recipe(), (SLOW, MIDDLE, FAST), seed=0)
    assert len(cells) == len(set(cells)) == 3 * 2 * 2 * 3
    modes = [cell.mode for cell in cells]
    assert modes == [FAST] * 12 + [MIDDLE] * 12 + [SLOW] * 12, "reboots last, the fastest first"


def test_precisions_and_contracts_of_a_model_stay_together_and_models_are_shuffled():
    names = tuple("abcdefgh")
    orders = set()
    for seed in range(4):
        cells = cells_of(recipe(models=names), (FAST,), seed=seed)
        order = [cell.model for cell in cells[::4]]
        assert [cell.model for cell in cells] == [name for name in order for _ in range(4)]
        assert sorted(order) == list(names)
        orders.add(tuple(order))
    assert len(orders) > 1
    again = cells_of(recipe(models=names), (FAST,), seed=3)
    assert again == cells_of(recipe(models=names), (FAST,), seed=3)


def test_finished_cells_are_left_out_and_the_order_stays():
    cells = cells_of(recipe(), (FAST,), seed=0)
    keys = [f"key {number}" for number in range(len(cells))]
    left = remaining(cells, keys, {"key 0", "key 3", "of another sweep"})
    assert left == (*cells[1:3], *cells[4:])


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"models": ()}, UsageError, "no models"),
        ({"models": ("a", "a")}, UsageError, "names a twice in models"),
        ({"modes": ("15W", "15W")}, UsageError, "names 15W twice in modes"),
        ({"precisions": ("fp15",)}, UnknownNameError, "did you mean fp16"),
        ({"contracts": ("compute",)}, UnknownNameError, "compute/1"),
        ({"target": "jp66"}, UnknownNameError, "jp6"),
        ({"batch": 0}, UsageError, "batch 0"),
    ],
)
def test_a_recipe_that_cannot_be_measured_is_refused(changes, kind, words):
    with pytest.raises(kind, match=words):
        recipe(**changes)


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_name_models_that_are_there(name):
    found = read_recipe(name)
    assert found.name == name
    for model in found.models:
        assert registry.get(model).name == model


def test_the_papers_recipes_are_the_papers_cells():
    orin, nano = read_recipe("paper-table8"), read_recipe("paper-table9")
    assert (orin.boards, orin.batch, len(orin.models), len(orin.modes)) == (
        ("agx-orin-64gb",),
        128,
        7,
        4,
    )
    assert (nano.boards, nano.batch, len(nano.models), len(nano.modes)) == (("nano",), 1, 7, 2)
    assert orin.models == nano.models
    assert "paper/1" in orin.contracts
    assert "paper/1" in nano.contracts


def test_recipe_files_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "mine"\nmodels = ["cswin_t_elfatt"]\nmodes = ["15W"]\n')
    found = read_recipe(str(path))
    assert (found.name, found.batch, found.modes) == ("mine", 1, ("15W",))
    path.write_text('title = "mine"\nmodel = ["cswin_t_elfatt"]\n')
    with pytest.raises(SchemaError, match="model"):
        read_recipe(str(path))
    path.write_text("title = ")
    with pytest.raises(InputFileError, match=r"mine\.toml"):
        read_recipe(str(path))
    with pytest.raises(InputFileError, match="there is no recipe"):
        read_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(UnknownNameError, match="paper-table9 or paper-table8"):
        read_recipe("paper-table")
