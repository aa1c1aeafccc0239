"""Checkpoint tensors whose shape follows the input size, resized for another size.

What is done is what the official repositories do when they fine-tune at 384 pixels from weights of
224 (all with half-pixel centres and without antialiasing):

- `relative_position_bias_table` ((2w-1)^2, heads): bicubic on the table laid out as a square map,
  `load_pretrained` in utils.py of microsoft/Swin-Transformer, and the same in LeapLabTHU's
  FLatten-Transformer and Agent-Attention. timm does otherwise with its own keys (linear on a
  geometric grid, layers/pos_embed_rel.py); here both kinds of keys get the official rule.
- `positional_encoding` (1, N, C) of FLatten: bicubic on the N tokens laid out as a map, utils.py
  and utils_ema.py of FLatten-Transformer. They take both maps as square; that the new map may be
  of any shape is ours.
- `ah_bias`, `aw_bias`, `ha_bias`, `wa_bias` of Agent: linear along the one axis of length R,
  agent_transformer/utils.py and utils_ema.py of Agent-Attention. `an_bias` and `na_bias` (7 x 7)
  do not follow the input size: the model itself resizes them.

Buffers that a model computes for itself (`relative_position_index`, `attn_mask`) are deleted before
loading, as there. Any other difference of shape is left for the strict load to report.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

_TABLE, _ENCODING = "relative_position_bias_table", "positional_encoding"
#: agent bias -> its axis of length R, the side of the map
_AGENT_AXES = {"ah_bias": 3, "aw_bias": 4, "ha_bias": 2, "wa_bias": 3}
_STRUCTURAL = ("relative_position_index", "relative_coords_table", "attn_mask")
_COUNTER = "num_batches_tracked"  # of BatchNorm; without meaning in eval mode


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Resized:
    """One tensor that was resized.

    Args:
        key: its key in the state_dict.
        from_shape: shape in the checkpoint.
        to_shape: shape in the model.
        method: the interpolation, `bicubic` or `linear`.
    """

    key: str
    from_shape: tuple[int, ...]
    to_shape: tuple[int, ...]
    method: str


def resized(
    tensors: Mapping[str, Tensor],
    wanted: Mapping[str, torch.Size],
    maps: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[dict[str, Tensor], tuple[Resized, ...]]:
    """Return the tensors fitted to a model of another input size, and which of them were resized.

    For weights trained at another size only: a positional encoding in the file is taken as that of
    a square map, also where its number of tokens happens to be that of the wanted map.

    Args:
        tensors: the state_dict of the checkpoint.
        wanted: key -> shape in the model.
        maps: key of a positional encoding -> (rows, columns) of its map in the model; a key that is
            absent has a square map.
    """
    fitted, changes = dict(tensors), []
    for key in sorted(tensors.keys() & wanted.keys()):
        shape = tuple(wanted[key])
        found = _fitted(key, tensors[key], shape, (maps or {}).get(key))
        if found is None:
            continue
        fitted[key], method = found
        changes.append(
            Resized(key=key, from_shape=tuple(tensors[key].shape), to_shape=shape, method=method)
        )
    return fitted, tuple(changes)


def without_structural(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Return the tensors without the buffers that the model computes for itself.

    Args:
        tensors: the state_dict of the checkpoint.
        wanted: key -> shape in the model; a buffer among them is kept.
    """
    return {
        key: value
        for key, value in tensors.items()
        if key in wanted or _leaf(key) not in (*_STRUCTURAL, _COUNTER)
    }


def _fitted(
    key: str, tensor: Tensor, shape: tuple[int, ...], size: tuple[int, int] | None
) -> tuple[Tensor, str] | None:
    """Return a tensor in the wanted shape and the method; None where nothing applies."""
    leaf = _leaf(key)
    if leaf == _TABLE:
        table = _fitted_table(tensor, shape)
        return None if table is None else (table, "bicubic")
    if leaf == _ENCODING:
        encoding = _fitted_encoding(tensor, shape, size)
        return None if encoding is None else (encoding, "bicubic")
    axis = _AGENT_AXES.get(leaf)
    if axis is None or not _differ_only_in(tuple(tensor.shape), shape, axis):
        return None
    return _linear(tensor, shape[axis], axis), "linear"


def _fitted_table(table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Resize a relative position table [(2w-1)^2, heads]; the sides are odd."""
    if not _differ_only_in(tuple(table.shape), shape, 0):
        return None
    side, new_side = math.isqrt(len(table)), math.isqrt(shape[0])
    whole = side**2 == len(table) and new_side**2 == shape[0]
    if not whole or side % 2 == 0 or new_side % 2 == 0:
        return None
    return _bicubic(table, (side, side), (new_side, new_side))


def _fitted_encoding(
    encoding: Tensor, shape: tuple[int, ...], size: tuple[int, int] | None
) -> Tensor | None:
    """Resize a positional encoding [1, N, C] of a square map to that of a map of `size`."""
    if encoding.ndim != 3 or len(shape) != 3 or (len(encoding), encoding.shape[2]) != (1, shape[2]):
        return None
    tokens = encoding.shape[1]
    side, new_side = math.isqrt(tokens), math.isqrt(shape[1])
    rows, cols = size or (new_side, new_side)
    if side**2 != tokens or rows * cols != shape[1] or (rows, cols) == (side, side):
        return None
    return _bicubic(encoding[0], (side, side), (rows, cols)).unsqueeze(0)


def _bicubic(values: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """Resize [rows*cols, C] laid out as a map; returns [new_rows*new_cols, C] of the same dtype."""
    channels = values.shape[1]
    grid = _exact(values).T.reshape(1, channels, *size)
    grid = functional.interpolate(grid, size=new_size, mode="bicubic", align_corners=False)
    return grid.reshape(channels, -1).T.contiguous().to(values.dtype)


def _linear(values: Tensor, length: int, axis: int) -> Tensor:
    """Resize one axis of a tensor to `length`; the dtype stays."""
    moved = _exact(values).movedim(axis, -1)
    flat = moved.reshape(1, -1, moved.shape[-1])
    flat = functional.interpolate(flat, size=length, mode="linear", align_corners=False)
    grown = flat.reshape(*moved.shape[:-1], length).movedim(-1, axis)
    return grown.contiguous().to(values.dtype)


def _exact(values: Tensor) -> Tensor:
    """Return half precision as float32: it would round between the steps of an interpolation."""
    return values if values.dtype == torch.float64 else values.float()


def _differ_only_in(shape: tuple[int, ...], other: tuple[int, ...], axis: int) -> bool:
    return (
        len(shape) == len(other)
        and len(shape) > axis
        and [i for i, pair in enumerate(zip(shape, other, strict=True)) if pair[0] != pair[1]]
        == [axis]
    )


def _leaf(key: str) -> str:
    return key.rpartition(".")[2]
