"""Model configurations: one frozen dataclass a family, free of torch.

An ablation is a configuration, not a class: `--set key=value` (settings.py) changes one field, and
the paper's Tables II to V are rows of such changes.
"""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar

from elfatt_deploy.errors import ModelError

_LEVELS = 4
_BASE_SIZE = 224


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LevelInfo:
    """One level of a model at one input size, for the listing.

    Args:
        level: its number, from 1.
        rows: rows of the feature map.
        cols: columns of the feature map.
        channels: channels C.
        heads: attention heads; 0 where the level has no heads.
        blocks: what each block mixes tokens with, in order.
        window: side of the blocks or windows, width of the stripes; None where nothing is cut.
    """

    level: int
    rows: int
    cols: int
    channels: int
    heads: int
    blocks: tuple[str, ...]
    window: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What the configurations of all families share.

    Args:
        classes: number of logits.
    """

    #: what `--set` may change in this family
    SETTINGS: ClassVar[tuple[str, ...]] = ("classes",)

    classes: int = 1000

    def __post_init__(self) -> None:
        """Reject what no model can be built from."""
        if self.classes < 1:
            raise ModelError(f"classes is {self.classes}; it must be at least 1")

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level.

        Raises:
            ModelError: the input is too small.
        """
        raise NotImplementedError

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return every level for an input of height x width pixels.

        Raises:
            ModelError: the input is too small.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig(ModelConfig):
    """A backbone of four levels of attention blocks.

    Args:
        embed_dim: channels of level 1; each later level has twice as many.
        depths: blocks per level.
        heads: attention heads per level.
        attention: mechanism, a name of the attention registry.
        levels: where the mechanism is used, for example `1-2-3odd`: every block of levels 1 and 2
            and the odd blocks of level 3 (numbered from 0); `3first2` means its first two blocks.
        elsewhere: mechanism of all other blocks.
        lepe: whether attention adds LePE, the depthwise 3x3 convolution of V.
        global_ratio: share c1 / C of the channels that the linear head of ELFATT takes.
        blocks_at_224: published sides of the square attention blocks per level at 224 pixels; at
            another input size they are scaled with it (7 becomes 12 at 384, as in the paper).
        blocks: sides given by the user, taken as they are at any size; None means the scaled ones.
        agents: agent tokens per level of Agent attention, each a square number.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    attention: str
    levels: str
    elsewhere: str
    lepe: bool = True
    global_ratio: float = 0.5
    blocks_at_224: tuple[int, ...] = (14, 14, 14, 7)
    blocks: tuple[int, ...] | None = None
    agents: tuple[int, ...] = (9, 16, 49, 49)

    def __post_init__(self) -> None:
        """Reject what no model can be built from."""
        super(AttentionConfig, self).__post_init__()
        parse_levels(self.levels)
        if not 0.0 <= self.global_ratio <= 1.0:
            raise ModelError(f"global-ratio is {self.global_ratio}; it is a share from 0 to 1")
        for name in ("depths", "heads", "blocks_at_224", "blocks", "stripes", "agents"):
            value = getattr(self, name, None)
            if value is not None and (len(value) != _LEVELS or min(value) < 1):
                raise ModelError(
                    f"{name} is {value}; it takes {_LEVELS} positive numbers, one a level",
                    hint="for example --set blocks=7-7-14-7",
                )

    def mechanism(self, level: int, index: int) -> str:
        """Return the mechanism of block `index` (from 0) of `level` (1 to 4)."""
        share = parse_levels(self.levels)[level - 1]
        used = (
            share == "all"
            or (share == "odd" and index % 2 == 1)
            or (share == "even" and index % 2 == 0)
            or (share.startswith("first") and index < int(share.removeprefix("first")))
        )
        return self.attention if used else self.elsewhere

    def block_sides(self, height: int, width: int) -> tuple[int, ...]:
        """Return the side of the square blocks per level for an input of height x width pixels."""
        if self.blocks is not None:
            return self.blocks
        return tuple(scaled(side, height, width) for side in self.blocks_at_224)

    def window_of(self, mechanism: str, level: int, height: int, width: int) -> int | None:
        """Return what a block of `mechanism` cuts its map into, for the listing."""
        return self.block_sides(height, width)[level - 1] if mechanism == "elfatt" else None

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return every level for an input of height x width pixels.

        Raises:
            ModelError: the input is too small.
        """
        found = []
        for level, (rows, cols) in enumerate(self.map_sizes(height, width), start=1):
            blocks = tuple(self.mechanism(level, i) for i in range(self.depths[level - 1]))
            windows = (self.window_of(name, level, height, width) for name in blocks)
            found.append(
                LevelInfo(
                    level=level,
                    rows=rows,
                    cols=cols,
                    channels=self.embed_dim * 2 ** (level - 1),
                    heads=self.heads[level - 1],
                    blocks=blocks,
                    window=next((window for window in windows if window is not None), None),
                )
            )
        return tuple(found)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CSWinConfig(AttentionConfig):
    """The CSWin backbone with one attention mechanism.

    Args:
        stripes_at_224: published stripe widths of CSWin's own attention; levels 3 and 4 scale.
        stripes: widths given by the user, taken as they are; None means the published ones.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "blocks", "stripes", "lepe", "levels", "global-ratio", "agents", "classes",
    )  # fmt: skip

    stripes_at_224: tuple[int, ...] = (1, 2, 7, 7)
    stripes: tuple[int, ...] | None = None

    def stripe_widths(self, height: int, width: int) -> tuple[int, ...]:
        """Return the stripe width per level; those of levels 3 and 4 grow with the input."""
        if self.stripes is not None:
            return self.stripes
        low, high = self.stripes_at_224[:2], self.stripes_at_224[2:]
        return low + tuple(scaled(stripe, height, width) for stripe in high)

    def window_of(self, mechanism: str, level: int, height: int, width: int) -> int | None:
        """Return what a block of `mechanism` cuts its map into, for the listing."""
        if mechanism == "local":
            return self.stripe_widths(height, width)[level - 1]
        return super(CSWinConfig, self).window_of(mechanism, level, height, width)

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level.

        Raises:
            ModelError: the input is too small for the stem and three mergings.
        """
        check_size(height, width)
        return halved((height - 3) // 4 + 1, (width - 3) // 4 + 1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SwinConfig(AttentionConfig):
    """The Swin backbone with one attention mechanism.

    Args:
        window_at_224: published side of the windows of Swin's own attention at 224 pixels; scales
            with the input (7 becomes 12 at 384, as in the official configurations).
        window: side given by the user, taken as it is; None means the scaled one.
        keys: whose state_dict keys the model has, `official` or `timm`.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = (
        "window", "blocks", "lepe", "levels", "global-ratio", "agents", "classes",
    )  # fmt: skip

    window_at_224: int = 7
    window: int | None = None
    keys: str = "official"

    def __post_init__(self) -> None:
        """Reject what no model can be built from."""
        super(SwinConfig, self).__post_init__()
        if self.window is not None and self.window < 1:
            raise ModelError(f"window is {self.window}; it must be at least 1")

    def window_side(self, height: int, width: int) -> int:
        """Return the side of the windows for an input of height x width pixels."""
        return self.window or scaled(self.window_at_224, height, width)

    def window_of(self, mechanism: str, level: int, height: int, width: int) -> int | None:
        """Return what a block of `mechanism` cuts its map into, for the listing."""
        if mechanism == "local":
            return self.window_side(height, width)
        return super(SwinConfig, self).window_of(mechanism, level, height, width)

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level.

        An odd side is extended by a row or column of zeros before it is halved.

        Raises:
            ModelError: the input is too small for the stem and three mergings.
        """
        check_size(height, width)
        return halved(-(-height // 4), -(-width // 4))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConvNeXtConfig(ModelConfig):
    """ConvNeXt: depthwise 7x7 convolutions instead of attention.

    Args:
        depths: blocks per level.
        dims: channels per level.
        keys: whose state_dict keys the model has, `official` or `timm`.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    dims: tuple[int, ...] = (96, 192, 384, 768)
    keys: str = "official"

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level; a rest is cut off, as official.

        Raises:
            ModelError: the input is too small.
        """
        check_size(height, width)
        return tuple((height // 4 // 2**i, width // 4 // 2**i) for i in range(_LEVELS))

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return every level for an input of height x width pixels.

        Raises:
            ModelError: the input is too small.
        """
        return plain_levels(
            self.map_sizes(height, width),
            self.dims,
            tuple(("depthwise 7x7",) * depth for depth in self.depths),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EfficientViTConfig(ModelConfig):
    """EfficientViT (classification, B series): ReLU linear attention at two scales.

    Args:
        widths: channels of the stem and the four stages.
        depths: blocks of the stem and the four stages.
        head_dim: channels of one attention head.
        expansion: inner width of an MBConv over its input.
        head_widths: channels of the two layers before the classifier.
        division_eps: added to the denominator of linear attention (1e-15 official, 1e-5 timm).
        keys: whose state_dict keys the model has, `official` or `timm`.
    """

    widths: tuple[int, ...] = (24, 48, 96, 192, 384)
    depths: tuple[int, ...] = (1, 3, 4, 4, 6)
    head_dim: int = 32
    expansion: int = 4
    head_widths: tuple[int, ...] = (2304, 2560)
    division_eps: float = 1e-15
    keys: str = "official"

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of the four stages.

        Raises:
            ModelError: the input is too small.
        """
        check_size(height, width)
        return halved(-(-height // 4), -(-width // 4))

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return every stage for an input of height x width pixels.

        Raises:
            ModelError: the input is too small.
        """
        attention = ("mbconv",), ("context + mbconv",)
        return plain_levels(
            self.map_sizes(height, width),
            self.widths[1:],
            (
                attention[0] * self.depths[1],
                attention[0] * self.depths[2],
                attention[0] + attention[1] * self.depths[3],
                attention[0] + attention[1] * self.depths[4],
            ),
            heads=(0, 0, self.widths[3] // self.head_dim, self.widths[4] // self.head_dim),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VMambaConfig(ModelConfig):
    """VMamba s1l8: four-direction selective scan with state size 1.

    Args:
        depths: blocks per level.
        dims: channels per level; the rank of the time step is a sixteenth of them, rounded up.
    """

    depths: tuple[int, ...] = (2, 2, 8, 2)
    dims: tuple[int, ...] = (96, 192, 384, 768)

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return the feature map (rows, columns) of every level.

        Raises:
            ModelError: the input is too small.
        """
        check_size(height, width)
        return halved(-(-height // 4), -(-width // 4))

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return every level for an input of height x width pixels.

        Raises:
            ModelError: the input is too small.
        """
        return plain_levels(
            self.map_sizes(height, width),
            self.dims,
            tuple(("selective scan",) * depth for depth in self.depths),
        )


def check_size(height: int, width: int) -> None:
    """Refuse an input that four levels cannot halve.

    Raises:
        ModelError: a side has fewer than 32 pixels.
    """
    if min(height, width) < 32:
        raise ModelError(
            f"an input of {height}x{width} is too small: four levels need 32 pixels a side",
            hint="use --resolution 224",
        )


def halved(rows: int, cols: int) -> tuple[tuple[int, int], ...]:
    """Return the four map sizes where each merging halves the map, rounding up."""
    sizes = []
    for _ in range(_LEVELS):
        sizes.append((rows, cols))
        rows, cols = (rows + 1) // 2, (cols + 1) // 2
    return tuple(sizes)


def plain_levels(
    sizes: tuple[tuple[int, int], ...],
    channels: tuple[int, ...],
    blocks: tuple[tuple[str, ...], ...],
    heads: tuple[int, ...] = (0, 0, 0, 0),
) -> tuple[LevelInfo, ...]:
    """Return the levels of a family whose maps are not cut."""
    return tuple(
        LevelInfo(
            level=i + 1, rows=rows, cols=cols, channels=channels[i], heads=heads[i],
            blocks=blocks[i],
        )
        for i, (rows, cols) in enumerate(sizes)
    )  # fmt: skip


def scaled(side: int, height: int, width: int) -> int:
    """Return a side published for 224 pixels, grown or shrunk with the shorter input side."""
    return max(1, round(side * min(height, width) / _BASE_SIZE))


def parse_levels(text: str) -> tuple[str, ...]:
    """Turn `1-2-3odd` into the share of blocks per level: all, odd, even, firstN or none.

    Raises:
        ModelError: a part is not a level from 1 to 4, or a level stands twice.
    """
    shares = ["none"] * _LEVELS
    for part in filter(None, text.split("-")):
        digits, share = part[:1], part[1:] or "all"
        known = share in ("all", "odd", "even") or re.fullmatch(r"first\d+", share)
        if digits not in ("1", "2", "3", "4") or not known:
            raise ModelError(
                f"levels={text}: '{part}' is not a level",
                hint="write levels as in 1-2-3odd: 1 to 4, each alone or with odd, even or first2",
            )
        if shares[int(digits) - 1] != "none":
            raise ModelError(f"levels={text}: level {digits} stands twice")
        shares[int(digits) - 1] = share
    return tuple(shares)
