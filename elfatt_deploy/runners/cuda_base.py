"""What a CUDA library looks like to the TensorRT runner, and who owns what CUDA gives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from elfatt_deploy.engine.config import BuildDevice
from elfatt_deploy.errors import EngineError

_Self = TypeVar("_Self", bound="Cuda")
_Own = TypeVar("_Own", bound="Owned")


def giving_back(error: BaseException | None) -> contextlib.AbstractContextManager[object]:
    """Keep what fails while things are given back from replacing an error under way."""
    return contextlib.nullcontext() if error is None else contextlib.suppress(EngineError)


class Owned:
    """Something of CUDA's that is given back once: by `close`, or at the end of `with`.

    Args:
        native: the library's own object.
        address: as TensorRT takes it: an address in device memory, the handle of a stream.
        release: gives `native` back.
    """

    def __init__(self, native: Any, address: int, release: Callable[[Any], object]) -> None:
        """Take it over."""
        self._native, self._address = native, address
        self._release: Callable[[Any], object] | None = release

    @property
    def native(self) -> Any:
        """The library's own object.

        Raises:
            EngineError: it was given back.
        """
        self._demand()
        return self._native

    @property
    def address(self) -> int:
        """Address in device memory, or handle.

        Raises:
            EngineError: it was given back.
        """
        self._demand()
        return self._address

    def close(self) -> None:
        """Give it back; a second time does nothing.

        Raises:
            EngineError: CUDA refuses.
        """
        release, self._release = self._release, None
        native, self._native = self._native, None
        if release is not None:
            release(native)

    def __enter__(self: _Own) -> _Own:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back; an error under way is not replaced by one of giving back."""
        with giving_back(error):
            self.close()

    def _demand(self) -> None:
        if self._release is None:
            raise EngineError("a CUDA object is used after it was given back")


class Pinned(Owned):
    """Page-locked host memory; `array` shows it as bytes [size]."""

    def __init__(
        self, native: Any, array: NDArray[np.uint8], release: Callable[[Any], object]
    ) -> None:
        """Take it over."""
        super().__init__(native, array.ctypes.data, release)
        self._array = array

    @property
    def array(self) -> NDArray[np.uint8]:
        """The memory, as bytes.

        Raises:
            EngineError: it was given back.
        """
        self._demand()
        return self._array

    def close(self) -> None:
        """Give it back; no array of ours shows it any more."""
        self._array = np.empty(0, np.uint8)
        super().close()


class Cuda(Protocol):
    """One GPU: `with` makes it usable in this thread, and leaves it. Sizes are in bytes.

    Every method raises EngineError where CUDA reports a failure, an earlier one included.
    """

    #: the library
    name: str
    #: whether `capture` works
    graphs: bool

    def __enter__(self: _Self) -> _Self:
        """Make the GPU usable in this thread."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the GPU."""
        ...

    def device(self) -> BuildDevice:
        """Return the GPU's name, compute capability and memory."""
        ...

    def device_memory(self, size_bytes: int) -> Owned:
        """Allocate device memory."""
        ...

    def pinned_memory(self, size_bytes: int) -> Pinned:
        """Allocate page-locked host memory, which alone is copied without waiting."""
        ...

    def stream(self) -> Owned:
        """Create a stream."""
        ...

    def event(self) -> Owned:
        """Create an event that keeps the time."""
        ...

    def copy_in(self, device: Owned, host: Pinned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the device."""
        ...

    def copy_out(self, host: Pinned, device: Owned, size_bytes: int, stream: Owned) -> None:
        """Enqueue a copy to the host."""
        ...

    def record(self, event: Owned, stream: Owned) -> None:
        """Enqueue the taking of a time."""
        ...

    def elapsed_ms(self, start: Owned, end: Owned) -> float:
        """Return the milliseconds between two events that have happened."""
        ...

    def synchronize(self, stream: Owned) -> None:
        """Wait until all that was enqueued is done."""
        ...

    def capture(self, stream: Owned, enqueue: Callable[[], object]) -> Owned:
        """Return a CUDA graph of what `enqueue` puts into the stream; nothing of it runs."""
        ...

    def launch(self, graph: Owned, stream: Owned) -> None:
        """Enqueue a captured graph."""
        ...
