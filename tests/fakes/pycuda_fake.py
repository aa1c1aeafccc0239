"""A fake of `pycuda.driver` over a `Machine`: the calls the runner uses, no others.

As in the real one (2026.1): a failure is an exception whose text names the driver's call, streams
and events end with their last reference, page-locked arrays have an allocation as `base`, and there
is no call for CUDA graphs.
"""

from __future__ import annotations

import ctypes
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np


class Error(Exception):
    """The base of pycuda's exceptions."""


class MemoryError(Error):  # noqa: A001
    """Out of memory."""


class _Fake:
    """What knows the machine, and turns its failures into pycuda's."""

    machine = None

    def _call(self, name):
        try:
            self.machine.call(name)
        except self.machine.Failed:
            kind = MemoryError if "Alloc" in name else Error
            raise kind(f"{name} failed: unknown error") from None


class _Allocation(_Fake):
    """Memory with `free`; forgetting it without is a leak that the machine sees."""

    routine = "cuMemFree"

    def __init__(self, handle):
        self.handle = handle

    def __int__(self):
        return self.handle

    def free(self):
        self.machine.give(self.handle)
        self._call(self.routine)


class _HostAllocation(_Allocation):
    routine = "cuMemFreeHost"

    def __init__(self, handle, size):
        super().__init__(handle)
        self.memory = ctypes.create_string_buffer(size)
        data = (ctypes.addressof(self.memory), False)
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": data}


class _Stream(_Fake):
    def __init__(self):
        self._call("cuStreamCreate")
        self.handle = self.machine.take(self.machine.new_stream())

    def synchronize(self):
        self._call("cuStreamSynchronize")
        self.machine.synchronize(self.handle)

    def __del__(self):
        if hasattr(self, "handle"):
            self.machine.give(self.handle)


class _Event(_Fake):
    def __init__(self):
        self._call("cuEventCreate")
        self.handle = self.machine.take(self.machine.new_event())

    def record(self, stream):
        self._call("cuEventRecord")
        self.machine.record(self.handle, stream.handle)
        return self

    def time_since(self, other):
        self._call("cuEventElapsedTime")
        found = self.machine.elapsed_ms(other.handle, self.handle)
        if found is None:
            raise Error("cuEventElapsedTime failed: device not ready")
        return found

    def __del__(self):
        if hasattr(self, "handle"):
            self.machine.give(self.handle)


class _OldDevice(_Fake):
    """Before the primary context could be had."""

    def __init__(self, number):
        assert number == 0
        self._call("cuDeviceGet")

    def name(self):
        self._call("cuDeviceGetName")
        return self.machine.name

    def compute_capability(self):
        self._call("cuDeviceComputeCapability")
        return divmod(self.machine.sm, 10)

    def total_memory(self):
        self._call("cuDeviceTotalMem")
        return self.machine.memory_bytes

    def make_context(self):
        self._call("cuCtxCreate")
        context = self.context_class()
        context.stack.append(context)
        return context


class _Device(_OldDevice):
    def retain_primary_context(self):
        self._call("cuDevicePrimaryCtxRetain")
        return self.context_class()


class _Context(_Fake):
    stack = None

    def __init__(self):
        self.handle = self.machine.take("context")

    def push(self):
        self._call("cuCtxPushCurrent")
        self.stack.append(self)

    @classmethod
    def pop(cls):
        cls.stack.pop()
        cls._call(cls, "cuCtxPopCurrent")

    @classmethod
    def get_device(cls):
        cls._call(cls, "cuCtxGetDevice")
        assert cls.stack, "no context is current"
        return cls.device_class.__new__(cls.device_class)

    def __del__(self):
        self.machine.give(self.handle)


def modules(machine, primary=True):
    """Return name -> module, for sys.modules; `primary`: whether there are primary contexts."""
    driver = ModuleType("pycuda.driver")

    def bound(kind, **more):
        return type(kind.__name__, (kind,), {"machine": machine, **more})

    device, host = bound(_Allocation), bound(_HostAllocation)
    context = bound(_Context, stack=[])
    gpu = bound(_Device if primary else _OldDevice, context_class=context)
    context.device_class = gpu
    asker = bound(_Fake)()

    def init():
        asker._call("cuInit")

    def mem_alloc(size):
        asker._call("cuMemAlloc")
        assert context.stack, "no context is current"
        return device(machine.take(bytearray(size)))

    def pagelocked_empty(shape, dtype):
        asker._call("cuMemHostAlloc")
        assert dtype is np.uint8
        (size,) = shape
        array = np.asarray(host(machine.take("pinned memory"), size))
        assert isinstance(array.base, _HostAllocation)
        return array

    def memcpy_htod_async(to, source, stream):
        asker._call("cuMemcpyHtoDAsync")
        machine.copy_in(stream.handle, to, source.nbytes, lambda: source.tobytes())

    def memcpy_dtoh_async(to, source, stream):
        asker._call("cuMemcpyDtoHAsync")

        def arrive(data):
            to[:] = np.frombuffer(data, np.uint8)

        machine.copy_out(stream.handle, source, to.nbytes, arrive)

    driver.Error, driver.MemoryError = Error, MemoryError
    driver.Device, driver.Context = gpu, context
    driver.Stream, driver.Event = bound(_Stream), bound(_Event)
    for function in (init, mem_alloc, pagelocked_empty, memcpy_htod_async, memcpy_dtoh_async):
        setattr(driver, function.__name__, function)
    package = ModuleType("pycuda")
    package.__path__ = []
    found = {"pycuda": package, "pycuda.driver": driver}
    for name, module in found.items():
        module.__spec__ = ModuleSpec(name, None)
    return found
