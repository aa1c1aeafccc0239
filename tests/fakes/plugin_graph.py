"""The plugin's node alone in a graph."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from elfatt_deploy.models.plugin_node import PluginNode

ELFATT = PluginNode(
    rows=6, cols=5, global_channels=16, global_heads=1, local_heads=1,
    block_rows=4, block_cols=3, lepe=1,
)  # fmt: skip


def model(node=ELFATT, channels=32, *, weights=None, half=False, opset=17, **told):
    """Return a graph of one node, which reads `qkv` [B, N, 3C] and makes `out` [B, N, C].

    `weights` are LePE's [C, 9] and [C]; `told` changes attributes, None takes one away.
    """
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    if weights is None and node.lepe:
        chance = np.random.default_rng(0)
        weights = [chance.standard_normal((channels, 9)) / 3, chance.standard_normal(channels)]
    dtype = np.float16 if half else np.float32
    named = zip(("taps", "bias"), weights or (), strict=False)
    stored = [numpy_helper.from_array(np.asarray(v, dtype), name) for name, v in named]
    attributes = {
        **dataclasses.asdict(node), "plugin_version": "1", "plugin_namespace": "elfatt", **told,
    }  # fmt: skip
    attributes = {name: value for name, value in attributes.items() if value is not None}
    made = helper.make_node(
        "ElfattAttention", ["qkv", *(t.name for t in stored)], ["out"], name="attend",
        domain="elfatt", **attributes,
    )  # fmt: skip
    values = [
        helper.make_tensor_value_info(name, kind, ["B", node.rows * node.cols, width])
        for name, width in (("qkv", 3 * channels), ("out", channels))
    ]
    graph = helper.make_graph([made], "node", values[:1], values[1:], stored)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("elfatt", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    onnx.checker.check_model(model)
    return model
