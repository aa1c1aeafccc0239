"""A record survives its document, contradicts itself nowhere, and is read in every version."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.artifacts import Unavailable, to_document
from elfatt_deploy.bench import stability
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.results import parts, schema
from elfatt_deploy.results.parts import Cell


def _read(*documents):
    return schema.records_from_documents(
        [(f"line {number}", document) for number, document in enumerate(documents, start=1)]
    )


def _documents(runs):
    return [to_document(make()) for make in (runs.small, runs.board, runs.predicted, runs.refused)]


@pytest.mark.parametrize("kind", ["record", "board", "predicted", "refused"])
def test_a_record_survives_its_document(kind, runs):
    made = getattr(runs, kind)()
    document = json.loads(json.dumps(to_document(made)))
    assert _read(document) == (made,)
    assert list(document)[:3] == ["schema", "version", "source"]


def test_records_are_frozen_slotted_and_keyword_only():
    kinds = [schema.RunRecord]
    kinds += [kind for kind in vars(parts).values() if dataclasses.is_dataclass(kind)]
    assert len(kinds) > 15
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind
        assert "__slots__" in vars(kind), kind
        assert all(field.kw_only for field in dataclasses.fields(kind)), kind


def test_no_field_can_be_nothing(runs):
    def absent(value):
        if isinstance(value, dict):
            return any(map(absent, value.values()))
        return value is None or (isinstance(value, list) and any(map(absent, value)))

    for document in _documents(runs):
        del document["weights"]  # that record is shared with bundles
        assert not absent(document)


words = st.text("a,;%2C=é", max_size=3)
cells = st.builds(
    Cell,
    model=words,
    settings=st.lists(words, max_size=2).map(tuple),
    height=st.integers(1, 3),
    width=st.integers(1, 3),
    batch=st.integers(1, 3),
    precision=words,
    target=words,
    runner=words,
    provider=words,
    contract=words,
    device=words,
    power=words,
    variant=words,
)


@given(cells, cells)
def test_two_cells_have_one_key_only_where_they_are_equal(a, b):
    # no setting and an empty one are the same text: nobody can ask for the latter
    same = [tuple(filter(None, cell.settings)) for cell in (a, b)]
    a, b = (
        dataclasses.replace(cell, settings=settings)
        for cell, settings in zip((a, b), same, strict=True)
    )
    assert (a.key == b.key) == (a == b)


def test_separators_inside_a_field_do_not_make_two_cells_one(runs):
    texts = ("a,b", "a", "a;b", "a%2Cb", "a%3Bb", "a%252Cb")
    cells = [
        dataclasses.replace(runs.CELL, model=model, settings=settings)
        for model in texts
        for settings in ((), *itertools.product(texts), *itertools.product(texts, repeat=2))
    ]
    assert len({cell.key for cell in cells}) == len(cells)


def test_a_key_and_a_label_can_be_read(runs):
    cell = dataclasses.replace(
        runs.CELL, settings=("blocks=7-7-14-7", "lepe=false"), device="ssh://orin:22", power="15W"
    )
    assert cell.key == (
        "cswin_t_elfatt,blocks=7-7-14-7;lepe=false,224x224,b1,fp32,jp6,ort,cpu,single-stream/1,"
        "ssh://orin:22,15W,t1,"
    )
    assert cell.label == (
        "cswin_t_elfatt blocks=7-7-14-7 lepe=false 224 b1 fp32 jp6 ort cpu t1 single-stream/1 "
        "ssh://orin:22 15W"
    )
    bare = dataclasses.replace(runs.CELL, target="", threads=0, width=320)
    assert bare.label == "cswin_t_elfatt 224x320 b1 fp32 ort cpu single-stream/1 local"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"key": "other"}, "key other is not that of its cell"),
        ({"repetitions": ()}, "measured numbers without a sample"),
        ({"source": "predicted"}, "predicted numbers with a sample"),
        ({"statistics": Unavailable(reason="lost")}, "samples, and no statistics: lost"),
    ],
    ids=["key", "no sample", "prediction", "no statistics"],
)
def test_a_record_that_contradicts_itself_is_refused(changes, told, runs):
    with pytest.raises(SchemaError, match=told):
        dataclasses.replace(runs.small(), **changes)


def test_an_emulated_board_cannot_be_recorded_as_measured(runs):
    with pytest.raises(SchemaError, match="sim:agx-orin-64gb is emulated"):
        runs.board(source="measured")
    document = {**to_document(runs.board()), "source": "measured"}
    with pytest.raises(SchemaError, match=r"line 1: .*is emulated"):
        _read(document)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("source",), "guessed", r"line 2 .*source"),
        (("statistics", "p50_ms"), "fast", r"line 2 .*p50_ms"),
        (("statistics", "p50_ms"), None, r"line 2 .*p50_ms"),
        (("validity",), ["fine"], r"line 2 .*validity"),
        (("colour",), "red", r"line 2 .*colour"),
        (("cell", "colour"), "red", r"line 2 .*colour"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else None,
)
def test_a_document_that_does_not_match_is_named_with_its_field(path, value, told, runs):
    wrong = to_document(runs.small())
    inner = wrong
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    with pytest.raises(SchemaError, match=told) as caught:
        _read(to_document(runs.small()), wrong)
    assert "measure the cell anew" in caught.value.hint


def test_a_missing_field_is_named(runs):
    document = to_document(runs.small())
    del document["proof"]
    with pytest.raises(SchemaError, match="proof"):
        _read(document)


@pytest.mark.parametrize("version", [2, 99])
def test_a_newer_version_is_named_with_what_to_do(version, runs):
    newer = {**to_document(runs.small()), "version": version, "field_of_the_future": 1}
    with pytest.raises(SchemaError, match=f"line 2 has schema version {version}") as caught:
        _read(to_document(runs.small()), newer)
    assert "update elfatt-deploy" in caught.value.hint


@pytest.mark.parametrize("version", [0, -1, None, "1", True, 1.0])
def test_a_version_that_nobody_wrote_is_refused(version, runs):
    document = {**to_document(runs.small()), "version": version}
    with pytest.raises(SchemaError, match="schema version") as caught:
        _read(document)
    assert "update" not in caught.value.hint


def test_older_versions_are_upgraded_step_by_step(runs, monkeypatch):
    """Two made-up older versions: 1 called `proof` otherwise, 2 had no `group`."""

    def from_1(document):
        document["proof"] = document.pop("precision_that_ran")
        return document

    def from_2(document):
        return {**document, "group": ""}

    now = dataclasses.replace(runs.small(), version=3)
    current = to_document(now)
    second = {name: value for name, value in current.items() if name != "group"} | {"version": 2}
    first = {name: value for name, value in second.items() if name != "proof"}
    first |= {"version": 1, "precision_that_ran": current["proof"]}
    before = json.dumps(first)
    monkeypatch.setattr(schema, "RUN_VERSION", 3)
    monkeypatch.setattr(schema, "UPGRADES", {1: from_1, 2: from_2})
    assert _read(first, second, current) == (now, now, now)
    assert json.dumps(first) == before
    with pytest.raises(SchemaError, match="line 1 has schema version 4"):
        _read({**current, "version": 4})


def test_the_words_of_validity_are_those_of_the_measurement():
    assert get_args(parts.Validity) == get_args(stability.Validity)


def test_there_is_an_upgrade_for_every_older_version():
    assert set(schema.UPGRADES) == set(range(1, schema.RUN_VERSION))
