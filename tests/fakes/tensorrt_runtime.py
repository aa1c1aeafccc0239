"""What the fake `tensorrt` modules do when a plan runs: `logits` are sums of `images`.

`behaviours(machine)` goes into the fixture `tensorrt_surface`: a runtime that loads `PLAN` alone,
and an engine with input `images` [B, 3, 4, 4] and output `logits` [B, 2], the sum of an image and
its negative, computed on the device memory of a `Machine` when its stream comes to it. B is 1 to 4
(the profile), or 2 where `dynamic` is false. The call named `refuse` fails as TensorRT lets it: it
logs an error, and returns None or False (`output_shape`: the shape of `logits` stays open).
"""

from __future__ import annotations

import math
import sys

import numpy as np

PLAN = b"a plan for the fake runtime"
NAMES = ("images", "logits")
#: the first run is slower, as on a GPU
FIRST_MS, RUN_MS = 8.0, 1.25
LARGEST, FIXED = 4, 2


def logits(images):
    """Return [B, 2] for images [B, 3, 4, 4]."""
    sums = images.reshape(len(images), -1).sum(1)
    return np.stack([sums, -sums], 1)


class _Dims:
    """As the bindings give shapes: a sequence, not a tuple."""

    def __init__(self, values):
        self._values = tuple(values)

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return self._values[index]


class _Behaviours:
    def __init__(self, machine, refuse, dynamic, dtype):
        self.machine, self.refuse, self.dtype = machine, refuse, dtype
        self.batch = -1 if dynamic else FIXED
        self.limits = (1, 2, LARGEST) if dynamic else (FIXED,) * 3
        #: every run: its batch
        self.runs = []

    def refused(self, owner, name):
        if self.refuse != name:
            return False
        severity = sys.modules["tensorrt"].ILogger.Severity
        owner._logger.log(severity.ERROR, f"[{name}] the fake refuses")
        return True

    def shape(self, index, batch):
        return _Dims([batch, 3, 4, 4] if index == 0 else [batch, 2])

    def made(self, kind, logger):
        made = getattr(sys.modules["tensorrt"], kind)()
        made._logger = logger
        return made

    def execute(self, context, addresses, handle):
        """Put one run into the stream; the first of a context cannot be captured."""
        if self.refused(context, "execute") or context._batch is None:
            return False
        stream, batch = self.machine.live[handle], context._batch
        first = not getattr(context, "_ran", False)
        if first and stream.captured is not None:
            return False
        context._ran = True

        def work():
            given, result = (math.prod(self.shape(i, batch)) for i in (0, 1))
            images = np.frombuffer(self.machine.bytes_at(addresses[0], 4 * given), np.float32)
            values = logits(images.reshape(batch, 3, 4, 4)).astype(np.float32)
            self.machine.bytes_at(addresses[1], 4 * result)[:] = values.tobytes()
            self.machine.clock_ms += FIRST_MS if first else RUN_MS
            self.runs.append(batch)

        stream.add(work)
        return True

    def set_batch(self, context, index, shape):
        assert type(shape) is tuple, "TensorRT 8 takes no list"
        fits = index == 0 and shape[1:] == (3, 4, 4)
        if self.refused(context, "set_shape") or not fits:
            return False
        if not self.limits[0] <= shape[0] <= self.limits[2]:
            return False
        context._batch = shape[0]
        return True

    def runtime(self):
        def deserialize(runtime, data):
            if data != PLAN or self.refused(runtime, "deserialize"):
                return None
            return self.made("ICudaEngine", runtime._logger)

        def start(runtime, logger):
            runtime._logger = logger

        return {"__init__": start, "deserialize_cuda_engine": deserialize}

    def engine(self):
        def create(engine):
            if self.refused(engine, "create_context"):
                return None
            context = self.made("IExecutionContext", engine._logger)
            context._batch = None if self.batch == -1 else self.batch
            return context

        def mode(engine, name):
            modes = sys.modules["tensorrt"].TensorIOMode
            return modes.INPUT if name == "images" else modes.OUTPUT

        def dtype(engine, tensor):
            return getattr(sys.modules["tensorrt"].DataType, self.dtype)

        def profile(tensor):
            assert tensor in (0, "images")
            return [self.shape(0, batch) for batch in self.limits]

        return {
            "create_execution_context": create,
            "num_io_tensors": property(lambda engine: len(NAMES)),
            "get_tensor_name": lambda engine, index: NAMES[index],
            "get_tensor_mode": mode,
            "get_tensor_dtype": dtype,
            "get_tensor_shape": lambda engine, name: self.shape(NAMES.index(name), self.batch),
            "get_tensor_profile_shape": lambda engine, name, number: profile(name),
            "num_bindings": property(lambda engine: len(NAMES)),
            "get_binding_name": lambda engine, index: NAMES[index],
            "binding_is_input": lambda engine, index: index == 0,
            "get_binding_dtype": dtype,
            "get_binding_shape": lambda engine, index: self.shape(index, self.batch),
            "get_profile_shape": lambda engine, number, index: profile(index),
        }

    def context(self):
        def set_address(context, name, address):
            if self.refused(context, "set_address"):
                return False
            context.__dict__.setdefault("_addresses", {})[name] = address
            return True

        def shape(context, index):
            if index == 1 and self.refuse == "output_shape":
                return _Dims([-1, 2])
            return self.shape(index, -1 if context._batch is None else context._batch)

        def run(context, handle):
            return self.execute(context, [context._addresses[n] for n in NAMES], handle)

        return {
            "set_input_shape": lambda c, name, s: self.set_batch(c, NAMES.index(name), s),
            "get_tensor_shape": lambda context, name: shape(context, NAMES.index(name)),
            "set_tensor_address": set_address,
            "execute_async_v3": run,
            "set_binding_shape": lambda c, index, s: self.set_batch(c, index, s),
            "get_binding_shape": shape,
            "execute_async_v2": lambda c, bindings, handle: self.execute(c, list(bindings), handle),
        }


def behaviours(machine, *, refuse="", dynamic=True, dtype="FLOAT"):
    """Return the behaviours, and the list that notes the batch of every run."""
    made = _Behaviours(machine, refuse, dynamic, dtype)

    def register(logger, namespace):
        owner = type("Owner", (), {"_logger": logger})
        return namespace == "" and not made.refused(owner, "plugins")

    return {
        "": {"init_libnvinfer_plugins": register},
        "Runtime": made.runtime(),
        "ICudaEngine": made.engine(),
        "IExecutionContext": made.context(),
    }, made.runs
