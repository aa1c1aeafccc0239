"""Names to models and attention mechanisms; torch-free, builders as import strings.

A new attention is one file with a `branches` function and one line in `ATTENTIONS`; every backbone
then has a model of that name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from elfatt_deploy import optional
from elfatt_deploy.errors import UnknownNameError, UsageError
from elfatt_deploy.models import own
from elfatt_deploy.models.config import (
    AttentionConfig,
    ConvNeXtConfig,
    CSWinConfig,
    EfficientViTConfig,
    SwinConfig,
    VMambaConfig,
)
from elfatt_deploy.models.settings import with_settings
from elfatt_deploy.models.spec import ModelSpec

if TYPE_CHECKING:
    from elfatt_deploy.models.attention.context import AttentionContext
    from elfatt_deploy.models.attention.layers import Branch


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """One mechanism.

    Args:
        branches: import string of its `branches` function.
        summary: one line for the listing.
        levels: where a model of this name uses it, as in `AttentionConfig.levels`.
        elsewhere: mechanism of the other blocks.
        backbone: backbone that its models are published with; None means each model's own.
        on_swin: import string of another `branches` function for the Swin backbone.
        changes: model prefix -> fields of the configuration that differ there.
    """

    branches: str
    summary: str
    levels: str = "1-2-3-4"
    elsewhere: str = "global"
    backbone: str | None = None
    on_swin: str | None = None
    changes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


_HERE = "elfatt_deploy.models.attention"
_NO_LEPE = {"lepe": False}

ATTENTIONS: dict[str, Attention] = {
    "local": Attention(
        branches=f"{_HERE}.cswin:branches",
        on_swin=f"{_HERE}.swin:branches",
        summary="softmax in stripes (CSWin) or shifted windows (Swin)",
        changes={"swin_t": _NO_LEPE, "swin_b": _NO_LEPE},
    ),
    "global": Attention(branches=f"{_HERE}.softmax:branches", summary="softmax over all tokens"),
    "flatten": Attention(
        branches=f"{_HERE}.flatten:branches",
        summary="focused linear over all tokens",
        levels="1-2",
        elsewhere="local",
        changes={"swin_t": _NO_LEPE, "swin_b": _NO_LEPE},
    ),
    "agent": Attention(
        branches=f"{_HERE}.agent:branches",
        summary="softmax through agent tokens",
        levels="1-2",
        elsewhere="local",
        changes={
            "swin_t": {**_NO_LEPE, "levels": "1-2-3"},
            "swin_b": {**_NO_LEPE, "levels": "1-2-3first2"},
        },
    ),
    "effatt": Attention(
        branches=f"{_HERE}.effatt:branches", summary="linear over all tokens", levels="1-2-3odd"
    ),
    "elfatt": Attention(
        branches=f"{_HERE}.elfatt:branches",
        summary="linear head beside block-softmax head",
        levels="1-2-3odd",
        backbone="cswin",  # Swin-ELFATT has CSWin's stem and mergings: the paper's counts say so
    ),
}


_BUILDER = "elfatt_deploy.models.backbones.{}:build"
#: backbone -> its configuration, and the crop of its official evaluation
_BACKBONES: dict[str, tuple[type[AttentionConfig], float]] = {
    "cswin": (CSWinConfig, 0.9),
    "swin": (SwinConfig, 0.875),
}
_CSWIN_T = {"embed_dim": 64, "depths": (2, 4, 18, 1), "heads": (2, 4, 8, 16)}
_CSWIN_B = {"embed_dim": 96, "depths": (3, 6, 29, 2), "heads": (4, 8, 16, 32)}
_SWIN_T = {"embed_dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
_SWIN_B = {"embed_dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)}
#: prefix, name in the paper, backbone, shape
_VARIANTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("cswin_t", "CSWin-T24181", "cswin", {**_CSWIN_T, "blocks_at_224": (7, 7, 14, 7)}),
    ("cswin_b", "CSWin-B36292", "cswin", _CSWIN_B),
    ("swin_t", "Swin-T", "swin", _SWIN_T),
    ("swin_b", "Swin-B", "swin", _SWIN_B),
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
    """Return every registered model by name: the paper's, ablations, those of installed packages.

    Raises:
        UsageError: an installed package gives a name that is taken.
    """
    specs = [*_attention_models(), *_other_models()]
    specs.extend(_ablations(next(spec for spec in specs if spec.name == "cswin_t_elfatt")))
    known = {**{spec.name: spec for spec in specs}, **_extra_models}
    for name, point in own.entry_points(own.MODEL_GROUP).items():
        if name in known:
            raise UsageError(
                f"an installed package gives the name '{name}' to {point.value}, which is one of "
                "our models",
                hint="uninstall that package, or let it use another name",
            )
        known[name] = own.unresolved(name, point.value)
    return known


def attentions() -> dict[str, Attention]:
    """Return every mechanism by name, those of installed packages last.

    Raises:
        UsageError: an installed package gives a name that is taken.
    """
    known = dict(ATTENTIONS)
    for name, point in own.entry_points(own.ATTENTION_GROUP).items():
        if name in known:
            raise UsageError(
                f"an installed package gives the name '{name}' to {point.value}, which is one of "
                "our attentions",
                hint="uninstall that package, or let it use another name",
            )
        known[name] = Attention(branches=point.value, summary=f"from {point.value}")
    return known


def _attention_models() -> Iterator[ModelSpec]:
    """Yield each variant of each backbone with each mechanism."""
    for prefix, family, usual, shape in _VARIANTS:
        for attention, entry in attentions().items():
            backbone = entry.backbone or usual
            kind, crop_share = _BACKBONES[backbone]
            fields: dict[str, Any] = {"levels": entry.levels, **entry.changes.get(prefix, {})}
            spec = ModelSpec(
                name=f"{prefix}_{attention}",
                family=f"{family}-{attention.upper()}",
                builder=_BUILDER.format(backbone),
                config=kind(attention=attention, elsewhere=entry.elsewhere, **shape, **fields),
                crop_share=crop_share,
                summary=entry.summary,
            )
            yield spec
            if usual == "swin" and attention == "local":
                yield _with_timm_keys(spec, f"{spec.name}timm")


def _other_models() -> Iterator[ModelSpec]:
    """Yield the models that the paper compares with besides."""
    efficientvit = ModelSpec(
        name="efficientvit_b2",
        family="EfficientViT-B2",
        builder=_BUILDER.format("efficientvit"),
        config=EfficientViTConfig(),
        crop_share=0.95,
        whole_from=None,
        summary="convolutions, ReLU linear attention at two scales",
    )
    yield efficientvit
    yield dataclasses.replace(
        efficientvit,
        name="efficientvit_b2_288",
        input_size=288,
        summary="the same at its second published size",
    )
    timm = _with_timm_keys(efficientvit, "efficientvit_b2_timm")
    yield dataclasses.replace(
        timm,
        config=dataclasses.replace(timm.config, division_eps=1e-5),  # type: ignore[call-arg]
    )
    convnext = ModelSpec(
        name="convnext_t",
        family="ConvNeXt-T",
        builder=_BUILDER.format("convnext"),
        config=ConvNeXtConfig(),
        crop_share=0.875,
        summary="depthwise 7x7 convolutions",
    )
    yield convnext
    yield _with_timm_keys(convnext, "convnext_t_timm")
    yield ModelSpec(
        name="vmamba_t",
        family="VMamba-T",
        builder=_BUILDER.format("vmamba"),
        config=VMambaConfig(),
        crop_share=0.875,
        summary="selective scan in four directions (s1l8)",
    )


def _with_timm_keys(spec: ModelSpec, name: str) -> ModelSpec:
    return dataclasses.replace(
        spec,
        name=name,
        config=dataclasses.replace(spec.config, keys="timm"),  # type: ignore[call-arg]
        summary=f"{spec.summary}; state_dict keys of timm",
    )


def _ablations(base: ModelSpec) -> Iterator[ModelSpec]:
    for suffix, settings in _ABLATIONS.items():
        config = dataclasses.replace(
            base.config,
            blocks_at_224=(14, 14, 14, 7),  # type: ignore[call-arg]
        )
        yield dataclasses.replace(
            base,
            name=f"{base.name}_{suffix}",
            config=with_settings(config, settings),
            summary=", ".join(
                ("196-token blocks", *(f"{key}={value}" for key, value in settings.items()))
            ),
            ablation=True,
        )


def get(name: str) -> ModelSpec:
    """Return the model of that name, of `package.module:name` or of `timm/NAME`.

    Raises:
        UnknownNameError: there is none; the message lists the nearest names.
        UsageError: it is not ours and cannot be imported.
        MissingDependency: it is not ours and torch or timm is absent.
    """
    if own.is_own(name):
        return own.resolved(name, name)
    known = models()
    if name not in known:
        raise UnknownNameError(
            "model",
            name,
            known,
            hint="'elfatt-deploy models' lists them all; your own is package.module:function, "
            "timm/NAME or a .onnx file",
        )
    spec = known[name]
    if isinstance(spec.config, own.OwnConfig) and name not in _extra_models:
        return own.resolved(name, spec.config.source)
    return spec


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
    if name in attentions():
        raise UsageError(f"an attention named '{name}' is registered already")
    ATTENTIONS[name] = entry


def attention_branches(name: str, context: AttentionContext) -> tuple[Branch, ...]:
    """Return the branches of mechanism `name` for one block.

    Raises:
        UnknownNameError: there is no mechanism of that name.
        UsageError: it cannot be imported, or its branches do not take all channels of the block.
    """
    entry = ATTENTIONS.get(name) or attentions().get(name)
    if entry is None:
        raise UnknownNameError("attention", name, attentions())
    source = (context.backbone == "swin" and entry.on_swin) or entry.branches
    branches: tuple[Branch, ...] = tuple(optional.resolve(source)(context))
    taken = sum(branch.channels for branch in branches)
    if taken != context.dim:
        raise UsageError(
            f"attention '{name}' takes {taken} of the {context.dim} channels of level "
            f"{context.level}",
            hint="the 'channels' of its branches must add up to context.dim",
        )
    return branches
