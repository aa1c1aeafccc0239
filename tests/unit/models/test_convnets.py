"""EfficientViT and ConvNeXt: names, any input size, the attention, and what an export folds."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from elfatt_deploy.errors import ModelError
from elfatt_deploy.export import exporter, rewrites
from elfatt_deploy.graph import simplify
from elfatt_deploy.models import seeded
from elfatt_deploy.models.backbones import convnext, efficientvit
from elfatt_deploy.models.config import ConvNeXtConfig, EfficientViTConfig

FULL = {
    "efficientvit_b2": (efficientvit, EfficientViTConfig()),
    "efficientvit_b2_timm": (efficientvit, EfficientViTConfig(keys="timm")),
    "convnext_t": (convnext, ConvNeXtConfig()),
    "convnext_t_timm": (convnext, ConvNeXtConfig(keys="timm")),
}
SMALL = {
    "efficientvit": (
        efficientvit,
        EfficientViTConfig(
            widths=(8, 8, 16, 32, 32), depths=(1, 2, 2, 1, 1), head_dim=8, head_widths=(40, 48)
        ),
    ),
    "convnext": (convnext, ConvNeXtConfig(depths=(1, 1, 2, 1), dims=(8, 16, 24, 32))),
}
FAMILIES = tuple(SMALL)
BLOCKS = 5  # of the small ConvNeXt


def _small(family, height=64, width=64, **changes):
    """Return a small network with seeded weights."""
    module, config = SMALL[family]
    config = dataclasses.replace(config, classes=10, **changes)
    net = module.build(config, height, width)
    seeded.fill(net)
    return net


def _images(batch, height=64, width=64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", FULL)
def test_keys_are_those_of_the_repository(name, golden_folder):
    module, config = FULL[name]
    entries = json.loads((golden_folder / f"{name}.json").read_text())["state_dict"]
    with torch.device("meta"):
        state = module.build(config, 224, 224).state_dict()
    assert {key: list(t.shape) for key, t in state.items()} == {
        entry["name"]: entry["shape"] for entry in entries
    }


@pytest.mark.parametrize("name", ["efficientvit_b2_timm", "convnext_t_timm"])
def test_each_timm_key_names_the_tensor_of_its_official_key(name, golden_folder):
    module, config = FULL[name]
    _, official = FULL[name.removesuffix("_timm")]
    entries = json.loads((golden_folder / f"{name}.json").read_text())["state_dict"]
    with torch.device("meta"):
        theirs = list(module.build(config, 224, 224).state_dict())
        ours = list(module.build(official, 224, 224).state_dict())
    assert dict(zip(theirs, ours, strict=True)) == {e["name"]: e["same_as"] for e in entries}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_names_are_one_network(family):
    official, timm = _small(family).double(), _small(family, keys="timm").double()
    timm.load_state_dict(
        dict(zip(timm.state_dict(), official.state_dict().values(), strict=True)), strict=True
    )
    images = _images(1)
    with torch.no_grad():
        torch.testing.assert_close(timm(images), official(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (33, 63), (64, 96), (100, 70)])
@pytest.mark.parametrize("keys", ["official", "timm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_any_input_size_works_and_images_do_not_mix(family, keys, size):
    net = _small(family, *size, keys=keys).double()
    images = _images(3, *size)
    with torch.no_grad():
        logits = net(images)
        alone = torch.cat([net(images[i : i + 1]) for i in range(3)])
    assert logits.shape == (3, 10)
    assert logits.std() > 0.01
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-6 if keys == "timm" else 1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_input_is_refused(family):
    with pytest.raises(ModelError, match="31x64 is too small"):
        _small(family, 31, 64)


def _attention_by_loops(attention, x):
    """Return the attention with the scores formed first, head by head: the other order."""
    qkv = attention.qkv(x)
    scales, d = torch.cat((qkv, attention.aggreg[0](qkv)), 1).numpy(), attention.head_dim
    batch, channels, rows, cols = scales.shape
    out = np.empty((batch, channels // 3, rows, cols))
    for image in range(batch):
        for head in range(channels // (3 * d)):
            part = scales[image, 3 * d * head : 3 * d * (head + 1)].reshape(3, d, -1)
            q, k, v = np.maximum(part[0], 0), np.maximum(part[1], 0), part[2]
            scores = k.T @ q
            mixed = v @ (scores / (scores.sum(0) + attention.eps))
            out[image, d * head : d * (head + 1)] = mixed.reshape(d, rows, cols)
    return attention.proj(torch.from_numpy(out))


@pytest.mark.parametrize("side", [2, 7], ids=["fewer tokens than channels", "more"])
@pytest.mark.parametrize("eps", [1e-15, 1e-5])
def test_the_attention_is_its_equation_in_either_order(eps, side):
    attention = efficientvit.MultiScaleAttention(16, 8, side, side, eps=eps, float32=False)
    seeded.fill(attention)
    attention = attention.double().eval()
    x = _images(2, side, side).repeat(1, 6, 1, 1)[:, :16]
    with torch.no_grad():
        torch.testing.assert_close(
            attention(x), _attention_by_loops(attention, x), rtol=1e-10, atol=1e-10
        )


def test_the_attention_is_nothing_where_no_query_and_no_key_is_positive():
    attention = efficientvit.MultiScaleAttention(8, 8, 3, 3, eps=1e-15, float32=False).eval()
    nn.init.constant_(attention.qkv.conv.weight, -1.0)
    for parameter in attention.aggreg.parameters():
        nn.init.constant_(parameter, 1.0)
    with torch.no_grad():
        found = attention(torch.ones(1, 8, 3, 3))
        nothing = attention.proj(torch.zeros(1, 16, 3, 3))
    torch.testing.assert_close(found, nothing, rtol=0, atol=0)


def test_the_attention_of_timm_is_rounded_to_float32():
    sizes = {"eps": 1e-5, "float32": True}
    attention = efficientvit.MultiScaleAttention(8, 8, 3, 3, **sizes).double().eval()
    x = _images(1, 3, 3).repeat(1, 3, 1, 1)[:, :8]
    with torch.no_grad():
        rounded = attention(x)
        attention.float32 = False
        difference = (rounded - attention(x)).abs().max()
    assert rounded.dtype == torch.float64
    assert 1e-12 < difference < 1e-5


def test_the_written_norm_is_a_layer_norm():
    norm = convnext.WrittenNorm(24, eps=1e-6).double()
    seeded.fill(norm)
    x = _images(2, 5, 24) * 3 + 1
    plain = norm.exported()
    assert type(plain) is nn.LayerNorm
    with torch.no_grad():
        torch.testing.assert_close(norm(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("keys", ["official", "timm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_export_forms_keep_the_logits_in_float64(family, keys):
    size = (71, 90)  # each merging of ConvNeXt cuts a row or a column off
    net, images = _small(family, *size, keys=keys).double(), _images(2, *size)
    with torch.no_grad():
        torch.testing.assert_close(
            rewrites.rewritten(net)(images), net(images), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("keys", ["official", "timm"])
def test_scales_and_norms_of_convnext_are_folded_on_the_copy_alone(keys):
    net = _small("convnext", keys=keys)
    before = copy.deepcopy(net.state_dict())
    changed = rewrites.rewritten(net)
    affine = [
        name
        for name, module in changed.named_modules()
        if isinstance(module, nn.LayerNorm) and module.weight is not None
    ]
    assert affine == ["downsample_layers.0.1"]
    assert not any(name.endswith("gamma") for name, _ in changed.named_parameters())
    assert not any(isinstance(m, convnext.WrittenNorm) for m in changed.modules())
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def _exported(net, opset, images):
    return exporter.onnx_from_torch(
        rewrites.rewritten(net), images[:2], opset=opset, dynamic_batch=True
    )


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_takes_any_batch(family, opset):
    onnxruntime = pytest.importorskip("onnxruntime")
    size = (64, 96)
    net, images = _small(family, *size), _images(3, *size).float()
    data = _exported(net, opset, images).SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(images).numpy()
    for batch in (1, 3):
        found = session.run(["logits"], {"images": images[:batch].numpy()})[0]
        np.testing.assert_allclose(found, expected[:batch], rtol=0, atol=1e-4)


def _op_counts(net, opset):
    proto = simplify.simplified(_exported(net, opset, _images(2).float()))
    return Counter(node.op_type for node in proto.graph.node)


def test_the_graph_of_efficientvit_has_no_batch_norm_and_no_shape_arithmetic():
    ops = _op_counts(_small("efficientvit"), 17)
    assert not {"BatchNormalization", "Shape", "Gather", "Cast"} & set(ops)
    assert ops["GlobalAveragePool"] == 1
    assert "HardSwish" in ops
    assert "HardSwish" not in _op_counts(_small("efficientvit"), 13)  # came with opset 14


def test_the_graph_of_convnext_has_one_gemm_a_linear_layer_and_no_gamma():
    ops = _op_counts(_small("convnext"), 17)
    assert ops["Gemm"] == 2 * BLOCKS + 1
    assert "MatMul" not in ops
    assert ops["LayerNormalization"] == BLOCKS + 1 + 3 + 1
    assert ops["Mul"] == 2 * BLOCKS  # both in GELU


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_is_a_named_tensor(family):
    taps = exporter.tap_modules(_small(family))
    blocks = (convnext.Block, efficientvit.ContextBlock, efficientvit.Residual)
    found = [name for name, module in taps.items() if isinstance(module, blocks)]
    if family == "convnext":
        assert found == ["stages.0.0", "stages.1.0", "stages.2.0", "stages.2.1", "stages.3.0"]
    else:
        stages = [f"backbone.stages.{s}.op_list.{i}" for s in range(4) for i in range(2)]
        assert found == ["backbone.input_stem.op_list.1", *stages]
