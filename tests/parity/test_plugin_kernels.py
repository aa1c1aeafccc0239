"""An ELFATT block with the plugin's node is at most 9 kernels; counted by the builder for RTX.

`benchmarks/plugin_kernels.py` counts whole models; here is one piece between two nodes of each
level that has two ELFATT blocks in a row.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from elfatt_deploy.engine import rtx
from elfatt_deploy.errors import EngineError
from elfatt_deploy.export import exporter, plugin, rewrites
from elfatt_deploy.graph import half, plugin_body, plugin_nodes, simplify
from elfatt_deploy.models import registry, seeded

pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")

#: kernels of a block, and how many of them are launches of the plugin
MOST, LAUNCHES = 9, 2


@pytest.fixture(scope="module")
def graph():
    """Return a typed FP16 graph with two ELFATT blocks of the CSWin-T shape at levels 1 and 2."""
    spec = registry.get("cswin_t_elfatt")
    config = dataclasses.replace(spec.config, depths=(2, 2, 1, 1), classes=10)
    model = dataclasses.replace(spec, name="short", config=config).build(224, 224)
    seeded.fill(model)
    proto = exporter.onnx_from_torch(
        rewrites.rewritten(plugin.with_nodes(model), "shifts"),
        torch.zeros(1, 3, 224, 224),
        opset=17,
        dynamic_batch=False,
    )
    proto = simplify.simplified(proto)
    simplify.drop_outputs(proto, exporter.OUTPUT)
    return half.mixed(proto, ())


@pytest.mark.parametrize("number", [1, 3], ids=["56x56", "28x28"])
def test_a_block_with_the_node_is_at_most_nine_kernels(number, graph):
    pieces = plugin_nodes.pieces(plugin_body.infer_shapes(graph, strict_mode=True))
    assert len(pieces) == 7
    found = rtx.kernels(pieces[number].SerializeToString())
    kernels = [kernel for kernel in found if kernel.kind not in rtx.EVENTS]
    # projection and residual, norm, two of the MLP; norm and projection of the next block
    assert len(kernels) == 6
    assert len(kernels) + LAUNCHES <= MOST


def test_the_builder_is_not_asked_for_a_graph_with_the_node(graph):
    with pytest.raises(EngineError, match="TensorRT for RTX has no plugin layers"):
        rtx.kernels(graph.SerializeToString())
