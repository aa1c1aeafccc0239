"""Models that are not ours: what a name may stand for, what it states, what is refused."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from elfatt_deploy import optional
from elfatt_deploy.errors import MissingDependency, ModelError, UnknownNameError, UsageError
from elfatt_deploy.models import own, registry
from elfatt_deploy.models.config import ModelConfig


class Net(nn.Module):
    """A classifier of 5 classes for images of any size."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, 5)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))


class ForSize(Net):
    def __init__(self, height, width):
        super().__init__()
        self.size = (height, width)


@pytest.fixture
def mine(monkeypatch):
    """Return an empty importable module `mine`."""
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def _stating(**config):
    """Return a function that makes a module with this configuration."""

    def make():
        net = Net()
        net.default_cfg = config
        return net

    return make


def test_a_function_a_class_and_a_module_are_models(mine):
    mine.make, mine.Net, mine.net = Net, Net, Net()
    mine.made = lambda: Net()
    for name in ("make", "made", "Net", "net"):
        spec = registry.get(f"mine:{name}")
        assert (spec.name, spec.family, spec.own_weights) == (f"mine:{name}", "own model", True)
        module = spec.build(64, 64)
        assert isinstance(module, Net)
        assert not module.training
    assert registry.get("mine:net").build(64, 64) is mine.net


def test_a_name_of_a_package_may_be_dotted(monkeypatch):
    package, inner = types.ModuleType("pack"), types.ModuleType("pack.inner")
    inner.make, package.inner, package.__path__ = Net, inner, []
    monkeypatch.setitem(sys.modules, "pack", package)
    monkeypatch.setitem(sys.modules, "pack.inner", inner)
    assert isinstance(registry.get("pack.inner:make").build(32, 32), Net)


def test_a_spec_is_taken_as_it_is_under_the_name_that_was_asked_for(mine):
    mine.spec = registry.get("cswin_t_elfatt")
    spec = registry.get("mine:spec")
    assert spec.name == "mine:spec"
    assert (spec.config, spec.crop_share, spec.own_weights) == (mine.spec.config, 0.9, False)


def _for_size(height, width):
    return ForSize(height, width)


def _for_default_size(height=96, width=128):
    net = ForSize(height, width)
    net.default_cfg = {"input_size": (3, height, width)}
    return net


@pytest.mark.parametrize(
    ("function", "stated"),
    [
        (_for_size, (224, 224)),
        (ForSize, (224, 224)),
        (_for_default_size, (96, 128)),
        (lambda height, width=320: _for_default_size(height, width), (224, 320)),
    ],
    ids=["required", "class", "defaults", "one default"],
)
def test_a_function_that_takes_height_and_width_is_given_the_size(function, stated, mine):
    mine.make = function
    spec = registry.get("mine:make")
    assert spec.size(None, None) == stated
    assert spec.build(40, 72).size == (40, 72)


@pytest.mark.parametrize(
    "function", [lambda height=7: ForSize(height, 7), lambda **size: ForSize(7, 7)]
)
def test_a_function_that_takes_one_or_neither_is_called_without(function, mine):
    mine.make = function
    assert registry.get("mine:make").build(40, 72).size == (7, 7)


def test_a_callable_without_a_signature_is_called_without_arguments(mine, monkeypatch):
    def refuse(_):
        raise ValueError("no signature found")

    monkeypatch.setattr(own.inspect, "signature", refuse)
    mine.make = Net
    assert isinstance(registry.get("mine:make").build(64, 64), Net)


