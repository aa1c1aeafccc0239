"""Seeded weights are the same numbers everywhere, for ever."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models import seeded

STEM = ("stage1_conv_embed.0.weight", (64, 3, 7, 7))


def test_seed_0_gives_the_numbers_of_the_golden_vectors():
    values = seeded.parameter(*STEM)
    assert (values.dtype, values.shape) == (np.float32, STEM[1])
    assert hashlib.sha256(values.tobytes()).hexdigest()[:16] == "5902b06abfc50107"


def test_names_and_seeds_give_numbers_of_their_own():
    base = seeded.parameter(*STEM)
    np.testing.assert_array_equal(base, seeded.parameter(*STEM, seed=0))
    for other in (seeded.parameter(*STEM, seed=1), seeded.parameter("a.weight", STEM[1])):
        assert abs(np.corrcoef(base.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("key", "shape", "mean", "std"),
    [
        ("fc.weight", (400, 100), 0.0, 0.1),
        ("conv.weight", (400, 4, 5, 5), 0.0, 0.1),
        ("norm.weight", (40000,), 1.0, 0.1),
        ("norm.bias", (40000,), 0.0, 0.05),
    ],
)
def test_each_kind_of_parameter_has_healthy_statistics(key, shape, mean, std):
    values = seeded.parameter(key, shape).astype(np.float64)
    assert values.mean() == pytest.approx(mean, abs=0.002)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert np.abs(values - mean).max() <= std * 2 * math.sqrt(3) * (1 + 1e-6)


@pytest.mark.parametrize(("key", "shape"), [("gamma", (4,)), ("a.pos_embed", (1, 4)), ("", ())])
def test_a_parameter_that_no_rule_covers_is_named(key, shape):
    with pytest.raises(ModelError, match=f"no rule draws a random parameter '{key}'") as caught:
        seeded.parameter(key, shape)
    assert caught.value.hint


def test_fill_sets_every_parameter_by_its_name(small_net):
    net = small_net()
    seeded.fill(net, seed=5)
    for key, value in net.named_parameters():
        np.testing.assert_array_equal(
            value.detach().numpy(), seeded.parameter(key, tuple(value.shape), seed=5)
        )
