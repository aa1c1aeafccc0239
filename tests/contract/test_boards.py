"""Board files and the scripts for a board are shipped, and the page on boards is up to date."""

from __future__ import annotations

import importlib.resources
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.device import boards

ROOT = Path(__file__).parents[2]
SCRIPTS = ("snapshot.sh",)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_the_scripts_lie_inside_the_package():
    folder = importlib.resources.files("elfatt_deploy.device") / "scripts"
    for name in SCRIPTS:
        assert (folder / name).read_text(encoding="utf-8").startswith("#!/bin/sh\n")


def test_the_wheel_takes_the_package_whole_and_the_profiles_beside_it():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert wheel["targets"]["wheel"] == {
        "packages": ["elfatt_deploy"],
        "force-include": {"profiles": "elfatt_deploy/profiles"},
    }
    ignored = (ROOT / ".gitignore").read_text().split()  # what git ignores, hatch leaves out
    assert not {"*.sh", "*.toml", "profiles", "/profiles/", "scripts/"} & set(ignored)


@pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None, reason="there is no hatchling to build with"
)
def test_a_wheel_holds_them(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"elfatt_deploy/device/scripts/{name}" for name in SCRIPTS} <= names
    assert {f"elfatt_deploy/profiles/boards/{name}.toml" for name in boards.boards()} <= names
    assert "elfatt_deploy/profiles/jetpack.toml" in names


def test_every_board_file_is_one_that_reads():
    files = sorted(path.stem for path in (recipes.profiles_folder() / "boards").glob("*.toml"))
    assert files == sorted(boards.boards())
    assert len(files) == 15


def test_the_page_on_boards_is_what_its_script_writes():
    spec = importlib.util.spec_from_file_location("boards_page", ROOT / "docs" / "boards.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)

    assert (ROOT / "docs" / "boards.md").read_text(encoding="utf-8") == page.page()
