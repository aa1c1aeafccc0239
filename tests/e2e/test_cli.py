"""The verbs as a user sees them."""

from __future__ import annotations

import json
import tempfile

import pytest

from elfatt_deploy.errors import InputFileError


@pytest.fixture
def bundle(cli, tiny_model, tmp_path):
    result = cli("export", "--model", tiny_model.name, "-o", tmp_path, "--json", "--quiet")
    assert result.code == 0
    return json.loads(result.out)


def test_export_shows_parity_and_says_the_weights_are_random(cli, tiny_model, tmp_path):
    result = cli("export", "--model", tiny_model.name, "--batch", "dynamic", "-o", tmp_path)
    assert result.code == 0
    assert result.out.count("pass") == 4
    assert "photos" in result.out
    assert "weights random(0)" in result.out
    assert "the weights are random(0)" in result.err


def test_json_holds_what_the_table_shows(cli, bundle):
    result = cli("check", bundle["bundle"])
    assert result.code == 0
    rows = bundle["parity"]["rows"]
    assert bundle["schema"] == "elfatt-deploy/export"
    assert bundle["passed"] is bundle["parity"]["passed"] is True
    assert [row["inputs"] for row in rows] == ["photos", "noise"]
    for row in rows:
        assert f"{row['max_abs']:.1e}" in result.out
        assert f"{row['relative_l2']:.1e}" in result.out


def test_check_lists_every_block(cli, bundle):
    result = cli("check", bundle["bundle"], "--layers", "--json", "--quiet")
    names = [layer["name"] for layer in json.loads(result.out)["layers"]]
    assert names == [
        "stage1_conv_embed", "stage1.0", "merge1", "stage2.0", "merge2",
        "stage3.0", "stage3.1", "merge3", "stage4.0",
    ]  # fmt: skip
    assert result.err == ""


def test_check_of_a_failing_bundle_exits_1_and_names_the_tensor(cli, bundle):
    import pathlib

    import numpy as np
    import onnx

    from elfatt_deploy import bundles

    path = pathlib.Path(bundle["bundle"])
    model = onnx.load(path / "model.onnx")
    node = next(n for n in model.graph.node if "stage2.0/mlp/fc2" in n.name)
    weight = next(t for t in model.graph.initializer if t.name == node.input[1])
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.5)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path / "model.onnx")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = bundles.sha256_of(path / "model.onnx")
    (path / "manifest.json").write_text(json.dumps(manifest))
    result = cli("check", path)
    assert result.code == 1
    assert "first divergence: stage2.0 " in result.out
    assert "FAIL" in result.out


def test_check_without_a_gpu_says_so(cli, bundle):
    result = cli("check", bundle["bundle"], "--provider", "cuda")
    assert result.code == 5
    assert "CUDAExecutionProvider" in result.err
    assert result.out == ""


def test_models_lists_every_name_with_its_counts(cli):
    document = json.loads(cli("models", "--json").out)
    entry = next(e for e in document["models"] if e["name"] == "cswin_t_elfatt")
    assert entry["params"] == 20393320
    assert entry["gflops_nfa"] == pytest.approx(4.439306752)
    assert entry["gflops_fa"] == pytest.approx(4.131978752)
    assert entry["input_size"] == 224


@pytest.mark.parametrize(("table", "rows"), [(1, 38), (2, 4), (3, 4), (4, 6), (5, 5)])
def test_tables_agree_with_the_paper_to_the_printed_digit(cli, table, rows):
    result = cli("models", "--table", table)
    assert result.code == 0
    assert f"{rows} of {rows} compared rows agree" in result.out
    document = json.loads(cli("models", "--table", table, "--json").out)
    ours = [row for row in document["rows"] if row["agree"] is not None]
    assert len(ours) == rows
    for row in ours:
        for key in ("params", "gflops_nfa", "gflops_fa"):
            assert row[key] == (row[f"paper_{key}"] or None)  # the paper has a dash in places


