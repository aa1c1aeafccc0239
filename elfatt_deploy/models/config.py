"""Model configurations: one frozen dataclass a family, free of torch.

An ablation is a configuration, not a class: `--set key=value` changes one field, and the paper's
Tables II to V are rows of such changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from elfatt_deploy.errors import ModelError, UnknownNameError

_LEVELS = 4
_BASE_SIZE = 224


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CSWinConfig:
    """The CSWin backbone with one attention mechanism.

    Args:
        embed_dim: channels of level 1; each later level has twice as many.
        depths: blocks per level.
        heads: attention heads per level.
        attention: mechanism, a name of the attention registry.
        levels: where the mechanism is used, for example `1-2-3odd`: every block of levels 1 and 2
            and the odd blocks of level 3 (numbered from 0).
        elsewhere: mechanism of all other blocks.
        blocks_at_224: published sides of the square attention blocks per level at 224 pixels; at
            another input size they are scaled with it (7 becomes 12 at 384, as in the paper).
        blocks: sides given by the user, taken as they are at any size; None means the scaled ones.
        stripes_at_224: published stripe widths of CSWin's own attention; levels 3 and 4 scale.
        stripes: widths given by the user, taken as they are; None means the published ones.
        lepe: whether attention adds LePE, the depthwise 3x3 convolution of V.
        global_ratio: share c1 / C of the channels that the linear head of ELFATT takes.
        classes: number of logits.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    attention: str
    levels: str
    elsewhere: str
    blocks_at_224: tuple[int, ...]
    blocks: tuple[int, ...] | None = None
    stripes_at_224: tuple[int, ...] = (1, 2, 7, 7)
    stripes: tuple[int, ...] | None = None
    lepe: bool = True
    global_ratio: float = 0.5
    classes: int = 1000

    def __post_init__(self) -> None:
        """Reject what no model can be built from."""
        parse_levels(self.levels)
        if not 0.0 <= self.global_ratio <= 1.0:
            raise ModelError(f"global-ratio is {self.global_ratio}; it is a share from 0 to 1")
        for name in ("depths", "heads", "blocks_at_224", "blocks", "stripes"):
            value = getattr(self, name)
            if value is not None and (len(value) != _LEVELS or min(value) < 1):
                raise ModelError(
                    f"{name} is {value}; it takes {_LEVELS} positive numbers, one a level",
                    hint="for example --set blocks=7-7-14-7",
                )
        if self.classes < 1:
            raise ModelError(f"classes is {self.classes}; it must be at least 1")

    def mechanism(self, level: int, index: int) -> str:
        """Return the mechanism of block `index` (from 0) of `level` (1 to 4)."""
        share = parse_levels(self.levels)[level - 1]
        used = share == "all" or (share == "odd" and index % 2 == 1)
        used = used or (share == "even" and index % 2 == 0)
        return self.attention if used else self.elsewhere

    def block_sides(self, height: int, width: int) -> tuple[int, ...]:
        """Return the side of the square blocks per level for an input of height x width pixels."""
        if self.blocks is not None:
            return self.blocks
        return tuple(_scaled(side, height, width) for side in self.blocks_at_224)

    def stripe_widths(self, height: int, width: int) -> tuple[int, ...]:
        """Return the stripe width per level; those of levels 3 and 4 grow with the input."""
        if self.stripes is not None:
            return self.stripes
        low, high = self.stripes_at_224[:2], self.stripes_at_224[2:]
        return low + tuple(_scaled(stripe, height, width) for stripe in high)

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level.

        Raises:
            ModelError: the input is too small for the stem and three mergings.
        """
        if min(height, width) < 32:
            raise ModelError(
                f"an input of {height}x{width} is too small: four levels need 32 pixels a side",
                hint="use --resolution 224",
            )
        rows, cols = (height - 3) // 4 + 1, (width - 3) // 4 + 1
        sizes = []
        for _ in range(_LEVELS):
            sizes.append((rows, cols))
            rows, cols = (rows + 1) // 2, (cols + 1) // 2
        return tuple(sizes)


def _scaled(side: int, height: int, width: int) -> int:
    return max(1, round(side * min(height, width) / _BASE_SIZE))


def parse_levels(text: str) -> tuple[str, ...]:
    """Turn `1-2-3odd` into the share of blocks per level: all, odd, even or none.

    Raises:
        ModelError: a part is not a level from 1 to 4, or a level stands twice.
    """
    shares = ["none"] * _LEVELS
    for part in filter(None, text.split("-")):
        digits, share = part[:1], part[1:] or "all"
        if digits not in ("1", "2", "3", "4") or share not in ("all", "odd", "even"):
            raise ModelError(
                f"levels={text}: '{part}' is not a level",
                hint="write levels as in 1-2-3odd: numbers 1 to 4, each alone, with odd or even",
            )
        if shares[int(digits) - 1] != "none":
            raise ModelError(f"levels={text}: level {digits} stands twice")
        shares[int(digits) - 1] = share
    return tuple(shares)


def _sides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("-"))
    except ValueError as error:
        raise ModelError(
            f"'{text}' is not a list of whole numbers", hint="write it as in 7-7-14-7"
        ) from error


def _flag(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ModelError(f"'{text}' is not true or false")
    return values[text.lower()]


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ModelError(f"'{text}' is not a number", hint="write it as in 0.5") from error


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ModelError(f"'{text}' is not a whole number") from error


#: what `--set` may change, and how its text is read
SETTINGS: dict[str, Callable[[str], Any]] = {
    "blocks": _sides,
    "stripes": _sides,
    "lepe": _flag,
    "levels": str,
    "global-ratio": _share,
    "classes": _count,
}


def parse_settings(items: tuple[str, ...]) -> dict[str, str]:
    """Turn `key=value` texts into a mapping, refusing unknown and repeated keys.

    Raises:
        ModelError: an item has no `=` or stands twice.
        UnknownNameError: the key is none of `SETTINGS`.
    """
    settings: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not value:
            raise ModelError(f"--set {item} has no value", hint="write --set key=value")
        if key not in SETTINGS:
            raise UnknownNameError("setting", key, SETTINGS)
        if key in settings:
            raise ModelError(f"--set {key} is given twice")
        settings[key] = value
    return settings


def with_settings(config: CSWinConfig, settings: Mapping[str, str]) -> CSWinConfig:
    """Return the configuration with `settings` applied.

    Raises:
        ModelError: a value cannot be read, or no model can have it.
    """
    changes = {key.replace("-", "_"): SETTINGS[key](text) for key, text in settings.items()}
    return dataclasses.replace(config, **changes)
