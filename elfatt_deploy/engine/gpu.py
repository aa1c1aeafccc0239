"""Which GPU is present, asked of the CUDA driver itself.

`libcuda.so.1` is there wherever TensorRT can build: the name of a plan's device takes no package.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.errors import EngineError

_HINT = "build where an NVIDIA GPU and its driver are; 'nvidia-smi' shows the GPU on a desktop"
#: CUdevice_attribute of cuda.h: COMPUTE_CAPABILITY_MAJOR and _MINOR
_MAJOR, _MINOR = 75, 76
_NAME_BYTES = 256


def _driver() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def present(driver: Callable[[], Any] = _driver) -> BuildDevice:
    """Return the first GPU.

    Args:
        driver: loads the CUDA driver library.

    Raises:
        EngineError: there is no driver, or it has no GPU.
    """
    try:
        cuda = driver()
    except OSError as error:
        raise EngineError(f"the CUDA driver library does not load: {error}", hint=_HINT) from error
    _check(cuda.cuInit(0), "cuInit")
    device = ctypes.c_int()
    _check(cuda.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _check(cuda.cuDeviceGetName(name, _NAME_BYTES, device), "cuDeviceGetName")
    memory = ctypes.c_size_t()
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")
    capability = [_attribute(cuda, number, device) for number in (_MAJOR, _MINOR)]
    return BuildDevice(
        name=name.value.decode("utf-8", "replace"),
        sm=10 * capability[0] + capability[1],
        memory_bytes=memory.value,
    )


def _attribute(cuda: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(cuda.cuDeviceGetAttribute(ctypes.byref(value), number, device), "cuDeviceGetAttribute")
    return value.value


def _check(status: int, call: str) -> None:
    if status != 0:  # CUDA_SUCCESS
        raise EngineError(f"the CUDA driver answers {call} with error {status}", hint=_HINT)
