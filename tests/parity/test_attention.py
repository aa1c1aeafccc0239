"""Attention alone, against a loop-based float64 oracle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from elfatt_deploy.models import seeded
from elfatt_deploy.models.attention.layers import LinearAttention, WindowAttention, Windows

FOLDER = Path(__file__).parents[1] / "data" / "golden"
CASES = json.loads((FOLDER / "attention_cases.json").read_text())


def _linear(case, channels, heads):
    return LinearAttention(channels, heads, case["H"], case["W"], lepe=case["lepe"])


def _window(case, channels, heads, block):
    windows = Windows(case["H"], case["W"], *block)
    return WindowAttention(channels, heads, windows, lepe=case["lepe"])


def _parts(case):
    """Return (name of its LePE, branch) for the parts of a case, in channel order."""
    c1, c2 = case["c1"], case["c2"]
    if case["kind"] == "global_linear":
        return [("lepe_global", _linear(case, c1, case["global_heads"]))]
    if case["kind"] == "vanilla":
        whole = (case["H"], case["W"])
        return [("lepe_local", _window(case, c2, case["local_heads"], whole))]
    local = ("lepe_local", _window(case, c2, case["local_heads"], case["block"]))
    if case["kind"] == "local":
        return [local]
    return [("lepe_global", _linear(case, c1, case["global_heads"])), local]


def _noise(case, tensor, shape, gain):
    return seeded.unit_noise(f"attn:{case['name']}:{tensor}", shape) * gain


def _outputs(case, dtype):
    shape = (case["B"], case["H"] * case["W"], case["C"])
    gains = {"q": case["q_scale"], "k": case["k_scale"], "v": 1.0}
    qkv = [
        torch.from_numpy(_noise(case, name, shape, gain).astype(np.float32)).to(dtype)
        for name, gain in gains.items()
    ]
    outputs, start = [], 0
    for lepe, branch in _parts(case):
        branch.to(dtype)
        if branch.get_v is not None:
            weight = _noise(case, f"{lepe}.weight", (branch.channels, 1, 3, 3), 1 / 3)
            bias = _noise(case, f"{lepe}.bias", (branch.channels,), 0.05)
            values = {"weight": weight, "bias": bias}
            branch.get_v.load_state_dict(
                {key: torch.from_numpy(value.astype(np.float32)) for key, value in values.items()}
            )
        q, k, v = (t[..., start : start + branch.channels] for t in qkv)
        with torch.no_grad():
            outputs.append(branch(q * branch.q_scale, k, v))
        start += branch.channels
    return torch.cat(outputs, -1).numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_attention_equals_the_oracle(case, golden_positions):
    with np.load(FOLDER / case["npz"]) as vectors:
        for dtype, tolerance in ((torch.float64, 1e-8), (torch.float32, 2e-5)):
            values = _outputs(case, dtype).reshape(-1)
            positions = golden_positions(values.size, len(vectors["out/sample"]))
            np.testing.assert_allclose(
                values[positions], vectors["out/sample"], rtol=0, atol=tolerance
            )
            if "out/full" in vectors.files:
                np.testing.assert_allclose(
                    values, vectors["out/full"].reshape(-1), rtol=0, atol=tolerance
                )
