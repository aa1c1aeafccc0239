"""The one place where optional packages are imported.

Importing `elfatt_deploy` and the help of every verb work with the base dependencies alone; a
package that a call really needs is loaded here, and its absence becomes a message naming the extra.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from elfatt_deploy.errors import MissingDependency

#: package -> the extra of this project that brings it
EXTRA_OF = {
    "torch": "export",
    "onnx": "export",
    "onnxslim": "export",
    "safetensors": "export",
    "PIL": "export",
    "skimage": "export",
    "onnxruntime": "ort",
    "tensorrt_rtx": "rtx",
    "tensorrt": "trt",
    "pycuda": "trt",
    "jtop": "jetson",
    "matplotlib": "report",
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
        if error.name is not None and error.name.split(".", 1)[0] != top:
            raise _broken(top, error) from error
        raise MissingDependency(
            f"the package '{top}' is not installed", hint=install_command(top)
        ) from error
    except (ImportError, OSError) as error:
        raise _broken(top, error) from error


def install_command(package: str) -> str:
    """Return the command that installs what `package` needs."""
    extra = EXTRA_OF.get(package)
    if extra is None:
        return f"pip install {package}"
    command = f'pip install "elfatt-deploy[{extra}]"'
    if package == "onnxruntime":
        command += '   (with an NVIDIA GPU: "elfatt-deploy[ort-gpu]" instead; never both)'
    return command


def _broken(package: str, error: BaseException) -> MissingDependency:
    return MissingDependency(
        f"the package '{package}' is installed but does not import: {error}",
        hint=f"run 'elfatt-deploy doctor', then reinstall it: {install_command(package)}",
    )
