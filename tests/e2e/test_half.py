"""`export --precision fp16`: what is written, what is proved, and what is refused."""

from __future__ import annotations

import json

import onnx
import pytest
from onnx import TensorProto

from elfatt_deploy import bundles, recipes
from elfatt_deploy.errors import InputFileError, UsageError
from elfatt_deploy.pipeline import ExportRequest, check_bundle, export_bundle


def _types(bundle):
    graph = onnx.load(bundle.model_path).graph
    return {t.data_type for t in graph.initializer if t.data_type != TensorProto.INT64}


@pytest.mark.parametrize("target", sorted(recipes.targets()))
def test_half_reaches_each_target_in_its_own_way(tiny_model, tmp_path, target):
    outcome = export_bundle(
        ExportRequest(model=tiny_model.name, target=target, precision="fp16", output=tmp_path)
    )
    assert outcome.passed
    manifest = bundles.read_bundle(outcome.bundle.path).manifest
    assert outcome.bundle.path.name == f"tiny_elfatt-64-b1-fp16-{target}"
    typed = recipes.target(target).fp16 == "typed"
    assert (TensorProto.FLOAT16 in _types(outcome.bundle)) is typed
    assert manifest.precision == "fp16"
    assert manifest.emulation.candidate == "fp16-emulation"
    worst = max(row.relative_l2 for row in manifest.emulation.rows)
    assert 1e-4 < worst < 5e-3
    assert manifest.precision_map.relative_l2 < manifest.precision_map.limit
    assert (max(row.relative_l2 for row in manifest.parity.rows) < 2e-5) is not typed


def test_a_half_bundle_is_checked_with_its_emulation(tiny_model, tmp_path, cli):
    made = cli(
        "export", "--model", tiny_model.name, "--precision", "fp16", "--batch", "dynamic",
        "-o", tmp_path,
    )  # fmt: skip
    assert made.code == 0
    assert "parity: fp16-emulation against torch float32" in made.out
    assert "mixed precision: 0 nodes stay FP32" in made.out
    folder = tmp_path / "tiny_elfatt-64-bdynamic-fp16-jp6"
    checked = cli("check", folder, "--json")
    document = json.loads(checked.out)
    assert checked.code == 0
    assert document["emulation"]["passed"] is True
    assert {row["batch"] for row in document["emulation"]["rows"]} == {1, 3}
    assert document["manifest"]["precision_map"]["islands"] == []


@pytest.fixture
def huge_model(tiny_model):
    """Return the tiny model with a block whose values FP16 does not hold."""
    import torch

    from elfatt_deploy.models import seeded

    model = tiny_model.build(64, 64)
    seeded.fill(model)
    with torch.no_grad():
        mlp = model.stage2[0].mlp
        mlp.fc1.weight *= 1e5
        mlp.fc1.bias *= 1e5
        mlp.fc2.weight *= 1e-5
    return model


def test_islands_are_found_written_told_and_taken_from_a_saved_map(
    huge_model, tiny_model, tmp_path, cli
):
    import torch

    weights = tmp_path / "huge.pth"
    torch.save(huge_model.state_dict(), weights)
    asked = ("export", "--model", tiny_model.name, "--weights", weights, "--precision", "fp16")
    made = cli(*asked, "-o", tmp_path / "one")
    assert made.code == 0
    assert "FP16 ends at 65504" in made.out
    first = tmp_path / "one" / "tiny_elfatt-64-b1-fp16-jp6"
    islands = bundles.read_bundle(first).manifest.precision_map.islands
    assert islands
    assert all("stage2.0/mlp" in island.node for island in islands)
    assert TensorProto.FLOAT in _types(bundles.read_bundle(first))
    again = cli(*asked, "--precision-map", first / "manifest.json", "-o", tmp_path / "two")
    assert again.code == 0
    second = tmp_path / "two" / first.name
    found = bundles.read_bundle(second).manifest.precision_map
    assert (found.islands, found.tries) == (islands, 1)
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()


