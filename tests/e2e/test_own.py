"""A user's own module, an installed package and timm go through the verbs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSED = re.compile(r"^ *4 photos +\d .* pass *$", re.MULTILINE)


@pytest.fixture
def nets(tmp_path):
    """Write the lines that the page on own models shows into the current folder."""
    page = (ROOT / "docs" / "own-models.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "nets.py").write_text(code)
    return "nets:make"


def test_a_few_lines_in_the_current_folder_go_through_the_verbs(nets, program, tmp_path):
    shown = program("models", nets)
    assert (shown.code, shown.err) == (0, "")
    assert "nets:make (own model) at 224: a module that is not ours" in shown.out

    exported = program("export", "--model", nets, "--batch", "dynamic")
    assert exported.code == 0, exported.err
    assert len(PASSED.findall(exported.out)) == 2
    bundle = tmp_path / "bundles" / "nets.make-224-bdynamic-fp32-jp6"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["model"]["name"] == nets
    assert manifest["weights"]["source"] == "module(0)"
    assert manifest["counts"] is None

    checked = program("check", bundle, "--layers")
    assert (checked.code, checked.err) == (0, "")
    assert len(PASSED.findall(checked.out)) == 2
    assert "module.0 " in checked.out


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a function that writes a module of the user's and makes its folder importable."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    return write


HEAD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=5):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, classes)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))
"""


def _export(cli, tmp_path, *arguments):
    result = cli("export", "-o", tmp_path / "out", "--json", "--quiet", *arguments)
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


STATING = f"""{HEAD}

def make():
    net = Net()
    net.default_cfg = dict(input_size=(3, 48, 64), crop_pct=0.5, interpolation="bilinear",
                           mean=(0.5,) * 3, std=(0.25,) * 3)
    return net
"""


def test_the_input_that_a_module_states_is_used(cli, tmp_path, here):
    here("stating_nets", STATING)
    manifest = _export(cli, tmp_path, "--model", "stating_nets:make")["manifest"]
    assert manifest["preprocessing"] == {
        "height": 48, "width": 64, "crop_share": 0.5, "interpolation": "bilinear",
        "mean": [0.5] * 3, "std": [0.25] * 3, "colour_order": "RGB", "layout": "NCHW",
    }  # fmt: skip
    assert manifest["graph"]["inputs"][0]["shape"] == [1, 3, 48, 64]


SIZED = f"""{HEAD}

def make(height, width):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * height * width, 5))
"""


def test_the_resolution_reaches_a_function_that_takes_it(cli, tmp_path, here):
    here("sized_nets", SIZED)
    document = _export(cli, tmp_path, "--model", "sized_nets:make", "--resolution", "32x40")
    assert document["manifest"]["graph"]["inputs"][0]["shape"] == [1, 3, 32, 40]
    assert Path(document["bundle"]).name == "sized_nets.make-32x40-b1-fp32-jp6"


def test_the_seed_makes_the_weights_and_is_recorded(cli, tmp_path, here):
    here("seeded_nets", HEAD)
    size = ("--resolution", "32")
    first, again, other = (
        _export(cli, tmp_path, "--model", "seeded_nets:Net", "--seed", seed, *size)["manifest"]
        for seed in (0, 0, 1)
    )
    assert first["weights"] == again["weights"]
    assert first["files"] == again["files"]
    assert other["weights"]["source"] == "module(1)"
    assert other["weights"]["sha256"] != first["weights"]["sha256"]


def test_a_weights_file_of_an_own_module_is_loaded(cli, tmp_path, here):
    import torch

    here("trained_nets", HEAD)
    import trained_nets

    net = trained_nets.Net()
    torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "best.pth")
    arguments = ("--model", "trained_nets:Net", "--resolution", "32", "--weights")
    manifest = _export(cli, tmp_path, *arguments, tmp_path / "best.pth")["manifest"]
    assert manifest["weights"]["source"] == "best.pth"
    torch.save({"conv.weight": net.conv.weight.detach()}, tmp_path / "part.pth")
    result = cli("export", *arguments, tmp_path / "part.pth", "-o", tmp_path / "out")
    assert result.code == 3
    assert "3 missing in the file: conv.bias, head.bias, head.weight" in result.err


@pytest.mark.parametrize(
    ("name", "text", "code", "told"),
    [
        ("number", "def make(): return 7", 2, "returns a int, not a torch module"),
        ("raises", "def make(): raise OSError('no disk')", 2, "fails: OSError: no disk"),
        ("imports", "import no_such_package", 2, "No module named 'no_such_package'"),
        ("flat", f"{HEAD}\nmake = nn.Flatten(0)", 5, "does not give logits of shape"),
        ("misfit", f"{HEAD}\nmake = nn.Linear(7, 5)", 5, "not run on images of shape (2, 3, 224,"),
    ],
)
def test_a_module_that_cannot_be_used_is_one_clear_error(
    name, text, code, told, cli, tmp_path, here
):
    here(name := f"wrong_{name}", text)
    result = cli("export", "--model", f"{name}:make", "-o", tmp_path / "out")
    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert not list((tmp_path / "out").glob("*"))


