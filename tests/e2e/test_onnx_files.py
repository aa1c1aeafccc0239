"""ONNX files from elsewhere become bundles, and are held against a target."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from elfatt_deploy import bundles

SIDE = 32


class Net(nn.Module):
    """A classifier for images of any size, with a LayerNorm, which TensorRT 8.2 lacks."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        x = self.conv(images).permute(0, 2, 3, 1)
        return self.head(self.norm(x).mean((1, 2)))


def _written(path, net, axes=None, batch=1, names=("pixel_values", "output"), opset=17):
    """Export as a user does, with the exporter's own names and axes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(),
            (torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)),),
            str(path),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes and {names[0]: axes, names[1]: {0: "N"}},
            opset_version=opset,
            dynamo=False,
        )
    return path


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().eval()


@pytest.fixture
def fixed(net, tmp_path):
    """Return a file of one fixed shape."""
    return _written(tmp_path / "foreign.onnx", net)


@pytest.fixture
def dynamic(net, tmp_path):
    """Return a file with an open batch."""
    return _written(tmp_path / "open-batch.onnx", net, {0: "N"}, batch=2)


def _exported(cli, model, tmp_path, *arguments):
    result = cli(
        "export", "--model", model, "-o", tmp_path / "out", "--json", "--quiet", *arguments
    )
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)


def test_a_file_becomes_a_bundle_that_says_where_it_comes_from(cli, fixed, net, tmp_path):
    document = _exported(cli, fixed, tmp_path)
    manifest = document["manifest"]
    assert Path(document["bundle"]).name == "foreign-32-b1-fp32-jp6"
    assert manifest["model"]["name"] == "foreign"
    assert manifest["model"]["family"] == "ONNX file"
    assert manifest["model"]["config"] == {
        "renamed": ["pixel_values to images", "output to logits"]
    }
    assert manifest["weights"]["source"] == "foreign.onnx"
    assert manifest["weights"]["sha256"] == bundles.sha256_of(fixed)
    assert (manifest["counts"], manifest["rewrites"], manifest["taps"]) == (None, [], [])
    assert manifest["exporter"] == "none: the file is the user's"
    assert (manifest["preprocessing"]["height"], manifest["batch"]) == (SIDE, 1)
    assert manifest["preprocessing"]["crop_share"] == 0.875
    assert document["parity"]["reference"] == "ort (CPUExecutionProvider, not optimised)"
    with np.load(Path(document["bundle"]) / "golden.npz") as golden, torch.no_grad():
        expected = net(torch.from_numpy(golden["images"])).numpy()
        np.testing.assert_allclose(golden["logits"], expected, rtol=0, atol=1e-5)


def test_the_graph_stays_as_it_is_but_for_two_names(cli, fixed, tmp_path):
    bundle = Path(_exported(cli, fixed, tmp_path)["bundle"])
    theirs, ours = onnx.load(fixed).graph, onnx.load(bundle / "model.onnx").graph
    assert [node.op_type for node in ours.node] == [node.op_type for node in theirs.node]
    assert [t.SerializeToString() for t in ours.initializer] == [
        t.SerializeToString() for t in theirs.initializer
    ]
    assert (ours.input[0].name, ours.output[0].name) == ("images", "logits")


def test_the_bundle_of_a_file_is_checked_as_any_other(cli, fixed, tmp_path):
    bundle = _exported(cli, fixed, tmp_path)["bundle"]
    fixed.unlink()
    result = cli("check", bundle)
    assert (result.code, result.err) == (0, "")
    assert "against ort (CPUExecutionProvider, not optimised)" in result.out
    assert "weights foreign.onnx: opset 17" in result.out
    with (Path(bundle) / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert cli("check", bundle).code == 3


def test_a_changed_graph_of_a_files_bundle_fails(cli, fixed, tmp_path):
    bundle = Path(_exported(cli, fixed, tmp_path)["bundle"])
    model = onnx.load(bundle / "model.onnx")
    bias = next(t for t in model.graph.initializer if t.name == "head.bias")
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, bundle / "model.onnx")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = bundles.sha256_of(bundle / "model.onnx")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    result = cli("check", bundle)
    assert result.code == 1
    assert "first divergence: " in result.out
    assert "no named inner tensors" in result.out


def test_an_open_batch_is_proved_at_two_sizes(cli, dynamic, tmp_path):
    for more in ((), ("--batch", "dynamic")):
        document = _exported(cli, dynamic, tmp_path, *more)
        assert document["manifest"]["batch"] == "dynamic"
        assert {row["batch"] for row in document["parity"]["rows"]} == {1, 3}
        assert Path(document["bundle"]).name == "open-batch-32-bdynamic-fp32-jp6"


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [((), (224, 224)), (("--resolution", "64x96"), (64, 96)), (("--resolution", "32"), (32, 32))],
)
def test_an_open_size_is_the_one_that_is_asked_for(arguments, shape, cli, net, tmp_path):
    path = _written(tmp_path / "open.onnx", net, {0: "N", 2: "H", 3: "W"})
    manifest = _exported(cli, path, tmp_path, *arguments)["manifest"]
    assert (manifest["model"]["height"], manifest["model"]["width"]) == shape
    assert cli("check", path).code == 0


def test_weights_beside_the_file_are_taken_into_the_bundle(cli, fixed, tmp_path):
    path = tmp_path / "split.onnx"
    onnx.save(
        onnx.load(fixed), path, save_as_external_data=True, location="split.bin", size_threshold=0
    )
    bundle = _exported(cli, path, tmp_path)["bundle"]
    (tmp_path / "split.bin").unlink()
    assert cli("check", bundle).code == 0
    result = cli("check", path)
    assert result.code == 3
    assert "split.onnx is not complete" in result.err


def test_own_images_are_used_for_a_file(cli, fixed, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    (tmp_path / "pictures").mkdir()
    pil.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(tmp_path / "pictures" / "a.png")
    rows = _exported(cli, fixed, tmp_path, "--images", tmp_path / "pictures")["parity"]["rows"]
    assert [(row["inputs"], row["images"]) for row in rows] == [("images", 1), ("noise", 2)]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--batch", "2"), 2, "has batch 1, not 2"),
        (("--batch", "dynamic"), 2, "has batch 1, not dynamic"),
        (("--resolution", "64"), 2, "takes images of 32x32, not 64x64"),
        (("--set", "classes=5"), 2, "holds its weights and its configuration"),
        (("--pretrained",), 2, "holds its weights and its configuration"),
        (("--target", "jp4"), 5, "does not fit target jp4"),
        (("--target", "jp44"), 2, "unknown target 'jp44': did you mean jp4"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_a_file_cannot_be_is_refused_and_leaves_nothing(
    arguments, code, told, cli, fixed, tmp_path
):
    result = cli("export", "--model", fixed, "-o", tmp_path / "out", *arguments)
    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert not list((tmp_path / "out").glob("*"))


def test_the_batch_and_size_of_the_file_may_be_named(cli, fixed, tmp_path):
    _exported(cli, fixed, tmp_path, "--batch", "1", "--resolution", "32x32")


def test_check_holds_a_file_against_a_target(cli, fixed):
    passed = cli("check", fixed)
    assert (passed.code, passed.err) == (0, "")
    assert passed.out.count(" pass") == 2
    assert "bundle" not in passed.out
    failed = cli("check", fixed, "--target", "jp4")
    assert (failed.code, failed.err) == (1, "")
    assert re.search(r"^target: opset 17: target jp4 takes \d+ to 1\d$", failed.out, re.MULTILINE)
    assert "target: op LayerNormalization: not on the list of target jp4 (1 nodes" in failed.out
    assert failed.out.count(" pass") == 2


def test_check_of_a_file_in_json(cli, dynamic):
    result = cli("check", dynamic, "--target", "jp4", "--json", "--quiet")
    document = json.loads(result.out)
    assert (result.code, result.err, document["schema"]) == (1, "", "elfatt-deploy/check")
    assert (document["passed"], document["parity"]["passed"]) == (False, True)
    assert (document["bundle"], document["manifest"], document["layers"]) == (None, None, [])
    assert len(document["findings"]) == 2


def test_an_older_opset_fits_the_older_target(cli, net, tmp_path):
    net.norm = nn.Identity()
    path = _written(tmp_path / "old.onnx", net, opset=13)
    assert cli("check", path, "--target", "jp4").code == 0
    document = _exported(cli, path, tmp_path, "--target", "jp4")
    assert document["manifest"]["graph"]["opset"] == 13


class Frozen(Net):
    def forward(self, images):
        x = self.conv(images).flatten(2)
        return self.head(x.reshape(int(images.shape[0]), 8, -1).mean(2))


class Maps(Net):
    def forward(self, images):
        return self.conv(images)


@pytest.mark.parametrize(
    ("kind", "told"),
    [(Frozen, "output of shape (2, 5) for 1 images"), (Maps, "output of shape (1, 8, 8")],
    ids=["a batch frozen when it was traced", "no classifier"],
)
def test_a_file_that_gives_no_row_an_image_is_refused(kind, told, cli, tmp_path):
    path = _written(tmp_path / "wrong.onnx", kind(), {0: "N"}, batch=2)
    for arguments in (("export", "--model", path, "-o", tmp_path / "out"), ("check", path)):
        result = cli(*arguments)
        assert (result.code, result.out) == (5, "")
        assert told in result.err
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_file_exits_3(share, cli, fixed, tmp_path):
    fixed.write_bytes(fixed.read_bytes()[: int(share * fixed.stat().st_size)])
    for arguments in (("export", "--model", fixed, "-o", tmp_path / "out"), ("check", fixed)):
        result = cli(*arguments)
        assert (result.code, result.out) == (3, "")
        assert "foreign.onnx is not " in result.err


def test_a_name_that_is_taken_inside_the_file_exits_5(cli, net, tmp_path):
    path = _written(tmp_path / "taken.onnx", net, names=("x", "y"))
    model = onnx.load(path)
    inner = model.graph.node[0].output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = "logits" if name == inner else name
    onnx.save(model, path)
    result = cli("check", path)
    assert (result.code, result.out) == (5, "")
    assert "'y' cannot be renamed to 'logits'" in result.err


def test_nan_in_the_users_file_is_a_failed_verdict(cli, net, tmp_path):
    with torch.no_grad():
        net.head.bias.fill_(torch.nan)
    path = _written(tmp_path / "nan.onnx", net)
    result = cli("export", "--model", path, "-o", tmp_path / "out")
    assert result.code == 1
    assert "parity failed: no bundle was written" in result.out
    assert not list((tmp_path / "out").glob("*"))
    assert cli("check", path).code == 1
