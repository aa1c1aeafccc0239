"""What the contract tests share: the program in a process of its own, with or without extras."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

#: every optional package that the verbs of this version can need
HEAVY = (
    "torch", "onnx", "onnxruntime", "onnxslim", "PIL", "skimage", "safetensors", "jinja2",
    "matplotlib",
)  # fmt: skip

_BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a process left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


def _python(code, *arguments, without=(), **more):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", _BLOCK.format(packages=tuple(without)) + code, *arguments],
        text=True,
        check=False,
        env=environment,
        timeout=120,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
    )
    return Result(code=done.returncode, out=done.stdout, err=done.stderr)


@pytest.fixture(scope="session")
def heavy():
    return HEAVY


@pytest.fixture(scope="session")
def python():
    """Return a function that runs code in a new interpreter, some packages made absent."""
    return _python


@pytest.fixture
def program(tmp_path):
    """Return a function that runs `python -m elfatt_deploy` in an empty folder."""

    def run(*arguments, **more):
        code = "import runpy\nrunpy.run_module('elfatt_deploy', run_name='__main__')"
        return _python(code, *map(str, arguments), cwd=tmp_path, **more)

    return run
