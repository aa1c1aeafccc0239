"""Blocks with the plugin's node compute what they did, and only those that it covers have one."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from elfatt_deploy.errors import ExportError
from elfatt_deploy.export import exporter, plugin, rewrites
from elfatt_deploy.export.plugin import PluginBlock
from elfatt_deploy.graph import plugin_nodes
from elfatt_deploy.models import counting, registry
from elfatt_deploy.models.backbones.layers import Block

#: heads of 16 to 64 channels, which the kernels take
WIDE = {"embed_dim": 32, "heads": (2, 4, 8, 16)}
NODE = ["rows", "cols", "global_channels", "global_heads", "local_heads", "block_rows",
        "block_cols", "lepe"]  # fmt: skip


def _images(height=64, width=64, batch=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)


def _nodes(net):
    found = (m.attention.node for m in net.modules() if isinstance(m, PluginBlock))
    return [tuple(getattr(node, name) for name in NODE) for node in found]


@pytest.mark.parametrize(
    ("size", "lepe", "local"),
    [((64, 64), True, "shifts"), ((72, 104), True, "convolution"), ((72, 104), False, "shifts")],
    ids=["even", "padded", "padded without LePE"],
)
@pytest.mark.parametrize(
    ("attention", "changes"),
    [
        ("elfatt", {}), ("effatt", {}), ("global", {}), ("elfatt", {"global_ratio": 0.0}),
        ("elfatt", {"global_ratio": 0.25, "embed_dim": 64}),
    ],
    ids=["elfatt", "effatt", "global", "block part alone", "quarter"],
)  # fmt: skip
def test_a_model_with_nodes_keeps_its_logits(attention, changes, size, lepe, local, small_net):
    net = small_net(attention, *size, lepe=lepe, **{**WIDE, **changes}).double()
    changed = rewrites.rewritten(plugin.with_nodes(net), local)
    assert plugin.blocks_of(changed) == (5, 5)
    images = _images(*size)
    with torch.no_grad():
        torch.testing.assert_close(changed(images), net(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("attention", ["effatt", "global"])
def test_a_swin_model_with_nodes_keeps_its_logits(attention, small_swin):
    net = small_swin(attention, **WIDE).double()
    changed = rewrites.rewritten(plugin.with_nodes(net))
    assert plugin.blocks_of(changed) == (6, 6)
    with torch.no_grad():
        torch.testing.assert_close(changed(_images()), net(_images()), rtol=1e-12, atol=1e-12)


def test_the_original_is_left_as_it_is(small_net):
    net = small_net(**WIDE)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kinds = [type(module) for module in net.modules()]
    rewrites.rewritten(plugin.with_nodes(net))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert [type(module) for module in net.modules()] == kinds


def test_nodes_are_told_the_block(small_net):
    net = plugin.with_nodes(small_net(height=224, width=224, **WIDE))
    assert _nodes(net) == [
        (56, 56, 16, 1, 1, 7, 7, 1),
        (28, 28, 32, 2, 2, 7, 7, 1),
        (14, 14, 0, 0, 8, 14, 14, 1),  # VaniATT: the whole map
        (14, 14, 64, 4, 4, 14, 14, 1),
        (7, 7, 0, 0, 16, 7, 7, 1),
    ]
    whole = plugin.with_nodes(small_net("effatt", 224, 224, **WIDE))
    assert _nodes(whole)[0] == (56, 56, 32, 2, 0, 0, 0, 1)


def test_heads_that_the_kernels_do_not_take_stay_in_plain_ops(small_net):
    net = small_net()  # level 1: heads of 8 channels
    changed = plugin.with_nodes(net)
    assert plugin.blocks_of(changed) == (4, 5)
    assert isinstance(changed.get_submodule("stage1.0"), Block)
    with torch.no_grad():
        images = _images().float()
        torch.testing.assert_close(changed(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["flatten", "agent", "local"])
def test_other_mechanisms_stay_in_plain_ops(attention, small_net):
    net = small_net(attention, levels="1-2", elsewhere="local", **WIDE)
    changed = plugin.with_nodes(net)  # the last level of LOCAL is VaniATT
    kinds = {type(changed.get_submodule(f"stage{level}.0")) for level in (1, 2)}
    assert kinds == {Block}
    assert isinstance(changed.get_submodule("stage4.0"), PluginBlock)


def test_a_model_without_a_covered_block_is_an_error(small_swin):
    net = small_swin("local", **WIDE)
    with pytest.raises(ExportError, match=r"covers none of the model's attention blocks \(6 "):
        plugin.with_nodes(net)


def test_counts_are_those_of_the_model(small_config):
    spec = registry.get("cswin_t_elfatt")
    spec = dataclasses.replace(spec, config=small_config(**WIDE))
    with torch.device("meta"):
        net = spec.build(72, 104).requires_grad_(False)
    changed = plugin.with_nodes(net)
    plain, with_nodes = (counting.count_module(m, 72, 104) for m in (net, changed))
    assert with_nodes.macs == plain.macs
    assert with_nodes.softmax_attention_macs == plain.softmax_attention_macs
    for block in changed.modules():
        if isinstance(block, PluginBlock):
            node = block.attention.node
            with torch.device("meta"):
                qkv = torch.empty(1, node.tokens, 3 * block.attention.channels)
            assert _macs(block.attention, qkv) == node.macs(block.attention.channels)


def _macs(module, value):
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(value)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("lepe", [True, False])
def test_an_exported_node_has_the_attributes_and_weights_of_its_contract(opset, lepe, small_net):
    net = plugin.with_nodes(small_net(lepe=lepe, **WIDE))
    images = torch.zeros(2, 3, 64, 64)
    model = exporter.onnx_from_torch(
        rewrites.rewritten(net), images, opset=opset, dynamic_batch=True
    )
    nodes = plugin_nodes.plugin_nodes(model)
    assert len(nodes) == 5
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset), ("elfatt", 1)]
    assert not model.functions
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    told = [tuple(getattr(plugin_nodes.attributes_of(n), name) for name in NODE) for n in nodes]
    assert told == _nodes(net)
    texts = {a.name: a.s for a in nodes[0].attribute if a.s}
    assert texts == {"plugin_version": b"1", "plugin_namespace": b"elfatt"}
    assert [plugin_nodes.channels_of(n, weights) for n in nodes] == (
        [32, 64, 128, 128, 256] if lepe else [None] * 5
    )
