"""How much workspace a build may take on a board, and what to try after it ran out of memory.

Measured: trtexec's log of a Jetson Nano (TensorRT 8.2.1, 3955 MiB), where cuBLAS took 147 MiB and
cuDNN up to 241 MiB, and a build of 186 MiB of weights with 2048 MiB of workspace peaked at 1112 MiB
of GPU memory. The rest is a rule, not a measurement: 512 MiB on 4 GB boards (the 16 MiB that
trtexec 8.2 takes by itself starve its tactics), 1 GiB on 8 GB boards, else an eighth of the memory
up to 4 GiB, and never more than half of what libraries and weights leave.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

MIB = 2**20
#: four times what trtexec 8.2 takes by itself; below it the answer is another machine
SMALLEST_BYTES = 64 * MIB
LARGEST_BYTES = 4096 * MIB
#: cuBLAS and cuDNN, which TensorRT loads for its tactics
LIBRARIES_BYTES = (147 + 241) * MIB
#: the file, the parser's copy and the engine's hold the weights at the same time
WEIGHT_COPIES = 3
#: (largest memory of the board, its workspace); what the boards call 4 GB and 8 GB is a little less
_SMALL_BOARDS = ((4608 * MIB, 512 * MIB), (9216 * MIB, 1024 * MIB))
MAX_ATTEMPTS = 5

#: what TensorRT 8.2 to 11 log where memory ran out; warnings of that kind come with builds that
#: succeed too, so they say something only once a build has failed
_OUT_OF_MEMORY = re.compile(
    r"out ?of ?memory|insuff?icient memory|memory is insufficient|requested amount of GPU memory"
    r"|error allocating \d+-byte buffer|bad_alloc",
    re.IGNORECASE,
)
_WORKSPACE_TOO_SMALL = re.compile(r"insuff?icient workspace", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The workspace to begin with, and what the build may need in all.

    Args:
        workspace_bytes: limit of the workspace.
        peak_bytes: workspace, libraries and the copies of the weights.
        tight: whether the peak is more than half of the device: on a board whose GPU shares its
            memory with the system, the build may be killed.
    """

    workspace_bytes: int
    peak_bytes: int
    tight: bool


def forecast(memory_bytes: int, model_bytes: int, asked_bytes: int | None = None) -> Forecast:
    """Return the workspace for a device of `memory_bytes` and a model file of `model_bytes`.

    Args:
        memory_bytes: the whole memory of the device.
        model_bytes: size of the ONNX file, which is mostly its weights.
        asked_bytes: what the user asked for; it is kept as it is.
    """
    fixed = LIBRARIES_BYTES + WEIGHT_COPIES * model_bytes
    workspace = asked_bytes
    if workspace is None:
        usual = next(
            (bytes_ for limit, bytes_ in _SMALL_BOARDS if memory_bytes <= limit),
            min(memory_bytes // 8, LARGEST_BYTES),
        )
        workspace = max(SMALLEST_BYTES, min(usual, (memory_bytes - fixed) // 2))
    peak = fixed + workspace
    return Forecast(workspace_bytes=workspace, peak_bytes=peak, tight=peak > memory_bytes // 2)


def next_workspace(workspace_bytes: int) -> int | None:
    """Return half of the workspace; None where that is less than the smallest."""
    half = workspace_bytes // 2
    return half if half >= SMALLEST_BYTES else None


def out_of_memory(lines: Iterable[str]) -> str | None:
    """Return the first line of a failed build's log that says that memory ran out."""
    return next((line for line in lines if _OUT_OF_MEMORY.search(line)), None)


def workspace_too_small(lines: Iterable[str]) -> str | None:
    """Return the first line of a failed build's log that asks for more workspace."""
    return next((line for line in lines if _WORKSPACE_TOO_SMALL.search(line)), None)
