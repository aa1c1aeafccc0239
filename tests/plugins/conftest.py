"""The kernels of plugins/elfatt_attention as programs for the CPU."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest


def _helper():
    path = Path(__file__).with_name("kernels_on_host.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


kernels_on_host = _helper()


@contextlib.contextmanager
def _one_at_a_time(path):
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def plugin():
    """Return what tests of the kernels share; see `kernels_on_host.py`."""
    return kernels_on_host


@pytest.fixture(scope="session")
def host_program(tmp_path_factory):
    """Return a function that compiles a program for the CPU once for all workers."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the kernels cannot be compiled for the CPU")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def program(name, arch, flags=kernels_on_host.OPTIMIZED, sources=kernels_on_host.KERNELS):
        path = folder / name
        with _one_at_a_time(path):
            if not path.exists():
                kernels_on_host.compile_host(path, arch, flags, sources)
        return path

    return program


@pytest.fixture(scope="session")
def host_kernels(host_program):
    """Return a function that gives the kernels of one of the `ARCHS` as a program for the CPU."""
    archs, kernels = kernels_on_host.ARCHS, kernels_on_host.Kernels
    return lambda name: kernels(host_program(f"kernels-{name}", archs[name]))


@pytest.fixture(scope="session")
def sanitized_kernels(host_program):
    """The same with AddressSanitizer and UndefinedBehaviorSanitizer."""
    archs, kernels = kernels_on_host.ARCHS, kernels_on_host.Kernels
    flags = kernels_on_host.SANITIZED
    return lambda name: kernels(host_program(f"sanitized-{name}", archs[name], flags))
