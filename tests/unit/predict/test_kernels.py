"""The shipped kernels."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.errors import InputFileError, SchemaError, UnknownNameError
from elfatt_deploy.predict import kernels
from elfatt_deploy.predict.kernels import kernel_document, kernel_table, known_models

_KINDS = ("product", "convolution", "depthwise", "attention")
_LEVELS = {"stem", "1", "2", "3", "4", "head"}
_MAC = 2


def _sum(table, *, kinds=_KINDS, field="flops", of="eager_fp32"):
    return sum(getattr(k, field) * k.count for k in getattr(table, of) if k.kind in kinds)


@pytest.mark.parametrize("model", known_models())
def test_the_products_are_those_that_the_counts_of_the_paper_have(model):
    """All but the norms and poolings, of which those count a few operations an element."""
    table = kernel_table(model)
    counts = recipes.stored_counts()[recipes.count_key(model, (), table.height, table.width)]
    flops = _sum(table)
    assert 0.97 * _MAC * counts.macs < flops <= _MAC * counts.macs
    attention = _sum(table, kinds=("attention",))
    assert attention == pytest.approx(_MAC * counts.softmax_attention_macs, rel=1e-6)


@pytest.mark.parametrize("model", known_models())
def test_the_weights_are_read_once_and_cast_in_mixed_precision(model):
    table = kernel_table(model)
    params = recipes.stored_counts()[recipes.count_key(model, (), table.height, table.width)].params
    everything = (*_KINDS, "memory")
    full = _sum(table, kinds=everything, field="weight_bytes")
    assert 4 * params <= full * 1.02
    assert full < 4 * params * 1.5  # biases of Agent are resized at every run
    cast = _sum(table, kinds=everything, field="weight_bytes", of="eager_fp16")
    assert 3.5 * params < cast - full < 4.6 * params  # a cast: 4 bytes read, 2 written; 2 read


@pytest.mark.parametrize("model", known_models())
def test_a_compiled_engine_has_fewer_kernels_and_moves_less(model):
    table = kernel_table(model)
    assert {k.level for k in table.fused} == {k.level for k in table.eager_fp32} == _LEVELS
    everything = (*_KINDS, "memory")
    for field in ("count", "activation_bytes"):
        eager = [getattr(k, field) * (k.count if field != "count" else 1) for k in table.eager_fp32]
        fused = [getattr(k, field) * (k.count if field != "count" else 1) for k in table.fused]
        assert sum(fused) < sum(eager)
    flops = [_sum(table, kinds=everything, of=name) for name in ("eager_fp32", "fused")]
    assert flops[0] == pytest.approx(flops[1], rel=1e-6)


def test_the_files_are_small():
    files = (recipes.profiles_folder() / "kernels").glob("*.json")
    assert sum(path.stat().st_size for path in files) < 200 * 1024


def test_the_rules_group_about_as_the_builder_does(pytestconfig):
    """Within a quarter of TensorRT for RTX for the CSWin models of the paper."""
    path = pytestconfig.rootpath / "tests" / "data" / "kernels.json"
    built = json.loads(path.read_text(encoding="utf-8"))
    for model in built:
        if model.startswith("cswin_t"):
            ours = sum(kernel.count for kernel in kernel_table(model).fused)
            assert ours == pytest.approx(built[model]["fp16"]["kernels"], rel=0.25)


def test_fused_kernels_in_fp16_move_half_the_bytes():
    table = kernel_table("cswin_t_elfatt")
    pairs = zip(table.kernels("fused", "fp32"), table.kernels("fused", "fp16"), strict=True)
    for full, half in pairs:
        assert (half.flops, half.count) == (full.flops, full.count)
        assert half.activation_bytes == full.activation_bytes / 2
        assert half.weight_bytes == full.weight_bytes / 2
        assert half.score_bytes == full.score_bytes / 2


def test_a_table_survives_its_file(tmp_path, monkeypatch):
    table = kernel_table("cswin_t_elfatt")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "again.json").write_text(kernel_document(table))
    monkeypatch.setattr(recipes, "profiles_folder", lambda: tmp_path)
    assert kernels.kernel_table.__wrapped__("again") == table


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("{", InputFileError, r"cannot read .*m\.json"),
        ('{"model": "m"}', SchemaError, r"m\.json .*height"),
        (
            '{"model": "m", "height": 8, "width": 8, "eager_fp32": [["1", "odd", 1, 0, 0, 0]]}',
            SchemaError,
            "kind",
        ),
    ],
    ids=["torn", "lacking", "unknown kind"],
)
def test_a_bad_file_is_named(text, error, told, tmp_path, monkeypatch):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "m.json").write_text(text)
    monkeypatch.setattr(recipes, "profiles_folder", lambda: tmp_path)
    with pytest.raises(error, match=told):
        kernels.kernel_table.__wrapped__("m")


def test_a_model_without_kernels_is_refused_with_the_next_step():
    with pytest.raises(UnknownNameError, match="did you mean cswin_t_elfatt") as caught:
        kernel_table("cswin_t_elfat")
    assert "predict.counting" in caught.value.hint
