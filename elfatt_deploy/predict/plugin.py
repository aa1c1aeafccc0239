"""What the plugin's node is as kernels, and what it saves against the same block in plain ops.

The kernels are those of `plugins/elfatt_attention`. The first one sums the linear part's K^T V over
pieces of the map and does the block part, LePE included; the second joins the pieces, multiplies
them by Q and adds the linear part's LePE. Without a linear part the first one is all there is.

Traffic through the memory: Q, K and V once, V of the linear part again for its LePE, the output,
and the pieces, written and read, four bytes a number. What thread blocks read again of each other's
rows is taken to come from a cache. In FP16 all products run on tensor cores, where the GPU has
those that the kernels use; LePE runs beside them. Nothing of this was measured.
"""

from __future__ import annotations

import dataclasses

from elfatt_deploy.models.plugin_node import PluginNode
from elfatt_deploy.predict.kernels import Kernel, KernelTable, Precision, Regime
from elfatt_deploy.predict.roofline import launches_of, moved_bytes

#: tokens that one piece of the sum over tokens has at least
_PIECE_TOKENS = 256
_FLOAT_BYTES = 4


def node_kernels(node: PluginNode, channels: int, level: str) -> tuple[Kernel, ...]:
    """Return the kernels of one node for one image, in FP32.

    Args:
        node: what it is told.
        channels: channels C.
        level: part of the network.
    """
    linear, local = node.global_channels, channels - node.global_channels
    tokens_bytes = _FLOAT_BYTES * node.tokens
    pieces = _pieces_bytes(node)
    weights = _FLOAT_BYTES * 10.0 * node.lepe
    width = linear // node.global_heads if node.global_heads else 0
    product = 2.0 * node.tokens * linear * width
    convolved = 18.0 * node.lepe * node.tokens * linear
    attended = 2.0 * node.softmax_macs(channels)
    whole = 2.0 * node.macs(channels)
    first = Kernel(
        level=level,
        kind="plugin",
        count=1,
        flops=whole - attended - 2 * product - convolved,
        tensor_flops=attended + product,
        activation_bytes=tokens_bytes * (2 * linear + 4 * local) + pieces,
        weight_bytes=weights * local,
    )
    if not linear:
        return (first,)
    second = Kernel(
        level=level,
        kind="plugin",
        count=1,
        flops=convolved,
        tensor_flops=product,
        activation_bytes=tokens_bytes * 3 * linear + pieces,
        weight_bytes=weights * linear,
    )
    return (first, second)


def _pieces_bytes(node: PluginNode) -> float:
    """Return the bytes of the pieces of K^T V: of each head d x d sums, d maxima and d totals."""
    if not node.global_heads:
        return 0.0
    width = node.global_channels // node.global_heads
    pieces = -(-node.tokens // _PIECE_TOKENS)
    return float(_FLOAT_BYTES * node.global_heads * pieces * (width * width + 2 * width))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What the node saves in a part of the network, predicted; of one image.

    Args:
        model: the model.
        precision: `fp32` or `fp16`.
        level: the part, `1` to `4`.
        blocks: blocks of it that have a node.
        plain_launches: launches of the whole part in plain ops.
        plugin_launches: the same with the node.
        plain_bytes: bytes that the part moves through the memory in plain ops.
        plugin_bytes: the same with the node.
    """

    model: str
    precision: Precision
    level: str
    blocks: int
    plain_launches: int
    plugin_launches: int
    plain_bytes: float
    plugin_bytes: float

    @property
    def launches(self) -> float:
        """Launches saved in a block."""
        return (self.plain_launches - self.plugin_launches) / self.blocks

    @property
    def moved_bytes(self) -> float:
        """Bytes saved in a block."""
        return (self.plain_bytes - self.plugin_bytes) / self.blocks


def savings(table: KernelTable, precision: Precision) -> tuple[Saving, ...]:
    """Return what the node saves in each part of a model that has one.

    Raises:
        UsageError: the plugin covers no block of the model.
    """
    sums = {
        regime: _sums(table, regime, precision, parts=precision == "fp32")
        for regime in ("fused", "plugin")
    }
    return tuple(
        Saving(
            model=table.model,
            precision=precision,
            level=level,
            blocks=blocks,
            plain_launches=sums["fused"][level][0],
            plugin_launches=sums["plugin"][level][0],
            plain_bytes=sums["fused"][level][1],
            plugin_bytes=sums["plugin"][level][1],
        )
        for level, blocks in table.plugin_blocks.items()
    )


def _sums(
    table: KernelTable, regime: Regime, precision: Precision, *, parts: bool
) -> dict[str, tuple[int, float]]:
    """Return the launches and the moved bytes of each part of the network."""
    found: dict[str, tuple[int, float]] = {}
    for kernel in table.kernels(regime, precision):
        launches, moved = found.get(kernel.level, (0, 0.0))
        found[kernel.level] = (
            launches + launches_of(kernel, parts=parts),
            moved + kernel.count * moved_bytes(kernel, 1, parts=parts),
        )
    return found
