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
    same names. `named_parameters` still gives the names of the attributes, and so does torch where
    a key is missing. A submodule that is exchanged afterwards brings keys of its own.

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
    module.register_state_dict_post_hook(_Saving(theirs))  # type: ignore[no-untyped-call]
    module.register_load_state_dict_pre_hook(_Loading(ours))  # type: ignore[no-untyped-call]


# Objects, not closures, so that a module can be pickled; not bound methods, on which torch cannot
# set the attribute that it marks such hooks with.
class _Saving:
    """Renames, in place and in its order, what `state_dict` has collected."""

    def __init__(self, theirs: Mapping[str, str]) -> None:
        self.theirs = theirs

    def __call__(
        self, module: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]
    ) -> None:
        found = list(state.items())
        state.clear()
        for key, value in found:
            own = key.removeprefix(prefix)
            state[prefix + self.theirs.get(own, own) if key.startswith(prefix) else key] = value


class _Loading:
    """Renames, in place, what `load_state_dict` is going to share out."""

    def __init__(self, ours: Mapping[str, str]) -> None:
        self.ours, self.attributes = ours, frozenset(ours.values())

    def __call__(
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
        found = list(state.items())
        state.clear()
        for key, value in found:
            own = key.removeprefix(prefix)
            if key.startswith(prefix) and own in self.ours:
                state[prefix + self.ours[own]] = value
            elif key.startswith(prefix) and own in self.attributes:
                unexpected.append(key)  # a name of the code, which is none of the module's keys
            else:
                state[key] = value
