"""The GPU as the driver tells it, on a driver that is made here."""

from __future__ import annotations

import pytest

from elfatt_deploy.engine import gpu
from elfatt_deploy.errors import EngineError


class _Driver:
    """Answers as libcuda.so does on a Jetson Nano; `failing` names a call that does not."""

    def __init__(self, failing=""):
        self._failing = failing

    def _status(self, call):
        return 100 if call == self._failing else 0  # CUDA_ERROR_NO_DEVICE

    def cuInit(self, flags):  # noqa: N802
        return self._status("cuInit")

    def cuDeviceGet(self, device, ordinal):  # noqa: N802
        device._obj.value = 0
        return self._status("cuDeviceGet")

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"NVIDIA Tegra X1"
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):  # noqa: N802
        memory._obj.value = 3955 * 2**20
        return 0

    def cuDeviceGetAttribute(self, value, number, device):  # noqa: N802
        value._obj.value = {75: 5, 76: 3}[number]
        return 0


def test_name_sm_and_memory_are_the_drivers():
    found = gpu.present(_Driver)
    assert (found.name, found.sm) == ("NVIDIA Tegra X1", 53)
    assert found.memory_bytes == 3955 * 2**20


@pytest.mark.parametrize("call", ["cuInit", "cuDeviceGet"])
def test_a_driver_without_a_gpu_is_an_error(call):
    with pytest.raises(EngineError, match=f"answers {call} with error 100"):
        gpu.present(lambda: _Driver(call))


def test_a_missing_driver_is_an_error():
    def missing():
        raise OSError("libcuda.so.1: cannot open shared object file")

    with pytest.raises(EngineError, match=r"does not load: libcuda\.so\.1"):
        gpu.present(missing)
