"""`results` as a user sees it: every kind of record is named, and nothing is lost on the way."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

from elfatt_deploy.artifacts import to_document
from elfatt_deploy.results import conditions, store
from elfatt_deploy.results.schema import RUN_SCHEMA, RUN_VERSION, RunRecord


@pytest.fixture(scope="session")
def runs(fake):
    return fake("run_records")


@pytest.fixture
def path(tmp_path, runs):
    """Return a file with a record of each kind."""
    found = tmp_path / "results.jsonl"
    for record in (runs.small(), runs.board(), runs.predicted(), runs.refused()):
        store.append(found, record)
    return found


def test_ls_shows_a_row_a_record_with_what_it_is(cli, path):
    result = cli("results", "ls", path)
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:3] for row in rows] == [
        ["1", "measured", "cswin_t_elfatt"],
        ["2", "simulated", "cswin_t_elfatt"],
        ["3", "predicted", "cswin_t_elfatt"],
        ["4", "measured", "cswin_t_elfatt"],
    ]
    assert "fp16-unproven" in rows[1]
    assert "off-clock" in rows[1]
    assert "not timed" in " ".join(rows[3])
    assert "simulated: from an emulated board, no measurement" in result.out
    for unit in ("p50 (ms)", "95 % (ms)", "images/s"):
        assert unit in result.out


def test_a_file_of_measurements_mentions_no_simulation(cli, tmp_path, runs):
    path = tmp_path / "results.jsonl"
    store.append(path, runs.small())
    assert "simulated" not in cli("results", "ls", path).out


def test_ls_in_json_leaves_the_samples_to_show(cli, path, runs):
    document = json.loads(cli("results", "ls", path, "--json").out)
    assert (document["schema"], document["version"]) == ("elfatt-deploy/results", 1)
    assert [record["number"] for record in document["records"]] == [1, 2, 3, 4]
    whole = to_document(runs.board())
    del whole["repetitions"]
    assert document["records"][1] == {"number": 2, **whole}


@pytest.mark.parametrize("which", [("2",), ("KEY",)])
def test_show_finds_a_record_by_number_or_key(which, cli, path, runs):
    board = runs.board()
    name = board.key if which == ("KEY",) else which[0]
    document = json.loads(cli("results", "show", path, name, "--json").out)
    assert document["number"] == 2
    assert document["record"] == to_document(board)


def test_show_takes_the_last_record_and_gives_reasons(cli, path):
    result = cli("results", "show", path)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("record 4: MEASURED\n")
    assert "statistics: - (parity failed: max error 3.0)" in result.out
    text = cli("results", "show", path, "2").out
    assert text.startswith("record 2: SIMULATED\n")
    assert "energy_mj_per_image: 91.0" in text


@pytest.mark.parametrize("which", ["0", "5", "nonsense"])
def test_show_of_a_record_that_is_not_there_says_how_to_find_one(which, cli, path):
    result = cli("results", "show", path, which)
    assert (result.code, result.out) == (2, "")
    assert f"unknown record '{which}'" in result.err
    assert "results ls FILE" in result.err


def test_export_writes_comma_separated_values(cli, path, tmp_path):
    shown = cli("results", "export", path)
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert [row["source"] for row in rows] == ["measured", "simulated", "predicted", "measured"]
    out = tmp_path / "results.csv"
    written = cli("results", "export", path, "-o", out)
    assert (written.code, written.out, out.read_text()) == (0, "", shown.out)


def test_export_to_a_place_that_cannot_be_written_is_told(cli, path, tmp_path):
    result = cli("results", "export", path, "-o", tmp_path)
    assert result.code == 5
    assert "cannot write" in result.err


def test_a_torn_line_is_a_warning_and_the_rest_is_shown(cli, path):
    path.write_bytes(path.read_bytes()[:-20])
    result = cli("results", "ls", path, "--json")
    assert result.code == 0
    assert "warning: line 4" in result.err
    document = json.loads(result.out)
    assert len(document["records"]) == 3
    assert "torn" in document["warnings"][0]
    assert cli("results", "ls", path, "--quiet").err == ""


def test_an_empty_file_holds_no_record(cli, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    result = cli("results", "ls", tmp_path / "empty.jsonl")
    assert (result.code, result.out) == (0, f"{tmp_path / 'empty.jsonl'} holds no record\n")
    assert cli("results", "show", tmp_path / "empty.jsonl").code == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read the results"),
        ("# notes\n", "is no results file"),
        ('{"schema": "elfatt-deploy/run", "version": 99}\n', "has schema version 99"),
    ],
)
@pytest.mark.parametrize("action", ["ls", "show", "export"])
def test_a_file_that_cannot_be_used_has_exit_code_3(action, content, told, cli, tmp_path):
    path = tmp_path / "results.jsonl"
    if content is not None:
        path.write_text(content)
    result = cli("results", action, path)
    assert (result.code, result.out) == (3, "")
    assert told in result.err


def test_the_page_on_results_names_what_there_is(cli):
    text = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    section = text[text.index("## The record") : text.index("## The file")]
    first = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for cell in first for name in re.findall(r"`([a-z_0-9]+)`", cell)]
    assert named == [field.name for field in dataclasses.fields(RunRecord)]
    assert f"`{RUN_SCHEMA}`, version {RUN_VERSION}." in text
    refused = text[text.index("Unlike conditions are refused") : text.index("How sharp it is")]
    assert {f"`{name}`" for name in (*conditions.CELL, *conditions.FOUND)} == {
        word for word in re.findall(r"`[a-z-]+`", refused)
    }
    assert "--allow validity" in refused
    assert f"limit of {100 * conditions.DEFAULT_LIMIT:g} %" in text
    for line in re.findall(r"^elfatt-deploy .*$", text, re.MULTILINE):
        words = line.partition("#")[0].split()[1:]
        verb = words[:2] if words[0] == "results" else words[:1]
        shown = cli(*verb, "--help").out
        assert all(word in shown for word in words if word.startswith("-"))
    for option in re.findall(r"`(--[a-z]+)", text[text.index("## The comparison") :]):
        assert option in cli("compare", "--help").out, option
