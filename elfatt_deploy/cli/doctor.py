"""`doctor`: what is installed, and what each missing thing would enable."""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import platform
import subprocess
import sys

from elfatt_deploy import __version__, optional
from elfatt_deploy.cli import options, output

#: package -> (distributions that bring it, what it enables)
_PACKAGES: dict[str, tuple[tuple[str, ...], str]] = {
    "torch": (("torch",), "export, bench, eval: agreement with torch"),
    "onnx": (("onnx",), "export, check, bench"),
    "onnxslim": (("onnxslim",), "export, bench"),
    "onnxruntime": (("onnxruntime", "onnxruntime-gpu"), "export, check, eval, bench"),
    "safetensors": (("safetensors",), "export --weights FILE.safetensors"),
    "PIL": (("pillow",), "export, eval: reading images"),
    "skimage": (("scikit-image",), "export without --images: sample photographs"),
    "timm": (("timm",), "export --model timm/NAME"),
    "tensorrt_rtx": (("tensorrt-rtx",), "check --builder rtx"),
    "tensorrt": (("tensorrt",), "build: in process"),
    "cuda": (("cuda-python",), "bench --plan, check --plan: in process"),
    "pycuda": (("pycuda",), "the same, in place of cuda-python"),
    "jtop": (("jetson-stats",), "power samples of its service (from Python: JtopSampler)"),
    "jinja2": (("jinja2",), "report: the HTML page"),
    "matplotlib": (("matplotlib",), "bench --attention --set plot=FILE, report: pictures"),
}
_TIMEOUT_S = 60


@output.guarded
def command(json: options.Json = False) -> int:
    """Show versions, what is missing, what it would enable, and the command that installs it.

    Each package is imported in a process of its own, so that a broken one harms nothing.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
        states = list(pool.map(_state, _PACKAGES))
    clash = {"onnxruntime", "onnxruntime-gpu"} <= _installed()
    if json:
        output.show_json(
            "doctor",
            {
                "elfatt_deploy": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
                "machine": platform.machine(),
                "packages": states,
                "onnxruntime_clash": clash,
            },
        )
        return 0
    output.show_table(
        f"elfatt-deploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        ("package", "version", "state", "enables", "install"),
        [
            (
                state["package"],
                state["version"] or "-",
                state["state"],
                state["enables"],
                state["install"],
            )
            for state in states
        ],
    )
    if clash:
        output.show(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install one of them"
        )
    return 0


def _state(package: str) -> dict[str, str]:
    distributions, enables = _PACKAGES[package]
    version = next((v for v in map(_version, distributions) if v), "")
    state = _import_state(package) if version else "missing"
    return {
        "package": package,
        "version": version,
        "state": state,
        "enables": enables,
        "install": "" if state == "ok" else optional.install_command(package),
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _installed() -> set[str]:
    return {str(d.metadata["Name"]).lower() for d in importlib.metadata.distributions()}


def _import_state(package: str) -> str:
    try:
        result = subprocess.run(
            [sys.executable, "-c", f"import {package}"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"broken: its import took more than {_TIMEOUT_S} s"
    if result.returncode == 0:
        return "ok"
    if result.returncode < 0:
        return f"broken: its import died of signal {-result.returncode}"
    lines = result.stderr.strip().splitlines()
    return f"broken: {lines[-1] if lines else 'its import failed'}"
