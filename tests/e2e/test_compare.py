"""`compare` as continuous integration sees it: exit codes, a summary, and what it refuses."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy.results import conditions, store


@pytest.fixture(scope="session")
def runs(fake):
    return fake("run_records")


@pytest.fixture
def files(tmp_path, runs):
    """Return a function from a name and records to a file."""

    def write(name, *records):
        path = tmp_path / name
        for record in records:
            store.append(path, record)
        return path

    return write


@pytest.fixture
def same(files, runs):
    return files("a.jsonl", runs.record(1)), files("b.jsonl", runs.record(2))


@pytest.fixture
def slower(files, runs):
    slow = runs.record(repetitions=runs.samples(2, ms=10.5))
    return files("a.jsonl", runs.record(1)), files("b.jsonl", slow)


@pytest.fixture
def unclear(files, runs):
    return files("a.jsonl", runs.small(1)), files("b.jsonl", runs.refused())


def test_the_same_model_twice_passes(cli, same):
    result = cli("compare", *same)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0].strip() == "PASS: B against A"
    assert f"A: {same[0]}\nB: {same[1]}\n" in result.out
    assert "at or below 1.03" in result.out
    assert "measured" in result.out


def test_a_slowdown_has_exit_code_1(cli, slower):
    result = cli("compare", *slower)
    assert result.code == 1
    assert result.out.startswith("FAIL: ")
    assert "slower than the limit" in result.out
    assert cli("compare", *slower, "--slowdown", "8%").code == 0


@pytest.mark.parametrize(("option", "code"), [((), 0), (("--strict",), 1)])
def test_an_inconclusive_cell_fails_only_where_that_is_strict(option, code, cli, unclear):
    result = cli("compare", *unclear, *option)
    assert result.code == code
    assert result.out.startswith("INCONCLUSIVE: ")
    assert "not timed in B: parity failed" in result.out


def test_a_cell_that_is_gone_is_no_pass_under_strict(cli, files, runs):
    one, two = runs.record(1), runs.changed(runs.record(1), batch=2)
    a, b = files("a.jsonl", one, two), files("b.jsonl", one)
    result = cli("compare", a, b)
    assert (result.code, result.out[:13]) == (0, "INCONCLUSIVE:")
    assert f"only in A, not judged: {two.key}" in result.out
    assert cli("compare", a, b, "--strict").code == 1


def test_json_holds_the_verdict_the_interval_and_the_rule(cli, slower):
    result = cli("compare", *slower, "--json", "--seed", "7")
    document = json.loads(result.out)
    assert (result.code, result.err) == (1, "")
    assert (document["schema"], document["version"]) == ("elfatt-deploy/compare", 1)
    assert (document["verdict"], document["limit"], document["seed"]) == ("FAIL", 0.03, 7)
    (cell,) = document["cells"]
    assert cell["interval"]["low"] > 1.03
    assert cell["source"] == "measured"


def test_markdown_goes_to_a_file_beside_the_table_or_to_stdout_alone(cli, slower, tmp_path):
    page = tmp_path / "summary.md"
    beside = cli("compare", *slower, "--markdown", page)
    assert (beside.code, beside.out[:4]) == (1, "FAIL")
    assert page.read_text().startswith("### FAIL: ")
    alone = cli("compare", *slower, "--markdown", "-")
    assert (alone.code, alone.out) == (1, page.read_text())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"precision": "fp16"}, "precision: fp32 in A, fp16 in B"),
        ({"power": "15W"}, "power: as found in A, 15W in B"),
        ({"threads": 2}, "threads: 1 in A, 2 in B"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_unlike_cells_are_refused_by_name_unless_allowed(fields, told, cli, files, runs):
    a = files("a.jsonl", runs.record(1))
    b = files("b.jsonl", runs.changed(runs.record(2), **fields))
    result = cli("compare", a, b)
    assert (result.code, result.out) == (2, "")
    assert told in result.err
    (field,) = fields
    allowed = cli("compare", a, b, "--allow", field)
    assert allowed.code == 0
    assert f"note: {told}" in allowed.err
    assert f"Allowed to differ: {field}." in allowed.out
    assert cli("compare", a, b, "--allow", field, "--quiet").err == ""


def test_simulated_is_refused_against_measured(cli, files, runs):
    a, b = files("a.jsonl", runs.small()), files("b.jsonl", runs.board())
    for allowed in ((), [word for name in conditions.ALLOWED for word in ("--allow", name)]):
        result = cli("compare", a, b, *allowed)
        assert (result.code, result.out) == (2, "")
    assert "source: measured in A, simulated in B: these are never compared" in result.err


def test_the_numbers_of_an_emulated_board_are_named_so(cli, files, runs):
    path = files("a.jsonl", runs.board(validity=()))
    for more in ((), ("--markdown", "-")):
        assert "simulated" in cli("compare", path, path, *more).out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--slowdown", "3"), "--slowdown 3 is not a percentage"),
        (("--slowdown", "x%"), "--slowdown x% is not a percentage"),
        (("--slowdown", "-1%"), "is not a percentage"),
        (("--slowdown", "nan%"), "is not a percentage"),
        (("--allow", "colour"), "unknown condition 'colour'"),
        (("--json", "--markdown", "-"), "both write to stdout"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_used_have_exit_code_2(arguments, told, cli, same):
    result = cli("compare", *same, *arguments)
    assert (result.code, result.out) == (2, "")
    assert told in result.err


def test_a_missing_file_has_exit_code_3(cli, same, tmp_path):
    for pair in ((same[0], tmp_path / "no.jsonl"), (tmp_path / "no.jsonl", same[0])):
        result = cli("compare", *pair)
        assert (result.code, result.out) == (3, "")
        assert "cannot read the results" in result.err
