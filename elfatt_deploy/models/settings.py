"""What `--set key=value` may change: texts to fields of a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from elfatt_deploy.errors import ModelError, UnknownNameError
from elfatt_deploy.models.config import ModelConfig


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
    "window": _count,
    "agents": _sides,
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


_Config = TypeVar("_Config", bound=ModelConfig)


def with_settings(config: _Config, settings: Mapping[str, str]) -> _Config:
    """Return the configuration with `settings` applied.

    Raises:
        UnknownNameError: a setting is one of another family.
        ModelError: a value cannot be read, or no model can have it.
    """
    for key in settings:
        if key not in config.SETTINGS:
            raise UnknownNameError("setting of this model", key, config.SETTINGS)
    changes = {key.replace("-", "_"): SETTINGS[key](text) for key, text in settings.items()}
    return dataclasses.replace(config, **changes)
