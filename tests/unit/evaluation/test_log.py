"""A log keeps what was finished, whatever happened to its end, and belongs to one run only."""

from __future__ import annotations

import dataclasses
import errno
import json
import os

import pytest

from elfatt_deploy.errors import ExportError, SchemaError
from elfatt_deploy.evaluation import log
from elfatt_deploy.evaluation.log import LogHeader, Prediction

HEADER = LogHeader(
    model="tiny-64-bdynamic-fp32-jp6",
    model_sha256="ab" * 32,
    weights="w.pth",
    precision="fp32",
    runner="ort (CPUExecutionProvider)",
    reference=None,
    data="val",
    data_sha256="cd" * 32,
    images=3,
    classes=10,
    preprocessing={"height": 64, "mean": [0.5, 0.5, 0.5]},
    versions={"onnxruntime": "1.0"},
)
LINES = tuple(
    Prediction(
        image=f"a/{i}.png",
        label=i,
        size_bytes=100 + i,
        top=(i, 4),
        values=(1.5, 0.1),
        reference=(i,),
    )
    for i in range(3)
)


@pytest.fixture
def path(tmp_path):
    """Write a log of three lines and return its path."""
    with log.opened(tmp_path / "evals", HEADER) as book:
        book.append(LINES[:2])
        book.append(LINES[2:])
    return book.path


def _reopened(path):
    with log.opened(path.parent, HEADER) as book:
        return book


def test_what_was_written_is_read_back(path):
    content = log.read_log(path)
    assert (content.header, content.predictions, content.torn) == (HEADER, LINES, False)
    assert _reopened(path).finished == {line.image: line for line in LINES}
    first = json.loads(path.read_text().splitlines()[0])
    assert list(first)[:2] == ["schema", "version"]
    assert (first["schema"], first["version"]) == ("elfatt-deploy/eval-log", 1)


def test_every_append_is_on_the_disk_before_it_returns(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: synced.append(path.stat().st_size) or fsync(number)
    )
    path = tmp_path / HEADER.file_name
    with log.opened(tmp_path, HEADER) as book:
        book.append(LINES[:1])
        book.append(LINES[1:])
        assert synced[-1] == path.stat().st_size
    assert len(set(synced)) == len(synced) == 3


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_last_line_is_dropped_and_written_over(cut, path):
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    content = log.read_log(path)
    assert (content.predictions, content.torn) == (LINES[:2], True)
    with log.opened(path.parent, HEADER) as book:
        assert book.torn
        assert list(book.finished) == ["a/0.png", "a/1.png"]
        book.append(LINES[2:])
    assert path.read_bytes() == whole
    assert not _reopened(path).torn


def test_zeros_that_a_crash_leaves_at_the_end_are_a_torn_line(path):
    path.write_bytes(path.read_bytes() + b"\0" * 64 + b"\n")
    content = log.read_log(path)
    assert (content.predictions, content.torn) == (LINES, True)
    assert content.whole_bytes == path.stat().st_size - 65


@pytest.mark.parametrize("kept", [0, 1, 100])
def test_a_torn_header_is_begun_anew(kept, path):
    path.write_bytes(path.read_bytes()[:kept])
    book = _reopened(path)
    assert (book.torn, book.finished) == (True, {})
    assert log.read_log(path).header == HEADER


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "ef" * 32},
        {"runner": "torch"},
        {"reference": "torch"},
        {"precision": "fp16"},
        {"data_sha256": "00"},
        {"preprocessing": {"height": 32}},
        {"versions": {"onnxruntime": "2"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_run_is_another_file(changes, path):
    other = dataclasses.replace(HEADER, **changes)
    before = path.read_bytes()
    with log.opened(path.parent, other) as book:
        assert book.finished == {}
        assert book.path != path
    assert path.read_bytes() == before


def test_the_file_name_is_made_of_what_a_name_may_hold():
    odd = dataclasses.replace(HEADER, model="a b/ü:*?.onnx")
    assert odd.file_name.startswith("a-b-ü-.onnx.ort.")
    assert odd.file_name.endswith(".jsonl")


def test_an_unreadable_image_is_not_finished(tmp_path):
    failed = Prediction(image="a/9.png", label=9, size_bytes=5, error="not an image")
    with log.opened(tmp_path, HEADER) as book:
        book.append([failed, LINES[0]])
    assert list(_reopened(book.path).finished) == ["a/0.png"]
    assert log.read_log(book.path).predictions == (failed, LINES[0])


def test_of_two_lines_on_an_image_the_later_counts(path):
    later = dataclasses.replace(LINES[0], top=(7,))
    with log.opened(path.parent, HEADER) as book:
        book.append([later])
    assert _reopened(path).finished["a/0.png"] == later


def _changed(path, number, **fields):
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), **fields})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("number", "fields", "told"),
    [
        (0, {"schema": "other"}, "has schema 'other'"),
        (0, {"version": 2}, "has schema version 2; this program reads version 1"),
        (0, {"images": "many"}, "does not match its schema: images"),
        (0, {"data": "elsewhere"}, "is the log of another run"),
        (2, {"top": "x"}, r"does not match its schema: lines\.1\.top"),
    ],
)
def test_a_log_that_is_not_ours_is_refused_with_what_to_do(number, fields, told, path):
    _changed(path, number, **fields)
    with pytest.raises(SchemaError, match=told) as caught:
        _reopened(path)
    assert "-o FOLDER" in caught.value.hint or "move the file away" in caught.value.hint


def test_damage_before_the_end_is_told_with_its_line(path):
    lines = path.read_text().splitlines()
    lines[1] = lines[1][:20]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SchemaError, match=r"line 2 of .* is not a JSON document"):
        log.read_log(path)


def test_a_file_without_a_line_is_no_log(tmp_path):
    (tmp_path / "x.jsonl").touch()
    for name in ("x.jsonl", "nowhere.jsonl"):
        with pytest.raises(SchemaError, match=name):
            log.read_log(tmp_path / name)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "evals").touch()
    with (
        pytest.raises(ExportError, match="cannot write the log") as caught,
        log.opened(tmp_path / "evals", HEADER),
    ):
        pass
    assert "-o FOLDER" in caught.value.hint


def test_a_full_disk_is_told_and_what_was_written_stays(path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    with log.opened(path.parent, HEADER) as book:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ExportError, match="No space left on device"):
            book.append([dataclasses.replace(LINES[0], image="a/new.png")])
        assert "a/new.png" not in book.finished
    monkeypatch.undo()
    assert set(_reopened(path).finished) >= {line.image for line in LINES}
