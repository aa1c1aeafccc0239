"""Agent attention against its steps as the paper writes them, a head at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from elfatt_deploy.errors import ModelError
from elfatt_deploy.models.attention.agent import AgentAttention

HEADS, WIDTH, AGENTS = 2, 4, 4
MAPS = ((4, 4), (5, 7), (9, 3))


def _cells(image, side):
    """Return the mean of every cell, [B, C, side * side]; cells may overlap."""
    rows, cols = image.shape[2:]
    means = []
    for i in range(side):
        for j in range(side):
            top, bottom = math.floor(i * rows / side), math.ceil((i + 1) * rows / side)
            left, right = math.floor(j * cols / side), math.ceil((j + 1) * cols / side)
            means.append(image[:, :, top:bottom, left:right].mean((2, 3)))
    return torch.stack(means, -1)


def _resized(bias, rows, cols):
    """Return a table [h, n, 7, 7] on rows x cols by bilinear weights at half-pixel centres."""

    def weights(length):
        matrix = torch.zeros(length, 7, dtype=bias.dtype)
        for place in range(length):
            centre = min(max((place + 0.5) * 7 / length - 0.5, 0), 6)
            low = min(math.floor(centre), 5)
            matrix[place, low] += 1 - (centre - low)
            matrix[place, low + 1] += centre - low
        return matrix

    return torch.einsum("yi,hnij,xj->hnyx", weights(rows), bias, weights(cols))


def _formula(branch, rows, cols, q, k, v):
    """Return the attention of steps 1 to 4; [B, N, C]."""
    batch, count = q.shape[:2]
    image = q.transpose(1, 2).reshape(batch, -1, rows, cols)
    agents = _cells(image, 2).transpose(1, 2)
    first = _resized(branch.an_bias, rows, cols) + branch.ah_bias[0] + branch.aw_bias[0]
    second = _resized(branch.na_bias, rows, cols).flatten(2).transpose(1, 2)
    second = second + (branch.ha_bias + branch.wa_bias)[0].reshape(HEADS, count, AGENTS)
    outs = []
    for head in range(HEADS):
        part = slice(head * WIDTH, (head + 1) * WIDTH)
        qh, kh, vh, ah = (x[..., part] for x in (q, k, v, agents))
        read = (ah @ kh.transpose(1, 2) * WIDTH**-0.5 + first[head].reshape(AGENTS, count)).softmax(
            -1
        ) @ vh
        outs.append((qh @ ah.transpose(1, 2) * WIDTH**-0.5 + second[head]).softmax(-1) @ read)
    out = torch.cat(outs, -1)
    if branch.conv:
        conv = branch.get_submodule(branch.conv)
        image = v.transpose(1, 2).reshape(batch, -1, rows, cols)
        local = functional.conv2d(image, conv.weight, conv.bias, padding=1, groups=HEADS * WIDTH)
        out = out + local.flatten(2).transpose(1, 2)
    return out


@pytest.mark.parametrize(
    ("changes", "conv"),
    [({}, "get_v"), ({"lepe": False}, ""), ({"backbone": "swin", "lepe": False}, "dwc")],
    ids=["cswin", "without LePE", "swin"],
)
@pytest.mark.parametrize(("rows", "cols"), MAPS)
def test_the_branch_and_its_exported_form_give_what_the_steps_give(
    rows, cols, changes, conv, branch_of, tokens_of
):
    branch, (q, k, v) = branch_of("agent", rows, cols, **changes), tokens_of(rows, cols)
    assert branch.conv == conv
    exported = branch.exported()
    with torch.no_grad():
        expected = _formula(branch, rows, cols, q, k, v).reshape(-1, HEADS * WIDTH)
        torch.testing.assert_close(branch(q, k, v), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(exported(q, k, v), expected, rtol=0, atol=1e-12)
    assert exported.exported() is exported


def test_the_exported_form_has_no_pooling_and_no_table(branch_of):
    exported = branch_of("agent", 5, 7).exported()
    assert [name for name, _ in exported.named_parameters()] == ["get_v.weight", "get_v.bias"]
    assert exported.cells.shape == (AGENTS, 35)


@given(rows=st.integers(1, 20), cols=st.integers(1, 20), side=st.integers(1, 7))
def test_constant_cells_are_those_of_adaptive_pooling(rows, cols, side):
    branch = AgentAttention(2, 1, side * side, rows, cols, conv="").double()
    generator = torch.Generator().manual_seed(rows + 100 * cols + 10000 * side)
    q = torch.randn(1, rows * cols, 2, generator=generator, dtype=torch.float64)
    image = q.transpose(1, 2).reshape(1, 2, rows, cols)
    pooled = functional.adaptive_avg_pool2d(image, (side, side)).flatten(2).transpose(1, 2)
    expected = pooled * 2**-0.5
    for form in (branch, branch.exported()):
        torch.testing.assert_close(form.agent_tokens(q), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("agents", [2, 8, 10, 48])
def test_agents_that_fill_no_square_are_refused(agents, branch_of):
    with pytest.raises(ModelError, match=f"{agents} agents do not fill a square") as caught:
        branch_of("agent", 8, 8, agents=agents)
    assert "--set agents" in caught.value.hint
