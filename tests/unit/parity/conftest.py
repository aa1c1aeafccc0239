"""A runner without a back end, and golden values that it reproduces."""

from __future__ import annotations

import numpy as np
import pytest

from elfatt_deploy.golden import Golden
from elfatt_deploy.runners.base import Runner

CLASSES = 7
WEIGHTS = np.random.default_rng(0).standard_normal((3 * 4 * 4, CLASSES)).astype(np.float32)


def linear_logits(images):
    """Return [B, classes]; each row depends on its own image alone."""
    return np.stack([image.reshape(-1) @ WEIGHTS for image in images])


class FakeRunner(Runner):
    """Answers with a function of `images`, and keeps the batches that it was asked for."""

    def __init__(self, function=lambda images: {"logits": linear_logits(images)}):
        self.name = "fake"
        self.function = function
        self.batches = []

    def open(self):
        pass

    def infer(self, feeds):
        images = feeds["images"]
        self.batches.append(images)
        return self.function(images)

    def close(self):
        pass


@pytest.fixture(scope="session")
def runner_of():
    """Return the class of the fake runner: a function from images to outputs makes one."""
    return FakeRunner


@pytest.fixture(scope="session")
def logits_of():
    """Return the function that the golden logits were made with."""
    return linear_logits


@pytest.fixture(scope="session")
def golden():
    """Return three photographs and two noise images with their logits and two taps."""
    images = np.random.default_rng(1).standard_normal((5, 3, 4, 4)).astype(np.float32)
    inner = images[0].reshape(-1)
    positions = np.array([0, 10, 47])
    return Golden(
        images=images,
        logits=linear_logits(images),
        names=("a", "b", "c", "noise-0", "noise-1"),
        sets=("photographs",) * 3 + ("noise",) * 2,
        taps={"stem": inner[positions], "stage1.0": 2 * inner[positions]},
        tap_positions={"stem": positions, "stage1.0": positions},
    )
