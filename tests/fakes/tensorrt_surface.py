"""Fake `tensorrt` modules with the exact names of one TensorRT version.

The fixture `tensorrt_surface` (in `tests/conftest.py`) is what tests use::

    def test_x(tensorrt_surface):
        trt = tensorrt_surface("8.2.1", {"Builder": {"__init__": ..., "create_network": ...}})

- `tensorrt_surface(version, behaviours=None)` returns the module, and for the length of the test
  `import tensorrt` (so `optional.load("tensorrt")` too) gives the same module; see `VERSIONS`.
- An attribute that the version lacks raises AttributeError, on the module, on classes, on enums and
  on objects; setting one does too (`config.max_workspace_size = n` fails from 10 on). Names that
  start with `_` may be set on any object: behaviours keep their state there.
- `behaviours` is `{class name: {member: what it does}}`; a free function stands under the class
  name `""`. A function (or a property object) becomes the member as it is, with `self` first; any
  other value is what an object starts with (all objects share it), and may be set. What the version
  lacks is left out in silence, so one set of behaviours serves all versions.
- A class is called with whatever its behaviour of `__init__` takes; without one, with nothing.
- A member without a behaviour raises NotImplementedError that names it: a method when it is called
  (so that `hasattr` works), a property when it is read or set.
- As with the real bindings, a Python subclass (of ILogger, IProgressMonitor, ...) may set what it
  likes on itself, and must call the `__init__` of its base: TypeError otherwise.
- Enum members are not integers: `int(member)` gives the number.
- `bytes(memory)` of an IHostMemory is its `_data`, in place of the buffer protocol.
"""

from __future__ import annotations

import enum
import json
from pathlib import Path
from types import ModuleType

DATA = Path(__file__).parents[1] / "data" / "tensorrt_api"
VERSIONS = ("8.2.1", "8.5.3", "8.6.1", "10.3.0", "10.13.3", "10.16.1", "11.4")
SEVERITIES = {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2, "INFO": 3, "VERBOSE": 4}


class _Constant(enum.Enum):
    """An enum whose members turn into integers only when they are asked to."""

    def __int__(self):
        return self.value


class _Bound(type):
    """The rule of the bindings: a subclass calls the `__init__` of its base."""

    def __call__(cls, *arguments, **named):
        made = super().__call__(*arguments, **named)
        if not made.__dict__.get("_initialised"):
            raise TypeError(f"{cls.__name__}.__init__() must be called when overriding __init__")
        return made


def _set(self, name, value):
    cls = type(self)
    if name.startswith("_") or "_surface" not in cls.__dict__ or name in cls._surface:
        object.__setattr__(self, name, value)
    else:
        raise AttributeError(f"'{cls.__name__}' object has no attribute '{name}'")


def _missing_method(where):
    def missing(self, *arguments, **named):
        raise NotImplementedError(f"the test gives no behaviour for {where}")

    return missing


def _missing_property(where):
    def missing(self, *value):
        raise NotImplementedError(f"the test gives no behaviour for {where}")

    return property(missing, missing)


def _initialiser(own):
    def __init__(self, *arguments, **named):
        self._initialised = True
        if own is not None:
            own(self, *arguments, **named)
        elif arguments or named:
            raise TypeError(f"{type(self).__name__}() takes no arguments in this test")

    return __init__


def _class(name, methods, properties, behaviour):
    names = {*methods, *properties}
    members = {}
    for member in sorted(names):
        if member in behaviour:
            members[member] = behaviour[member]
        elif member in properties:
            members[member] = _missing_property(f"{name}.{member}")
        else:
            members[member] = _missing_method(f"{name}.{member}")
    members["_surface"] = frozenset(names)
    members["__init__"] = _initialiser(behaviour.get("__init__"))
    members["__setattr__"] = _set
    return _Bound(name, (), members)


def make(version, behaviours=None):
    """Return the fake module; see the module's docstring."""
    document = json.loads((DATA / f"{version}.json").read_text(encoding="utf-8"))
    behaviours = behaviours or {}
    module = ModuleType("tensorrt", f"the names of TensorRT {document['version']}")
    module.__version__ = document["version"]
    for name, values in document["enums"].items():
        setattr(module, name, _Constant(name, values))
    for name, kinds in document["classes"].items():
        made = _class(name, kinds["methods"], kinds["properties"], behaviours.get(name, {}))
        if name == "IHostMemory":
            made.__bytes__ = lambda self: self._data
        setattr(module, name, made)
    severity = _Constant("Severity", SEVERITIES)
    for logger in (module.ILogger, module.Logger):
        logger.Severity = severity
        for level in severity:
            setattr(logger, level.name, level)
    functions = behaviours.get("", {})
    for name in document["functions"]:
        setattr(module, name, functions.get(name) or _missing_function(name))
    return module


def _missing_function(name):
    def missing(*arguments, **named):
        raise NotImplementedError(f"the test gives no behaviour for tensorrt.{name}")

    return missing