def test_settings_and_published_weights_are_refused(cli, tmp_path, here):
    here("plain_nets", HEAD)
    export = ("export", "--model", "plain_nets:Net", "-o", tmp_path)
    for more, told in (
        (("--set", "classes=7"), "unknown setting of this model 'classes'"),
        (("--pretrained",), "no published weights are known of 'plain_nets:Net'"),
    ):
        result = cli(*export, *more)
        assert (result.code, result.out) == (2, "")
        assert told in result.err


# --- a package that is installed beside ours ---

PACKAGE = f"""{HEAD}

import dataclasses

from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.layers import LinearAttention


def branches(context):
    return (LinearAttention(context.dim, context.heads, context.rows, context.cols, lepe=False),)


def _small(name):
    spec = registry.get(name)
    config = dataclasses.replace(
        spec.config, embed_dim=8, depths=(1, 1, 1, 1), heads=(2, 2, 2, 2), classes=5
    )
    return dataclasses.replace(spec, config=config, input_size=64)


def __getattr__(name):
    if name == "small":
        return _small("swin_t_mine")
    raise AttributeError(name)
"""

ENTRY_POINTS = """[elfatt_deploy.models]
my_net = tiny_package:Net
my_swin = tiny_package:small

[elfatt_deploy.attentions]
mine = tiny_package:branches
"""


@pytest.fixture
def site(tmp_path):
    """Return a folder in which `tiny_package` is installed."""
    folder = tmp_path / "site"
    info = folder / "tiny_package-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "tiny_package.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


@pytest.mark.slow
def test_models_and_attentions_of_a_package_go_through_the_verbs(site, program, tmp_path):
    listed = program("models", "cswin_t_mine", "--resolution", "64", path=(site,))
    assert listed.code == 0, listed.err
    assert " mine " in listed.out
    for name, folder in (("my_net", "my_net-32-b1"), ("my_swin", "my_swin-32-b1")):
        exported = program("export", "--model", name, "--resolution", "32", "--quiet", path=(site,))
        assert (exported.code, exported.err) == (0, "")
        checked = program("check", f"bundles/{folder}-fp32-jp6", path=())
        assert (checked.code, checked.err.count("error")) == (0, 0)
    manifest = (tmp_path / "bundles" / "my_swin-32-b1-fp32-jp6" / "manifest.json").read_text()
    assert json.loads(manifest)["weights"]["source"] == "random(0)"
    assert json.loads(manifest)["model"]["config"]["attention"] == "mine"


def test_a_package_that_takes_one_of_our_names_is_named(site, program):
    points = site / "tiny_package-1.0.dist-info" / "entry_points.txt"
    points.write_text("[elfatt_deploy.models]\ncswin_t_elfatt = tiny_package:Net\n")
    result = program("models", "cswin_t_elfatt", path=(site,))
    assert (result.code, result.out) == (2, "")
    assert "gives the name 'cswin_t_elfatt' to tiny_package:Net" in result.err


# --- timm ---

TIMM = f"""{HEAD}

class Config:
    def to_dict(self):
        return dict(input_size=(3, 48, 48), crop_pct=0.9, interpolation="bicubic",
                    mean=(0.5,) * 3, std=(0.5,) * 3, architecture="tiny_net")


def list_models():
    return ["tiny_net"]


def is_model(name):
    return name in list_models()


def get_pretrained_cfg(name):
    return Config()


def create_model(name, pretrained=False, **options):
    net = Net(7)
    net.pretrained_cfg = Config()
    return net
"""


@pytest.fixture
def timm(tmp_path):
    """Return a function that puts a package `timm` of this source on a path of its own."""

    def write(text):
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "timm.py").write_text(text)
        return tmp_path / "fake"

    return write


def test_a_timm_model_goes_through_export_and_check(timm, program, tmp_path):
    folder = timm(TIMM)
    exported = program("export", "--model", "timm/tiny_net", "--quiet", path=(folder,))
    assert (exported.code, exported.err) == (0, "")
    bundle = tmp_path / "bundles" / "timm.tiny_net-48-b1-fp32-jp6"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["preprocessing"]["crop_share"] == 0.9
    assert manifest["preprocessing"]["mean"] == [0.5] * 3
    assert manifest["graph"]["outputs"][0]["shape"] == [1, 7]
    assert program("check", bundle).code == 0  # which needs no timm


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "'timm' is installed but does not import: operator torchvision::nms does not exist",
        ),
        ("raise ModuleNotFoundError('No module named timm', name='timm')", "'timm' is not inst"),
        ("import torchvision_that_is_absent", "'timm' is installed but does not import: No module"),
    ],
    ids=["broken torchvision", "missing", "without torchvision"],
)
def test_a_timm_that_does_not_work_exits_3_and_says_why(text, told, timm, program):
    result = program("export", "--model", "timm/tiny_net", path=(timm(text),))
    assert (result.code, result.out) == (3, "")
    assert result.err.count("error: ") == 1
    assert told in result.err
    assert "pip install timm" in result.err
