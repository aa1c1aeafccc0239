"""The selective scan against the recurrence, one step at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from elfatt_deploy.models import seeded
from elfatt_deploy.models.attention import scan

CHANNELS, RANK = 6, 2


def _noise(name, *shape):
    return torch.from_numpy(seeded.unit_noise(name, shape))


def _one_by_one(decay, drive):
    """Return the states of the recurrence along the third axis, a step after the other."""
    state, states = torch.zeros_like(drive[:, :, 0]), []
    for step in range(drive.shape[2]):
        state = decay[:, :, step] * state + drive[:, :, step]
        states.append(state)
    return torch.stack(states, 2)


def _padded(values, steps):
    """Repeat the last step until there are as many as the blocks cover."""
    return torch.cat([values, values[:, :, -1:].expand(-1, -1, steps - values.shape[2], -1)], 2)


@given(st.integers(1, 5000))
def test_the_blocks_cover_the_sequence_in_as_few_levels_as_can_be(length):
    blocks = scan.block_lengths(length)
    assert math.prod(blocks) >= length
    assert all(1 <= block <= 8 for block in blocks)
    assert 8 ** (len(blocks) - 1) < length or len(blocks) == 1
    assert list(blocks) == sorted(blocks, reverse=True)


@pytest.mark.parametrize(
    ("length", "blocks"),
    [(1, (1,)), (7, (7,)), (49, (7, 7)), (196, (7, 7, 4)), (784, (7, 7, 4, 4))],
)
def test_the_maps_of_224_pixels_are_covered_without_excess(length, blocks):
    assert scan.block_lengths(length) == blocks


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300))
def test_the_recurrence_of_any_length_is_that_of_single_steps(length):
    blocks = scan.block_lengths(length)
    steps = math.prod(blocks)
    decay = _padded(torch.sigmoid(3 * _noise("decay", 2, 4, length, 3)), steps)
    drive = _padded(_noise("drive", 2, 4, length, 3), steps)
    found = scan.linear_recurrence(decay, drive, blocks)
    torch.testing.assert_close(found, _one_by_one(decay, drive), rtol=0, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 1e-300, 1e-30, 1.0])
def test_vanishing_and_lasting_states_stay_exact(decay):
    drive = _noise("drive", 1, 4, 343, 2)
    decays = torch.full_like(drive, decay)
    found = scan.linear_recurrence(decays, drive, (7, 7, 7))
    torch.testing.assert_close(found, _one_by_one(decays, drive), rtol=1e-12, atol=1e-12)


def test_the_four_orders_go_by_row_by_column_and_back():
    assert scan.scan_orders(2, 3).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


def _weights():
    return scan.ScanWeights(
        rank=RANK,
        project=_noise("project", 4 * (RANK + 2), CHANNELS),
        steps=_noise("steps", 4, RANK, CHANNELS),
        steps_bias=_noise("bias", 4, 1, CHANNELS) - 1,
        rates=-torch.exp(_noise("rates", 4, 1, CHANNELS)),
        skip=_noise("skip", CHANNELS),
    )


def _by_the_equations(u, weights, rows, cols):
    """Scan tokens [B, N, C] in each direction with the steps of the module's docstring."""
    total = u * weights.skip
    matrices = weights.project.reshape(4, RANK + 2, CHANNELS)
    for k, order in enumerate(scan.scan_orders(rows, cols).tolist()):
        state = torch.zeros_like(u[:, 0])
        for token in order:
            x = u[:, token]
            numbers = x @ matrices[k].t()
            x_delta = numbers[:, :RANK] @ weights.steps[k] + weights.steps_bias[k]
            delta = torch.log1p(torch.exp(x_delta))
            into, out = numbers[:, RANK, None], numbers[:, RANK + 1, None]
            state = torch.exp(delta * weights.rates[k]) * state + delta * into * x
            total[:, token] += out * state
    return total


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 5), (5, 1), (3, 4), (7, 7), (11, 13)])
def test_a_map_is_scanned_in_four_directions(rows, cols):
    u, weights = _noise("u", 2, rows * cols, CHANNELS), _weights()
    found = scan.FourScans(CHANNELS, rows, cols).scanned(u.reshape(-1, CHANNELS), weights)
    expected = _by_the_equations(u, weights, rows, cols).reshape(-1, CHANNELS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


def test_the_scans_have_no_state_of_their_own():
    module = scan.FourScans(CHANNELS, 5, 5)
    assert not module.state_dict()
    assert not list(module.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_exported_softplus_is_softplus_for_any_number(dtype, monkeypatch):
    x = torch.tensor([-1e4, -90, -20, -1, -1e-3, 0, 1e-3, 1, 20, 45, 90, 1e4], dtype=dtype)
    expected = torch.logaddexp(x.double(), torch.zeros(()).double())
    plain = scan.softplus(x)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    exported = scan.softplus(x)
    limit = 4 * torch.finfo(dtype).eps
    for found in (plain, exported):
        torch.testing.assert_close(found.double(), expected, rtol=limit, atol=limit)
