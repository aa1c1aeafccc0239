"""Manifests read back as they were written, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
import json

import pytest

from elfatt_deploy import artifacts, bundles
from elfatt_deploy.artifacts import (
    BundleManifest,
    Counts,
    GraphSummary,
    ModelIdentity,
    ParityReport,
    ParityRow,
    Preprocessing,
    TensorInfo,
    Tolerance,
    Weights,
)
from elfatt_deploy.errors import InputFileError, SchemaError

CONTENT = {artifacts.MODEL_FILE: b"a model", artifacts.GOLDEN_FILE: b"golden values"}

ROW = ParityRow(
    inputs="noise",
    batch=1,
    images=2,
    values=20,
    max_abs=1e-6,
    mean_abs=1e-7,
    p99_abs=9e-7,
    relative_l2=1e-7,
    cosine=1.0,
    scale=1.5,
    top1=1.0,
    top5=1.0,
    nonfinite=0,
    passed=True,
)
REPORT = ParityReport(
    reference="torch float32",
    candidate="ort",
    tolerance=Tolerance(max_abs=1e-4, relative_l2=2e-5, cosine=0.9999999),
    rows=(ROW,),
)


def _manifest(files):
    return BundleManifest(
        schema=artifacts.MANIFEST_SCHEMA,
        version=artifacts.MANIFEST_VERSION,
        created="2025-01-01T00:00:00+00:00",
        model=ModelIdentity(
            name="tiny",
            family="Tiny",
            builder="package.module:build",
            settings={"lepe": "false"},
            config={"depths": [1, 1, 2, 1], "blocks": None},
            height=224,
            width=320,
        ),
        weights=Weights(source="random(0)"),
        precision="fp32",
        target="jp6",
        batch="dynamic",
        preprocessing=Preprocessing(height=224, width=320, crop_share=0.9),
        counts=Counts(params=7, macs=3 * 10**9, softmax_attention_macs=10**9),
        graph=GraphSummary(
            opset=17,
            ir_version=8,
            nodes=1,
            op_counts={"Relu": 1},
            initializer_bytes=0,
            inputs=(TensorInfo(name="images", dtype="float32", shape=("batch", 3, 224, 320)),),
            outputs=(TensorInfo(name="logits", dtype="float32", shape=("batch", 10)),),
        ),
        rewrites=("fold-norms",),
        exporter="none",
        image_source="scikit-image",
        taps=("stage1.0",),
        parity=REPORT,
        versions={"numpy": "2"},
        files=files,
    )


@pytest.fixture
def bundle(tmp_path):
    """Return the folder of a whole bundle without a real model."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    for name, content in CONTENT.items():
        (folder / name).write_bytes(content)
    digests = {name: bundles.sha256_of(folder / name) for name in CONTENT}
    bundles.write_manifest(folder, _manifest(digests))
    return folder


def _edited(bundle, change):
    """Change the manifest's document in place and return the bundle."""
    path = bundle / artifacts.MANIFEST_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    return bundle


def _without(document, field):
    return {key: value for key, value in document.items() if key != field}


def test_a_manifest_survives_the_round_trip_through_json():
    manifest = _manifest({"model.onnx": "00"})
    document = json.loads(json.dumps(artifacts.to_document(manifest)))
    assert artifacts.from_document(BundleManifest, document, "here") == manifest


def test_a_whole_bundle_reads_back(bundle):
    found = bundles.read_bundle(bundle)
    assert found.path == bundle
    assert found.manifest == _manifest(found.manifest.files)
    assert found.model_path.read_bytes() == CONTENT[artifacts.MODEL_FILE]
    assert found.golden_path.read_bytes() == CONTENT[artifacts.GOLDEN_FILE]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: {**d, "colour": 1}, "colour"),
        (lambda d: {**d, "model": {**d["model"], "colour": 1}}, r"model\.colour"),
        (lambda d: _without(d, "weights"), "weights"),
        (lambda d: {**d, "graph": _without(d["graph"], "opset")}, r"graph\.opset"),
        (lambda d: {**d, "precision": 32}, "precision"),
        (lambda d: {**d, "graph": {**d["graph"], "nodes": "many"}}, r"graph\.nodes"),
        (lambda d: {**d, "parity": {**d["parity"], "rows": [{}]}}, r"parity\.rows\.0\.\w+"),
    ],
    ids=["unknown", "unknown inside", "missing", "missing inside", "type", "type inside", "row"],
)
def test_a_document_off_its_schema_names_the_field(change, field):
    document = change(artifacts.to_document(_manifest({})))
    with pytest.raises(SchemaError, match=rf"^here does not match its schema: {field}: ") as caught:
        artifacts.from_document(BundleManifest, document, "here")
    assert caught.value.hint


