"""The tree drawn in the docstring is the tree of the classes."""

from __future__ import annotations

import inspect
import re

import pytest

from elfatt_deploy import errors
from elfatt_deploy.errors import ElfattDeployError, UnknownNameError

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, ElfattDeployError)
]


def _drawn():
    """Return class name -> (parent, exit code) as the docstring draws them."""
    tree, above = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r"[\s|'-]*([A-Z]\w+)\s+(\d+)\s", line)
        if match is None:
            continue
        column = match.start(1)
        above = [(c, name) for c, name in above if c < column]
        tree[match[1]] = (above[-1][1] if above else "Exception", int(match[2]))
        above.append((column, match[1]))
    return tree


def test_the_docstring_draws_every_class_its_parent_and_its_exit_code():
    assert _drawn() == {c.__name__: (c.__base__.__name__, c.exit_code) for c in CLASSES}


@pytest.mark.parametrize("cls", [c for c in CLASSES if c is not UnknownNameError])
def test_the_hint_stands_on_a_line_of_its_own(cls):
    assert str(cls("it broke", hint="mend it")) == "it broke\n  next: mend it"
    told = f"it broke\n  next: {cls.default_hint}" if cls.default_hint else "it broke"
    assert str(cls("it broke")) == told
    assert cls("it broke", hint="mend it").message == "it broke"


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("cswin_t_elfat", ["swin", "cswin_t_elfatt"], "did you mean cswin_t_elfatt?"),
        ("jp8", ["jp7", "jp6", "ort"], "did you mean jp7 or jp6?"),
        ("zzz", ["ort", "jp6"], "known: jp6, ort"),
        ("zzz", [f"name{i}" for i in range(13)], "13 are known"),
        ("zzz", [], "known: "),
    ],
    ids=["one near", "several near", "none near", "many", "none at all"],
)
def test_an_unknown_name_lists_the_nearest(name, known, text):
    error = UnknownNameError("thing", name, known, hint="look")
    assert error.message == f"unknown thing '{name}': {text}"
    assert error.hint == "look"
    assert error.exit_code == 2
