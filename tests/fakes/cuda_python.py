"""A fake of cuda-python's runtime module over a `Machine`: the calls the runner uses, no others.

As in the real one, a call returns a tuple of its status and its value (None where it failed),
handles are objects of their own types, host addresses are real and texts are bytes.
"""

from __future__ import annotations

import ctypes
import enum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

#: name of the module -> the modules that stand above it
MODULES = {
    "cuda.bindings.runtime": ("cuda", "cuda.bindings"),
    "cuda.cudart": ("cuda",),
}


class cudaError_t(enum.IntEnum):  # noqa: N801
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorUnknown = 999


class cudaMemcpyKind(enum.IntEnum):  # noqa: N801
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):  # noqa: N801
    cudaStreamCaptureModeThreadLocal = 1


class _Handle:
    def __init__(self, value):
        self.value = value

    def __int__(self):
        return self.value


class cudaStream_t(_Handle):  # noqa: N801
    pass


class cudaEvent_t(_Handle):  # noqa: N801
    pass


class cudaGraph_t(_Handle):  # noqa: N801
    pass


class cudaGraphExec_t(_Handle):  # noqa: N801
    pass


def _value(handle, kind):
    assert type(handle) is kind, f"a {kind.__name__} is needed, not {handle!r}"
    return handle.value


class _Runtime:
    """Every public method becomes a function of the module."""

    def __init__(self, machine):
        self.machine = machine
        self._host = {}

    def cudaGetErrorName(self, error):
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error):
        return cudaError_t.cudaSuccess, f"text of {int(error)}".encode()

    def cudaGetDevice(self):
        return (0,)

    def cudaGetDeviceProperties(self, device):
        major, minor = divmod(self.machine.sm, 10)
        name, size = self.machine.name.encode(), self.machine.memory_bytes
        return (SimpleNamespace(name=name, major=major, minor=minor, totalGlobalMem=size),)

    def cudaMalloc(self, size):
        return (self.machine.take(bytearray(size)),)

    def cudaFree(self, pointer):
        self.machine.give(pointer)
        return ()

    def cudaHostAlloc(self, size, flags):
        assert flags == 0
        memory = ctypes.create_string_buffer(size)
        address = ctypes.addressof(memory)
        self._host[address] = (memory, self.machine.take("pinned memory"))
        return (address,)

    def cudaFreeHost(self, pointer):
        self.machine.give(self._host.pop(pointer)[1])
        return ()

    def cudaMemcpyAsync(self, to, source, size, kind, stream):
        stream = _value(stream, cudaStream_t)
        if kind is cudaMemcpyKind.cudaMemcpyHostToDevice:
            self._within(source, size)
            self.machine.copy_in(stream, to, size, lambda: ctypes.string_at(source, size))
        else:
            assert kind is cudaMemcpyKind.cudaMemcpyDeviceToHost
            self._within(to, size)
            self.machine.copy_out(stream, source, size, lambda b: ctypes.memmove(to, b, size))
        return ()

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == 1
        return (cudaStream_t(self.machine.take(self.machine.new_stream())),)

    def cudaStreamDestroy(self, stream):
        self.machine.give(_value(stream, cudaStream_t))
        return ()

    def cudaStreamSynchronize(self, stream):
        self.machine.synchronize(_value(stream, cudaStream_t))
        return ()

    def cudaEventCreate(self):
        return (cudaEvent_t(self.machine.take(self.machine.new_event())),)

    def cudaEventDestroy(self, event):
        self.machine.give(_value(event, cudaEvent_t))
        return ()

    def cudaEventRecord(self, event, stream):
        self.machine.record(_value(event, cudaEvent_t), _value(stream, cudaStream_t))
        return ()

    def cudaEventElapsedTime(self, start, end):
        found = self.machine.elapsed_ms(_value(start, cudaEvent_t), _value(end, cudaEvent_t))
        return (cudaError_t.cudaErrorNotReady if found is None else found,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode is cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self.machine.live[_value(stream, cudaStream_t)].captured = []
        return ()

    def cudaStreamEndCapture(self, stream):
        found = self.machine.live[_value(stream, cudaStream_t)]
        work, found.captured = found.captured, None
        return (cudaGraph_t(self.machine.take(work)),)

    def cudaGraphInstantiateWithFlags(self, graph, flags):
        assert flags == 0
        work = self.machine.live[_value(graph, cudaGraph_t)]
        return (cudaGraphExec_t(self.machine.take(list(work))),)

    def cudaGraphLaunch(self, graph, stream):
        for work in self.machine.live[_value(graph, cudaGraphExec_t)]:
            self.machine.live[_value(stream, cudaStream_t)].add(work)
        return ()

    def cudaGraphExecDestroy(self, graph):
        self.machine.give(_value(graph, cudaGraphExec_t))
        return ()

    def cudaGraphDestroy(self, graph):
        self.machine.give(_value(graph, cudaGraph_t))
        return ()

    def _within(self, address, size):
        """Demand that a host address lies in page-locked memory."""
        assert any(
            a <= address and address + size <= a + len(m) for a, (m, _) in self._host.items()
        )


def _status_first(machine, name, function, failed):
    arity = {"cudaGet": 1, "cudaMalloc": 1, "cudaHostAlloc": 1, "cudaStreamCreate": 1,
             "cudaEventCreate": 1, "cudaEventElapsed": 1, "cudaStreamEnd": 1,
             "cudaGraphInstantiate": 1}  # fmt: skip
    values = sum(count for start, count in arity.items() if name.startswith(start))

    def call(*arguments):
        try:
            machine.call(name)
        except failed:
            if name in ("cudaFree", "cudaFreeHost") or name.endswith("Destroy"):
                function(*arguments)  # CUDA may report an earlier failure, and gives back anyway
            if name == "cudaStreamEndCapture":  # the capture is over, and gives no graph
                machine.live[int(arguments[0])].captured = None
            return (cudaError_t.cudaErrorUnknown, *[None] * values)
        found = function(*arguments)
        if found and isinstance(found[0], cudaError_t):
            return (found[0], *[None] * values)
        assert len(found) == values
        return (cudaError_t.cudaSuccess, *found)

    return call


def modules(machine, name="cuda.bindings.runtime", without=()):
    """Return name -> module, for sys.modules: the runtime and the packages above it."""
    runtime = ModuleType(name)
    for value in (cudaError_t, cudaMemcpyKind, cudaStreamCaptureMode, cudaStream_t):
        setattr(runtime, value.__name__, value)
    runtime.cudaHostAllocDefault, runtime.cudaStreamNonBlocking = 0, 1
    calls = _Runtime(machine)
    for call in dir(calls):
        if call.startswith("cudaGetError"):
            setattr(runtime, call, getattr(calls, call))
        elif call.startswith("cuda") and call not in without:
            function = getattr(calls, call)
            setattr(runtime, call, _status_first(machine, call, function, machine.Failed))
    found = {package: ModuleType(package) for package in MODULES[name]}
    for package in found.values():
        package.__path__ = []
    found[name] = runtime
    for each, module in found.items():
        module.__spec__ = ModuleSpec(each, None)
    return found
