"""The NumPy reference of the plugin against the golden attention cases."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((FOLDER / "attention_cases.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_reference_equals_the_oracle(case, plugin, golden_positions):
    found = plugin.golden_case(case).exact().reshape(-1)
    with np.load(FOLDER / case["npz"]) as vectors:
        sample = vectors["out/sample"]
        positions = golden_positions(found.size, len(sample))
        np.testing.assert_allclose(found[positions], sample, rtol=0, atol=1e-12)
        if "out/full" in vectors.files:
            full = vectors["out/full"].reshape(-1)
            np.testing.assert_allclose(found, full, rtol=0, atol=1e-12)


def test_padding_takes_part_in_the_softmax(plugin):
    """One token alone in a block of four: Q K^T is 0 for the three others, whose V is 0."""
    shape = plugin.elfatt_shape(
        1, 16, 1, 2, global_channels=0, global_heads=0, local_heads=1, lepe=False
    )
    qkv = np.zeros((1, 1, 48))
    qkv[..., 32:] = 8.0
    np.testing.assert_allclose(plugin.reference.attention(shape, qkv), 2.0)


def test_the_linear_part_of_equal_keys_is_the_mean_of_the_values(plugin):
    shape = plugin.elfatt_shape(
        3, 16, 1, 0, global_channels=16, local_heads=0, block_cols=0, lepe=False
    )
    case = plugin.random_case(shape, 0)
    case.qkv[..., 16:32] = 5.0
    mean = case.qkv[..., 32:].mean(1, keepdims=True, dtype=np.float64)
    np.testing.assert_allclose(case.exact(), np.broadcast_to(mean, (1, 9, 16)), atol=1e-12)


def test_images_of_a_batch_do_not_mix(plugin):
    shape = plugin.elfatt_shape(5, 32, 1, 4, batch=2)
    both = plugin.random_case(shape, 1)
    alone = dataclasses.replace(both, shape=dataclasses.replace(shape, batch=1), qkv=both.qkv[1:])
    np.testing.assert_array_equal(both.exact()[1:], alone.exact())
