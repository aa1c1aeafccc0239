"""What the tests of the mechanisms share: a branch with seeded weights, and tokens for it."""

from __future__ import annotations

import pytest
import torch

from elfatt_deploy.models import registry, seeded
from elfatt_deploy.models.attention.context import AttentionContext


def _branch(name, rows, cols, **changes):
    fields = {"dim": 8, "heads": 2, "rows": rows, "cols": cols, "agents": 4, **changes}
    (branch,) = registry.attention_branches(name, AttentionContext(**fields))
    seeded.fill(branch.double())
    return branch


def _tokens(rows, cols, channels=8, batch=2):
    noise = seeded.unit_noise(f"qkv {rows}x{cols}", (3, batch, rows * cols, channels))
    return tuple(torch.from_numpy(noise))


@pytest.fixture(scope="session")
def branch_of():
    """Return a function: mechanism, rows, columns and changes of the block to a float64 branch."""
    return _branch


@pytest.fixture(scope="session")
def tokens_of():
    """Return a function: rows and columns to q, k and v, each [2, N, 8] of unit noise."""
    return _tokens
