"""A plan that TensorRT has loaded, with one set of calls for TensorRT 8.2 to 11.

An engine of 8.5 and later is driven by the names of its I/O tensors (`execute_async_v3`), an older
one by the numbers of its bindings (`execute_async_v2`); which of them is asked of the engine, not
of the version. Checked against the names of each version only: nothing here has run on a GPU yet.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from elfatt_deploy.engine.messages import Log
from elfatt_deploy.errors import EngineError

_AGAIN = (
    "a plan runs on the GPU and the TensorRT that built it: build it again here with "
    "'elfatt-deploy build BUNDLE'"
)
#: TensorRT's types -> numpy's; the bindings' own table fails with the numpy of some versions
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class IoTensor:
    """An input or output of an engine.

    Args:
        name: as in the ONNX file.
        index: its place among the engine's inputs and outputs.
        is_input: whether it is fed.
        dtype: type of its elements.
        smallest: shape at the profile's smallest batch; of an output as the engine knows it, with
            -1 where it depends on the inputs.
        largest: shape at the profile's largest batch; likewise.
    """

    name: str
    index: int
    is_input: bool
    dtype: np.dtype[Any]
    smallest: tuple[int, ...]
    largest: tuple[int, ...]


class Program:
    """An engine and its execution context, driven by names (TensorRT 8.5 and later).

    Args:
        trt: the module `tensorrt`.
        runtime: kept for as long as the engine lives.
        engine: the engine.
        log: checks what TensorRT returns.
    """

    def __init__(self, trt: Any, runtime: Any, engine: Any, log: Log) -> None:
        """Create the execution context.

        Raises:
            EngineError: there is no memory for it, or an input or output has a type without
                counterpart in numpy.
        """
        self._trt, self._runtime, self._engine, self._log = trt, runtime, engine, log
        self._context = log.demand(
            engine.create_execution_context(),
            "TensorRT cannot create an execution context",
            hint="free GPU memory: close other programs, or build with a smaller batch",
        )
        self.tensors = tuple(self._tensor(index) for index in range(self._count()))

    def set_shape(self, tensor: IoTensor, shape: tuple[int, ...]) -> None:
        """Say what shape an input has from now on.

        Raises:
            EngineError: TensorRT refuses.
        """
        self._log.demand(
            self._set_shape(tensor, shape), f"TensorRT refuses shape {shape} of '{tensor.name}'"
        )

    def shape(self, tensor: IoTensor) -> tuple[int, ...]:
        """Return the shape of a tensor, now that the inputs have theirs.

        Raises:
            EngineError: it depends on values, not on shapes alone.
        """
        shape = self._shape(tensor)
        if min(shape, default=1) < 0:
            raise EngineError(
                f"the shape of output '{tensor.name}' is not settled by the inputs: {shape}",
                hint="build a graph whose output shapes follow from its input shapes",
            )
        return shape

    def set_address(self, tensor: IoTensor, address: int) -> None:
        """Say where in device memory a tensor lies.

        Raises:
            EngineError: TensorRT refuses.
        """
        self._log.demand(
            self._context.set_tensor_address(tensor.name, address),
            f"TensorRT refuses the memory of '{tensor.name}'",
        )

    def enqueue(self, stream: int) -> None:
        """Put one inference into a stream, given by its handle.

        Raises:
            EngineError: TensorRT refuses.
        """
        self._log.demand(self._execute(stream), "TensorRT does not run the engine")

    def close(self) -> None:
        """Let the context, the engine and the runtime go, in this order."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _tensor(self, index: int) -> IoTensor:
        name = self._engine.get_tensor_name(index)
        is_input = self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
        shape = tuple(self._engine.get_tensor_shape(name))
        limits = [shape, shape, shape]
        if is_input and -1 in shape:
            limits = self._engine.get_tensor_profile_shape(name, 0)
        return self._described(index, name, is_input, self._engine.get_tensor_dtype(name), limits)

    def _described(
        self, index: int, name: str, is_input: bool, dtype: Any, limits: Any
    ) -> IoTensor:
        known = {getattr(self._trt.DataType, n, None): kind for n, kind in _DTYPES.items()}
        if dtype not in known:
            raise EngineError(
                f"'{name}' of the engine holds {dtype}, which numpy does not know",
                hint="export and build it with inputs and outputs in FP32",
            )
        return IoTensor(
            name=name,
            index=index,
            is_input=is_input,
            dtype=np.dtype(known[dtype]),
            smallest=tuple(limits[0]),
            largest=tuple(limits[2]),
        )

    def _count(self) -> int:
        return int(self._engine.num_io_tensors)

    def _set_shape(self, tensor: IoTensor, shape: tuple[int, ...]) -> Any:
        return self._context.set_input_shape(tensor.name, shape)

    def _shape(self, tensor: IoTensor) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(tensor.name))

    def _execute(self, stream: int) -> Any:
        return self._context.execute_async_v3(stream)


class BindingsProgram(Program):
    """The same, driven by numbers (TensorRT before 8.5)."""

    def __init__(self, trt: Any, runtime: Any, engine: Any, log: Log) -> None:
        """Create the execution context; see `Program`."""
        self._addresses = [0] * int(engine.num_bindings)
        super().__init__(trt, runtime, engine, log)

    def set_address(self, tensor: IoTensor, address: int) -> None:
        """Note where in device memory a tensor lies."""
        self._addresses[tensor.index] = address

    def _tensor(self, index: int) -> IoTensor:
        is_input = self._engine.binding_is_input(index)
        shape = tuple(self._engine.get_binding_shape(index))
        limits = [shape, shape, shape]
        if is_input and -1 in shape:
            limits = self._engine.get_profile_shape(0, index)
        name, dtype = self._engine.get_binding_name(index), self._engine.get_binding_dtype(index)
        return self._described(index, name, is_input, dtype, limits)

    def _count(self) -> int:
        return len(self._addresses)

    def _set_shape(self, tensor: IoTensor, shape: tuple[int, ...]) -> Any:
        return self._context.set_binding_shape(tensor.index, shape)

    def _shape(self, tensor: IoTensor) -> tuple[int, ...]:
        return tuple(self._context.get_binding_shape(tensor.index))

    def _execute(self, stream: int) -> Any:
        return self._context.execute_async_v2(self._addresses, stream)


def load(trt: Any, plan: Path, log: Log) -> Program:
    """Load a plan; a plan is machine code, so its origin is checked before.

    Args:
        trt: the module `tensorrt`.
        plan: the plan's file.
        log: gives the logger, and checks what TensorRT returns.

    Raises:
        EngineError: TensorRT refuses the plan, or has no memory for it.
    """
    # a plan may hold layers that TensorRT itself brings as plugins
    log.demand(
        trt.init_libnvinfer_plugins(log.logger, ""), "TensorRT does not register its plugins"
    )
    runtime = log.demand(trt.Runtime(log.logger), "TensorRT makes no runtime")
    engine = log.demand(
        runtime.deserialize_cuda_engine(plan.read_bytes()),
        f"TensorRT does not load {plan}",
        hint=_AGAIN,
    )
    kind = Program if hasattr(engine, "num_io_tensors") else BindingsProgram
    return kind(trt, runtime, engine, log)
