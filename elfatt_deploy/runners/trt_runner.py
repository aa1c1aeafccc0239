"""TensorRT, in this process: a plan that `build` wrote, on the GPU it was built for.

Inputs and outputs go through page-locked memory on one stream, as every latency contract wants it.
The whole sequence runs in tests against the names of TensorRT 8.2 to 11 and both CUDA libraries, on
fakes that move real bytes; **none of it has run on a real GPU yet**.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Bundle
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine.builder import load_plugins
from elfatt_deploy.engine.messages import Log
from elfatt_deploy.errors import RunnerError
from elfatt_deploy.runners import cuda, trt_program
from elfatt_deploy.runners.base import Runner
from elfatt_deploy.runners.cuda_base import Cuda, Owned, Pinned
from elfatt_deploy.runners.trt_program import IoTensor, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Buffer:
    """The memory of one input or output, enough for the largest batch."""

    tensor: IoTensor
    device: Owned
    host: Pinned

    def view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Show the start of the host memory as an array."""
        size = _size_bytes(self.tensor, shape)
        return self.host.array[:size].view(self.tensor.dtype).reshape(shape)


@dataclasses.dataclass(slots=True, kw_only=True)
class _Session:
    """What an open runner works with; `shapes` are those the inputs have now."""

    gpu: Cuda
    stream: Owned
    program: Program
    inputs: dict[str, _Buffer]
    outputs: dict[str, _Buffer]
    shapes: dict[str, tuple[int, ...]]

    def enqueue(self) -> None:
        """Put one inference into the stream, without copies."""
        self.program.enqueue(self.stream.address)


