"""Programs that append are killed at seeded moments: no record that was finished is ever lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys

import pytest

from elfatt_deploy.results import store

#: appends record after record; says each number once it is finished
_WRITER = """
import dataclasses, os, sys
from pathlib import Path
from elfatt_deploy.results import store

path = Path(sys.argv[1])
given = store.read(Path(sys.argv[2])).records[0]
if sys.argv[5]:  # a disk that takes a line in pieces
    write = os.write
    os.write = lambda handle, data: write(handle, data[:int(sys.argv[5])])
print("ready", flush=True)
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    store.append(path, dataclasses.replace(given, group=str(number)))
    print(number, flush=True)
"""


@pytest.fixture
def given(tmp_path, runs):
    """Return a file with the record to append: long enough to be torn."""
    path = tmp_path / "given.jsonl"
    store.append(path, runs.record())
    return path


def _started(path, given, first, last=10**9, piece=""):
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, path, given, str(first), str(last), piece],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "ready\n"
    return writer


@pytest.mark.slow
def test_sigkill_at_50_moments_loses_at_most_the_record_in_flight(tmp_path, given):
    path, moments = tmp_path / "results.jsonl", random.Random(5)
    finished, unsaid = [], 0
    for kill in range(50):
        piece = ("", "16")[kill % 2]
        with _started(path, given, 1000 * kill, piece=piece) as writer:
            # What it says is its clock: killed after some records, and a part of the next one.
            said = [writer.stdout.readline() for _ in range(moments.randrange(1, 4))]
            for _ in range(moments.randrange(200_000)):
                pass
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.readlines()
        finished += [line.strip() for line in said if line.endswith("\n")]
        found = store.read(path)
        numbers = [record.group for record in found.records]
        known = set(finished)
        assert [number for number in numbers if number in known] == finished
        assert all("torn" in warning for warning in found.warnings)
        # in flight: whole and not said yet, or torn
        before, unsaid = unsaid, len(numbers) - len(finished) + len(found.warnings)
        assert unsaid - before in (0, 1)
    assert len(finished) >= 50


@pytest.mark.slow
def test_several_programs_append_to_one_file(tmp_path, given):
    path = tmp_path / "results.jsonl"
    writers = [_started(path, given, first, first + 25) for first in (0, 100, 200)]
    for writer in writers:
        with writer:
            writer.stdout.readlines()
        assert writer.returncode == 0
    found = store.read(path)
    numbers = [int(record.group) for record in found.records]
    assert found.warnings == ()
    assert sorted(numbers) == [*range(25), *range(100, 125), *range(200, 225)]
    for first in (0, 100, 200):
        mine = [number for number in numbers if first <= number < first + 25]
        assert mine == sorted(mine)


def test_sigint_ends_a_program_that_appends_and_leaves_whole_records(tmp_path, given):
    path = tmp_path / "results.jsonl"
    with _started(path, given, 0) as writer:
        first = writer.stdout.readline()
        writer.send_signal(signal.SIGINT)
        said = [first, *writer.stdout.readlines()]
    found = store.read(path)
    numbers = [int(record.group) for record in found.records]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) - len(said) in (0, 1)
    assert found.warnings == ()
