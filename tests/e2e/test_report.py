"""`report` as its users call it: every format and place, and what is refused."""

from __future__ import annotations

import csv
import io
import json

import pytest
import typer

from elfatt_deploy.cli import report as verb
from elfatt_deploy.pipeline import reporting
from elfatt_deploy.report import assembling
from elfatt_deploy.results import store

app = typer.Typer(pretty_exceptions_enable=False)
app.command("report")(verb.command)


@pytest.fixture
def report(capsys):
    """Return a function that runs the verb and gives its exit code, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def runs(fake):
    return fake("run_records")


@pytest.fixture(scope="session")
def made(fake):
    return fake("report_records")


@pytest.fixture(scope="session")
def laptop(tmp_path_factory, runs, made):
    path = tmp_path_factory.mktemp("laptop") / "laptop.jsonl"
    for record in made.laptop(runs):
        store.append(path, record)
    return path


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory, runs, made):
    """A file of both sweeps on emulated boards, one cell with a trace beside it."""
    path = tmp_path_factory.mktemp("sweeps") / "sweeps.jsonl"
    first, *others = made.damaged(made.paper_sweeps(runs), runs)
    for record in (made.attach_trace(first, path.parent), *others):
        store.append(path, record)
    return path


def test_a_laptop_gets_ratios_scaling_and_its_records(report, laptop):
    code, out, err = report(laptop)
    assert (code, err) == (0, "")
    assert "Report of Synthetic CPU, 12 records" in out
    for title in ("Models against each other", "Time against input size", "Every record"):
        assert f"\n{title}" in out
    assert "SIMULATED" not in out
    assert "Table VIII" not in out
    assert "more: --table proof" in out


def test_simulated_records_are_refused_with_exit_code_2(report, sweeps, tmp_path):
    target = tmp_path / "report.html"
    for arguments in ((), ("-o", target), ("--json",), ("--table", "8", "--format", "csv")):
        code, out, err = report(sweeps, *arguments)
        assert (code, out) == (2, "")
        assert "error: 83 of the records are simulated" in err
        assert "next: add --include-simulated" in err
    assert not target.exists()


def test_simulated_records_are_marked_in_every_format(report, sweeps, tmp_path):
    code, out, _ = report(sweeps, "--include-simulated", "-o", tmp_path / "all")
    assert code == 0
    files = {path.name: path for path in (tmp_path / "all").iterdir()}
    assert sorted(out.split()) == sorted(str(path) for path in files.values())
    assert {
        "report.txt", "report.md", "report.tex", "report.json", "report.html", "table8.csv",
        "table9.csv", "claims.csv", "figure4-simulated.png", "figure4-simulated.svg",
        "trace-1.png", "layers.csv",
    } <= set(files)  # fmt: skip
    for name, path in files.items():
        content = path.read_bytes()
        if path.suffix == ".png":
            assert content.startswith(b"\x89PNG")
        elif path.suffix == ".csv":
            assert b"simulated" in content.splitlines()[1]
        else:
            assert b"SIMULATED" in content, name


def test_the_terminal_marks_every_table(report, sweeps):
    code, out, _ = report(sweeps, "--include-simulated", "--table", "VIII", "--table", "9")
    assert code == 0
    assert out.count("SIMULATED: Table ") == 2


def test_json_is_one_document_with_schema_and_version(report, laptop):
    code, out, err = report(laptop, "--json", "--quiet")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["schema"], document["version"]) == ("elfatt-deploy/report", 1)
    speed = next(table for table in document["tables"] if table["name"] == "speed")
    records = store.read(laptop).records
    assert sorted(row["p50_ms"] for row in speed["rows"]) == sorted(
        record.statistics.p50_ms for record in records
    )


@pytest.mark.parametrize(
    ("kind", "begin"),
    [("markdown", "# Report of"), ("latex", "% needs"), ("json", '{\n "schema"')],
)
def test_text_formats_go_to_stdout_or_to_a_file_by_its_ending(
    kind, begin, report, laptop, tmp_path
):
    code, out, _ = report(laptop, "--format", kind)
    assert code == 0
    assert out.startswith(begin)
    ending = {"markdown": "md", "latex": "tex", "json": "json"}[kind]
    target = tmp_path / f"r.{ending}"
    assert report(laptop, "-o", target)[0] == 0
    assert target.read_text(encoding="utf-8") == out


def test_csv_has_every_record_where_no_table_was_asked_for(report, laptop):
    code, out, _ = report(laptop, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, len(rows)) == (0, 12)
    assert {row["source"] for row in rows} == {"measured"}


def test_one_chart_goes_to_a_file(report, laptop, tmp_path):
    target = tmp_path / "scaling.svg"
    code, out, _ = report(laptop, "--figure", "scaling", "-o", target)
    assert (code, out.strip()) == (0, str(target))
    assert target.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("--table", "12"), "unknown table '12'", ""),
        (("--figure", "5"), "unknown figure '5'", ""),
        (("--format", "pdf"), "unknown format 'pdf'", ""),
        (("-o", "report.pdf"), "does not say which format", "end it in .txt, .md"),
        (("--format", "html"), "--format html needs a place to go to", "-o report.html"),
        (("--figure", "4"), "--figure needs a place to go to", "-o figure.png"),
        (("--format", "png", "-o", "all.png"), "holds one of the figures", "--figure"),
        (("--table", "energy"), "the records give nothing for table energy", "leave that out"),
        (("--json", "--format", "csv"), "both write to stdout", "leave out one"),
    ],
    ids=str,
)
def test_what_cannot_be_done_has_exit_code_2_and_a_next_step(
    arguments, said, hint, report, laptop, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code, out, err = report(laptop, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert hint in err
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_records_is_refused(report, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    code, _, err = report(empty)
    assert code == 2
    assert "no record" in err
    assert report(tmp_path / "absent.jsonl")[0] == 3


def test_an_attachment_that_was_changed_is_left_out_with_a_warning(report, tmp_path, runs, made):
    path = tmp_path / "r.jsonl"
    store.append(path, made.attach_trace(runs.board(), tmp_path))
    (tmp_path / "r.traces" / "one.json").write_text("{}")
    (tmp_path / "one.profile.json").unlink()
    code, out, err = report(path, "--include-simulated", "-o", tmp_path / "r.html")
    assert code == 0
    assert "r.traces/one.json is left out: its digest is not the one in the record" in err
    assert "one.profile.json is left out" in err
    assert "chart-trace-1" not in (tmp_path / "r.html").read_text()


def test_an_attachment_outside_the_folder_is_not_read(report, tmp_path, runs):
    path = tmp_path / "inner" / "r.jsonl"
    (tmp_path / "x.traces").mkdir()
    (tmp_path / "x.traces" / "secret.json").write_text("{}")
    store.append(path, runs.board(attachments={"../x.traces/secret.json": "00" * 32}))
    _, _, err = report(path, "--include-simulated", "--json")
    assert "it lies outside the folder of the results" in err


def test_a_folder_that_cannot_be_written_is_an_error_of_the_output(report, laptop, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = report(laptop, "-o", tmp_path / "file" / "report.html")
    assert code == 5
    assert "cannot write" in err


def test_the_names_in_the_help_are_those_that_there_are():
    assert set(verb._TABLES) == {*assembling.TABLES.values()}
    assert verb._FIGURES == assembling.FIGURES
    assert set(verb._FORMATS) == set(reporting.ENDINGS)
