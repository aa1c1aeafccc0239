"""One network under another repository's state_dict names.

A module keeps the attribute names that its code reads best with; a table of regular expressions
turns its keys into those of another code base. `state_dict()`, `load_state_dict()` and everything
built on them (checkpoints, seeded filling, copies) then know the other names alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from elfatt_deploy.errors import ModelError

#: (regular expression, replacement text or function), as `re.sub` takes them
Rename = tuple[str, str | Callable[[re.Match[str]], str]]


def renamed(key: str, renames: Sequence[Rename]) -> str:
    """Return `key` after every rule of the table, one after the other, has been applied to it."""
    for pattern, replacement in renames:
        key = re.sub(pattern, replacement, key)
    return key


def use_keys(module: nn.Module, renames: Sequence[Rename]) -> None:
    """Give `module` other state_dict keys; call it once, on the finished module.

    The order of the keys stays, the module may later be a part of another one, and a copy has the
    same names. Names of parameters (`named_parameters`) are still those of the attributes. A
    module that is exchanged afterwards keeps its own keys.

    Args:
        module: the module whose keys are to change.
        renames: rules from the module's own keys to the others. Each sees the key that the rules
            before it have made, and none sees the prefix of an outer module.

    Raises:
        ModelError: the rules turn two keys into one.
    """
    theirs = {key: renamed(key, renames) for key in module.state_dict()}
    ours: dict[str, str] = {}
    for key, new in theirs.items():
        if new in ours:
            raise ModelError(
                f"the key table turns both '{ours[new]}' and '{key}' into '{new}'",
                hint="make the regular expressions of the table narrower",
            )
        ours[new] = key
    names = _Names(theirs, ours)

    # torch marks the hooks by an attribute, which a bound method cannot have
    def on_saving(*args: Any) -> None:
        names.on_saving(*args)

    def on_loading(*args: Any) -> None:
        names.on_loading(*args)

    module.register_state_dict_post_hook(on_saving)  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(on_loading)  # type: ignore[no-untyped-call]


class _Names:
    """The names of one module both ways, and the two hooks that exchange them."""

    def __init__(self, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
        self.theirs, self.ours = theirs, ours

    def on_saving(
        self, module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
    ) -> None:
        """Rename in place what `state_dict` has collected, in its order."""
        found = list(state.items())
        state.clear()
        for key, value in found:
            own = key.removeprefix(prefix)
            state[prefix + self.theirs.get(own, own) if key.startswith(prefix) else key] = value

    def on_loading(
        self,
        module: nn.Module,
        state: dict[str, Any],
        prefix: str,
        metadata: dict[str, Any],
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        """Rename in place what `load_state_dict` is going to share out."""
        found = list(state.items())
        state.clear()
        for key, value in found:
            own = key.removeprefix(prefix)
            if not key.startswith(prefix):
                state[key] = value
            elif own in self.ours:
                state[prefix + self.ours[own]] = value
            elif own in self.theirs:  # the attribute's name, which is no name of this module
                unexpected.append(key)
            else:
                state[key] = value
