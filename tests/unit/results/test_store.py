"""A results file keeps every record that was finished, whatever happens to its end."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading

import pytest

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.errors import ExportError, InputFileError, SchemaError
from elfatt_deploy.results import schema, store


@pytest.fixture(scope="session")
def three(runs):
    return tuple(runs.changed(runs.small(seed), batch=seed) for seed in (1, 2, 4))


@pytest.fixture
def path(tmp_path, three):
    """Return a file with three records."""
    found = tmp_path / "results.jsonl"
    for record in three:
        store.append(found, record)
    return found


def test_what_was_appended_is_read_back(path, three):
    assert store.read(path) == store.Records(records=three)
    assert path.read_bytes().count(b"\n") == 3
    assert path.read_bytes().startswith(store._BEGIN)


def test_the_folder_is_made(tmp_path, three):
    path = tmp_path / "new" / "folder" / "results.jsonl"
    store.append(path, three[0])
    assert store.read(path).records == three[:1]


def test_a_record_is_on_the_disk_before_append_returns(path, three, monkeypatch):
    synced, fsync = [], os.fsync

    def seen(handle):
        # the second one is that of the folder, which holds the file's name
        synced.append(path.stat().st_size if os.fstat(handle).st_mode & 0o100000 else "folder")
        return fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    store.append(path, three[0])
    assert synced == [path.stat().st_size, "folder"]


def test_of_two_records_of_a_cell_the_latest_counts(path, three, runs):
    again = runs.changed(runs.small(9), batch=2)
    store.append(path, again)
    assert store.read(path).latest == {record.key: record for record in (three[0], again, three[2])}


@pytest.mark.parametrize("cut", [2, 10, 400, -30, -2, -1])
def test_a_torn_last_line_is_skipped_with_a_warning_and_never_joined(cut, path, three):
    """`cut`: bytes lost at the end of the last line; where negative, bytes left of it."""
    whole = path.read_bytes()
    begin = whole.rstrip(b"\n").rindex(b"\n") + 1
    path.write_bytes(whole[:-cut] if cut > 0 else whole[: begin - cut])
    torn = path.read_bytes()
    found = store.read(path)
    assert found.records == three[:2]
    assert found.warnings == (
        f"line 3 of {path} is torn: its record is lost, measure that cell again",
    )
    store.append(path, three[2])
    assert path.read_bytes() == torn + b"\n" + whole[begin:]
    assert store.read(path) == store.Records(records=three, warnings=found.warnings)


def test_a_last_line_that_lacks_its_end_of_line_alone_is_whole(path, three):
    path.write_bytes(path.read_bytes()[:-1])
    assert store.read(path) == store.Records(records=three)
    store.append(path, three[0])
    assert store.read(path).records == (*three, three[0])


def test_zeros_that_a_crash_leaves_are_a_torn_line(path, three, tmp_path):
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    store.append(path, three[0])
    found = store.read(path)
    assert found.records == (*three, three[0])
    assert len(found.warnings) == 1
    assert "line 4" in found.warnings[0]
    fresh = tmp_path / "zeros.jsonl"
    fresh.write_bytes(b"\0" * 512)
    store.append(fresh, three[0])
    assert store.read(fresh).records == three[:1]


def test_a_foreign_line_is_left_out_with_its_number(path, three):
    lines = path.read_text().splitlines()
    foreign = json.dumps({"schema": "elfatt-deploy/eval-log", "version": 1})
    path.write_text("\n".join([lines[0], foreign, "", "# note", "[1]", *lines[1:]]) + "\n")
    found = store.read(path)
    assert found.records == three
    assert [warning.split(" of ")[0] for warning in found.warnings] == [
        "line 2",
        "line 4",
        "line 5",
    ]
    assert "schema 'elfatt-deploy/eval-log'" in found.warnings[0]


@pytest.mark.parametrize(
    "content",
    [b"# Notes\n", b'{"schema": "other", "version": 1}\n', b"{\n}\n", b"\x89PNG\r\n\x1a\n\xff"],
    ids=["text", "other schema", "JSON of several lines", "binary"],
)
def test_a_file_that_is_not_ours_is_neither_read_nor_touched(content, tmp_path, three):
    path = tmp_path / "torn.txt"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match="is no results file"):
        store.read(path)
    with pytest.raises(SchemaError, match="is no results file") as caught:
        store.append(path, three[0])
    assert "--results FILE" in caught.value.hint
    assert path.read_bytes() == content


def test_a_file_that_another_program_wrote_again_can_be_appended_to(path, three):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    compact = [json.dumps(line, separators=(",", ":"), sort_keys=True) for line in lines]
    path.write_text("\n".join(compact) + "\n")
    store.append(path, three[0])
    assert store.read(path).records == (*three, three[0])


def test_an_empty_file_has_no_record(tmp_path):
    path = tmp_path / "results.jsonl"
    path.touch()
    assert store.read(path) == store.Records(records=())


def test_a_newer_record_is_told_with_its_line_and_version(path, three):
    newer = {**to_document(three[0]), "version": schema.RUN_VERSION + 1}
    with path.open("a") as file:
        file.write(json.dumps(newer) + "\n")
    with pytest.raises(SchemaError, match=rf"line 4 of .* has schema version {newer['version']}"):
        store.read(path)


def test_a_damaged_record_is_told_with_its_line(path):
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"measured"', '"guessed"')
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(SchemaError, match=r"line 2 of .* source"):
        store.read(path)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(InputFileError, match="No such file") as caught:
        store.read(tmp_path / "nowhere.jsonl")
    assert "bench --results FILE" in caught.value.hint


def test_a_place_that_cannot_be_written_is_told(tmp_path, three):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "results.jsonl"):
        with pytest.raises(ExportError, match="cannot append to the results"):
            store.append(path, three[0])


def test_a_number_that_json_cannot_hold_is_not_written(path, three):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.append(path, dataclasses.replace(three[0], duration_s=float("nan")))
    assert path.read_bytes() == before


@pytest.mark.parametrize("written", [0, 1, 100, None])
def test_a_full_disk_leaves_the_earlier_records_and_nothing_else(written, path, three, monkeypatch):
    """`written`: bytes for which there is room; None: the disk tells it only at the end."""
    before, write = path.read_bytes(), os.write
    room = [written]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def limited(handle, data):
        if not room[0]:
            full()
        done = write(handle, data[: room[0]])
        room[0] -= done
        return done

    if written is None:
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(os, "write", limited)
    with pytest.raises(ExportError, match="No space left on device") as caught:
        store.append(path, three[0])
    assert "earlier records are kept" in caught.value.hint
    monkeypatch.undo()
    assert path.read_bytes() == before
    store.append(path, three[0])
    assert store.read(path) == store.Records(records=(*three, three[0]))


_LIMITED = """
import resource, sys
from pathlib import Path
from elfatt_deploy.errors import ExportError
from elfatt_deploy.results import store

