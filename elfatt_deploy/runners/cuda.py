"""CUDA as the TensorRT runner needs it, by cuda-python or by pycuda, whichever is installed.

    with cuda.load() as gpu, gpu.stream() as stream, gpu.device_memory(4096) as memory: ...

What is taken from CUDA is an `Owned`, given back once, in the reverse order, on an exception too.
Each library answers in one place only (`_call`), where a failure becomes an EngineError with the
name of the call and CUDA's own text. The names of the calls were read off cuda-python 12.3, 12.9
and 13 and the sources of pycuda 2026.1; **nothing here has run on a real GPU yet**.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.errors import EngineError, MissingDependency
from elfatt_deploy.runners.cuda_base import Cuda, Owned, Pinned, giving_back

_HINT = "'nvidia-smi' (on a Jetson 'tegrastats') shows the driver, and what else uses the GPU"
#: what a library must have to capture a graph; cuda-python has them from CUDA 11.4 on
_GRAPH_CALLS = (
    "cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiateWithFlags",
    "cudaGraphLaunch", "cudaGraphExecDestroy", "cudaGraphDestroy",
)  # fmt: skip


def load() -> Cuda:
    """Return the CUDA library that is installed; cuda-python before pycuda.

    Raises:
        MissingDependency: there is none, or it does not import.
    """
    for runtime in ("cuda.bindings.runtime", "cuda.cudart"):  # the second is the older name
        if _installed(runtime):
            return CudaPython(optional.load(runtime))
    if _installed("pycuda.driver"):
        return PyCuda(optional.load("pycuda.driver"))
    raise MissingDependency(
        "neither of the packages 'cuda-python' and 'pycuda' is installed",
        hint=f"{optional.install_command('cuda')}   (with CUDA before 11: pip install pycuda)",
    )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # a package above it is absent
        return False


class CudaPython(Cuda):
    """The CUDA runtime through cuda-python: `cuda.bindings.runtime`, or `cuda.cudart` before."""

    name = "cuda-python"

    def __init__(self, runtime: ModuleType) -> None:
        """Keep the module; it loads the driver with its first call."""
        self._runtime: Any = runtime
        self.graphs = all(hasattr(runtime, name) for name in _GRAPH_CALLS)

    def __enter__(self) -> CudaPython:
        """Do nothing: the runtime uses the GPU's primary context by itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""

    def device(self) -> BuildDevice:
        """Return the current GPU."""
        index = self._call("cudaGetDevice")
        found = self._call("cudaGetDeviceProperties", index)
        return BuildDevice(
            name=found.name.rstrip(b"\0").decode("utf-8", "replace"),
            sm=10 * found.major + found.minor,
            memory_bytes=int(found.totalGlobalMem),
        )

    def device_memory(self, size_bytes: int) -> Owned:
        """Allocate device memory."""
        return self._owned(self._call("cudaMalloc", size_bytes), "cudaFree")

    def pinned_memory(self, size_bytes: int) -> Pinned:
        """Allocate page-locked host memory."""
        address = int(self._call("cudaHostAlloc", size_bytes, self._runtime.cudaHostAllocDefault))
        array = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(address))
        return Pinned(address, array, lambda it: self._call("cudaFreeHost", it))

    def stream(self) -> Owned:
        """Create a stream that does not wait for the default stream."""
        flags = self._runtime.cudaStreamNonBlocking
        return self._owned(self._call("cudaStreamCreateWithFlags", flags), "cudaStreamDestroy")

    def event(self) -> Owned:
        """Create an event that keeps the time."""
        return self._owned(self._call("cudaEventCreate"), "cudaEventDestroy")

    def copy_in(self, device: Owned, host: Pinned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the device."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", device.address, host.address, size_bytes, kind, stream.native)

    def copy_out(self, host: Pinned, device: Owned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the host."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", host.address, device.address, size_bytes, kind, stream.native)

    def record(self, event: Owned, stream: Owned) -> None:
        """Enqueue the taking of a time."""
        self._call("cudaEventRecord", event.native, stream.native)

    def elapsed_ms(self, start: Owned, end: Owned) -> float:
        """Return the milliseconds between two events that have happened."""
        return float(self._call("cudaEventElapsedTime", start.native, end.native))

    def synchronize(self, stream: Owned) -> None:
        """Wait until all that was enqueued is done."""
        self._call("cudaStreamSynchronize", stream.native)

    def capture(self, stream: Owned, enqueue: Callable[[], object]) -> Owned:
        """Return a CUDA graph of what `enqueue` puts into the stream.

        Raises:
            EngineError: this cuda-python has no calls for it, or CUDA refuses.
        """
        if not self.graphs:
            raise EngineError(
                "this cuda-python cannot capture CUDA graphs",
                hint=f"{optional.install_command('cuda')}, or time without a CUDA graph",
            )
        # of this thread only: what other threads do meanwhile is no business of the capture
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream.native, mode)
        try:
            enqueue()
        except BaseException:
            with contextlib.suppress(EngineError):  # a broken capture ends with an error of its own
                self._end_capture(stream).close()
            raise
        with contextlib.ExitStack() as undo:
            template = undo.enter_context(self._end_capture(stream))
            executable = self._call("cudaGraphInstantiateWithFlags", template.native, 0)
            ready = undo.enter_context(self._owned(executable, "cudaGraphExecDestroy"))
            both = undo.pop_all()
        return Owned(ready.native, ready.address, lambda it: both.close())

    def launch(self, graph: Owned, stream: Owned) -> None:
        """Enqueue a captured graph."""
        self._call("cudaGraphLaunch", graph.native, stream.native)

    def _end_capture(self, stream: Owned) -> Owned:
        return self._owned(self._call("cudaStreamEndCapture", stream.native), "cudaGraphDestroy")

    def _owned(self, native: Any, release: str) -> Owned:
        return Owned(native, int(native), lambda it: self._call(release, it))

    def _call(self, name: str, *arguments: Any) -> Any:
        """Return what a call of the runtime gives beside its status: one value, or None."""
        try:
            status, *values = getattr(self._runtime, name)(*arguments)
        except RuntimeError as error:  # cuda-python finds no driver library, or no such call in it
            raise EngineError(f"{name} cannot be called: {error}", hint=_HINT) from error
        if int(status) != 0:  # cudaSuccess
            texts = (self._runtime.cudaGetErrorName, self._runtime.cudaGetErrorString)
            code, text = (bytes(read(status)[1]).decode("utf-8", "replace") for read in texts)
            raise EngineError(f"{name} failed: {text} ({code})", hint=_HINT)
        return values[0] if values else None


