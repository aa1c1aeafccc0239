"""Tensors that follow the input size get the shapes and values of the official repositories."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.nn import functional

from elfatt_deploy.models import resizing

SIZED = (
    "relative_position_bias_table", "positional_encoding", "ah_bias", "aw_bias", "ha_bias",
    "wa_bias",
)  # fmt: skip
BUFFERS = ("relative_position_index", "attn_mask")
METHODS = {leaf: "bicubic" if leaf in SIZED[:2] else "linear" for leaf in SIZED}


def _leaf(key):
    return key.rpartition(".")[2]


def _noise(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def _one(key, tensor, shape, maps=None):
    """Resize one tensor; returns it and the change, None where there is none."""
    fitted, changes = resizing.resized({key: tensor}, {key: torch.Size(shape)}, maps)
    assert set(fitted) == {key}
    return fitted[key], (changes[0] if changes else None)


@pytest.fixture(scope="module")
def shapes_at(golden_folder):
    """Return a function from a model to its shapes at 224 and at 384 pixels."""

    def read(model):
        document = json.loads((golden_folder / f"{model}.json").read_text(encoding="utf-8"))
        small = {entry["name"]: tuple(entry["shape"]) for entry in document["state_dict"]}
        changed = {key: tuple(s) for key, s in document["at_384"]["changed_shapes"].items()}
        return small, changed

    return read


@pytest.mark.parametrize("model", ["swin_t_local", "swin_b_local", "swin_b_flatten", "swin_b_agent",
                                   "swin_t_agent", "cswin_t_flatten", "cswin_b_flatten",
                                   "cswin_t_agent", "cswin_b_agent"])  # fmt: skip
def test_weights_of_224_get_the_shapes_of_384(model, shapes_at):
    small, changed = shapes_at(model)
    sized = {key: shape for key, shape in changed.items() if _leaf(key) in SIZED}
    assert sized
    assert {_leaf(key) for key in changed} <= {*SIZED, *BUFFERS}
    wanted = {key: torch.Size(changed.get(key, shape)) for key, shape in small.items()
              if _leaf(key) not in BUFFERS}  # fmt: skip
    # one number for all elements costs no memory, whatever the shape
    tensors = {key: torch.ones(1).expand(shape) for key, shape in small.items()}
    plain = resizing.without_structural(tensors, wanted)
    assert set(plain) == set(wanted)
    fitted, changes = resizing.resized(plain, wanted)
    assert {key: tuple(value.shape) for key, value in fitted.items()} == {
        key: tuple(shape) for key, shape in wanted.items()
    }
    assert {(c.key, c.from_shape, c.to_shape, c.method) for c in changes} == {
        (key, small[key], shape, METHODS[_leaf(key)]) for key, shape in sized.items()
    }
    assert all(fitted[key] is plain[key] for key in fitted if key not in sized)


def test_a_table_is_resized_as_by_swin():
    table = _noise(169, 4)
    found, change = _one("layers.0.blocks.1.attn.relative_position_bias_table", table, (529, 4))
    by_hand = functional.interpolate(
        table.permute(1, 0).view(1, 4, 13, 13), size=(23, 23), mode="bicubic"
    )
    assert torch.equal(found, by_hand.view(4, 529).permute(1, 0))
    assert found.is_contiguous()
    assert change == resizing.Resized(
        key="layers.0.blocks.1.attn.relative_position_bias_table",
        from_shape=(169, 4), to_shape=(529, 4), method="bicubic",
    )  # fmt: skip


def test_an_encoding_is_resized_as_by_flatten():
    encoding = _noise(1, 28 * 28, 6)
    found, _ = _one("stage2.0.attns.0.positional_encoding", encoding, (1, 48 * 48, 6))
    by_hand = functional.interpolate(
        encoding.permute(0, 2, 1).view(1, 6, 28, 28), size=(48, 48), mode="bicubic"
    )
    assert torch.equal(found, by_hand.view(1, 6, 48 * 48).permute(0, 2, 1))


@pytest.mark.parametrize(
    ("leaf", "shape", "wanted", "axis"),
    [
        ("ah_bias", (1, 2, 9, 56, 1), (1, 2, 9, 96, 1), 3),
        ("aw_bias", (1, 2, 9, 1, 56), (1, 2, 9, 1, 96), 4),
        ("ha_bias", (1, 2, 56, 1, 9), (1, 2, 96, 1, 9), 2),
        ("wa_bias", (1, 2, 1, 56, 9), (1, 2, 1, 40, 9), 3),
    ],
)
def test_an_agent_bias_is_resized_as_by_agent(leaf, shape, wanted, axis):
    bias = _noise(*shape)
    found, change = _one(f"layers.0.blocks.0.attn.{leaf}", bias, wanted)
    assert change.method == "linear"
    assert tuple(found.shape) == wanted
    for head in range(2):
        for agent in range(9):
            pick = [0, head, 0, 0, 0]
            pick[{"ah_bias": 2, "aw_bias": 2, "ha_bias": 4, "wa_bias": 4}[leaf]] = agent
            pick[axis] = slice(None)
            line = bias[tuple(pick)].view(1, 1, -1)
            by_hand = functional.interpolate(line, size=wanted[axis], mode="linear").view(-1)
            assert torch.equal(found[tuple(pick)], by_hand)


def _cubic_matrix(length, new_length):
    """Return the matrix of cubic convolution with a = -0.75, pixel centres at (i + 0.5)."""
    matrix = torch.zeros(new_length, length, dtype=torch.float64)
    for row in range(new_length):
        place = (row + 0.5) * length / new_length - 0.5
        first = math.floor(place) - 1
        for column in range(first, first + 4):
            t, a = abs(place - column), -0.75
            near = (a + 2) * t**3 - (a + 3) * t**2 + 1
            far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            matrix[row, min(max(column, 0), length - 1)] += near if t <= 1 else far
    return matrix


@pytest.mark.parametrize("size", [23, 9, 27])
def test_bicubic_is_cubic_convolution_without_antialiasing(size):
    table = _noise(169, 2, dtype=torch.float64)
    found, _ = _one("attn.relative_position_bias_table", table, (size**2, 2))
    matrix = _cubic_matrix(13, size)
    for head in range(2):
        by_hand = matrix @ table[:, head].view(13, 13) @ matrix.T
        torch.testing.assert_close(found[:, head].view(size, size), by_hand, rtol=0, atol=1e-12)


def test_the_bias_of_a_token_with_itself_is_kept():
    table = _noise(169, 3, dtype=torch.float64)
    found, _ = _one("attn.relative_position_bias_table", table, (529, 3))
    torch.testing.assert_close(found[264], table[84], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("leaf", "shape", "wanted"),
    [
        ("relative_position_bias_table", (169, 1), (529, 1)),
        ("positional_encoding", (1, 784, 1), (1, 2304, 1)),
        ("aw_bias", (1, 1, 1, 1, 14), (1, 1, 1, 1, 24)),
    ],
)
def test_a_constant_stays_that_constant(leaf, shape, wanted):
    found, _ = _one(leaf, torch.full(shape, 2.5, dtype=torch.float64), wanted)
    torch.testing.assert_close(
        found, torch.full(wanted, 2.5, dtype=torch.float64), rtol=0, atol=1e-14
    )


def test_a_ramp_stays_a_ramp_along_an_agent_bias():
    ramp = (3.0 * torch.arange(56, dtype=torch.float64) + 1.0).view(1, 1, 56, 1, 1)
    found, _ = _one("attn.ha_bias", ramp, (1, 1, 96, 1, 1))
    place = ((torch.arange(96, dtype=torch.float64) + 0.5) * 56 / 96 - 0.5).clamp(0, 55)
    torch.testing.assert_close(found.view(-1), 3.0 * place + 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(24, 40), (40, 24)])
def test_an_encoding_for_a_map_that_is_not_square(size):
    rows, cols = size
    encoding = _noise(1, 56 * 56, 3, dtype=torch.float64)
    key = "stage1.0.attns.0.positional_encoding"
    found, _ = _one(key, encoding, (1, rows * cols, 3), {key: size})
    by_hand = functional.interpolate(encoding[0].T.reshape(1, 3, 56, 56), size=size, mode="bicubic")
    for row, col in ((0, 0), (5, 17), (rows - 1, cols - 1)):
        assert torch.equal(found[0, row * cols + col], by_hand[0, :, row, col])


def test_as_many_tokens_in_another_map_are_resized_too():
    encoding = _noise(1, 56 * 56, 2)
    key = "stage1.0.attns.0.positional_encoding"
    found, change = _one(key, encoding, (1, 56 * 56, 2), {key: (28, 112)})
    assert change.from_shape == change.to_shape == (1, 3136, 2)
    assert not torch.equal(found, encoding)
    kept, none = _one(key, encoding, (1, 56 * 56, 2), {key: (56, 56)})
    assert none is None
    assert kept is encoding


@pytest.mark.parametrize(
    ("leaf", "shape", "wanted"),
    [
        ("relative_position_bias_table", (169, 4), (529, 8)),  # other heads
        ("relative_position_bias_table", (168, 4), (529, 4)),  # not a square
        ("relative_position_bias_table", (169, 4), (144, 4)),  # 2w - 1 is odd
        ("relative_position_bias_table", (169, 4), (529, 4, 1)),
        ("positional_encoding", (1, 784, 6), (1, 2304, 8)),
        ("positional_encoding", (1, 780, 6), (1, 2304, 6)),
        ("positional_encoding", (1, 784, 6), (1, 28 * 56, 6)),  # a map that nobody named
        ("positional_encoding", (2, 784, 6), (2, 2304, 6)),
        ("ah_bias", (1, 2, 9, 56, 1), (1, 4, 9, 96, 1)),
        ("ah_bias", (1, 2, 9, 56, 1), (1, 2, 16, 56, 1)),  # other agents
        ("ha_bias", (2, 56, 1, 9), (2, 96, 1, 9)),
        ("an_bias", (2, 9, 7, 7), (2, 9, 12, 12)),
        ("na_bias", (2, 9, 7, 7), (2, 9, 12, 12)),
        ("weight", (10, 4), (1000, 4)),
        ("my_ah_bias", (1, 2, 9, 56, 1), (1, 2, 9, 96, 1)),
    ],
)
def test_any_other_difference_is_left_to_the_strict_load(leaf, shape, wanted):
    tensor = torch.ones(shape)
    kept, change = _one(f"attn.{leaf}", tensor, wanted)
    assert kept is tensor
    assert change is None


@pytest.mark.parametrize("maps", [(40, 24), (1, 2304)])
def test_a_named_map_of_another_size_is_left_to_the_strict_load(maps):
    encoding = torch.ones(1, 784, 2)
    kept, change = _one(
        "positional_encoding", encoding, (1, 1600, 2), {"positional_encoding": maps}
    )
    assert kept is encoding
    assert change is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays_and_half_precision_is_rounded_once(dtype):
    table, bias = _noise(169, 2, dtype=dtype), _noise(1, 1, 9, 56, 1, dtype=dtype)
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    for key, tensor, shape in (
        ("relative_position_bias_table", table, (529, 2)),
        ("ah_bias", bias, (1, 1, 9, 96, 1)),
    ):
        found, _ = _one(key, tensor, shape)
        reference, _ = _one(key, tensor.to(exact), shape)
        assert found.dtype == dtype
        assert torch.equal(found, reference.to(dtype))


def test_the_tensors_of_the_caller_are_not_touched():
    table = _noise(169, 2)
    tensors = {"attn.relative_position_bias_table": table, "norm.weight": torch.ones(4)}
    before = table.clone()
    resizing.resized(tensors, {"attn.relative_position_bias_table": torch.Size((529, 2))})
    assert torch.equal(table, before)
    assert tensors["attn.relative_position_bias_table"] is table


def test_keys_that_only_one_side_has_are_left():
    tensors = {"a.relative_position_bias_table": torch.ones(169, 2)}
    wanted = {"b.relative_position_bias_table": torch.Size((529, 2))}
    assert resizing.resized(tensors, wanted) == (tensors, ())


def test_buffers_that_the_model_computes_are_dropped_unless_it_wants_them():
    tensors = {
        "layers.0.blocks.0.attn.relative_position_index": torch.ones(49, 49),
        "layers.0.blocks.1.attn_mask": torch.ones(64, 49, 49),
        "stem.norm.num_batches_tracked": torch.ones(()),
        "stem.norm.running_mean": torch.ones(8),
        "head.weight": torch.ones(10, 8),
    }
    wanted = {
        "layers.0.blocks.1.attn_mask": torch.Size((64, 49, 49)),
        "head.weight": torch.Size((10, 8)),
    }
    assert list(resizing.without_structural(tensors, wanted)) == [
        "layers.0.blocks.1.attn_mask", "stem.norm.running_mean", "head.weight",
    ]  # fmt: skip
    assert len(tensors) == 5
