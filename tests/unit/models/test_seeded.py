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
        ("norm.running_mean", (40000,), 0.0, 0.1),
        ("blocks.0.gamma", (40000,), 0.3, 0.05),
        ("op.A_logs", (40000, 1), 0.0, 0.5),
        ("op.Ds", (40000,), 1.0, 0.1),
        ("op.dt_projs_bias", (4, 10000), -2.0, 0.5),
        ("op.dt_projs_weight", (4, 400, 25), 0.0, 0.2),
        ("op.x_proj_weight", (4, 100, 100), 0.0, 0.1),
        ("attn.scale", (1, 1, 40000), 0.0, 0.1),
        ("attn.positional_encoding", (1, 400, 100), 0.0, 0.2),
        ("attn.relative_position_bias_table", (10000, 4), 0.0, 0.2),
        *((f"attn.{kind}_bias", (1, 4, 100, 100), 0.0, 0.2) for kind in ("an", "na", "ah", "aw")),
        *((f"attn.{kind}_bias", (1, 4, 100, 100), 0.0, 0.2) for kind in ("ha", "wa")),
    ],
)
def test_each_kind_of_parameter_has_healthy_statistics(key, shape, mean, std):
    values = seeded.parameter(key, shape).astype(np.float64)
    assert values.mean() == pytest.approx(mean, abs=0.02 * std)
    assert values.std() == pytest.approx(std, rel=0.02)
    assert np.abs(values - mean).max() <= std * 2 * math.sqrt(3) * (1 + 1e-6)


def test_a_running_variance_is_positive_and_around_one():
    values = seeded.parameter("norm.running_var", (40000,)).astype(np.float64)
    assert values.min() >= 0.5
    assert values.max() <= 1.5
    assert values.mean() == pytest.approx(1, abs=0.01)
    assert values.std() == pytest.approx(12**-0.5, rel=0.02)


@pytest.mark.parametrize(
    ("key", "shape"), [("scales", (4,)), ("a.pos_embed", (1, 4)), ("a.weights", (4, 4)), ("", ())]
)
def test_a_parameter_that_no_rule_covers_is_named(key, shape):
    with pytest.raises(ModelError, match=f"no rule draws random values for '{key}'") as caught:
        seeded.parameter(key, shape)
    assert "weight or bias" in caught.value.hint


def test_fill_sets_every_parameter_by_its_name(small_net):
    net = small_net()
    seeded.fill(net, seed=5)
    for key, value in net.named_parameters():
        np.testing.assert_array_equal(
            value.detach().numpy(), seeded.parameter(key, tuple(value.shape), seed=5)
        )


def test_fill_sets_running_statistics_and_leaves_what_a_model_makes_itself():
    from torch import nn

    norm = nn.BatchNorm2d(8)
    norm.num_batches_tracked.fill_(7)
    norm.register_buffer("attn_mask", -100 * norm.running_var.clone())
    seeded.fill(norm)
    for key in ("weight", "bias", "running_mean", "running_var"):
        np.testing.assert_array_equal(norm.state_dict()[key].numpy(), seeded.parameter(key, (8,)))
    assert norm.num_batches_tracked == 7
    assert (norm.attn_mask == -100).all()
