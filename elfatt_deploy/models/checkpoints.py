"""Weights from files: safetensors, or `.pth` read without running code from it.

Containers seen in the official repositories' loading code: CSWin and Agent-CSWin take
`state_dict_ema`, FLatten, Swin, ConvNeXt and VMamba `model`, EfficientViT `state_dict`; else the
file itself is the state_dict. The options and metrics of a training run beside it are passed over
(inert.py); any other object is refused.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from elfatt_deploy import optional
from elfatt_deploy.errors import CheckpointError, UsageError
from elfatt_deploy.models import inert, resizing
from elfatt_deploy.models.attention.flatten import FocusedLinearAttention
from elfatt_deploy.models.attention.layers import LinearAttention, WindowAttention
from elfatt_deploy.models.backbones.layers import Block
from elfatt_deploy.models.resizing import Resized

if TYPE_CHECKING:
    from torch import nn

#: keys that hold the state_dict inside a training checkpoint, best first
CONTAINERS = ("state_dict_ema", "model_ema", "model", "state_dict")
_WRAPPER = "module."  # what DistributedDataParallel puts before every key
_SHOWN = 8
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"  # how the two formats of torch.save begin


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by key.

    Raises:
        CheckpointError: the file is missing, truncated, of another kind, or holds code.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no weights file {path}", hint="name a .pth or .safetensors"
        )
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    for key in CONTAINERS:
        if isinstance(loaded.get(key), Mapping):
            loaded = dict(cast("Mapping[str, object]", loaded[key]))
            break
    tensors = {
        key.removeprefix(_WRAPPER): value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise CheckpointError(
            f"{path} holds no tensors: "
            + (
                f"its keys are {', '.join(map(str, list(loaded)[:_SHOWN]))}"
                if loaded
                else "it is empty"
            )
        )
    return tensors


def load(
    model: nn.Module,
    path: Path,
    *,
    rename: Callable[[str], str | None] | None = None,
    swap_halves: bool = False,
) -> tuple[Resized, ...]:
    """Load a checkpoint into a model, strictly; returns the tensors that were resized.

    Tensors that follow the input size (relative position tables, positional encodings, agent
    biases) are resized where the file was trained at another size; see resizing.py.

    Args:
        model: the module to fill.
        path: the checkpoint.
        rename: turns a key of the file into a key of the model; None drops it.
        swap_halves: whether the file has the softmax half of ELFATT before the linear half.

    Raises:
        CheckpointError: the file cannot be read, or keys or shapes do not fit.
    """
    tensors = read(path)
    if rename is not None:
        tensors = _renamed(tensors, rename)
    wanted = model.state_dict()
    shapes_wanted = {key: value.shape for key, value in wanted.items()}
    tensors = resizing.without_structural(tensors, shapes_wanted)
    changes: tuple[Resized, ...] = ()
    if any(key in tensors and tensors[key].shape != shape for key, shape in shapes_wanted.items()):
        tensors, changes = resizing.resized(tensors, shapes_wanted, _encoded_maps(model))
    for key in wanted.keys() - tensors.keys():
        if key.endswith("num_batches_tracked"):  # counts training steps: without meaning here
            tensors[key] = wanted[key]
    missing = sorted(set(wanted) - set(tensors))
    unexpected = sorted(set(tensors) - set(wanted))
    shapes = [
        f"{key}: {tuple(tensors[key].shape)} in the file, {tuple(wanted[key].shape)} in the model"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    parts = [("missing in the file", missing), ("unknown to the model", unexpected)]
    report = [
        _listing(title, keys) for title, keys in (*parts, ("of another shape", shapes)) if keys
    ]
    if report:
        raise CheckpointError(
            f"{path} does not fit the model:\n  " + "\n  ".join(report),
            hint="check --model, --resolution and --set, or map the names with --key-map",
        )
    if swap_halves:
        tensors = halves_swapped(model, tensors)
    model.load_state_dict(tensors, strict=True)
    return changes


def _encoded_maps(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return key -> (rows, columns) of each positional encoding of the model."""
    maps = {
        module.positional_encoding.data_ptr(): (module.rows, module.cols)
        for module in model.modules()
        if isinstance(module, FocusedLinearAttention)
    }
    return {
        key: maps[value.data_ptr()]
        for key, value in model.state_dict().items()
        if value.data_ptr() in maps
    }