def test_further_faults_of_a_document_are_counted():
    with pytest.raises(SchemaError, match=r"max_abs: .* \(and 2 more\)"):
        artifacts.from_document(Tolerance, {}, "here")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: folder / "nowhere", "is not a folder"),
        (lambda folder: folder / "file", "is not a folder"),
        (lambda folder: folder, r"holds no manifest\.json"),
    ],
    ids=["missing", "a file", "no manifest"],
)
def test_what_is_no_bundle_is_refused(make, told, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputFileError, match=told) as caught:
        bundles.read_bundle(make(tmp_path))
    assert "elfatt-deploy export" in caught.value.hint


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_manifest_is_refused(share, bundle):
    path = bundle / artifacts.MANIFEST_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SchemaError, match=r"manifest\.json is not a JSON document"):
        bundles.read_bundle(bundle)


def test_a_manifest_that_is_not_text_is_refused(bundle):
    (bundle / artifacts.MANIFEST_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match="not a JSON document"):
        bundles.read_bundle(bundle)


@pytest.mark.parametrize("document", ["[]", "null", '"text"', "{}", '{"schema": "other"}'])
def test_a_document_of_another_schema_is_refused(document, bundle):
    (bundle / artifacts.MANIFEST_FILE).write_text(document, encoding="utf-8")
    told = "has schema .*, not 'elfatt-deploy/bundle'|is not a JSON object"
    with pytest.raises(SchemaError, match=told):
        bundles.read_bundle(bundle)


@pytest.mark.parametrize("version", [artifacts.MANIFEST_VERSION + 1, 0, None, "1"])
def test_another_version_of_the_schema_is_refused_before_its_fields(version, bundle):
    _edited(bundle, lambda d: d.update(version=version, field_of_the_future=1))
    with pytest.raises(SchemaError, match=f"schema version {version};.* reads version 1") as caught:
        bundles.read_bundle(bundle)
    assert "the elfatt-deploy version that wrote it" in caught.value.hint


@pytest.mark.parametrize("name", CONTENT)
def test_a_missing_file_is_named(name, bundle):
    (bundle / name).unlink()
    with pytest.raises(InputFileError, match=f"lacks {name}"):
        bundles.read_bundle(bundle)


@pytest.mark.parametrize("name", CONTENT)
def test_a_changed_file_is_named(name, bundle):
    (bundle / name).write_bytes(CONTENT[name][:-1] + b"?")
    with pytest.raises(InputFileError, match=f"{name} was changed since the export"):
        bundles.read_bundle(bundle)


def test_a_manifest_without_digests_is_not_taken_for_a_verified_bundle(bundle):
    with pytest.raises(InputFileError, match=r"model\.onnx"):
        bundles.read_bundle(_edited(bundle, lambda d: d.update(files={})))


def test_a_digest_of_an_unreadable_file_is_an_input_error(tmp_path):
    with pytest.raises(InputFileError, match=r"cannot read .*none: No such file"):
        bundles.sha256_of(tmp_path / "none")


def test_counts_in_giga_leave_out_softmax_products_in_the_fa_column():
    counts = Counts(params=1, macs=4_500_000_000, softmax_attention_macs=300_000_000)
    assert (counts.gflops_nfa, counts.gflops_fa) == (4.5, 4.2)


@pytest.mark.parametrize(
    ("rows", "passed"),
    [((), False), ((ROW,), True), ((ROW, dataclasses.replace(ROW, passed=False)), False)],
    ids=["none", "all pass", "one fails"],
)
def test_a_report_passes_only_with_rows_that_all_pass(rows, passed):
    assert dataclasses.replace(REPORT, rows=rows).passed is passed


@pytest.mark.parametrize(
    ("source", "random", "seed"),
    [
        ("random(3)", True, 3),
        ("module(12)", False, 12),
        ("cswin.pth", False, None),
        ("random(3).pth", True, None),
        ("module.safetensors", False, None),
    ],
)
def test_the_seed_of_weights_is_told_from_the_name_of_a_file(source, random, seed):
    weights = Weights(source=source)
    assert (weights.random, weights.seed) == (random, seed)


def test_a_manifest_of_before_the_source_of_weights_was_told_reads_back():
    document = artifacts.to_document(_manifest({}))
    document["weights"] = {"source": "random(0)", "sha256": None}
    assert artifacts.from_document(BundleManifest, document, "here") == _manifest({})


@pytest.mark.parametrize(
    ("model", "settings", "name"),
    [
        ("swin_t_local", (), "swin_t_local-224-b1-fp32-jp6"),
        ("pack.nets:make", (), "pack.nets.make-224-b1-fp32-jp6"),
        ("timm/resnet18", (), "timm.resnet18-224-b1-fp32-jp6"),
        ("timm/vit.augreg", ("window=8",), "timm.vit.augreg.window-8-224-b1-fp32-jp6"),
    ],
)
def test_the_folder_of_a_bundle_is_one_plain_name(model, settings, name):
    assert bundles.folder_name(model, settings, 224, 224, 1, "fp32", "jp6") == name