def test_a_map_that_keeps_too_little_fails_parity_and_leaves_no_bundle(
    huge_model, tiny_model, tmp_path, cli
):
    import torch

    weights, empty = tmp_path / "huge.pth", tmp_path / "map.json"
    torch.save(huge_model.state_dict(), weights)
    empty.write_text(
        '{"islands": [], "limit": 0.004, "relative_l2": 0, "all_half": 0, "images": 1, "tries": 1}'
    )
    result = cli(
        "export", "--model", tiny_model.name, "--weights", weights, "--precision", "fp16",
        "--precision-map", empty, "-o", tmp_path / "bundles",
    )  # fmt: skip
    assert result.code == 1
    assert "parity failed: no bundle was written" in result.out
    assert list((tmp_path / "bundles").iterdir()) == []


def test_a_map_without_half_precision_and_a_file_without_a_map_are_refused(tiny_model, tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"schema": "x", "precision_map": null}')
    request = ExportRequest(model=tiny_model.name, precision_map=path, output=tmp_path)
    with pytest.raises(UsageError, match="give --precision fp16 too"):
        export_bundle(request)
    with pytest.raises(InputFileError, match="holds no precision map"):
        export_bundle(
            ExportRequest(
                model=tiny_model.name, precision="fp16", precision_map=path, output=tmp_path
            )
        )


def test_a_manifest_from_before_half_precision_is_still_read(tiny_model, tmp_path):
    path = export_bundle(ExportRequest(model=tiny_model.name, output=tmp_path)).bundle.path
    manifest = path / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["precision_map"], document["emulation"]
    for row in document["parity"]["rows"]:
        del row["flips"]
    manifest.write_text(json.dumps(document))
    assert check_bundle(path).passed


def test_two_runners_are_compared_tensor_by_tensor(huge_model, tiny_model, tmp_path, cli):
    import torch

    weights = tmp_path / "huge.pth"
    torch.save(huge_model.state_dict(), weights)
    assert cli("export", "--model", tiny_model.name, "--weights", weights, "-o", tmp_path).code == 0
    folder = tmp_path / "tiny_elfatt-64-b1-fp32-jp6"
    result = cli(
        "check", folder, "--layers", "--runner", "fp16-emulation", "--against", "ort-plain"
    )
    assert result.code == 0  # a comparison shows, the parity of the bundle decides
    assert "tensors, in order: fp16-emulation against ort-plain" in result.out
    assert "first divergence: /net/stage2.0/mlp/fc1/Gemm_output_0" in result.out
    rows = json.loads(cli("check", folder, "--layers", "--against", "ort-plain", "--json").out)
    assert len(rows["layers"]) > 150
    assert max(row["relative_error"] for row in rows["layers"]) < 1e-3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--against", "ort"), "give --layers too"),
        (("--layers", "--against", "ort"), "ort compared with itself"),
        (("--layers", "--against", "gpu"), "unknown runner 'gpu'"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(options, told, tiny_model, tmp_path, cli):
    folder = export_bundle(ExportRequest(model=tiny_model.name, output=tmp_path)).bundle.path
    result = cli("check", folder, *options)
    assert result.code == 2
    assert told in result.err


@pytest.mark.parametrize("target", ["jp6", "ort"])
def test_a_scaled_softmax_over_tokens_is_fp32_up_to_its_product(
    target, tiny_model, tmp_path, monkeypatch
):
    from elfatt_deploy.export import rewrites

    monkeypatch.setattr(rewrites, "_MOST_TOKENS", 63)
    outcome = export_bundle(
        ExportRequest(model=tiny_model.name, precision="fp16", target=target, output=tmp_path)
    )
    manifest = outcome.bundle.manifest
    assert "scale-token-softmax" in manifest.rewrites
    assert [island.op for island in manifest.precision_map.islands] == ["Softmax", "Mul"] * 2
    assert all("scaled up" in island.reason for island in manifest.precision_map.islands)
