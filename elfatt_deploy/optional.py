"""The one place where optional packages are imported.

Importing `elfatt_deploy` and the help of every verb work with the base dependencies alone; a
package that a call really needs is loaded here, and its absence becomes a message naming the extra.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import urllib.parse
import urllib.request
from types import ModuleType
from typing import Any

from elfatt_deploy.errors import MissingDependency, UsageError

#: package -> the extra of this project that brings it
EXTRA_OF = {
    "torch": "export",
    "onnx": "ort",
    "onnxslim": "export",
    "safetensors": "export",
    "PIL": "export",
    "skimage": "export",
    "onnxruntime": "ort",
    "tensorrt_rtx": "rtx",
    "tensorrt": "trt",
    "cuda": "trt",
    "jtop": "jetson",
    "jinja2": "report",
    "matplotlib": "report",
}
#: packages that no extra brings, and what must be known to install them
_ADVICE = {
    "timm": 'pip install timm   (it needs the torchvision built for your torch: "RuntimeError: '
    'operator torchvision::nms does not exist" means another one is installed)',
}


def load(name: str) -> ModuleType:
    """Import an optional package or one of its modules.

    Args:
        name: an importable name whose first part is a key of `EXTRA_OF`.

    Raises:
        MissingDependency: the package is absent, or present but fails to import.
    """
    top = name.split(".", 1)[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name != top:  # something that the package needs
            raise _broken(top, error) from error
        raise MissingDependency(
            f"the package '{top}' is not installed", hint=install_command(top)
        ) from error
    except Exception as error:  # a broken package may raise anything while it is imported
        raise _broken(top, error) from error


def resolve(target: str) -> Any:
    """Import what `package.module:name` names.

    Raises:
        UsageError: there is no such module or name.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise UsageError(
            f"'{target}' cannot be imported: {error}",
            hint="write package.module:function, with the package on PYTHONPATH",
        ) from error


def install_command(package: str) -> str:
    """Return the command that installs what `package` needs."""
    extra = EXTRA_OF.get(package)
    if extra is None:
        return _ADVICE.get(package, f"pip install {package}")
    command = f"pip install {requirement(extra)}"
    if extra == "ort":
        command += "   (with an NVIDIA GPU [ort-gpu] in place of [ort]; never both)"
    return command


def requirement(extra: str) -> str:
    """Return what pip takes for this project: its name, or the checkout it was installed from."""
    record = None
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        record = importlib.metadata.distribution("elfatt-deploy").read_text("direct_url.json")
    source = json.loads(record) if record else {}
    folder = urllib.request.url2pathname(urllib.parse.urlsplit(source.get("url", "")).path)
    if not source.get("dir_info", {}).get("editable"):
        return f'"elfatt-deploy[{extra}]"'
    return f'-e "{folder}[{extra}]"'


def _broken(package: str, error: BaseException) -> MissingDependency:
    return MissingDependency(
        f"the package '{package}' is installed but does not import: {error}",
        hint=f"run 'elfatt-deploy doctor', then reinstall it: {install_command(package)}",
    )
