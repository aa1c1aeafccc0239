"""Sweeps: which cells a recipe asks for on a device, in which order, and which are left to do.

Nothing here runs anything: the recipe, the power modes that the board has and the records that are
already there go in, cells in the order in which they are measured come out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Sequence
from pathlib import Path

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.bench import contracts
from elfatt_deploy.errors import InputFileError, UnknownNameError, UsageError

PRECISIONS = ("fp32", "tf32", "fp16")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecipe:
    """What a sweep measures: every model in every precision, power mode and contract.

    Args:
        name: of the file, without its ending.
        title: what it is, in words.
        models: names of models.
        precisions: `fp32`, `tf32`, `fp16`.
        modes: power modes as `--power` takes them; none for the mode that the board is in.
        contracts: timing contracts.
        batch: images in a run.
        target: target of the bundles; empty for that of the board.
        boards: names of the boards it is meant for; none for any.
        resolution: input side; None for each model's own.
    """

    name: str
    title: str
    models: tuple[str, ...]
    precisions: tuple[str, ...] = ("fp16",)
    modes: tuple[str, ...] = ()
    contracts: tuple[str, ...] = ("single-stream/1",)
    batch: int = 1
    target: str = ""
    boards: tuple[str, ...] = ()
    resolution: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, before a board is touched.

        Raises:
            UsageError: a list is empty or names something twice, or the batch is below 1.
            UnknownNameError: there is no such precision, contract or target.
        """
        for what in ("models", "precisions", "contracts"):
            if not getattr(self, what):
                raise UsageError(f"the recipe {self.name} has no {what}")
        for what in ("models", "precisions", "contracts", "modes"):
            names = getattr(self, what)
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise UsageError(f"the recipe {self.name} names {twice[0]} twice in {what}")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UnknownNameError("precision", precision, PRECISIONS)
        for name in self.contracts:
            contracts.contract(name)
        if self.target:
            recipes.target(self.target)
        if self.batch < 1:
            raise UsageError(f"the recipe {self.name} has batch {self.batch}")


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that are shipped."""
    return tuple(sorted(path.stem for path in _folder().glob("*.toml")))


def read_recipe(name: str) -> SweepRecipe:
    """Return a recipe.

    Args:
        name: of a shipped recipe, or the path of a TOML file.

    Raises:
        UnknownNameError: there is no shipped recipe of that name.
        InputFileError: there is no such file, or it is not TOML.
        SchemaError: it lacks a field or has one too many, or of the wrong type.
        UsageError: it asks for what cannot be measured.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = _folder() / f"{name}.toml"
        if not path.is_file():
            hint = "name one of them, or a file that ends in .toml"
            raise UnknownNameError("recipe", name, recipe_names(), hint=hint)
    elif not path.is_file():
        raise InputFileError(f"there is no recipe {path}")
    return from_document(SweepRecipe, {**recipes.read_toml(path), "name": path.stem}, str(path))


def _folder() -> Path:
    return recipes.profiles_folder() / "runs"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepMode:
    """A power mode that a sweep visits.

    Args:
        asked: as the recipe names it; empty where the board is left as it is.
        id: of the board's configuration; None where the board is left as it is.
        rank: the larger, the faster: the first mode builds the plans.
        reboot: whether the board must be started anew to enter it.
    """

    asked: str
    id: int | None = None
    rank: float = 0.0
    reboot: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SweepCell:
    """One number of a sweep."""

    model: str
    precision: str
    contract: str
    mode: SweepMode


def cells_of(recipe: SweepRecipe, modes: Sequence[SweepMode], seed: int) -> tuple[SweepCell, ...]:
    """Return the cells in the order in which they are measured.

    A mode is entered once. Those that need no reboot come first, and the fastest first, for it
    builds the plans. Within a mode the models are shuffled; the precisions and contracts of one
    model stay together.

    Args:
        recipe: what is asked for.
        modes: the modes of the recipe, as the board has them.
        seed: of the order within each mode.
    """
    found = []
    shuffle = random.Random(seed).shuffle
    for mode in sorted(modes, key=lambda mode: (mode.reboot, -mode.rank)):
        models = list(recipe.models)
        shuffle(models)
        found += [
            SweepCell(model=model, precision=precision, contract=contract, mode=mode)
            for model in models
            for precision in recipe.precisions
            for contract in recipe.contracts
        ]
    return tuple(found)


def remaining(
    cells: Sequence[SweepCell], keys: Sequence[str], finished: Collection[str]
) -> tuple[SweepCell, ...]:
    """Return the cells that are left to do.

    Args:
        cells: all of them, in order.
        keys: the key of each one's record.
        finished: keys of the records that are there and count.
    """
    return tuple(cell for cell, key in zip(cells, keys, strict=True) if key not in finished)