def test_the_default_is_224_pixels_and_the_preprocessing_of_imagenet(mine):
    mine.make = Net
    spec = registry.get("mine:make")
    assert spec.size(None, None) == (224, 224)
    recipe = spec.preprocessing(224, 224)
    assert (recipe.crop_share, recipe.interpolation) == (0.9, "bicubic")
    assert (recipe.mean, recipe.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Config:
    """A configuration object as timm has it."""

    def __init__(self, **fields):
        self.fields = fields

    def to_dict(self):
        return self.fields


STATED = {
    "input_size": (3, 96, 128),
    "crop_pct": 0.95,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "url": "ignored",
}


@pytest.mark.parametrize("attribute", ["default_cfg", "pretrained_cfg"])
@pytest.mark.parametrize("kind", [dict, Config], ids=["dict", "to_dict"])
def test_what_the_module_states_is_honoured(kind, attribute, mine):
    def make():
        net = Net()
        setattr(net, attribute, kind(**STATED))
        return net

    mine.make = make
    spec = registry.get("mine:make")
    assert spec.size(None, None) == (96, 128)
    recipe = spec.preprocessing(96, 128)
    assert (recipe.crop_share, recipe.interpolation) == (0.95, "bilinear")
    assert (recipe.mean, recipe.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (recipe.height, recipe.width) == (96, 128)


def test_a_stated_crop_holds_at_any_size(mine):
    mine.stated, mine.silent = _stating(crop_pct=0.9), _stating(input_size=(3, 384, 384))
    assert registry.get("mine:stated").preprocessing(512, 512).crop_share == 0.9
    assert registry.get("mine:silent").preprocessing(384, 384).crop_share == 1.0


def test_the_pretrained_configuration_comes_before_the_default_one(mine):
    def make():
        net = Net()
        net.default_cfg, net.pretrained_cfg = {"crop_pct": 0.5}, {"crop_pct": 0.8}
        return net

    mine.make = make
    assert registry.get("mine:make").crop_share == 0.8


@pytest.mark.parametrize("config", [{}, {"crop_pct": None, "input_size": None}, {"mean": None}])
def test_what_is_not_stated_is_the_default(config, mine):
    mine.make = _stating(**config)
    spec = registry.get("mine:make")
    assert (spec.size(None, None), spec.crop_share) == ((224, 224), 0.9)
    assert spec.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("size", [(1, 28, 28), (4, 224, 224), (224, 224), (3, 8, 224, 224)])
def test_other_than_colour_images_are_refused(size, mine):
    mine.make = _stating(input_size=size)
    with pytest.raises(ModelError, match="mine:make states inputs of shape") as caught:
        registry.get("mine:make")
    assert "[B, 3, H, W]" in caught.value.hint


def _raise():
    raise FileNotFoundError("no weights.bin")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("make", 7, "'mine:make' is a int, not a function that returns a module"),
        ("make", "text", "'mine:make' is a str, not a function"),
        ("make", lambda: None, "'mine:make' returns a NoneType, not a torch module"),
        ("make", lambda: {"state_dict": {}}, "'mine:make' returns a dict, not a torch module"),
        ("make", _raise, "'mine:make' fails: FileNotFoundError: no weights.bin"),
        ("make", lambda depth: Net(), "'mine:make' fails: TypeError: .*depth"),
        ("other", Net, "'mine:make' cannot be imported: .*has no attribute 'make'"),
    ],
)
def test_what_gives_no_module_is_a_usage_error_that_names_it(name, value, told, mine):
    setattr(mine, name, value)
    with pytest.raises(UsageError, match=told) as caught:
        registry.get("mine:make")
    assert caught.value.hint


@pytest.mark.parametrize("source", ["no_such_module:make", ":make", "mine:", "mine.deeper:make"])
def test_what_cannot_be_imported_is_a_usage_error(source, mine):
    with pytest.raises(UsageError, match="cannot be imported"):
        registry.get(source)


