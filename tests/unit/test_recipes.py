"""Targets and published numbers are data that is validated when it is read."""

from __future__ import annotations

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.errors import InputFileError, SchemaError, UnknownNameError
from elfatt_deploy.models import registry

TARGETS = ("jp4", "jp5", "jp6", "jp7", "jp7.2", "desktop", "ort")
ENTRY = "summary = 's'\nopset = 17\nopset_min = 9\nopset_max = 20\n"


@pytest.fixture
def targets_from(tmp_path, monkeypatch):
    """Return a function that reads targets from a text instead of the shipped file."""

    def read(text):
        (tmp_path / "targets.toml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(recipes, "profiles_folder", lambda: tmp_path)
        return recipes.targets.__wrapped__()

    return read


def test_the_shipped_targets_are_those_of_the_help_text():
    assert tuple(recipes.targets()) == TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_writes_an_opset_that_it_reads(name):
    target = recipes.target(name)
    assert target.name == name
    assert target.opset_min <= target.opset <= target.opset_max
    assert target.summary


@pytest.mark.parametrize(
    ("name", "norm", "gelu"),
    [("jp4", False, False), ("jp5", False, False), ("jp6", True, True), ("desktop", True, True)],
)
def test_fused_layers_are_listed_where_tensorrt_has_them(name, norm, gelu):
    ops = recipes.target(name).ops
    assert ("LayerNormalization" in ops, "Gelu" in ops) == (norm, gelu)


@pytest.mark.parametrize(("base", "newer"), [("jp4", "jp5"), ("jp5", "jp6"), ("jp6", "jp7")])
def test_a_newer_jetpack_takes_every_op_of_an_older_one(base, newer):
    assert set(recipes.target(base).ops) <= set(recipes.target(newer).ops)


def test_onnx_runtime_has_neither_op_list_nor_rank_limit():
    ort = recipes.target("ort")
    assert (ort.ops, ort.max_rank) == (None, None)


def test_extends_inherits_ops_over_two_steps(targets_from):
    found = targets_from(
        f"[a]\n{ENTRY}ops = ['Add']\n[b]\n{ENTRY}extends = 'a'\nops = ['Mul']\n"
        f"[c]\n{ENTRY}extends = 'b'\nops = []\n"
    )
    assert [found[name].ops for name in "abc"] == [("Add",), ("Add", "Mul"), ("Add", "Mul")]


def test_extends_alone_inherits_the_list_instead_of_allowing_everything(targets_from):
    found = targets_from(f"[a]\n{ENTRY}ops = ['Add']\n[b]\n{ENTRY}extends = 'a'\n")
    assert found["b"].ops == ("Add",)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (ENTRY.replace("opset = 17\n", ""), "opset"),
        (ENTRY.replace("opset = 17", "opset = 'new'"), "opset"),
        (ENTRY + "colour = 1\n", "colour"),
    ],
    ids=["missing", "type", "unknown"],
)
def test_a_wrong_target_entry_names_the_entry_and_the_field(entry, told, targets_from):
    with pytest.raises(SchemaError, match=rf"\[mine\].*{told}"):
        targets_from(f"[mine]\n{entry}")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: recipes.target("jp66"), "unknown target 'jp66': did you mean jp6"),
        (lambda: recipes.published_table(6), "unknown table '6': known: 1, 2, 3, 4, 5"),
    ],
    ids=["target", "table"],
)
def test_unknown_names_are_refused_with_what_is_known(call, told):
    with pytest.raises(UnknownNameError, match=told):
        call()


@pytest.mark.parametrize("content", [b"opset = ", b"a = '\xff'"], ids=["syntax", "not UTF-8"])
def test_bad_toml_is_an_input_error_that_names_the_file(content, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"bad\.toml"):
        recipes.read_toml(path)


def test_missing_toml_is_an_input_error(tmp_path):
    with pytest.raises(InputFileError, match=r"cannot read .*none\.toml: No such file"):
        recipes.read_toml(tmp_path / "none.toml")


@pytest.mark.parametrize(("number", "rows"), [(1, 38), (2, 4), (3, 4), (4, 6), (5, 5)])
def test_the_published_tables_have_the_papers_rows(number, rows):
    table = recipes.published_table(number)
    assert (table.number, len(table.rows)) == (number, rows)
    assert table.source.startswith("arXiv 2501.06098, Table ")
    for row in table.rows:
        assert row.resolution in (224, 384)
        for printed in (row.params, row.gflops_nfa, *filter(None, [row.gflops_fa])):
            assert float(printed) > 0


def test_the_shipped_tables_are_one_to_five():
    assert recipes.published_numbers() == (1, 2, 3, 4, 5)


def test_every_registered_model_and_row_has_stored_counts():
    wanted = {
        recipes.count_key(name, (), spec.input_size, spec.input_size)
        for name, spec in registry.models().items()
    } | {
        recipes.count_key(row.model, row.settings, row.resolution, row.resolution)
        for number in recipes.published_numbers()
        for row in recipes.published_table(number).rows
        if row.model in registry.models()
    }
    assert wanted == set(recipes.stored_counts())


def test_the_order_of_settings_does_not_change_a_count_key():
    key = recipes.count_key("m", ("lepe=false", "blocks=7-7-7-7"), 224, 320)
    assert key == "m@224x320,blocks=7-7-7-7,lepe=false"
    assert key == recipes.count_key("m", ("blocks=7-7-7-7", "lepe=false"), 224, 320)
