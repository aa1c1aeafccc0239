"""What a training script leaves beside the weights is passed over, and nothing of it runs."""

from __future__ import annotations

import argparse
import os
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from elfatt_deploy.errors import CheckpointError
from elfatt_deploy.models import checkpoints

REFUSED = "holds Python objects besides tensors; running code from a weights file is refused"
WEIGHTS = {"a": torch.arange(3.0)}


class _Touch:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def foreign(monkeypatch):
    """Return a function that makes a class of a package that is not installed.

    The package is known while `saving` only: pickle looks its classes up by name.
    """

    def make(full_name, *bases, **members):
        module, _, name = full_name.rpartition(".")
        made = type(name, bases, {"__module__": module, **members})
        packages = module.split(".")
        for depth in range(1, len(packages) + 1):
            package = ".".join(packages[:depth])
            monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
        setattr(sys.modules[module], name, made)
        return made

    return make


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Return a function that saves a checkpoint, and then forgets the packages of `foreign`."""

    def save(content, *, zipped=True, keep=False):
        path = tmp_path / "weights.pth"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        if not keep:
            monkeypatch.undo()
        return path

    return save


def _weights_of(path):
    found = checkpoints.read(path)
    return found.keys() == WEIGHTS.keys() and torch.equal(found["a"], WEIGHTS["a"])


def _nested(make):
    """Return a frozen configuration as yacs makes it: a dict with attributes beside its items."""

    def init(self, **items):
        dict.__init__(self, items)
        self.__dict__.update(
            __immutable__=True,
            __deprecated_keys__=set(),
            __renamed_keys__={},
            __new_allowed__=False,
        )

    node = make("yacs.config.CfgNode", dict, __init__=init)
    return node(
        BASE=[""],
        DATA=node(IMG_SIZE=224, ZIP_MODE=False),
        MODEL=node(NAME="swin_tiny", DROP_PATH_RATE=0.2, SWIN=node(DEPTHS=[2, 2, 6, 2], APE=None)),
        EMPTY=node(),
        AUG=node(CUTMIX_MINMAX=(0.1, 0.9)),
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_yacs_configuration_of_swin_is_passed_over(zipped, foreign, saved):
    state = {"model": WEIGHTS, "max_accuracy": 81.2, "epoch": 299, "config": _nested(foreign)}
    path = saved(state, zipped=zipped)
    assert "yacs" not in sys.modules
    assert _weights_of(path)
    assert "yacs" not in sys.modules


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_arguments_of_convnext_are_passed_over(zipped, saved):
    folder = Path("out") / "run"
    inner = argparse.Namespace(decay=None, folders=[folder, folder])
    args = argparse.Namespace(lr=4e-3, model_ema=True, output_dir=folder, device="cuda", ema=inner)
    assert _weights_of(saved({"model": WEIGHTS, "epoch": 3, "args": args}, zipped=zipped))


@pytest.mark.parametrize(
    "metric",
    [np.float64(81.2), np.float32(0.5), np.float16(1), np.int64(7), np.bool_(True), np.str_("ab"),
     np.complex64(1j), np.datetime64("2026-01-01")],
    ids=lambda metric: type(metric).__name__,
)  # fmt: skip
@pytest.mark.parametrize("package", ["core", "_core"], ids=["numpy 1", "numpy 2"])
def test_a_numpy_number_is_passed_over(package, metric, saved):
    path = saved({"model": WEIGHTS, "max_accuracy": metric}, zipped=False)
    here, count = re.subn(
        rb"cnumpy\._?core\.multiarray\nscalar\n",
        f"cnumpy.{package}.multiarray\nscalar\n".encode(),
        path.read_bytes(),
    )
    assert count == 1
    path.write_bytes(here)
    assert _weights_of(path)


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"])
def test_a_path_of_another_system_or_python_is_passed_over(module, name, saved):
    path = saved({"model": WEIGHTS, "out": Path("runs") / "a"}, zipped=False)
    other, count = re.subn(
        rb"cpathlib(\._local)?\n\w+\n", f"c{module}\n{name}\n".encode(), path.read_bytes()
    )
    assert count == 1
    path.write_bytes(other)
    assert _weights_of(path)


@pytest.mark.parametrize(
    "full_name",
    ["mypkg.argparse.Namespace", "argparse2.Namespace", "other.config.CfgNode", "yacs.CfgNode",
     "yacs.config.Other", "types2.SimpleNamespace", "numpy2.dtype", "lib.pathlib.PosixPath"],
)  # fmt: skip
@pytest.mark.parametrize("base", [object, dict])
def test_a_class_of_such_a_name_elsewhere_is_refused(base, full_name, foreign, saved):
    path = saved({"model": WEIGHTS, "config": foreign(full_name, base)()})
    with pytest.raises(CheckpointError, match=REFUSED):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "content",
    [types.SimpleNamespace(a=1), np.arange(3), np.random.default_rng(0), range(3), re.compile("a"),
     np.ndarray, os.system],
    ids=["namespace", "array", "generator", "range", "pattern", "class", "function"],
)  # fmt: skip
def test_other_objects_are_still_refused(content, saved):
    with pytest.raises(CheckpointError, match=REFUSED):
        checkpoints.read(saved({"model": WEIGHTS, "extra": content}))


@pytest.mark.parametrize("where", ["namespace", "configuration", "path", "deep"])
def test_code_inside_a_known_container_is_refused_and_not_run(where, tmp_path, foreign, saved):
    mark = tmp_path / "mark"
    node = foreign("yacs.config.CfgNode", dict)
    holders = {
        "namespace": lambda: argparse.Namespace(hook=_Touch(mark)),
        "configuration": lambda: node(HOOK=_Touch(mark)),
        "path": lambda: {Path("a"): _Touch(mark)},
        "deep": lambda: node(A=node(B=argparse.Namespace(c=[_Touch(mark)]))),
    }
    path = saved({"model": WEIGHTS, "config": holders[where]()}, keep=True)
    with pytest.raises(CheckpointError, match=REFUSED):
        checkpoints.read(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have been run


def test_the_named_class_is_not_used_where_its_package_is_there(foreign, saved):
    used = []

    def note(name):
        return lambda self, *args, **kwargs: used.append(name)

    members = {name: note(name) for name in ("__init__", "__setstate__", "__setitem__")}
    node = foreign("yacs.config.CfgNode", dict, **members)
    content = node()
    dict.update(content, NAME="swin")
    content.NAME = "swin"
    path = saved({"model": WEIGHTS, "config": content}, keep=True)
    used.clear()
    assert _weights_of(path)
    assert used == []
    torch.load(path, weights_only=False)
    assert set(used) == {"__setstate__", "__setitem__"}


@pytest.mark.parametrize("extra", [None, types.SimpleNamespace()], ids=["read", "refused"])
def test_torch_itself_stays_as_strict_as_it_was(extra, saved):
    before = set(torch.serialization.get_safe_globals())
    path = saved({"model": WEIGHTS, "args": argparse.Namespace(lr=0.1), "extra": extra})
    try:
        checkpoints.read(path)
    except CheckpointError:
        assert extra is not None
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(Exception, match=r"(?i)unsupported global.*Namespace"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (argparse.Namespace(lr=0.1), "holds a Namespace, not a state_dict"),
        (np.float64(0.5), "holds a scalar, not a state_dict"),
        ({"model": argparse.Namespace(lr=0.1)}, "holds no tensors: its keys are model"),
    ],
    ids=["namespace", "number", "namespace in a container"],
)
def test_a_file_of_nothing_but_options_says_what_it_holds(content, told, saved):
    with pytest.raises(CheckpointError, match=told):
        checkpoints.read(saved(content))
