"""Which inner tensors get a name, in which order, and what the exporter says of bad modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from elfatt_deploy.errors import ExportError
from elfatt_deploy.export import exporter, golden, rewrites

IMAGES = torch.zeros(2, 3, 64, 64)


def _names(net, images=IMAGES):
    with exporter.tapped(net) as seen, torch.no_grad():
        net(images)
    return list(seen)


def test_the_taps_of_cswin_are_stem_blocks_and_mergings(small_net):
    assert list(exporter.tap_modules(small_net())) == [
        "stage1_conv_embed", "stage1.0", "merge1", "stage2.0", "merge2", "stage3.0", "stage3.1",
        "merge3", "stage4.0", "head",
    ]  # fmt: skip


def test_the_taps_of_swin_lie_inside_its_levels(small_swin):
    net = small_swin()
    names = [
        "patch_embed", "layers.0.blocks.0", "layers.0.blocks.1", "layers.0.downsample",
        "layers.1.blocks.0", "layers.1.downsample", "layers.2.blocks.0", "layers.2.blocks.1",
        "layers.2.downsample", "layers.3.blocks.0", "head",
    ]  # fmt: skip
    taps = exporter.tap_modules(net)
    assert list(taps) == names
    assert taps["layers.2.downsample"] is net.layers[2].downsample
    assert _names(net) == names


class Backwards(nn.Module):
    """Runs its children in another order than it names them, one of them inside a holder."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.stages = nn.ModuleDict({"late": nn.Conv2d(4, 4, 1), "early": nn.Conv2d(3, 4, 1)})
        self.unused = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        x = self.stages["late"](self.stages["early"](images))
        return self.head(x.mean((2, 3)))


def test_taps_come_in_the_order_in_which_they_run():
    net = Backwards()
    assert set(exporter.tap_modules(net)) == {"head", "stages.late", "stages.early", "unused"}
    assert _names(net) == ["stages.early", "stages.late", "head"]
    proto = exporter.onnx_from_torch(net.eval(), IMAGES, opset=17, dynamic_batch=False)
    assert [o.name for o in proto.graph.output] == ["logits", "stages.early", "stages.late"]


def test_the_reference_run_samples_the_taps_in_order(small_swin):
    net = small_swin()
    _, taps = golden.reference_run(net, IMAGES.numpy())
    assert list(taps) == _names(net)


def _sequential():
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4),
        nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()


def test_a_plain_sequential_has_names_that_are_no_numbers():
    net = _sequential()
    names = ["module.0", "1.0", "1.1", "module.2", "module.3"]
    assert _names(net) == names
    proto = exporter.onnx_from_torch(net, IMAGES, opset=17, dynamic_batch=True)
    # the last child gives the logits themselves
    assert [o.name for o in proto.graph.output] == ["logits", *names[:-1]]


class Taken(nn.Module):
    """Has children named as the input and the output of the graph, and one that runs twice."""

    def __init__(self):
        super().__init__()
        self.act, self.images, self.logits = nn.ReLU(), nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, images):
        x = self.act(self.images(images))
        return self.logits(self.act(x.mean((2, 3)) - 0.1)).softmax(-1)


def test_a_child_named_as_input_or_output_gets_another_name():
    net = Taken().eval()
    proto = exporter.onnx_from_torch(net, IMAGES, opset=17, dynamic_batch=False)
    assert [i.name for i in proto.graph.input] == ["images"]
    names = ["logits", "module.images", "act", "module.logits"]
    assert [o.name for o in proto.graph.output] == names


def test_of_a_child_that_runs_twice_the_last_run_is_kept():
    net = Taken()
    with exporter.tapped(net) as seen, torch.no_grad():
        net(IMAGES)
    assert list(seen) == ["module.images", "act", "module.logits"]
    assert seen["act"].shape == (2, 4)


def test_a_module_without_children_has_no_taps():
    net = nn.Flatten()
    assert exporter.tap_modules(net) == {}
    proto = exporter.onnx_from_torch(net, IMAGES, opset=17, dynamic_batch=False)
    assert [o.name for o in proto.graph.output] == ["logits"]


def test_an_empty_sequential_is_a_tap_and_not_a_holder():
    net = nn.Sequential(nn.Sequential(), nn.Flatten())
    assert list(exporter.tap_modules(net)) == ["module.0", "module.1"]


class Several(nn.Module):
    """A child that gives no tensor cannot be named."""

    def __init__(self):
        super().__init__()
        self.pair, self.head = Pair(), nn.Linear(3, 5)

    def forward(self, images):
        return self.head(self.pair(images)[0])


class Pair(nn.Module):
    def forward(self, images):
        return images.mean((2, 3)), images.amax((2, 3))


def test_a_child_that_gives_no_single_tensor_is_no_tap():
    assert _names(Several()) == ["head"]


def test_the_taps_of_the_rewritten_model_are_those_of_the_live_one(small_net, small_swin):
    for net in (small_net(), small_swin(), small_swin("flatten")):
        assert _names(rewrites.rewritten(net)) == _names(net)


def test_hooks_are_removed_whatever_happens(small_net):
    net = small_net()
    with pytest.raises(ZeroDivisionError), exporter.tapped(net):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(("dynamic", "first"), [(True, "batch"), (False, 2)])
def test_only_images_and_logits_have_an_open_batch(dynamic, first):
    proto = exporter.onnx_from_torch(_sequential(), IMAGES, opset=17, dynamic_batch=dynamic)
    (images,), logits = proto.graph.input, proto.graph.output[0]
    found = [value.type.tensor_type.shape.dim[0] for value in (images, logits)]
    assert [dim.dim_param or dim.dim_value for dim in found] == [first, first]
    assert (images.name, logits.name) == ("images", "logits")


@pytest.mark.parametrize(("batch", "order"), [(1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 0, 1])])
def test_golden_images_are_repeated_to_fill_the_traced_batch(batch, order):
    images = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 3, 2, 2).numpy()
    assert exporter.example_images(images, batch)[:, 0, 0, 0].tolist() == order


class Raises(nn.Module):
    def forward(self, images):
        raise KeyError("planted")


def test_a_module_that_fails_on_one_image_is_one_clear_error():
    with pytest.raises(ExportError, match=r"one image of shape \(3, 64, 64\): 'planted'"):
        exporter.onnx_from_torch(Raises(), IMAGES, opset=17, dynamic_batch=False)


class Gives(nn.Module):
    """Gives what it was made with, for a batch of any size."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x,
        lambda x: x.mean((1, 2, 3)),
        lambda x: {"logits": x.mean((2, 3))},
        lambda x: x.mean((2, 3))[:1],
    ],
    ids=["a map", "one number", "a dict", "another batch"],
)
def test_an_output_that_is_no_row_of_logits_an_image_is_refused(function):
    with pytest.raises(ExportError, match=r"does not give logits of shape \[batch, classes\]"):
        golden.reference_run(Gives(function), IMAGES.numpy())


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError])
def test_a_module_that_does_not_run_on_the_golden_images_is_one_clear_error(kind):
    def fail(images):
        raise kind("planted")

    with pytest.raises(ExportError, match=r"does not run on images of shape .*: planted"):
        golden.reference_run(Gives(fail), IMAGES.numpy())