class PyCuda(Cuda):
    """The CUDA driver through pycuda, which has no CUDA graphs (seen up to 2026.1).

    Streams and events of pycuda have no call that ends them: they end with their last reference.
    """

    name = "pycuda"
    graphs = False

    def __init__(self, driver: ModuleType) -> None:
        """Keep the module."""
        self._driver: Any = driver
        self._context: Any = None

    def __enter__(self) -> PyCuda:
        """Make the primary context of the first GPU current; TensorRT uses the same one."""
        self._call(self._driver.init)
        device = self._call(self._driver.Device, 0)
        if hasattr(device, "retain_primary_context"):
            context = self._call(device.retain_primary_context)
            self._call(context.push)
        else:  # pycuda built for CUDA before 7, or older than that call; it is current at once
            context = self._call(device.make_context)
        self._context = context
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the context, which ends with its last reference."""
        context, self._context = self._context, None
        with giving_back(error):
            self._call(context.pop)

    def device(self) -> BuildDevice:
        """Return the GPU."""
        found = self._call(self._driver.Context.get_device)
        major, minor = self._call(found.compute_capability)
        return BuildDevice(
            name=self._call(found.name),
            sm=10 * major + minor,
            memory_bytes=int(self._call(found.total_memory)),
        )

    def device_memory(self, size_bytes: int) -> Owned:
        """Allocate device memory."""
        native = self._call(self._driver.mem_alloc, size_bytes)
        return Owned(native, int(native), lambda it: self._call(it.free))

    def pinned_memory(self, size_bytes: int) -> Pinned:
        """Allocate page-locked host memory."""
        array = self._call(self._driver.pagelocked_empty, (size_bytes,), np.uint8)
        return Pinned(array.base, array, lambda it: self._call(it.free))

    def stream(self) -> Owned:
        """Create a stream."""
        native = self._call(self._driver.Stream)
        return Owned(native, int(native.handle), _drop)

    def event(self) -> Owned:
        """Create an event that keeps the time."""
        return Owned(self._call(self._driver.Event), 0, _drop)

    def copy_in(self, device: Owned, host: Pinned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the device."""
        source = host.array[:size_bytes]
        self._call(self._driver.memcpy_htod_async, device.address, source, stream.native)

    def copy_out(self, host: Pinned, device: Owned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the host."""
        goal = host.array[:size_bytes]
        self._call(self._driver.memcpy_dtoh_async, goal, device.address, stream.native)

    def record(self, event: Owned, stream: Owned) -> None:
        """Enqueue the taking of a time."""
        self._call(event.native.record, stream.native)

    def elapsed_ms(self, start: Owned, end: Owned) -> float:
        """Return the milliseconds between two events that have happened."""
        return float(self._call(end.native.time_since, start.native))

    def synchronize(self, stream: Owned) -> None:
        """Wait until all that was enqueued is done."""
        self._call(stream.native.synchronize)

    def capture(self, stream: Owned, enqueue: Callable[[], object]) -> Owned:
        """Refuse: pycuda has no call for it.

        Raises:
            EngineError: always.
        """
        raise EngineError(
            "pycuda cannot capture CUDA graphs",
            hint=f"{optional.install_command('cuda')}, or time without a CUDA graph",
        )

    def launch(self, graph: Owned, stream: Owned) -> None:
        """Refuse: there is no graph to launch.

        Raises:
            EngineError: always.
        """
        raise EngineError("pycuda cannot launch CUDA graphs")

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a call gives; pycuda's message holds the name of the driver's call."""
        try:
            return function(*arguments)
        except self._driver.Error as error:
            raise EngineError(f"{error}", hint=_HINT) from error


def _drop(native: object) -> None:
    """Let the last reference go: the caller holds none."""