def test_a_module_that_fails_while_it_is_imported_is_a_usage_error(tmp_path, monkeypatch):
    (tmp_path / "broken_nets.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="'broken_nets:make' cannot be imported: division by zero"):
        registry.get("broken_nets:make")


def test_nothing_is_known_inside_and_nothing_can_be_set(mine):
    mine.make = Net
    spec = registry.get("mine:make")
    assert isinstance(spec.config, ModelConfig)
    assert spec.config.map_sizes(8, 8) == spec.config.levels_at(8, 8) == ()
    with pytest.raises(UnknownNameError, match="unknown setting of this model 'classes'"):
        spec.configured({"classes": "10"})


def test_without_torch_the_message_says_what_to_install(mine, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="'torch' is not installed"):
        registry.get("mine:make")


def test_published_weights_of_a_function_are_refused(mine):
    mine.make = Net
    with pytest.raises(UsageError, match="no published weights are known of 'mine:make'"):
        own.resolved("mine:make", "mine:make", pretrained=True)


# --- timm, played by a module of ours ---


class FakeTimm(types.ModuleType):
    """Knows `net` (any size) and `vit` (made for one size), and keeps what it was asked for."""

    def __init__(self):
        super().__init__("timm")
        self.calls = []

    def list_models(self):
        return ["net", "vit", "no_config"]

    def is_model(self, name):
        return name in self.list_models()

    def get_pretrained_cfg(self, name):
        return None if name == "no_config" else Config(**STATED)

    def create_model(self, name, pretrained=False, **options):
        self.calls.append((name, pretrained, options))
        if name == "net" and options:
            raise TypeError("unexpected keyword argument 'img_size'")
        if pretrained and name == "vit":
            raise RuntimeError("no pretrained weights exist for vit")
        return Net()


@pytest.fixture
def timm(monkeypatch):
    fake = FakeTimm()
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_a_timm_model_is_taken_with_the_input_that_timm_states(timm):
    spec = registry.get("timm/net")
    assert (spec.name, spec.summary, spec.own_weights) == ("timm/net", "from timm/net", True)
    assert (spec.size(None, None), spec.interpolation) == ((96, 128), "bilinear")
    assert timm.calls == []  # nothing is built only to be asked
    assert not spec.build(96, 128).training
    assert timm.calls == [("net", False, {})]


def test_a_timm_model_without_a_configuration_has_the_default(timm):
    assert registry.get("timm/no_config").size(None, None) == (224, 224)


def test_another_size_is_given_to_timm_where_the_model_takes_one(timm):
    registry.get("timm/vit").build(64, 64)
    registry.get("timm/net").build(64, 64)
    assert timm.calls == [
        ("vit", False, {"img_size": (64, 64)}),
        ("net", False, {"img_size": (64, 64)}),
        ("net", False, {}),
    ]


def test_published_weights_are_left_to_timm(timm):
    spec = own.resolved("timm/net", "timm/net", pretrained=True)
    spec.build(96, 128)
    assert timm.calls == [("net", True, {})]


def test_what_timm_refuses_is_a_usage_error(timm):
    with pytest.raises(UsageError, match="timm cannot make 'vit': no pretrained weights") as caught:
        own.resolved("timm/vit", "timm/vit", pretrained=True).build(96, 128)
    assert "list_models" in caught.value.hint


def test_an_unknown_timm_model_lists_the_nearest(timm):
    with pytest.raises(UnknownNameError, match="unknown timm model 'vitt': did you mean vit"):
        registry.get("timm/vitt")


@pytest.mark.parametrize("name", ["timm/net", "timm/vit"])
def test_without_timm_the_message_says_what_it_needs(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match="'timm' is not installed") as caught:
        registry.get(name)
    assert "pip install timm" in caught.value.hint
    assert "torchvision" in caught.value.hint
    assert caught.value.hint == optional.install_command("timm")


def test_a_timm_that_torchvision_breaks_is_told_from_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(
        MissingDependency, match="'timm' is installed but does not import"
    ) as caught:
        registry.get("timm/net")
    assert "operator torchvision::nms does not exist" in caught.value.message
    assert "another one is installed" in caught.value.hint


# --- entry points of installed packages ---


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a distribution with these entry points."""

    def install(text, name="pkg"):
        folder = tmp_path / name / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(tmp_path / name)

    return install


MODELS, ATTENTIONS = "[elfatt_deploy.models]\n", "[elfatt_deploy.attentions]\n"


def test_an_entry_point_gives_a_model_a_name(installed, mine):
    installed(f"{MODELS}my_net = mine:make\n")
    mine.make = _stating(**STATED)
    listed = registry.models()["my_net"]
    assert (listed.summary, listed.family) == ("from mine:make", "own model")
    spec = registry.get("my_net")
    assert (spec.name, spec.size(None, None)) == ("my_net", (96, 128))
    assert isinstance(spec.build(96, 128), Net)


def test_an_entry_point_may_give_a_spec(installed, mine):
    installed(f"{MODELS}my_net = mine:spec\n")
    mine.spec = registry.get("swin_t_local")
    assert registry.get("my_net").config == mine.spec.config


def test_listing_imports_no_package_of_the_users(installed):
    installed(f"{MODELS}my_net = no_such_module:make\n")
    assert "my_net" in registry.models()
    with pytest.raises(UsageError, match="'no_such_module:make' cannot be imported"):
        registry.get("my_net")


def test_an_attention_of_an_entry_point_is_in_every_backbone(installed):
    installed(f"{ATTENTIONS}mine = elfatt_deploy.models.attention.softmax:branches\n")
    assert {"cswin_t_mine", "cswin_b_mine", "swin_t_mine", "swin_b_mine"} <= set(registry.models())
    assert list(registry.attentions())[-1] == "mine"


@pytest.mark.parametrize(
    ("text", "ask", "told"),
    [
        (f"{MODELS}cswin_t_elfatt = mine:make\n", registry.models,
         "gives the name 'cswin_t_elfatt' to mine:make, which is one of our models"),
        (f"{ATTENTIONS}elfatt = mine:branches\n", registry.attentions,
         "gives the name 'elfatt' to mine:branches, which is one of our attentions"),
        (f"{ATTENTIONS}elfatt = mine:branches\n", registry.models, "one of our attentions"),
    ],
    ids=["model", "attention", "attention, all models"],
)  # fmt: skip
def test_an_entry_point_that_takes_one_of_our_names_is_named(text, ask, told, installed):
    installed(text)
    with pytest.raises(UsageError, match=told) as caught:
        ask()
    assert "uninstall" in caught.value.hint


@pytest.mark.parametrize("group", [MODELS, ATTENTIONS])
def test_two_packages_that_give_one_name_are_named(group, installed):
    installed(f"{group}same = first:make\n", "one")
    installed(f"{group}same = second:make\n", "two")
    with pytest.raises(UsageError, match="two installed packages give the name 'same'") as caught:
        own.entry_points(group.strip("[]\n"))
    assert "first:make" in caught.value.message
    assert "second:make" in caught.value.message


def test_one_package_found_twice_is_no_clash(installed):
    installed(f"{MODELS}same = mine:make\n", "one")
    installed(f"{MODELS}same = mine:make\n", "two")
    assert list(own.entry_points(own.MODEL_GROUP)) == ["same"]


def test_a_model_of_an_entry_point_cannot_be_registered_again(installed, mine):
    installed(f"{MODELS}my_net = mine:make\n")
    mine.make = Net
    with pytest.raises(UsageError, match="'my_net' is registered already"):
        registry.register_model(registry.models()["my_net"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.b:c", True), ("timm/x", True), ("cswin_t_elfatt", False), ("timm", False)],
)
def test_names_that_are_not_ours_are_told_from_those_that_are(name, expected):
    assert own.is_own(name) is expected


def test_resolving_leaves_the_module_untouched(mine):
    mine.net = Net()
    before = {key: value.clone() for key, value in mine.net.state_dict().items()}
    registry.get("mine:net")
    assert all(torch.equal(value, before[key]) for key, value in mine.net.state_dict().items())
