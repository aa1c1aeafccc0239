"""Weights of another input size, or with other names, fit the model or are refused."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from torch.nn import functional

from elfatt_deploy.errors import CheckpointError
from elfatt_deploy.models import checkpoints, registry, seeded
from elfatt_deploy.models.backbones import efficientvit, swin


@pytest.fixture
def file(tmp_path):
    """Return a function that saves a state_dict as a weights file."""

    def save(content):
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return save


def _equal(net, tensors):
    found = net.state_dict()
    return found.keys() == tensors.keys() and all(torch.equal(found[k], tensors[k]) for k in found)


def _small_swin(attention="local", height=64, width=64, **changes):
    config = dataclasses.replace(
        registry.get(f"swin_t_{attention}").config,
        **{
            "embed_dim": 16,
            "depths": (2, 1, 1, 1),
            "heads": (2, 2, 2, 2),
            "classes": 10,
            **changes,
        },
    )
    net = swin.build(config, height, width)
    seeded.fill(net)
    return net


def _differing(theirs, ours):
    """Return key -> both shapes, where two models differ in shape."""
    pairs = {key: (value.shape, ours[key].shape) for key, value in theirs.items()}
    return {key: (tuple(a), tuple(b)) for key, (a, b) in pairs.items() if a != b}


@pytest.mark.parametrize("keys", ["official", "timm"])
def test_a_relative_position_table_of_another_window_is_resized_and_reported(keys, file):
    theirs, ours = (_small_swin(window=window, keys=keys) for window in (2, 4))
    state = theirs.state_dict()
    changes = checkpoints.load(ours, file(state))
    found = ours.state_dict()
    differing = _differing(state, found)
    assert "layers.0.blocks.1.attn.relative_position_bias_table" in differing
    assert {change.key: (change.from_shape, change.to_shape) for change in changes} == differing
    assert {change.method for change in changes} == {"bicubic"}
    for key, value in state.items():
        if key not in differing:
            assert torch.equal(found[key], value)
            continue
        side, new = (round(len(tensor) ** 0.5) for tensor in (value, found[key]))
        grid = value.T.reshape(1, -1, side, side)
        resized = functional.interpolate(grid, size=(new, new), mode="bicubic")
        torch.testing.assert_close(found[key], resized.reshape(-1, new * new).T, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("attention", "methods"),
    [("local", {"bicubic"}), ("flatten", {"bicubic"}), ("agent", {"bicubic", "linear"})],
)
def test_weights_of_another_input_size_are_resized_and_reported(attention, methods, file):
    theirs, ours = _small_swin(attention), _small_swin(attention, 128, 160)
    changes = checkpoints.load(ours, file(theirs.state_dict()))
    differing = _differing(theirs.state_dict(), ours.state_dict())
    assert {change.key: (change.from_shape, change.to_shape) for change in changes} == differing
    assert {change.method for change in changes} == methods
    with torch.no_grad():
        assert ours(torch.ones(1, 3, 128, 160)).isfinite().all()


def test_a_positional_encoding_is_laid_out_as_the_map_of_the_model(file):
    theirs, ours = _small_swin("flatten"), _small_swin("flatten", 64, 96)
    key = "layers.0.blocks.0.attn.positional_encoding"
    encoding = theirs.state_dict()[key]
    checkpoints.load(ours, file(theirs.state_dict()))
    grid = encoding[0].T.reshape(1, -1, 16, 16)
    resized = functional.interpolate(grid, size=(16, 24), mode="bicubic").reshape(-1, 16 * 24).T
    torch.testing.assert_close(ours.state_dict()[key][0], resized, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", ["local", "flatten", "agent"])
def test_nothing_is_resized_at_the_size_of_the_file(attention, file):
    net = _small_swin(attention)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    assert checkpoints.load(net, file(before)) == ()
    assert _equal(net, before)


def test_a_table_of_other_heads_is_a_misfit_and_not_resized(file):
    net = _small_swin()
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    with pytest.raises(CheckpointError, match=rf"1 of another shape: {key}: \(25, 3\) in the file"):
        checkpoints.load(net, file({**net.state_dict(), key: torch.ones(25, 3)}))


def test_the_buffers_that_a_model_computes_are_ignored_in_the_file(file):
    net = _small_swin()
    state = net.state_dict()
    buffers = {
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "layers.0.blocks.1.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.int64),
        "layers.0.blocks.1.attn_mask": torch.full((64, 49, 49), -100.0),
    }
    assert not buffers.keys() & state.keys()
    assert checkpoints.load(net, file({**state, **buffers})) == ()
    assert _equal(net, state)


@pytest.fixture
def small_efficientvit():
    config = dataclasses.replace(
        registry.get("efficientvit_b2").config,
        widths=(8, 8, 8, 16, 16), depths=(1, 1, 1, 1, 1), head_dim=8, head_widths=(16, 16),
        classes=10,
    )  # fmt: skip
    net = efficientvit.build(config, 64, 64)
    seeded.fill(net)
    return net


def test_the_step_counters_of_batch_norm_may_be_missing_and_its_statistics_not(
    small_efficientvit, file
):
    net = small_efficientvit
    state = {key: value.clone() for key, value in net.state_dict().items()}
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert counters
    less = {key: value for key, value in state.items() if key not in counters}
    checkpoints.load(net, file(less))
    assert _equal(net, state)
    gone = next(key for key in less if key.endswith("running_mean"))
    del less[gone]
    with pytest.raises(CheckpointError, match=f"1 missing in the file: {gone}"):
        checkpoints.load(net, file(less))


def _timm_key(key):
    """Return timm's name of a tensor of Swin."""
    if key.startswith("head."):
        return key.replace("head.", "head.fc.")
    return re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", key)


def test_weights_with_the_names_of_timm_load_into_the_model_with_those_names(file):
    official, ours = _small_swin(), _small_swin(keys="timm")
    theirs = {_timm_key(key): value + 0.01 for key, value in official.state_dict().items()}
    assert "layers.1.downsample.norm.weight" in theirs
    assert "layers.0.downsample.norm.weight" not in theirs
    assert checkpoints.load(ours, file(theirs)) == ()
    assert _equal(ours, theirs)


def test_weights_with_the_official_names_do_not_load_into_the_model_with_those_of_timm(file):
    ours = _small_swin(keys="timm")
    with pytest.raises(CheckpointError, match=r"unknown to the model: head\.bias") as caught:
        checkpoints.load(ours, file(_small_swin().state_dict()))
    assert "head.fc.bias" in caught.value.message
