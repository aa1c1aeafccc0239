"""`check --builder rtx`: the kernels of each block, where TensorRT for RTX is installed."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy.pipeline import ExportRequest, export_bundle


@pytest.fixture
def folder(tiny_model, tmp_path):
    request = ExportRequest(model=tiny_model.name, precision="fp16", output=tmp_path)
    return export_bundle(request).bundle.path


def test_kernels_are_listed_by_block(folder, cli):
    pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")
    result = cli("check", folder, "--builder", "rtx", "--json")
    found = json.loads(result.out)["kernels"]
    assert result.code == 0
    blocks = dict(found["blocks"])
    assert [name for name in blocks if name.startswith("stage")] == [
        "stage1_conv_embed", "stage1.0", "stage2.0", "stage3.0", "stage3.1", "stage4.0",
    ]  # fmt: skip
    assert sum(blocks.values()) == found["kernels"] > 40
    shown = cli("check", folder, "--builder", "rtx")
    assert f"{found['kernels']} in all" in shown.out
    assert "nothing ran" in shown.out


def test_an_unknown_builder_and_a_file_are_refused(folder, cli):
    unknown = cli("check", folder, "--builder", "trt")
    assert (unknown.code, unknown.out) == (2, "")
    assert "unknown builder 'trt': did you mean rtx?" in unknown.err
    file = cli("check", folder / "model.onnx", "--builder", "rtx")
    assert (file.code, file.out) == (2, "")
    assert "are for a bundle, not for a file" in file.err
