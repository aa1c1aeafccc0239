"""The node `ElfattAttention` of the plugin `elfatt`: its names, its attributes, what it computes.

One node stands for the whole attention of a block, between the projection to Q, K and V and the one
behind it. The same contract is written down in `plugins/elfatt_attention/README.md`, whose library
TensorRT loads to run it. Nothing here needs torch or onnx.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from elfatt_deploy.errors import SchemaError, UnknownNameError

#: plugins that an export can use
PLUGINS = ("elfatt",)
OP, DOMAIN, DOMAIN_VERSION = "ElfattAttention", "elfatt", 1
#: what TensorRT looks its plugin up by, besides the op
PLUGIN_VERSION, PLUGIN_NAMESPACE = "1", "elfatt"
#: the library that holds it, and the page that says how to build it
LIBRARY, LIBRARY_PAGE = "libelfatt_attention.so", "docs/plugin-board.md"

#: what the kernels take: channels of a head, and sides of a block that is not the whole map
_HEAD_LEAST, _HEAD_MOST, _HEAD_STEP = 16, 64, 8
_BLOCK_MOST = 32


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginNode:
    """The attributes of a node, for a map of rows x cols tokens.

    The first `global_channels` channels go through linear attention over all tokens, the others
    through softmax attention inside blocks (ELFATT, Section III); either part may be absent.

    Args:
        rows: rows of the map.
        cols: columns of the map.
        global_channels: channels of the linear part, c1; 0 where there is none.
        global_heads: its heads; 0 where there is none.
        local_heads: heads of the block part; 0 where there is none.
        block_rows: rows of a block; 0 where there is no block part.
        block_cols: columns of a block; 0 where there is no block part.
        lepe: 1 where the 3x3 convolution of V is added, 0 where not.
    """

    rows: int
    cols: int
    global_channels: int
    global_heads: int
    local_heads: int
    block_rows: int
    block_cols: int
    lepe: int

    @property
    def tokens(self) -> int:
        """Tokens N of the map."""
        return self.rows * self.cols

    @property
    def blocks(self) -> tuple[int, int]:
        """Blocks below and beside each other; what hangs over the map is padded with zeros."""
        if not self.local_heads:
            return (0, 0)
        return (-(-self.rows // self.block_rows), -(-self.cols // self.block_cols))

    @property
    def padded_tokens(self) -> int:
        """Tokens of all blocks, those of the padding included; 0 without a block part."""
        down, across = self.blocks
        return down * across * self.block_rows * self.block_cols

    def problem(self, channels: int) -> str:
        """Return why no kernel takes this node at so many channels C; empty where one does."""
        if min(self.rows, self.cols, channels) < 1 or not 0 <= self.global_channels <= channels:
            return f"{self.global_channels} of {channels} channels, {self.rows}x{self.cols} tokens"
        parts = (
            ("linear", self.global_channels, self.global_heads),
            ("block", channels - self.global_channels, self.local_heads),
        )
        for name, width, heads in parts:
            if (width > 0) != (heads > 0):
                return f"{heads} heads for the {width} channels of the {name} part"
            if heads and (width % heads or not _is_head(width // heads)):
                return (
                    f"{width} channels in {heads} heads in the {name} part: a head must have "
                    f"{_HEAD_LEAST} to {_HEAD_MOST} channels, a multiple of {_HEAD_STEP}"
                )
        sides = (self.block_rows, self.block_cols)
        if self.local_heads and sides != (self.rows, self.cols):
            if not 1 <= min(sides) <= max(sides) <= _BLOCK_MOST:
                return f"blocks of {sides[0]}x{sides[1]} tokens: at most {_BLOCK_MOST} a side"
        elif not self.local_heads and sides != (0, 0):
            return f"blocks of {sides[0]}x{sides[1]} tokens without a block part"
        return ""

    def macs(self, channels: int) -> int:
        """Return the multiply-accumulates of one image at C channels, by the rules of the paper."""
        local = channels - self.global_channels
        convolved = self.tokens * self.global_channels + self.padded_tokens * local
        # K^T V, then Q times that: each a head's width for every token and channel
        linear = 0
        if self.global_heads:
            width = self.global_channels // self.global_heads
            linear = 2 * self.tokens * self.global_channels * width
        return linear + self.softmax_macs(channels) + 9 * self.lepe * convolved

    def softmax_macs(self, channels: int) -> int:
        """Return those among them that are the two products of softmax attention."""
        local = channels - self.global_channels
        return 2 * self.padded_tokens * self.block_rows * self.block_cols * local


def node_from_attributes(attributes: Mapping[str, Any], name: str) -> PluginNode:
    """Return the node that the attributes of an ONNX node describe.

    Args:
        attributes: name -> value.
        name: of the node, for messages.

    Raises:
        SchemaError: an attribute is missing, of another type, or of another version.
    """
    fields = [field.name for field in dataclasses.fields(PluginNode)]
    wrong = [field for field in fields if not isinstance(attributes.get(field), int)]
    if wrong:
        raise SchemaError(f"node '{name}' ({OP}) has no whole number as {', '.join(wrong)}")
    if attributes.get("plugin_version") != PLUGIN_VERSION:
        raise SchemaError(
            f"node '{name}' ({OP}) is of plugin version {attributes.get('plugin_version')!r}, not "
            f"{PLUGIN_VERSION!r}"
        )
    return PluginNode(**{field: attributes[field] for field in fields})


def check_plugin(name: str | None) -> None:
    """Raise where there is no plugin of that name; None is none.

    Raises:
        UnknownNameError: there is none.
    """
    if name is not None and name not in PLUGINS:
        raise UnknownNameError("plugin", name, PLUGINS)


def _is_head(width: int) -> bool:
    return _HEAD_LEAST <= width <= _HEAD_MOST and width % _HEAD_STEP == 0