def test_the_table_says_that_the_selective_scan_is_not_counted(cli):
    shown = cli("models", "--table", 1).out
    assert "VMamba-T: the selective scan is not counted" in shown
    assert shown.count("VMamba-T:") == 1


def test_a_disagreeing_table_exits_1(cli, monkeypatch):
    from elfatt_deploy import recipes

    wrong = {key: type(c)(params=c.params, macs=c.macs * 2,
             softmax_attention_macs=c.softmax_attention_macs)
             for key, c in recipes.stored_counts().items()}  # fmt: skip
    monkeypatch.setattr(recipes, "stored_counts", lambda: wrong)
    result = cli("models", "--table", "2")
    assert result.code == 1
    assert "0 of 4 compared rows agree" in result.out


def test_a_model_shows_its_levels(cli):
    document = json.loads(cli("models", "cswin_b_elfatt", "--resolution", "384", "--json").out)
    assert [level["rows"] for level in document["levels"]] == [96, 48, 24, 12]
    assert [level["window"] for level in document["levels"]] == [24, 24, 24, None]
    assert document["levels"][2]["blocks"][:3] == ["global", "elfatt", "global"]


@pytest.mark.parametrize(
    ("model", "third", "window"),
    [
        ("cswin_t_elfatt", "global / elfatt in turn", "14"),
        ("cswin_b_local", "local", "7"),
        ("swin_b_agent", "2 agent, 16 local", "7"),
        ("swin_t_flatten", "local", "7"),
        ("efficientvit_b2", "1 mbconv, 4 context + mbconv", "-"),
        ("convnext_t", "depthwise 7x7", "-"),
        ("vmamba_t", "selective scan", "-"),
    ],
)
def test_the_levels_of_each_family_are_told_in_words(cli, model, third, window):
    result = cli("models", model)
    assert (result.code, result.err) == (0, "")
    line = next(line for line in result.out.splitlines() if line.split()[:1] == ["3"])
    assert line.split()[1] == "14x14"
    assert f" {third} " in line
    assert line.split()[-1] == window


@pytest.mark.slow
def test_stored_counts_are_those_of_the_models():
    """`models` answers from stored counts; they must be what the models give."""
    from elfatt_deploy import recipes
    from elfatt_deploy.models import counting

    assert recipes.stored_counts() == counting.count_all()


def test_doctor_survives_a_broken_package(cli, tmp_path, monkeypatch):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "__init__.py").write_text("import os, signal; os.kill(os.getpid(), 11)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = cli("doctor", "--json")
    assert result.code == 0
    states = {package["package"]: package for package in json.loads(result.out)["packages"]}
    assert "died of signal 11" in states["onnx"]["state"]
    assert states["tensorrt"]["state"] in ("missing", "ok")
    assert "[jetson]" in states["jtop"]["install"]


def test_doctor_shows_how_to_install(cli):
    result = cli("doctor")
    assert result.code == 0
    assert '[jetson]"' in result.out


def test_a_bug_of_ours_is_reported_as_one(cli, tiny_model, tmp_path, monkeypatch):
    from elfatt_deploy import preprocessing

    def bug(*_):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(preprocessing, "noise_images", bug)
    result = cli("export", "--model", tiny_model.name, "-o", tmp_path)
    assert result.code == 70
    assert "this is a bug" in result.err
    assert "ZeroDivisionError: planted" in next(tmp_path.glob("elfatt-deploy-*.txt")).read_text()
    assert "Traceback" not in result.err


def test_ctrl_c_exits_130(cli, tiny_model, tmp_path, monkeypatch):
    from elfatt_deploy import preprocessing

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocessing, "noise_images", stop)
    assert cli("export", "--model", tiny_model.name, "-o", tmp_path).code == 130


def test_an_error_is_one_line_and_what_to_do_next(cli, tmp_path):
    result = cli("check", tmp_path / "nowhere")
    assert result.code == InputFileError.exit_code
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert "next: " in result.err
