"""The TensorRT side of plugins/elfatt_attention, on a fake TensorRT and under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "plugins" / "elfatt_attention"
GLUE = Path(__file__).parent / "glue"
FLAGS = (
    "-std=c++14",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    f"-I{GLUE / 'fake_tensorrt'}",
    f"-I{GLUE / 'fake_cuda'}",
    f"-I{PLUGIN}",
)
CASES = (
    "registration",
    "creation",
    "fields",
    "attributes",
    "cloning",
    "serialization",
    "foreign_bytes",
    "formats",
    "output_dimensions",
    "configuration",
    "workspace",
    "launch",
    "second_copy",
    "closing",
)
#: from TensorRT 8.6 on the registry itself loads libraries
LOADING = ("loading", "loading_first")

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="g++ is not installed: the glue cannot be compiled"
)


def _compile(*arguments):
    done = subprocess.run(["g++", *FLAGS, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("version", "cases"),
    [
        pytest.param(802, CASES, id="8.2"),
        pytest.param(806, CASES + LOADING, id="8.6"),
        pytest.param(1003, CASES + LOADING, id="10.3"),
        pytest.param(1101, CASES + LOADING, id="11.1"),
    ],
)
def test_the_glue_does_what_tensorrt_expects(version, cases, tmp_path):
    library, copy, driver = tmp_path / "glue.so", tmp_path / "copy.so", tmp_path / "driver"
    fake = f"-DFAKE_TENSORRT={version}"
    sources = sorted(PLUGIN.glob("plugin_*.cpp"))
    _compile(fake, "-shared", "-fPIC", "-fvisibility=hidden", *sources, "-o", library)
    _compile(fake, "-rdynamic", *sorted(GLUE.glob("*.cpp")), "-ldl", "-o", driver)
    shutil.copyfile(library, copy)

    wrong = {}
    for case in cases:
        done = subprocess.run([driver, case, library, copy], capture_output=True, text=True)
        if done.returncode != 0:
            wrong[case] = done.stdout + done.stderr

    assert not wrong
