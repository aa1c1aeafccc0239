"""A bundle that needs the plugin, from export to the refusals of those that do not have it."""

from __future__ import annotations

import json

import onnx
import pytest

from elfatt_deploy import bundles
from elfatt_deploy.graph import plugin_nodes
from elfatt_deploy.models.plugin_node import LIBRARY
from elfatt_deploy.pipeline import ExportRequest, export_bundle
from elfatt_deploy.pipeline.lookup import find_bundle

PLAIN_OPS = "ElfattAttention in plain ops"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture
def bundle(tiny_model, folder):
    """Return a function that exports the tiny model with the plugin, once for each request."""

    def make(**asked):
        request = ExportRequest(model=tiny_model.name, plugin="elfatt", output=folder, **asked)
        path = request.folder(64, 64, request.batch or 1)
        return path if path.is_dir() else export_bundle(request).bundle.path

    return make


def test_the_command_says_which_blocks_use_the_node(tiny_model, cli, tmp_path):
    result = cli(
        "export", "--model", tiny_model.name, "--plugin", "elfatt", "--batch", "dynamic",
        "--resolution", "72x104", "--precision", "fp16", "-o", tmp_path,
    )  # fmt: skip
    assert result.code == 0, result.err
    # at level 1 of this model a head has 8 channels
    assert "4 of 5 attention blocks are one ElfattAttention node" in " ".join(result.out.split())
    path = tmp_path / f"{tiny_model.name}-72x104-bdynamic-fp16-jp6-plugin-elfatt"
    manifest = bundles.read_bundle(path).manifest
    used = manifest.plugin
    assert (used.name, used.op, used.version, used.namespace) == (
        "elfatt", "ElfattAttention", "1", "elfatt",
    )  # fmt: skip
    assert (used.nodes, used.blocks, used.library) == (4, 5, LIBRARY)
    assert manifest.rewrites[0] == "plugin-elfatt"
    assert manifest.graph.op_counts["ElfattAttention"] == 4
    for report in (manifest.parity, manifest.emulation):
        assert report.passed
        assert report.candidate.endswith(PLAIN_OPS)
    model = onnx.load(path / "model.onnx")
    assert not model.functions
    nodes = plugin_nodes.plugin_nodes(model)
    halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == 10}
    assert all(set(node.input[1:]) <= halves for node in nodes)


@pytest.mark.parametrize(
    "asked",
    [{"target": "jp4"}, {"target": "jp5", "precision": "fp16"}, {"target": "desktop", "batch": 2}],
    ids=lambda asked: "-".join(map(str, asked.values())),
)
def test_every_kind_of_target_takes_it(asked, bundle):
    manifest = bundles.read_bundle(bundle(**asked)).manifest
    assert manifest.parity.passed
    assert manifest.plugin.nodes == 4
    assert manifest.parity.tolerance.max_abs == pytest.approx(1e-4)


def test_parity_is_that_of_the_plain_form(bundle, tiny_model, tmp_path):
    with_plugin = bundles.read_bundle(bundle()).manifest
    plain = export_bundle(ExportRequest(model=tiny_model.name, output=tmp_path)).bundle.manifest
    assert plain.plugin is None
    assert with_plugin.parity.tolerance == plain.parity.tolerance
    assert with_plugin.counts == plain.counts
    assert with_plugin.taps == plain.taps
    assert max(row.relative_l2 for row in with_plugin.parity.rows) < 1e-5


def test_check_runs_the_plain_ops_and_says_so(bundle, cli):
    path = bundle()
    result = cli("check", path, "--layers", "--json", "--quiet")
    document = json.loads(result.out)
    assert (result.code, document["passed"], document["findings"]) == (0, True, [])
    assert document["parity"]["candidate"].endswith(PLAIN_OPS)
    assert len(document["layers"]) == len(document["manifest"]["taps"])
    pairs = cli("check", path, "--layers", "--against", "ort-plain", "--json", "--quiet")
    assert pairs.code == 0, pairs.err
    names = {layer["name"] for layer in json.loads(pairs.out)["layers"]}
    assert sum("ElfattAttention" in name for name in names) == 4


def test_a_bundle_with_the_plugin_is_not_taken_for_the_model(bundle, folder, tiny_model):
    asked = {"height": 64, "width": 64, "precision": "fp32", "batch": 1}
    bundle()
    assert find_bundle(folder, tiny_model.name, **asked) is None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("check", "BUNDLE", "--builder", "rtx"), 2, "has no plugin layers"),
        (("check", "BUNDLE", "--plan", "x"), 2, f"add --plugin path/to/{LIBRARY}"),
        (("build", "BUNDLE"), 2, f"build {LIBRARY} for that machine as docs/plugin-board.md tells"),
        (("build", "BUNDLE", "--device", "sim:agx-orin-64gb"), 2, "and no library was given"),
        (("export", "--plugin", "nothing"), 2, "unknown plugin 'nothing'"),
        (("export", "--plugin", "elfatt", "--target", "ort"), 2, "target ort is none"),
        (("export", "--plugin", "elfatt", "--model", "x.onnx"), 2, "rewrites a torch model"),
        (("predict", "--plugin", "nothing"), 2, "unknown plugin 'nothing'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_says_what_to_do(arguments, code, words, bundle, cli):
    result = cli(*(bundle() if word == "BUNDLE" else word for word in arguments))
    assert (result.code, result.out) == (code, "")
    assert words in " ".join(result.err.split())
    assert "next: " in result.err


def test_the_file_alone_is_named_by_check(bundle, cli):
    result = cli("check", bundle() / "model.onnx")
    assert result.code == 1
    assert "needs TensorRT's plugin elfatt" in " ".join(result.out.split())


def test_a_simulated_board_wants_the_library(bundle, cli, tmp_path):
    path, wrong, right = bundle(precision="fp16"), tmp_path / "libother.so", tmp_path / LIBRARY
    build = ("build", path, "--device", "sim:agx-orin-64gb", "-o", tmp_path / "plans", "--plugin")
    for library in (wrong, right):
        library.write_bytes(b"no library: nothing loads it")
    refused = cli(*build, wrong)
    assert refused.code == 5
    assert "op ElfattAttention" in refused.err
    assert "Plugin not found, are the plugin name, version, and namespace correct?" in refused.err
    built = cli(*build, right, "--json")
    assert built.code == 0, built.err
    plan = json.loads(built.out)
    assert plan["manifest"]["proof"] == "fp16"
    layers = json.loads(
        next((tmp_path / "plans").rglob("layers.json")).read_text().replace("\x1e", "")
    )
    kinds = [layer["LayerType"] for layer in layers["Layers"]]
    assert kinds.count("PluginV2") == 4


def test_predict_shows_the_plugin_beside_the_plain_form(cli):
    arguments = ("predict", "--plugin", "elfatt", "--board", "agx-orin-64gb", "--power", "60W")
    document = json.loads(cli(*arguments, "--regime", "fused", "--json", "--quiet").out)
    fused, plugin = document["predictions"]
    assert (fused["regime"], plugin["regime"]) == ("fused", "plugin")
    saved = sum(one["plain_launches"] - one["plugin_launches"] for one in document["savings"])
    assert fused["kernels"] - plugin["kernels"] == saved > 0
    assert [one["blocks"] for one in document["savings"]] == [2, 4, 18, 1]
    result = cli(*arguments, "--model", "convnext_t,cswin_t_elfatt")
    assert "PREDICTED: what the plugin's node saves" in result.out
    assert "convnext_t with the plugin elfatt: it covers none" in result.err
