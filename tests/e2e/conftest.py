"""Running the program: inside the test process, or as a user does."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from elfatt_deploy.cli.app import app


@dataclasses.dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys):
    """Return a function that runs the program and gives its exit code, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def program(tmp_path):
    """Return a function that runs the installed program in a folder of its own, as a user does."""
    script = Path(sysconfig.get_path("scripts")) / "elfatt-deploy"

    def run(*arguments, path=()):
        paths = os.pathsep.join(map(str, path))
        environment = {**os.environ, "PYTHONPATH": paths, "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [script, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run