class TrtRunner(Runner):
    """One plan in one execution context, at any batch of its profile.

    The plan's manifest is checked before TensorRT sees the plan. The GPU is used from the thread
    that opens the runner.

    Args:
        plan: the plan, or the folder that `build` wrote.
        bundle: the bundle it must come from; None where only the plan is at hand.
        plugins: plugin libraries to load first.
    """

    def __init__(
        self, plan: Path, *, bundle: Bundle | None = None, plugins: tuple[Path, ...] = ()
    ) -> None:
        """Keep what to load; nothing is loaded yet."""
        self.plan, self.bundle, self.plugins = plan, bundle, plugins
        self.name = "trt"
        #: what differs from where the plan was built and does not forbid loading it
        self.notes: tuple[str, ...] = ()
        self._session: _Session | None = None
        self._owned = ExitStack()

    def open(self) -> None:
        """Check the plan, load it and allocate its memory.

        Raises:
            MissingDependency: TensorRT, or both CUDA libraries, are absent or broken.
            InputFileError: there is no such plan, or a plugin library does not load.
            PlanMismatch: the plan was built for another place, or from another bundle.
            EngineError: CUDA or TensorRT fails.
        """
        self.close()
        trt = optional.load("tensorrt")
        found = plans.read_plan(self.plan)
        with ExitStack() as undo:
            gpu = undo.enter_context(cuda.load())
            device = gpu.device()
            self.notes = plans.check_identity(
                found, tensorrt=trt.__version__, device=device, bundle=self.bundle
            )
            load_plugins(self.plugins)
            program = trt_program.load(trt, found.path, Log(trt))
            undo.callback(program.close)
            self._session = self._prepare(gpu, program, undo)
            undo.callback(self._forget)
            self._owned = undo.pop_all()
        self.name = f"trt (TensorRT {trt.__version__}, {device.name})"

    def infer(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run once: copy in, run, copy out, wait.

        Raises:
            RunnerError: the runner is not open, or the engine does not take these inputs.
            EngineError: CUDA or TensorRT fails.
        """
        session = self._opened()
        self._stage(session, feeds)
        session.enqueue()
        shapes = {name: session.program.shape(b.tensor) for name, b in session.outputs.items()}
        for name, buffer in session.outputs.items():
            size = _size_bytes(buffer.tensor, shapes[name])
            session.gpu.copy_out(buffer.host, buffer.device, size, session.stream)
        session.gpu.synchronize(session.stream)
        return {name: b.view(shapes[name]).copy() for name, b in session.outputs.items()}

    def compute_ms(
        self,
        feeds: Mapping[str, NDArray[np.float32]],
        *,
        repetitions: int,
        warmup: int,
        graph: bool = False,
    ) -> list[float]:
        """Time the GPU compute of single inferences, one in flight, without copies.

        Args:
            feeds: inputs, copied to the device once, before.
            repetitions: inferences that are timed.
            warmup: inferences that run before.
            graph: whether each is the launch of one CUDA graph.

        Returns:
            Milliseconds between an event before and one after each inference, in order.

        Raises:
            RunnerError: the runner is not open, or the engine does not take these inputs.
            EngineError: CUDA or TensorRT fails, or the CUDA library has no graphs.
        """
        session = self._opened()
        gpu, stream = session.gpu, session.stream
        self._stage(session, feeds)
        session.enqueue()  # the first one may allocate, which a graph cannot hold
        gpu.synchronize(stream)
        with ExitStack() as stack:
            start, end = (stack.enter_context(gpu.event()) for _ in range(2))
            run: Callable[[], None] = session.enqueue
            if graph:
                captured = stack.enter_context(gpu.capture(stream, session.enqueue))

                def run() -> None:
                    gpu.launch(captured, stream)

            times = []
            for _ in range(warmup + repetitions):
                gpu.record(start, stream)
                run()
                gpu.record(end, stream)
                gpu.synchronize(stream)
                times.append(gpu.elapsed_ms(start, end))
        return times[warmup:]

    def close(self) -> None:
        """Give back memory, stream, engine and GPU, in the reverse order.

        Raises:
            EngineError: CUDA refuses.
        """
        self._owned.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; an error under way is not replaced by one of closing."""
        self._owned.__exit__(kind, error, trace)

    def _forget(self) -> None:
        self._session = None

    def _opened(self) -> _Session:
        if self._session is None:
            raise RunnerError(f"{self.name} is not open")
        return self._session

    def _prepare(self, gpu: Cuda, program: Program, undo: ExitStack) -> _Session:
        """Allocate for the largest batch, so that no batch moves the memory."""
        stream = undo.enter_context(gpu.stream())
        fed = [t for t in program.tensors if t.is_input]
        for tensor in fed:
            program.set_shape(tensor, tensor.largest)
        buffers = {}
        for tensor in program.tensors:
            size = _size_bytes(tensor, program.shape(tensor))
            device = undo.enter_context(gpu.device_memory(size))
            host = undo.enter_context(gpu.pinned_memory(size))
            program.set_address(tensor, device.address)
            buffers[tensor.name] = _Buffer(tensor=tensor, device=device, host=host)
        return _Session(
            gpu=gpu,
            stream=stream,
            program=program,
            inputs={name: b for name, b in buffers.items() if b.tensor.is_input},
            outputs={name: b for name, b in buffers.items() if not b.tensor.is_input},
            shapes={tensor.name: tensor.largest for tensor in fed},
        )

    def _stage(self, session: _Session, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Check the inputs, tell TensorRT their shapes and enqueue their copies."""
        if set(feeds) != set(session.inputs):
            raise RunnerError(
                f"the engine takes {', '.join(session.inputs)}, not {', '.join(feeds) or '-'}"
            )
        for name, value in feeds.items():
            _check_feed(session.inputs[name].tensor, value)
        for name, value in feeds.items():
            buffer = session.inputs[name]
            if session.shapes.pop(name, None) != value.shape:
                session.program.set_shape(buffer.tensor, value.shape)
            session.shapes[name] = value.shape
            np.copyto(buffer.view(value.shape), value)
            session.gpu.copy_in(
                buffer.device, buffer.host, _size_bytes(buffer.tensor, value.shape), session.stream
            )


def _check_feed(tensor: IoTensor, value: NDArray[Any]) -> None:
    if value.dtype != tensor.dtype:
        raise RunnerError(f"'{tensor.name}' is {value.dtype}; the engine takes {tensor.dtype}")
    fits = len(value.shape) == len(tensor.largest) and all(
        low <= size <= high
        for low, size, high in zip(tensor.smallest, value.shape, tensor.largest, strict=True)
    )
    if not fits:
        taken = f"{tensor.smallest} to {tensor.largest}"
        if tensor.smallest == tensor.largest:
            taken = f"{tensor.largest}"
        raise RunnerError(
            f"'{tensor.name}' has shape {value.shape}; the engine takes {taken}",
            hint="give a batch that the plan was built for, or build it with another profile",
        )


def _size_bytes(tensor: IoTensor, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * tensor.dtype.itemsize
