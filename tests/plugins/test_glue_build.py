"""The CMake build of plugins/elfatt_attention, with a fake TensorRT: what it makes and refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "plugins" / "elfatt_attention"
GLUE = Path(__file__).parent / "glue"
NEEDED = ("cmake", "nvcc", "g++", "nm", "readelf")
MISSING = [name for name in NEEDED if shutil.which(name) is None]

pytestmark = pytest.mark.skipif(
    bool(MISSING), reason=f"not installed: {', '.join(MISSING)}, without which nothing is built"
)


@pytest.fixture
def tensorrt(tmp_path):
    """A folder as TensorRT 10.3 is unpacked to: its header and its library."""
    root = tmp_path / "tensorrt"
    shutil.copytree(GLUE / "fake_tensorrt", root / "include")
    header = root / "include" / "NvInferRuntime.h"
    header.write_text("#define FAKE_TENSORRT 1003\n" + header.read_text())
    library = root / "lib" / "libnvinfer.so.10"
    library.parent.mkdir()
    include = (f"-I{root / 'include'}", f"-I{GLUE / 'fake_cuda'}", f"-I{PLUGIN}")
    shared = ("-shared", "-fPIC", "-Wl,-soname,libnvinfer.so.10", "-o", library)
    subprocess.run(["g++", *include, GLUE / "fake_tensorrt.cpp", *shared], check=True)
    (library.parent / "libnvinfer.so").symlink_to(library.name)
    return root


def _cmake(folder, *arguments, path=()):
    """Return what cmake writes, and whether it was content."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PATH": os.pathsep.join([*map(str, path), os.environ["PATH"]])}
    done = subprocess.run(
        ["cmake", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    return " ".join((done.stdout + done.stderr).split()), done.returncode == 0


def _symbols(library, *options):
    done = subprocess.run(["nm", "-D", *options, library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {line.split()[-1] for line in done.stdout.splitlines()}


def _loads(*libraries):
    """Load libraries as Python does, and return how many plugins are then registered."""
    program = (
        "import ctypes, sys\n"
        "loaded = [ctypes.CDLL(path) for path in sys.argv[1:]]\n"
        "print(loaded[0].fake_registered())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *libraries], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_library_names_tensorrt_and_shows_its_entry_points_only(tmp_path, tensorrt):
    options = ("-DELFATT_SM=87", f"-DTENSORRT_ROOT={tensorrt}", PLUGIN)
    assert _cmake(tmp_path / "build", *options)[1]
    output, built = _cmake(tmp_path / "build", "--build", ".")
    assert built, output
    assert "warning" not in output

    library = tmp_path / "build" / "libelfatt_attention.so"
    assert _symbols(library, "--defined-only") == {"getCreators", "setLoggerFinder"}
    undefined = _symbols(library, "--undefined-only")
    assert {"getPluginRegistry", "getLogger"} <= undefined
    assert not [name for name in undefined if "elfatt" in name or "nvinfer" in name]
    header = subprocess.run(["readelf", "-d", library], capture_output=True, text=True).stdout
    assert "[libnvinfer.so.10]" in header

    done = _loads(tensorrt / "lib" / "libnvinfer.so.10", library)
    assert (done.stdout, done.stderr) == ("1\n", "")

    # why it names TensorRT: Python, and trtexec from 8.6 on, load that for themselves only
    build = tmp_path / "build"
    assert _cmake(build, "-DELFATT_LINK_TENSORRT=OFF", PLUGIN)[1]
    assert _cmake(build, "--build", ".")[1]
    done = _loads(tensorrt / "lib" / "libnvinfer.so.10", library)
    assert done.returncode != 0
    assert "undefined symbol" in done.stderr


@pytest.mark.slow
def test_the_architecture_is_the_boards_or_asked_for(tmp_path, tensorrt):
    tools, names, build = tmp_path / "tools", tmp_path / "compatible", tmp_path / "build"
    tools.mkdir()
    gpu = tools / "nvidia-smi"
    gpu.write_text("#!/bin/sh\nexit 9\n")
    gpu.chmod(0o755)

    def configure(*options):
        fixed = (f"-DTENSORRT_ROOT={tensorrt}", f"-DELFATT_DEVICE_TREE={names}", "-DELFATT_SM=")
        return _cmake(build, *fixed, *options, PLUGIN, path=(tools,))

    output, content = configure()
    assert not content
    assert "-DELFATT_SM=87 (Nano 53, TX2 62, Xavier 72, Orin 87, Thor 110)" in output
    boards = {"tegra210": 53, "tegra186": 62, "tegra194": 72, "tegra234": 87, "tegra264": 110}
    for soc, architecture in boards.items():
        names.write_bytes(b"nvidia,p3768-0000+p3767-0005\0nvidia,%s\0" % soc.encode())
        output, content = configure()
        assert content, output
        assert f"GPU architectures: {architecture} " in output
    names.unlink()
    gpu.write_text("#!/bin/sh\necho 8.9\necho 7.5\n")
    assert "GPU architectures: 89 " in configure()[0]
    assert "GPU architectures: 75;86 " in configure("-DELFATT_SM=75;86")[0]

    output, content = configure(
        "-DTENSORRT_ROOT=nowhere", "-DTENSORRT_INCLUDE=TENSORRT_INCLUDE-NOTFOUND"
    )
    assert content or "install libnvinfer-dev" in output
    shutil.rmtree(tensorrt / "lib")
    output, content = configure("-DTENSORRT_LIBRARY=TENSORRT_LIBRARY-NOTFOUND")
    assert content or "libnvinfer.so was not found" in output
