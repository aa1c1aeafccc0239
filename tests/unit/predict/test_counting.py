"""Kernels counted on modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from elfatt_deploy import recipes
from elfatt_deploy.predict import counting
from elfatt_deploy.predict.kernels import known_models


class _Block(nn.Module):
    """A convolution, attention over its map, a norm, a head."""

    def __init__(self):
        super().__init__()
        self.stage1 = nn.Conv2d(3, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.stage1(images).flatten(2).transpose(1, 2)
        heads = tokens.reshape(-1, 16, 2, 4).permute(0, 2, 1, 3)
        out = functional.scaled_dot_product_attention(heads, heads, heads)
        return self.head(self.norm(out.permute(0, 2, 1, 3).reshape(-1, 16, 8)).mean(1))


@pytest.fixture
def block():
    with torch.device("meta"):
        return _Block().eval().requires_grad_(False)


def test_every_op_that_is_no_view_is_recorded_with_its_level(block):
    ops = counting.record(block, 16, 16)
    kinds = [(op.level, op.kind) for op in ops]
    assert kinds[0] == ("1", "convolution")
    assert kinds.count(("head", "attention")) == 1
    assert kinds[-1] == ("head", "product")
    # 2 images, 16 positions, 8 outputs, 48 inputs each, two operations a multiply-add
    assert ops[0].flops == 2 * 2 * 16 * 8 * 48
    (attention,) = [op for op in ops if op.kind == "attention"]
    assert attention.flops == 2 * 2 * (2 * 2 * 16 * 16 * 4)
    assert attention.score_bytes == 2 * 2 * 16 * 16 * 4
    assert all(op.flops == 0 for op in ops if op.kind == "memory")


def test_weights_are_told_from_activations(block):
    convolution = counting.record(block, 16, 16)[0]
    sizes = {use.constant: use.size_bytes for use in convolution.reads if use.size_bytes > 100}
    assert sizes == {False: 4 * 2 * 3 * 16 * 16, True: 4 * 8 * 48}


def test_mixed_precision_casts_weights_and_inputs_and_keeps_norms_in_fp32(block):
    full, mixed = (counting.record(block, 16, 16, mixed=flag) for flag in (False, True))
    assert len(mixed) > len(full)
    outputs = {op.kind: op.writes[0].size_bytes for op in mixed}
    assert outputs["attention"] == 2 * 2 * 16 * 8  # FP16
    casts = [op for op in mixed if op.constant]
    assert len(casts) == 4  # weight and bias of the convolution and of the head
    norm = [op for op in mixed if op.role == "reduction"]
    assert norm[0].writes[0].size_bytes == 4 * 2 * 16 * 8


def test_an_expanded_tensor_is_read_once():
    class Add(nn.Module):
        def forward(self, images):
            return images + images[:, :1, :1, :1].expand_as(images)

    (op,) = counting.record(Add(), 8, 8)
    assert [use.size_bytes for use in op.reads] == [4 * 2 * 3 * 64, 4 * 2]


@pytest.mark.parametrize(
    ("module", "level"),
    [
        ("stage1_conv_embed.0", "stem"), ("stage3.5.attns", "3"), ("merge2.conv", "2"),
        ("patch_embed.proj", "stem"), ("layers.0.blocks.1", "1"), ("layers.2.downsample", "3"),
        ("downsample_layers.0.1", "stem"), ("downsample_layers.3.0", "3"), ("stages.3.1", "4"),
        ("backbone.input_stem.op_list.0", "stem"), ("backbone.stages.1.op_list.0", "2"),
        ("norm", "head"), ("head.op_list.1", "head"), ("", "head"),
    ],
)  # fmt: skip
def test_names_of_modules_tell_the_level(module, level):
    assert counting.level_of(module) == level


def test_the_kernels_of_every_model_of_the_paper_are_shipped():
    assert set(counting.counted_models()) == set(known_models())


def test_a_model_counted_again_gives_the_file_that_is_shipped(tmp_path):
    counting.write(["cswin_t_elfatt"], tmp_path / "kernels")
    counted = (tmp_path / "kernels" / "cswin_t_elfatt.json").read_text()
    shipped = recipes.profiles_folder() / "kernels" / "cswin_t_elfatt.json"
    assert counted == shipped.read_text()