def _renamed(
    tensors: Mapping[str, Tensor], rename: Callable[[str], str | None]
) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        new = rename(key)
        if new in renamed:
            raise CheckpointError(f"the key map turns two keys of the file into '{new}'")
        if new is not None:
            renamed[new] = value
    return renamed


def key_map(target: str) -> Callable[[str], str | None]:
    """Import a key map, `package.module:function`.

    Raises:
        UsageError: there is no such function.
    """
    try:
        function = optional.resolve(target)
    except UsageError as error:
        raise UsageError(f"--key-map {target}: {error.message}", hint=error.hint) from error
    if not callable(function):
        raise UsageError(
            f"--key-map {target} is a {type(function).__name__}, not a function",
            hint="write package.module:function",
        )
    return cast("Callable[[str], str | None]", function)


def halves_swapped(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with the two halves of every two-branch block exchanged.

    Touches the rows of qkv (in each of Q, K and V), the columns of proj, and the two `get_v`.

    Raises:
        CheckpointError: no block has the two halves of ELFATT, or they differ in size.
    """
    swapped = dict(tensors)
    elfatt = [
        (name, block)
        for name, block in model.named_modules()
        if isinstance(block, Block) and _has_halves(block)
    ]
    if not elfatt:
        raise CheckpointError("the model has no block with ELFATT's two halves to exchange")
    for name, block in elfatt:
        first, second = block.qkv.channels
        if first != second:
            raise CheckpointError(
                f"the halves of {name} have {first} and {second} channels: they cannot be exchanged"
            )
        for leaf in ("weight", "bias"):
            qkv = tensors[f"{name}.qkv.{leaf}"]
            parts = qkv.reshape(3, 2, first, *qkv.shape[1:]).flip(1)
            swapped[f"{name}.qkv.{leaf}"] = parts.reshape(qkv.shape)
            here, there = (f"{name}.attns.{n}.get_v.{leaf}" for n in (0, 1))
            if here in tensors:
                swapped[here], swapped[there] = tensors[there], tensors[here]
        proj = tensors[f"{name}.proj.weight"]
        swapped[f"{name}.proj.weight"] = torch.cat((proj[:, first:], proj[:, :first]), 1)
    return swapped


def _has_halves(block: Block) -> bool:
    return [type(branch) for branch in block.attns] == [LinearAttention, WindowAttention]


def _sentence(error: Exception) -> str:
    """Return the first sentence of an error: torch's go on with advice for other cases."""
    return re.split(r"\.\s|\n", str(error) or type(error).__name__)[0]


def _listing(title: str, items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)} {title}: {', '.join(items[:_SHOWN])}{more}"


def _read_safetensors(path: Path) -> dict[str, object]:
    safetensors = optional.load("safetensors")
    torch_format = optional.load("safetensors.torch")
    try:
        return cast("dict[str, object]", torch_format.load_file(str(path)))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file: {error}") from error


def _read_pickled(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        if not file.read(len(_ZIP)).startswith((_ZIP, _PICKLE)):
            raise CheckpointError(
                f"{path} is not a PyTorch checkpoint: it is no zip and no pickle",
                hint="a page or a pointer file saved in its place looks like this: download again",
            )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([*inert.STAND_INS]):
            warnings.simplefilter("ignore")  # torch announces other pickle protocols
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search("unsupported (global|class)", str(error), re.IGNORECASE):
            raise CheckpointError(
                f"{path} holds Python objects besides tensors; running code from a weights file is "
                "refused",
                hint="save its state_dict alone, or as safetensors, where you trust the file",
            ) from error
        # torch's own text advises to load it with code allowed: not shown
        raise CheckpointError(
            f"{path} is not a PyTorch checkpoint: a pickle that torch.save did not write, or a "
            "damaged one"
        ) from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise CheckpointError(
            f"{path} is not a whole PyTorch checkpoint: {_sentence(error)}",
            hint="download or copy it again",
        ) from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, not a state_dict")
    return dict(loaded)
