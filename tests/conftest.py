"""What all tests share: the golden rules, and a model small enough for any test."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from elfatt_deploy.models import registry, seeded

# Tests run in several processes at once: more threads in each would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOLDEN = Path(__file__).parent / "data" / "golden"
FAKES = Path(__file__).parent / "fakes"


def _image(seed, batch, size):
    """Return the input of the golden vectors: coarse, middle and fine noise."""
    images = np.empty((batch, 3, size, size), np.float32)
    for index in range(batch):
        total = np.zeros((3, size, size))
        for cell, gain in ((32, 0.6), (8, 0.5), (1, 0.5)):
            side = -(-size // cell)
            label = f"input:{seed}:{index}:{cell}:{size}x{size}"
            noise = seeded.unit_noise(label, (3, side, side))
            total += gain * noise.repeat(cell, 1).repeat(cell, 2)[:, :size, :size]
        images[index] = total
    return images


def _positions(size, count=64):
    """Return where the samples of the golden vectors stand in a flattened array."""
    return (np.arange(count, dtype=np.int64) * 104729 + 12345) % size


@pytest.fixture(scope="session")
def golden_folder():
    return GOLDEN


@pytest.fixture(scope="session")
def golden_image():
    return _image


@pytest.fixture(scope="session")
def golden_positions():
    return _positions


@pytest.fixture
def tiny_model():
    """Register `tiny_elfatt`, a CSWin of a few thousand parameters with ten classes."""
    spec = registry.get("cswin_t_elfatt")
    config = dataclasses.replace(
        spec.config, embed_dim=16, depths=(1, 1, 2, 1), heads=(2, 2, 2, 2), classes=10
    )
    tiny = dataclasses.replace(spec, name="tiny_elfatt", config=config, input_size=64)
    registry.register_model(tiny)
    yield tiny
    del registry._extra_models["tiny_elfatt"]


@pytest.fixture(scope="session")
def fake():
    """Return a function that loads `tests/fakes/NAME.py`."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f"fake_{name}", FAKES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look themselves up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def tensorrt_surface(fake, monkeypatch):
    """Return a function that makes a fake `tensorrt`; see `tests/fakes/tensorrt_surface.py`."""
    surface = fake("tensorrt_surface")

    def make(version, behaviours=None):
        module = surface.make(version, behaviours)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        return module

    return make
