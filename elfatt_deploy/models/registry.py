"""Names to models and attention mechanisms; torch-free, builders as import strings.

A new attention is one file with a `branches` function and one line in `ATTENTIONS`; every backbone
then has a model of that name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Preprocessing
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.models.config import CSWinConfig, with_settings

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.models.attention.context import AttentionContext
    from elfatt_deploy.models.attention.layers import Branch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One mechanism.

    Args:
        branches: import string of its `branches` function.
        summary: one line for the listing.
        levels: where a model of this name uses it, as in `CSWinConfig.levels`.
        elsewhere: mechanism of the other blocks.
    """

    branches: str
    summary: str
    levels: str = "1-2-3-4"
    elsewhere: str = "global"


_HERE = "elfatt_deploy.models.attention"

ATTENTIONS: dict[str, Attention] = {
    "local": Attention(branches=f"{_HERE}.cswin:branches", summary="cross-shaped window stripes"),
    "global": Attention(branches=f"{_HERE}.softmax:branches", summary="softmax over all tokens"),
    "effatt": Attention(
        branches=f"{_HERE}.effatt:branches", summary="linear over all tokens", levels="1-2-3odd"
    ),
    "elfatt": Attention(
        branches=f"{_HERE}.elfatt:branches",
        summary="linear head beside block-softmax head",
        levels="1-2-3odd",
    ),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model by name.

    Args:
        name: its name on the command line.
        family: name of the paper's row without its input size.
        builder: import string of `build(config, height, width)`.
        config: the configuration behind the name.
        input_size: default side of the input in pixels.
        summary: one line for the listing.
        ablation: whether it is a row of the paper's Tables II to V.
    """

    name: str
    family: str
    builder: str
    config: CSWinConfig
    input_size: int = 224
    summary: str = ""
    ablation: bool = False

    def configured(self, settings: Mapping[str, str]) -> ModelSpec:
        """Return this model with `--set` settings applied."""
        return dataclasses.replace(self, config=with_settings(self.config, settings))

    def preprocessing(self, height: int, width: int) -> Preprocessing:
        """Return how an image becomes the input tensor.

        Source: the evaluation settings of CSWin: bicubic, ImageNet mean and standard deviation,
        centre crop of 0.9 at 224 and of the whole image at 384.
        """
        return Preprocessing(
            height=height, width=width, crop_share=1.0 if min(height, width) >= 384 else 0.9
        )

    def build(self, height: int, width: int) -> nn.Module:
        """Build the torch module, its weights unset, in eval mode.

        Raises:
            MissingDependency: torch is absent or broken.
        UsageError: the builder or a mechanism cannot be imported.
            ModelError: the configuration or the size is not possible.
        """
        optional.load("torch")
        module: nn.Module = optional.resolve(self.builder)(self.config, height, width)
        return module


_CSWIN_T = {"embed_dim": 64, "depths": (2, 4, 18, 1), "heads": (2, 4, 8, 16)}
_CSWIN_B = {"embed_dim": 96, "depths": (3, 6, 29, 2), "heads": (4, 8, 16, 32)}
_VARIANTS: tuple[tuple[str, str, dict[str, Any], tuple[int, ...]], ...] = (
    ("cswin_t", "CSWin-T24181", _CSWIN_T, (7, 7, 14, 7)),
    ("cswin_b", "CSWin-B36292", _CSWIN_B, (14, 14, 14, 7)),
)

#: ablations of the paper that have golden vectors: suffix -> settings, on blocks of 196 tokens
_ABLATIONS: dict[str, dict[str, str]] = {
    "196": {},
    "nolepe": {"lepe": "false"},
    "c1_0": {"global-ratio": "0"},
    "c1_25": {"global-ratio": "0.25"},
    "c1_75": {"global-ratio": "0.75"},
    "l1234": {"levels": "1-2-3-4"},
}

_extra_models: dict[str, ModelSpec] = {}


def models() -> dict[str, ModelSpec]:
    """Return every registered model by name: each backbone with each attention, then ablations."""
    specs: dict[str, ModelSpec] = {}
    for prefix, family, shape, blocks in _VARIANTS:
        for attention, entry in ATTENTIONS.items():
            specs[f"{prefix}_{attention}"] = ModelSpec(
                name=f"{prefix}_{attention}",
                family=f"{family}-{attention.upper()}",
                builder="elfatt_deploy.models.backbones.cswin:build",
                config=CSWinConfig(
                    **shape,
                    attention=attention,
                    levels=entry.levels,
                    elsewhere=entry.elsewhere,
                    blocks_at_224=blocks,
                ),
                summary=entry.summary,
            )
    base = specs["cswin_t_elfatt"]
    for suffix, settings in _ABLATIONS.items():
        config = dataclasses.replace(base.config, blocks_at_224=(14, 14, 14, 7))
        specs[f"cswin_t_elfatt_{suffix}"] = dataclasses.replace(
            base,
            name=f"cswin_t_elfatt_{suffix}",
            config=with_settings(config, settings),
            summary=", ".join(
                ("196-token blocks", *(f"{key}={value}" for key, value in settings.items()))
            ),
            ablation=True,
        )
    return {**specs, **_extra_models}


def get(name: str) -> ModelSpec:
    """Return the model of that name.

    Raises:
        UnknownNameError: there is none; the message lists the nearest names.
    """
    known = models()
    if name not in known:
        raise UnknownNameError("model", name, known, hint="'elfatt-deploy models' lists them all")
    return known[name]


def register_model(spec: ModelSpec) -> ModelSpec:
    """Add a model to the registry.

    Raises:
        UsageError: the name is taken.
    """
    if spec.name in models():
        raise UsageError(f"a model named '{spec.name}' is registered already")
    _extra_models[spec.name] = spec
    return spec


def register_attention(name: str, entry: Attention) -> None:
    """Add a mechanism; every backbone then has a model of that name.

    Raises:
        UsageError: the name is taken.
    """
    if name in ATTENTIONS:
        raise UsageError(f"an attention named '{name}' is registered already")
    ATTENTIONS[name] = entry


def attention_branches(name: str, context: AttentionContext) -> tuple[Branch, ...]:
    """Return the branches of mechanism `name` for one block.

    Raises:
        UnknownNameError: there is no mechanism of that name.
        UsageError: it cannot be imported, or its branches do not take all channels of the block.
    """
    if name not in ATTENTIONS:
        raise UnknownNameError("attention", name, ATTENTIONS)
    branches: tuple[Branch, ...] = tuple(optional.resolve(ATTENTIONS[name].branches)(context))
    taken = sum(branch.channels for branch in branches)
    if taken != context.dim:
        raise UsageError(
            f"attention '{name}' takes {taken} of the {context.dim} channels of level "
            f"{context.level}",
            hint="the 'channels' of its branches must add up to context.dim",
        )
    return branches
