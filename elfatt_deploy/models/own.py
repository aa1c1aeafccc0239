"""Models that are not ours: a function of yours, a timm model, an installed entry point.

- `package.module:name` names a function without required arguments (or an `nn.Module` class) that
  returns a module, a module, or a `ModelSpec`. A function that takes `height` and `width` is given
  the input size.
- `timm/NAME` is a classifier of an installed timm, with random weights unless pretrained ones are
  asked for.
- An entry point of the group `elfatt_deploy.models` gives one of the former a name of its own.

The input size and preprocessing are those that the module states as timm's models do, in an
attribute `pretrained_cfg` or `default_cfg` with `input_size` (3, H, W), `mean`, `std`, `crop_pct`,
`interpolation`; what it does not state is 224 pixels and the preprocessing of ImageNet.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from elfatt_deploy import optional
from elfatt_deploy.errors import ModelError, UnknownNameError, UsageError
from elfatt_deploy.models.config import LevelInfo, ModelConfig
from elfatt_deploy.models.spec import ModelSpec

if TYPE_CHECKING:
    from torch import nn

MODEL_GROUP, ATTENTION_GROUP = "elfatt_deploy.models", "elfatt_deploy.attentions"
_TIMM = "timm/"
_BUILDER = f"{__name__}:build"
_CONFIGS = ("pretrained_cfg", "default_cfg")
_SIZE = 224


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OwnConfig(ModelConfig):
    """Where a module that is not ours comes from.

    Args:
        source: `package.module:name` or `timm/NAME`.
        pretrained: whether timm is asked for published weights.
    """

    SETTINGS: ClassVar[tuple[str, ...]] = ()

    source: str
    pretrained: bool = False

    def map_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Return nothing: what is inside is not known."""
        return ()

    def levels_at(self, height: int, width: int) -> tuple[LevelInfo, ...]:
        """Return nothing: what is inside is not known."""
        return ()


def is_own(name: str) -> bool:
    """Whether a model name is `package.module:name` or `timm/NAME`."""
    return name.startswith(_TIMM) or ":" in name


def entry_points(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """Return the installed entry points of a group by name.

    Raises:
        UsageError: two packages give the same name.
    """
    found: dict[str, importlib.metadata.EntryPoint] = {}
    for point in importlib.metadata.entry_points(group=group):
        if point.name in found and found[point.name].value != point.value:
            raise UsageError(
                f"two installed packages give the name '{point.name}' in {group}: "
                f"{found[point.name].value} and {point.value}",
                hint="uninstall one of them",
            )
        found[point.name] = point
    return found


def unresolved(name: str, source: str) -> ModelSpec:
    """Return what can be said of a model without importing its package."""
    return ModelSpec(
        name=name,
        family="own model",
        builder=_BUILDER,
        config=OwnConfig(source=source),
        summary=f"from {source}",
        own_weights=True,
    )


def resolved(name: str, source: str, *, pretrained: bool = False) -> ModelSpec:
    """Return the model behind `source` with the input size and preprocessing that it states.

    Raises:
        UsageError: it cannot be imported or gives no module, or published weights are asked for
            that only timm knows.
        ModelError: it states an input that is no colour image.
        MissingDependency: torch or timm is absent or broken.
    """
    if pretrained and not source.startswith(_TIMM):
        raise UsageError(
            f"no published weights are known of '{source}'",
            hint="let the function load them, or give a checkpoint with --weights FILE",
        )
    spec = dataclasses.replace(
        unresolved(name, source), config=OwnConfig(source=source, pretrained=pretrained)
    )
    if source.startswith(_TIMM):
        stated = _timm_config(source.removeprefix(_TIMM))
    else:
        optional.load("torch")
        found = optional.resolve(source)
        if isinstance(found, ModelSpec):
            return dataclasses.replace(found, name=name)
        stated = _stated(_module(source, None, None))
    return _with_input(spec, stated)


def build(config: OwnConfig, height: int, width: int) -> nn.Module:
    """Build the module, with its own weights, in eval mode.

    Raises:
        UsageError: it cannot be imported, or gives no module.
        MissingDependency: timm is absent or broken.
    """
    if not config.source.startswith(_TIMM):
        return _module(config.source, height, width).eval()
    timm = optional.load("timm")
    name = config.source.removeprefix(_TIMM)
    try:
        _, own_height, own_width = _timm_config(name).get("input_size", (3, _SIZE, _SIZE))
        size = {} if (height, width) == (own_height, own_width) else {"img_size": (height, width)}
        try:
            module: nn.Module = timm.create_model(name, pretrained=config.pretrained, **size)
        except TypeError:  # a convolutional network takes any size and has no such argument
            module = timm.create_model(name, pretrained=config.pretrained)
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"timm cannot make '{name}': {error}",
            hint='python -c "import timm; print(timm.list_models())" lists its models',
        ) from error
    return module.eval()


def _timm_config(name: str) -> Mapping[str, Any]:
    timm = optional.load("timm")
    if not timm.is_model(name):
        raise UnknownNameError("timm model", name, timm.list_models())
    config = timm.get_pretrained_cfg(name)
    return cast("Mapping[str, Any]", config.to_dict()) if config else {}


def _module(source: str, height: int | None, width: int | None) -> nn.Module:
    """Call what `source` names; returns the module."""
    from torch import nn

    found = optional.resolve(source)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UsageError(
            f"'{source}' is a {type(found).__name__}, not a function that returns a module",
            hint="def make(): return my_network, and --model package.module:make",
        )
    try:
        module = found(**_size_arguments(found, height, width))
    except Exception as error:  # a user's function may raise anything
        raise UsageError(
            f"'{source}' fails: {type(error).__name__}: {error}",
            hint="it is called without arguments, or with height and width where it has both",
        ) from error
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"'{source}' returns a {type(module).__name__}, not a torch module",
            hint="return the network itself",
        )
    return module


def _size_arguments(function: Any, height: int | None, width: int | None) -> dict[str, int]:
    """Return the size for a function that takes one; where none is known yet, what it must have."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # a function written in C has no signature
        return {}
    if not {"height", "width"} <= set(parameters):
        return {}
    if height and width:
        return {"height": height, "width": width}
    required = (n for n in ("height", "width") if parameters[n].default is inspect.Parameter.empty)
    return dict.fromkeys(required, _SIZE)


def _stated(module: nn.Module) -> Mapping[str, Any]:
    """Return the configuration that a module carries, as timm's models do; empty without one."""
    for name in _CONFIGS:
        config: Any = getattr(module, name, None)
        config = config.to_dict() if hasattr(config, "to_dict") else config
        if isinstance(config, Mapping):
            return config
    return {}


def _with_input(spec: ModelSpec, stated: Mapping[str, Any]) -> ModelSpec:
    """Return the model with the input size and preprocessing of a timm configuration."""
    size = tuple(stated.get("input_size") or (3, _SIZE, _SIZE))
    if len(size) != 3 or size[0] != 3:
        raise ModelError(
            f"{spec.name} states inputs of shape {size}",
            hint="images are [B, 3, H, W]: only colour images can be exported",
        )
    fields = {
        "crop_share": ("crop_pct", float),
        "interpolation": ("interpolation", str),
        "mean": ("mean", tuple),
        "std": ("std", tuple),
    }
    changes: dict[str, Any] = {
        field: kind(stated[key])
        for field, (key, kind) in fields.items()
        if stated.get(key) is not None
    }
    return dataclasses.replace(
        spec,
        input_size=size[1],
        input_width=size[2] if size[2] != size[1] else None,
        whole_from=None if "crop_share" in changes else spec.whole_from,
        **changes,
    )
