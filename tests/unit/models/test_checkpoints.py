"""Weights load strictly or not at all, and no file runs code."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from elfatt_deploy.errors import CheckpointError, ElfattDeployError
from elfatt_deploy.models import checkpoints, registry, seeded
from elfatt_deploy.models.attention import elfatt
from elfatt_deploy.models.registry import Attention

CODE = "holds Python objects besides tensors"


class _Touch:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def net(small_net):
    return small_net(height=32, width=32)


@pytest.fixture
def other(net):
    """Return tensors for `net` that are not its own."""
    return {
        key: torch.from_numpy(seeded.parameter(key, tuple(value.shape), seed=1))
        for key, value in net.state_dict().items()
    }


@pytest.fixture
def file(tmp_path):
    """Return a function that saves an object as a weights file."""

    def save(content, name="weights.pth"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return save


def _equal(net, tensors):
    found = net.state_dict()
    return found.keys() == tensors.keys() and all(torch.equal(found[k], tensors[k]) for k in found)


@pytest.mark.parametrize(
    "name", ["weights.pth", "weights.pt", "weights.bin", "weights.safetensors"]
)
def test_weights_survive_the_round_trip(name, net, other, file):
    checkpoints.load(net, file(other, name))
    assert _equal(net, other)


@pytest.mark.parametrize(
    ("container", "beside"),
    [
        pytest.param("state_dict_ema", "state_dict", id="CSWin"),
        pytest.param("state_dict_ema", None, id="Agent-CSWin"),
        pytest.param("model", None, id="Swin, FLatten, Agent-Swin, ConvNeXt, VMamba"),
        pytest.param("model_ema", "model", id="VMamba with its average"),
        pytest.param("state_dict", None, id="EfficientViT, CSWin without its average"),
    ],
)
def test_a_training_checkpoint_is_opened_by_its_container(container, beside, net, other, file):
    state = {"epoch": 3, "optimizer": {"state": {}}, "lr_scheduler": {}, "max_accuracy": 81.2}
    if beside:
        state[beside] = net.state_dict()
    checkpoints.load(net, file({**state, container: other}))
    assert _equal(net, other)


def test_the_averaged_weights_are_preferred(net, other, file):
    own = net.state_dict()
    checkpoints.load(net, file({"model": own, "state_dict_ema": other, "model_ema": None}))
    assert _equal(net, other)


def test_the_prefix_of_distributed_training_is_dropped(net, other, file):
    checkpoints.load(net, file({f"module.{key}": value for key, value in other.items()}))
    assert _equal(net, other)


def test_entries_that_are_no_tensors_are_left_out(net, other, file):
    checkpoints.load(net, file({**other, "epoch": 3, 7: "seven"}))
    assert _equal(net, other)


def test_half_precision_weights_load_into_the_float_model(net, other, file):
    checkpoints.load(net, file({key: value.half() for key, value in other.items()}))
    assert _equal(net, {key: value.half().float() for key, value in other.items()})


def test_a_key_map_renames_and_drops(net, other, file):
    path = file({**{f"backbone.{k}": v for k, v in other.items()}, "aux.weight": torch.ones(1)})

    def rename(key):
        return key.removeprefix("backbone.") if key.startswith("backbone.") else None

    checkpoints.load(net, path, rename=rename)
    assert _equal(net, other)


def test_a_misfit_lists_missing_unexpected_and_misshaped_keys_in_one_message(net, other, file):
    before = {key: value.clone() for key, value in net.state_dict().items()}
    del other["norm.bias"]
    other["extra.weight"] = torch.ones(1)
    other["head.weight"] = torch.ones(1000, 128)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(net, file(other))
    for told in (
        "does not fit the model",
        "1 missing in the file: norm.bias",
        "1 unknown to the model: extra.weight",
        "1 of another shape: head.weight: (1000, 128) in the file, (10, 128) in the model",
    ):
        assert told in caught.value.message
    assert "--key-map" in caught.value.hint
    assert _equal(net, before)


def test_a_long_list_of_keys_is_cut_and_counted(net, file):
    with pytest.raises(CheckpointError, match=r"\d+ missing in the file: .* and \d+ more"):
        checkpoints.load(net, file({"head.weight": torch.ones(10, 128)}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no weights file .*none\.pth"):
        checkpoints.read(tmp_path / "none.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.99])
def test_a_truncated_pth_is_refused(zipped, share, other, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(other, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        CheckpointError, match=r"weights\.pth is not a .*PyTorch checkpoint"
    ) as caught:
        checkpoints.read(path)
    assert caught.value.hint


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_safetensors_is_refused(share, other, file):
    path = file(other, "weights.safetensors")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is not a whole safetensors"):
        checkpoints.read(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 82000000\n",
        b"hello world\n",
        b"(x",
        b"\x80\x02\xff\xff damaged",
    ],
    ids=["html", "git-lfs pointer", "text", "short", "damaged pickle"],
)
def test_what_is_no_checkpoint_is_not_taken_for_a_pickle_with_code(content, file):
    with pytest.raises(CheckpointError, match="is not a .*PyTorch checkpoint") as caught:
        checkpoints.read(file(content))
    assert CODE not in caught.value.message
    assert "weights_only" not in caught.value.message  # torch's advice to run the code
    assert caught.value.hint


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_random_bytes_are_always_a_checkpoint_error(file):
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(300):
        content = rng.integers(0, 256, rng.integers(1, 200), dtype=np.uint8).tobytes()
        for prefix in (b"", b"\x80\x02"):
            try:
                checkpoints.read(file(prefix + content))
            except Exception as error:  # collected: all kinds are shown where one is wrong
                kinds.add(type(error))
    assert kinds == {CheckpointError}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_is_refused_and_not_run(protocol, tmp_path, file):
    mark = tmp_path / "mark"
    content = pickle.dumps({"model": {"a": _Touch(mark)}}, protocol)
    with pytest.raises(CheckpointError):
        checkpoints.read(file(content))
    assert not mark.exists()
    pickle.loads(content)
    assert mark.exists()  # it would have been run


def test_the_refusal_of_code_says_what_to_save_instead(tmp_path, file):
    content = pickle.dumps({"a": _Touch(tmp_path / "mark")}, protocol=2)
    with pytest.raises(CheckpointError, match=CODE) as caught:
        checkpoints.read(file(content))
    assert "safetensors" in caught.value.hint


def test_a_checkpoint_with_objects_beside_its_tensors_is_refused(tmp_path, file):
    mark = tmp_path / "mark"
    path = file({"model": {"a": torch.ones(1)}, "args": _Touch(mark)})
    with pytest.raises(CheckpointError, match=CODE):
        checkpoints.read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.ones(3), "holds a Tensor, not a state_dict"),
        ([torch.ones(3)], "holds a list, not a state_dict"),
        ({"epoch": 3, "lr": 0.1}, "holds no tensors: its keys are epoch, lr"),
        ({}, "holds no tensors"),
        ({"model": {}}, "holds no tensors"),
    ],
    ids=["tensor", "list", "no tensor", "empty", "empty container"],
)
def test_a_file_without_a_state_dict_says_what_it_holds(content, told, file):
    with pytest.raises(CheckpointError, match=told):
        checkpoints.read(file(content))


def test_swapping_halves_twice_changes_nothing(small_net):
    net = small_net()
    once = checkpoints.halves_swapped(net, net.state_dict())
    twice = checkpoints.halves_swapped(net, once)
    assert any(not torch.equal(once[key], value) for key, value in net.state_dict().items())
    assert all(torch.equal(twice[key], value) for key, value in net.state_dict().items())


@pytest.fixture
def softmax_first(monkeypatch):
    """Register ELFATT with its softmax half before its linear half, as some checkpoints have it."""
    module = types.ModuleType("softmax_first")
    module.branches = lambda context: elfatt.branches(context)[::-1]
    monkeypatch.setitem(sys.modules, "softmax_first", module)
    monkeypatch.setattr(registry, "ATTENTIONS", dict(registry.ATTENTIONS))
    entry = Attention(branches="softmax_first:branches", summary="")
    registry.register_attention("softmax_first", entry)
    return "softmax_first"


@pytest.mark.parametrize("lepe", [True, False])
def test_a_checkpoint_with_the_other_order_of_halves_gives_its_logits(
    lepe, softmax_first, small_net, file
):
    theirs, ours = small_net(softmax_first, lepe=lepe).double(), small_net(lepe=lepe).double()
    path = file(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        checkpoints.load(ours, path)
        assert (ours(images) - theirs(images)).abs().max() > 1e-3
        checkpoints.load(ours, path, swap_halves=True)
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-12, atol=1e-12)


def test_halves_of_different_size_cannot_be_swapped(small_net):
    net = small_net(global_ratio=0.25)
    with pytest.raises(CheckpointError, match=r"halves of stage1\.0 have 4 and 12 channels"):
        checkpoints.halves_swapped(net, net.state_dict())


@pytest.mark.parametrize("attention", ["local", "global", "effatt"])
def test_swapping_the_halves_of_a_model_without_elfatt_is_refused(attention, small_net, file):
    net = small_net(attention)
    with pytest.raises(ElfattDeployError, match="(?i)halves"):
        checkpoints.load(net, file(net.state_dict()), swap_halves=True)


def test_a_key_map_is_imported(monkeypatch):
    module = types.ModuleType("my_keys")
    module.rename = str.upper
    monkeypatch.setitem(sys.modules, "my_keys", module)
    assert checkpoints.key_map("my_keys:rename")("a") == "A"


@pytest.mark.parametrize(
    "target", ["no_such_module:f", "math:nothing", "math", ":f", "", "math:pi"]
)
def test_a_key_map_that_is_no_function_is_refused_with_its_form(target):
    with pytest.raises(ElfattDeployError, match=f"--key-map {target}") as caught:
        checkpoints.key_map(target)
    assert "package.module:function" in caught.value.hint
