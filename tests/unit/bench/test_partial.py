"""The side file of a call: what was kept comes back, and a torn or foreign line is told."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import partial
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.bench.partial import Visit
from elfatt_deploy.errors import ExportError, SchemaError, UsageError

STARTED = "2030-01-02T03:04:05+00:00"
STATE = State(**{f.name: Unavailable(reason="a test") for f in dataclasses.fields(State)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "results.jsonl.0.partial"


@pytest.fixture
def visit(made_measured):
    def make(cell, repetition):
        measured = dataclasses.replace(
            made_measured([cell + 0.5, repetition + 0.25]), phases_ms={"h2d": (0.1, 0.2)}
        )
        return Visit(
            cell=cell, repetition=repetition, started=STARTED, duration_s=1.5, measured=measured
        )

    return make


def test_what_was_kept_comes_back_with_all_of_its_samples(path, visit):
    kept = [visit(0, 0), visit(1, 0), visit(0, 1)]
    with partial.opened(path) as file:
        assert file.begin(STARTED, STATE).number == 0
        for one in kept:
            file.keep(one)
    with partial.opened(path) as file:
        assert file.visits == tuple(kept)
        assert file.sittings[0].before == STATE
        assert file.begin(STARTED, STATE).number == 1
    partial.remove(path)
    assert not path.exists()
    partial.remove(path)  # a second time does no harm


def test_a_line_torn_anywhere_is_skipped_and_not_joined_with_the_next(path, visit):
    with partial.opened(path) as file:
        file.begin(STARTED, STATE)
        file.keep(visit(0, 0))
        file.keep(visit(1, 0))
    whole = path.read_bytes()
    second = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in (second, second + 1, second + 40, len(whole) - 2):
        path.write_bytes(whole[:end])
        with partial.opened(path) as file:
            assert file.visits == (visit(0, 0),)
            file.keep(visit(1, 1))
        with partial.opened(path) as file:
            assert file.visits == (visit(0, 0), visit(1, 1))


def test_a_full_disk_keeps_what_was_there(path, visit, monkeypatch):
    with partial.opened(path) as file:
        file.begin(STARTED, STATE)
        file.keep(visit(0, 0))
        before = path.read_bytes()
        real = os.write

        def full(handle, data):
            if len(data) > 100:
                return real(handle, data[:100])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(ExportError, match="No space left") as caught:
                file.keep(visit(0, 1))
        assert "goes on where it stopped" in caught.value.hint
        assert path.read_bytes() == before
        file.keep(visit(0, 1))
    with partial.opened(path) as file:
        assert len(file.visits) == 2


def test_two_processes_do_not_measure_the_same(path):
    with (
        partial.opened(path),
        pytest.raises(UsageError, match="another process is measuring the same"),
        partial.opened(path),
    ):
        pass
    with partial.opened(path):
        pass


def test_a_file_of_something_else_is_refused(path):
    path.parent.mkdir()
    for text in ('{"schema": "x"}', "3", json.dumps({"schema": partial.SCHEMA, "version": 9})):
        path.write_text(text + "\n")
        with (
            pytest.raises(SchemaError, match="line 1 of .* is none that") as caught,
            partial.opened(path),
        ):
            pass
        assert "remove the file" in caught.value.hint
    path.write_text(json.dumps({"schema": partial.SCHEMA, "version": 1, "visit": 3}) + "\n")
    with pytest.raises(SchemaError, match="does not match"), partial.opened(path):
        pass


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ExportError, match="cannot keep what is measured"),
        partial.opened(tmp_path / "file" / "x.partial"),
    ):
        pass


def test_only_the_same_call_has_the_same_file(tmp_path):
    call = {"cells": ["a", "b"], "seed": 0, "plan": {"limits": {"seconds": 5.0}}}
    results = tmp_path / "r.jsonl"
    first = partial.path_of(results, call)
    assert first.parent == tmp_path
    assert first == partial.path_of(results, json.loads(json.dumps(call)))
    others = ({**call, "seed": 1}, {**call, "cells": ["b", "a"]}, {**call, "plan": {}})
    assert len({first, *(partial.path_of(results, other) for other in others)}) == 4


@pytest.mark.parametrize(
    ("now", "fresh"),
    [("2030-01-02T04:00:00+00:00", True), ("2030-01-03T03:04:06+00:00", False)],
)
def test_a_file_is_fresh_for_a_day(path, now, fresh):
    with partial.opened(path) as file:
        assert file.is_fresh(now)
        file.begin(STARTED, STATE)
        assert file.is_fresh(now) == fresh


def test_what_is_forgotten_is_gone(path, visit):
    with partial.opened(path) as file:
        file.begin(STARTED, STATE)
        file.keep(visit(0, 0))
        file.clear()
        assert (file.visits, file.sittings) == ((), ())
    with partial.opened(path) as file:
        assert file.visits == ()
