"""What the tests of boards share: captures, an answer of the script, a tree of files."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from elfatt_deploy.device import probes

#: what every machine has and no capture lists
_ALWAYS = {"/proc/uptime": "12.5 3.0", "/sys/devices/system/cpu/online": "0"}
PROBES = Path(__file__).parents[2] / "data" / "probes"


def load(probe):
    """Return name and content of each capture of a probe."""
    return [
        (path.stem, json.loads(path.read_text()))
        for path in sorted(PROBES.joinpath(probe).glob("*"))
    ]


def pytest_generate_tests(metafunc):
    """Give a test with an argument `NAME_capture` every capture in the folder NAME."""
    for argument in metafunc.fixturenames:
        if argument.endswith("_capture"):
            found = load(argument.removesuffix("_capture"))
            metafunc.parametrize(argument, [c for _, c in found], ids=[n for n, _ in found])


@pytest.fixture
def captured():
    """Return a function from a probe and a name to that capture."""
    return lambda probe, name: json.loads((PROBES / probe / f"{name}.json").read_text())


@pytest.fixture
def board_tree(tmp_path):
    """Return a function that writes files under a root: None is a file that cannot be read."""

    def write(files):
        for path, content in {**_ALWAYS, **files}.items():
            target = tmp_path / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                target.mkdir()  # opening it works, reading fails: as with a sensor that is off
            else:
                target.write_text(content)
        return tmp_path

    return write


@pytest.fixture
def run_script(tmp_path):
    """Return a function that runs the script on a tree and returns what it writes."""

    def run(root, shell=("sh",), path="/usr/bin:/bin"):
        result = subprocess.run(
            [*shell, "-s"],
            input=probes.script("snapshot.sh"),
            env={"PATH": path, "ELFATT_DEPLOY_ROOT": str(root), "TMPDIR": os.fspath(tmp_path)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert result.stderr == ""
        assert result.returncode == 0
        return result.stdout

    return run
