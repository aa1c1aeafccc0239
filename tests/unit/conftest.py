"""What the unit tests share: a small CSWin, a small Swin and tiny ONNX graphs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import settings

from elfatt_deploy.models.config import CSWinConfig

# The same examples on every machine, however slow it is, and nothing kept between runs.
settings.register_profile("elfatt", deadline=None, derandomize=True, database=None)
settings.load_profile("elfatt")


def _config(attention="elfatt", **changes):
    fields = {
        "embed_dim": 16,
        "depths": (1, 1, 2, 1),
        "heads": (2, 2, 2, 2),
        "levels": "1-2-3odd",
        "elsewhere": "global",
        "blocks_at_224": (7, 7, 14, 7),
        "classes": 10,
    }
    return CSWinConfig(attention=attention, **{**fields, **changes})


@pytest.fixture(scope="session")
def small_config():
    """Return a function from an attention (and changed fields) to a small configuration."""
    return _config


@pytest.fixture(scope="module")
def small_net():
    """Return a function that builds a small CSWin with seeded weights."""
    import torch

    from elfatt_deploy.models import seeded
    from elfatt_deploy.models.backbones import cswin

    def build(attention="elfatt", height=64, width=64, **changes):
        net = cswin.build(_config(attention, **changes), height, width)
        seeded.fill(net)
        return net

    # On a busy machine the threads of one tiny layer wait seconds for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield build
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def small_swin(small_net):
    """Return a function that builds a small Swin with seeded weights."""
    from elfatt_deploy.models import registry, seeded
    from elfatt_deploy.models.backbones import swin

    def build(attention="local", height=64, width=64, **changes):
        fields = {"embed_dim": 8, "depths": (2, 1, 2, 1), "heads": (2,) * 4, "classes": 10}
        config = registry.get(f"swin_t_{attention}").config
        net = swin.build(dataclasses.replace(config, **{**fields, **changes}), height, width)
        seeded.fill(net)
        return net

    return build


@pytest.fixture(scope="session")
def onnx_model():
    """Return a function that makes a float32 ONNX model; `x` is its input, `y` its output.

    `shape` is that of `x`, and that of the outputs where `made` does not say otherwise.
    """
    import onnx
    from onnx import helper

    def make(nodes, shape=(1, 4), *, opset=17, weights=(), domains=(), outputs=("y",), made=None):
        def values(names, dims):
            return [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, dims) for n in names]

        graph = helper.make_graph(
            [helper.make_node(op, i, o, name=name, **more) for op, i, o, name, more in nodes],
            "tiny",
            values(("x",), shape),
            values(outputs, made or shape),
            list(weights),
        )
        imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8)

    return make
