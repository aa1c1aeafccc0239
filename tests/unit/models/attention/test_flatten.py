"""Focused linear attention against its steps as the paper writes them, a head at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

HEADS, WIDTH = 2, 4
MAPS = ((4, 4), (5, 7), (6, 3))


def _image(tokens, rows, cols):
    """Turn tokens [B, N, c] into a map [B, c, rows, cols]."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, cols)


def _formula(branch, rows, cols, q, k, v):
    """Return the attention of steps 1 to 6; [B, N, C]."""
    k = k + branch.positional_encoding
    q, k = ((torch.relu(x) + 1e-6) / functional.softplus(branch.scale) for x in (q, k))
    q, k = (
        x**3 * (x.norm(dim=-1, keepdim=True) / (x**3).norm(dim=-1, keepdim=True)) for x in (q, k)
    )
    outs, count = [], rows * cols
    for head in range(HEADS):
        part = slice(head * WIDTH, (head + 1) * WIDTH)
        qh, kh, vh = q[..., part], k[..., part], v[..., part]
        z = 1 / ((qh * kh.mean(1, keepdim=True)).sum(-1, keepdim=True) + 1e-6)
        state = (kh.transpose(1, 2) * count**-0.5) @ (vh * count**-0.5)
        local = functional.conv2d(
            _image(vh, rows, cols), branch.dwc.weight, branch.dwc.bias, padding=2, groups=WIDTH
        )
        outs.append(qh @ state * z + local.flatten(2).transpose(1, 2))
    out = torch.cat(outs, -1)
    if branch.get_v is not None:
        image, conv = _image(v, rows, cols), branch.get_v
        lepe = functional.conv2d(image, conv.weight, conv.bias, padding=1, groups=HEADS * WIDTH)
        out = out + lepe.flatten(2).transpose(1, 2)
    return out


@pytest.mark.parametrize("lepe", [True, False])
@pytest.mark.parametrize(("rows", "cols"), MAPS)
def test_the_branch_gives_what_the_steps_give(rows, cols, lepe, branch_of, tokens_of):
    branch, (q, k, v) = branch_of("flatten", rows, cols, lepe=lepe), tokens_of(rows, cols)
    with torch.no_grad():
        expected = _formula(branch, rows, cols, q, k, v).reshape(-1, HEADS * WIDTH)
        torch.testing.assert_close(branch(q, k, v), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lepe", [True, False])
@pytest.mark.parametrize(("rows", "cols"), MAPS)
def test_the_exported_form_takes_q_and_k_with_their_gains(rows, cols, lepe, branch_of, tokens_of):
    branch, (q, k, v) = branch_of("flatten", rows, cols, lepe=lepe), tokens_of(rows, cols)
    gains = branch.gains()
    exported = branch.exported()
    with torch.no_grad():
        found = exported(q * gains[0], k * gains[1], v)
        torch.testing.assert_close(found, branch(q, k, v), rtol=0, atol=1e-12)
    assert exported.exported() is exported
    convolutions = [m for m in exported.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [tuple(conv.weight.shape) for conv in convolutions] == [(8, 1, 5, 5)]


def test_the_gains_are_one_over_the_softplus_of_the_scale(branch_of):
    branch = branch_of("flatten", 4, 4)
    with torch.no_grad():
        expected = 1 / torch.log1p(branch.scale.exp())[0, 0]
    for gain in branch.gains():
        torch.testing.assert_close(gain, expected, rtol=1e-12, atol=0)


def test_a_token_of_no_positive_value_gives_no_nan(branch_of, tokens_of):
    branch, (_, k, v) = branch_of("flatten", 4, 4), tokens_of(4, 4)
    with torch.no_grad():
        assert branch(torch.full_like(k, -5), k, v).isfinite().all()
        assert branch.float()(torch.full_like(k, -5).float(), k.float(), v.float()).isfinite().all()


def test_the_number_of_tokens_is_in_the_encoding(branch_of):
    branch = branch_of("flatten", 5, 7)
    shapes = {key: tuple(value.shape) for key, value in branch.state_dict().items()}
    assert shapes == {
        "positional_encoding": (1, 35, 8),
        "scale": (1, 1, 8),
        "dwc.weight": (4, 1, 5, 5),
        "dwc.bias": (4,),
        "get_v.weight": (8, 1, 3, 3),
        "get_v.bias": (8,),
    }
