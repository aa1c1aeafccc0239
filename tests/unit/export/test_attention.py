"""The attention of one block alone: the graph computes what torch does, and its memory is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from elfatt_deploy.errors import ExportError
from elfatt_deploy.export import attention
from elfatt_deploy.graph import simplify
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.context import AttentionContext
from elfatt_deploy.models.attention.layers import Branch
from elfatt_deploy.runners.ort_runner import OrtRunner

ALL = tuple(registry.ATTENTIONS)


def _context(rows=14, cols=14, **changes):
    return AttentionContext(**{"dim": 32, "heads": 2, "rows": rows, "cols": cols, **changes})


@pytest.mark.parametrize("size", [(14, 14), (9, 15)], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_the_graph_gives_what_the_untouched_module_gives(name, size):
    module = attention.build(name, _context(*size))
    example = attention.example(module)
    proto = attention.onnx_from_attention(module, example, opset=17)
    assert [value.name for value in proto.graph.input] == list(module.input_names)
    assert proto.opset_import[0].version == 17
    with OrtRunner(simplify.simplified(proto).SerializeToString(), threads=1) as runner:
        found = runner.infer(example.feeds)[attention.OUTPUT]
    assert found.shape == (size[0] * size[1], 32)
    np.testing.assert_allclose(found, example.expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ALL)
def test_no_projection_is_timed_with_the_attention(name):
    """Inputs come as an exported model's projections give them: scaled, one triple a branch."""
    module = attention.build(name, _context())
    example = attention.example(module)
    proto = attention.onnx_from_attention(module, example, opset=17)
    assert "Gemm" not in {node.op_type for node in proto.graph.node}
    assert len(example.feeds) == 3 * len(module.parts)
    spread = {key: value.std() for key, value in example.feeds.items() if key.startswith("v")}
    assert all(0.9 < std < 1.1 for std in spread.values())


def test_q_comes_scaled():
    module = attention.build("global", _context())
    example = attention.example(module)
    assert example.feeds["q"].std() == pytest.approx(16**-0.5, rel=0.05)
    assert example.feeds["k"].std() == pytest.approx(1, rel=0.05)


def test_the_seed_changes_weights_and_inputs():
    one, other = (attention.build("elfatt", _context(), seed=seed) for seed in (0, 1))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    first, again, second = (attention.example(one, seed).feeds["q0"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


def test_the_score_matrix_of_global_attention_is_its_largest_tensor():
    for side in (14, 56):
        found = attention.largest_tensor_bytes("global", _context(side, side))
        assert found == 2 * (side * side) ** 2 * 4


@pytest.mark.parametrize("name", ALL)
def test_memory_is_told_without_taking_it(name):
    """A map of 4096x4096 tokens would take terabytes."""
    found = attention.largest_tensor_bytes(name, _context(4096, 4096, block=8, heads=2))
    assert found >= 4 * 4096**2 * 16


class _OwnSoftmax(Branch):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, q, k, v):
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return out.reshape(-1, self.channels)


class _Broken(_OwnSoftmax):
    def forward(self, q, k, v):
        raise ValueError("planted")


@pytest.fixture
def own(monkeypatch):
    """Return a function that registers a mechanism of one branch for this test alone."""

    def register(branch):
        monkeypatch.setattr(
            attention.registry, "attention_branches", lambda name, context: (branch(context.dim),)
        )

    return register


def test_the_scores_that_a_fused_kernel_hides_are_counted(own):
    own(_OwnSoftmax)
    assert attention.largest_tensor_bytes("own", _context(56, 56)) == 4 * (56 * 56) ** 2


def test_a_mechanism_that_does_not_run_is_named(own):
    own(_Broken)
    with pytest.raises(ExportError, match="attention 'own' does not run on 14x14 .*planted"):
        attention.largest_tensor_bytes("own", _context())
