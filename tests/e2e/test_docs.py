"""What the README and the pages show must work as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from elfatt_deploy.cli.app import app

ROOT = Path(__file__).parents[2]


def _blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_page_on_extending_works(tmp_path):
    mechanism, program = _blocks("docs/extending.md", "python")
    (tmp_path / "relu.py").write_text(mechanism)
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bundles/cswin_t_relu-224-bdynamic-fp32-jp6", "passed"]


def test_ci_runs_the_line_that_the_readme_shows():
    shown = [line for line in _blocks("README.md", "sh")[1].splitlines() if line]
    assert len(shown) == 1
    assert shown[0] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_verb_and_option_of_the_readme_exists(cli):
    text = (ROOT / "README.md").read_text()
    verbs = tuple(typer.main.get_command(app).commands)
    calls = re.findall(rf"elfatt-deploy ({'|'.join(verbs)})\b([^\n`#|]*)", text)
    assert {verb for verb, _ in calls} == set(verbs)
    for verb, rest in calls:
        inner = getattr(typer.main.get_command(app).commands[verb], "commands", {})
        word = rest.split()[0] if rest.split() else ""
        known = cli(verb, *([word] if word in inner else []), "--help").out
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest):
            assert option in known, (verb, option)
