"""What every back end looks like."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Self = TypeVar("_Self", bound="Runner")


class Runner(Protocol):
    """A back end that holds one graph: `with runner: runner.infer({"images": x})["logits"]`."""

    #: what runs it, and on what, for tables: `ort (CPUExecutionProvider)`
    name: str

    def open(self) -> None:
        """Load the graph; raises RunnerError where that fails."""
        ...

    def infer(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run once; takes and returns arrays by tensor name."""
        ...

    def close(self) -> None:
        """Give back everything that `open` took."""
        ...

    def __enter__(self: _Self) -> _Self:
        """Open."""
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
