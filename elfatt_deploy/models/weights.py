"""Which weights a module gets: a file, seeded random ones, or those it was made with."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import ModelIdentity, Weights
from elfatt_deploy.errors import CheckpointError, InputFileError
from elfatt_deploy.models import checkpoints, own, registry, seeded

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.models.spec import ModelSpec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WeightChoice:
    """Where weights are to come from.

    Args:
        path: a checkpoint; None means seeded random weights, or the module's own.
        key_map: `package.module:function` from a key of the checkpoint to one of the model.
        swap_halves: whether the checkpoint has the halves of ELFATT in the other order.
        seed: seed of random weights.
        url: where the checkpoint was fetched from; empty for a file of the user's.
    """

    path: Path | None = None
    key_map: str | None = None
    swap_halves: bool = False
    seed: int = 0
    url: str = ""


def built(
    spec: ModelSpec, height: int, width: int, choice: WeightChoice
) -> tuple[nn.Module, Weights]:
    """Build a model with its weights, in eval mode, and say where they came from.

    Raises:
        CheckpointError: the checkpoint cannot be read or does not fit.
        UsageError: the model or the key map cannot be imported.
        ModelError: the model cannot take this size, or has tensors that no rule draws.
    """
    # A function of the user's draws its random weights from torch's generator.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(choice.seed)
        model = spec.build(height, width)
    if choice.path is not None:
        rename = checkpoints.key_map(choice.key_map) if choice.key_map else None
        changes = checkpoints.load(
            model, choice.path, rename=rename, swap_halves=choice.swap_halves
        )
        return model, Weights(
            source=choice.path.name,
            sha256=bundles.sha256_of(choice.path),
            url=choice.url,
            key_map=choice.key_map,
            swap_halves=choice.swap_halves,
            resized=tuple(
                f"{change.key}: {change.from_shape} to {change.to_shape}, {change.method}"
                for change in changes
            ),
        )
    if spec.own_weights:
        return model, Weights(source=f"module({choice.seed})", sha256=_digest(model))
    seeded.fill(model, choice.seed)
    return model, Weights(source=f"random({choice.seed})")


def rebuilt(identity: ModelIdentity, weights: Weights, path: Path | None) -> nn.Module:
    """Build the module of a bundle again, with the very weights that the bundle was made from.

    Raises:
        InputFileError: a checkpoint is needed and was not given.
        CheckpointError: it is another file, or the module has other weights now.
        UsageError: the model is not known here, or the bundle comes from an ONNX file.
    """
    spec = registry.get(identity.name).configured(identity.settings)
    if isinstance(spec.config, own.OwnConfig) and identity.config.get("pretrained"):
        spec = own.resolved(spec.name, spec.config.source, pretrained=True)
    seed = weights.seed
    if seed is None and path is None:
        raise InputFileError(
            f"the torch model of this bundle needs its weights file, {weights.source}",
            hint=f"give it with --weights FILE (SHA-256 {weights.sha256})",
        )
    choice = WeightChoice(
        path=path if seed is None else None,
        key_map=weights.key_map,
        swap_halves=weights.swap_halves,
        seed=seed or 0,
    )
    if choice.path is not None and bundles.sha256_of(choice.path) != weights.sha256:
        raise CheckpointError(
            f"{path} is not the file that the bundle was made from: its SHA-256 is another",
            hint=f"give {weights.source} (SHA-256 {weights.sha256})",
        )
    model, found = built(spec, identity.height, identity.width, choice)
    if found.sha256 != weights.sha256:
        raise CheckpointError(
            f"'{identity.name}' now gives other weights than those that the bundle was made from",
            hint="export it again, or save its weights and give them with --weights FILE",
        )
    return model


def _digest(model: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a module's state_dict."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        values = value.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()