path = Path(sys.argv[1])
record = store.read(path).records[0]
limit = path.stat().st_size + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    store.append(path, record)
except ExportError as error:
    print(error.message)
"""


@pytest.mark.parametrize("room", [0, 1, 200])
def test_a_file_that_the_system_lets_grow_no_more(room, path, three):
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, path, str(room)],
        text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "File too large" in done.stdout
    assert path.read_bytes() == before


@pytest.mark.parametrize("moment", ["first byte", "half", "whole", "synced"])
def test_ctrl_c_loses_at_most_the_record_in_flight(moment, path, three, monkeypatch):
    write, fsync = os.write, os.fsync

    def interrupted(handle, data):
        size = {"first byte": 1, "half": len(data) // 2}.get(moment, len(data))
        write(handle, data[:size])
        raise KeyboardInterrupt

    def synced(handle):
        fsync(handle)
        raise KeyboardInterrupt

    if moment == "synced":
        monkeypatch.setattr(os, "fsync", synced)
    else:
        monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.append(path, three[0])
    monkeypatch.undo()
    kept = (three[0],) if moment in ("whole", "synced") else ()
    assert store.read(path).records == (*three, *kept)
    store.append(path, three[1])  # and the lock is free
    assert store.read(path).records == (*three, *kept, three[1])


def test_several_threads_append_to_one_file(path, three):
    def work():
        for _ in range(10):
            store.append(path, three[0])

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert store.read(path) == store.Records(records=(*three, *[three[0]] * 40))


def test_without_file_locks_results_can_be_read_and_not_appended_to(path, three, monkeypatch):
    monkeypatch.setattr(store, "fcntl", None)
    assert store.read(path).records == three
    before = path.read_bytes()
    with pytest.raises(ExportError, match="no file locks") as caught:
        store.append(path, three[0])
    assert "use Linux" in caught.value.hint
    assert path.read_bytes() == before


def test_a_file_system_without_locks_is_told_by_append_alone(path, three, monkeypatch):
    def refused(handle, kind):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store.fcntl, "flock", refused)
    assert store.read(path).records == three
    with pytest.raises(ExportError, match="No locks available"):
        store.append(path, three[0])
