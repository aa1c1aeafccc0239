"""Runs a worker in a fresh process and reads what it measured."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence

from elfatt_deploy import artifacts
from elfatt_deploy.bench.cells import Failed, Measured
from elfatt_deploy.bench.worker import PROGRESS, Task
from elfatt_deploy.errors import CommandTimeout, SchemaError
from elfatt_deploy.transport.local import Local

WORKER = (sys.executable, "-m", "elfatt_deploy.bench.worker")
#: for the start of Python, the session and the comparison, and for a last run that takes long
_MARGIN_S = 300.0
_TAIL = 300
#: called with the number of runs so far and their median in ms
Tell = Callable[[int, float], None]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    measured: Measured | None = None
    failed: Failed | None = None


def run_worker(
    task: Task,
    tell: Tell | None = None,
    *,
    command: Sequence[str] = WORKER,
    timeout_s: float | None = None,
) -> Measured | Failed:
    """Measure one repetition in a fresh process; one that dies or hangs is a failure, no error.

    Args:
        task: what to measure.
        tell: told of the running median.
        command: the worker's command line.
        timeout_s: when it is ended; None means its own bounds and a margin.

    Raises:
        CommandError: Python cannot be started.
    """
    limit = timeout_s or task.limits.most_seconds + task.steady.most_seconds + _MARGIN_S

    def line(text: str) -> None:
        words = text.split()
        if tell is not None and len(words) == 3 and words[0] == PROGRESS:
            tell(int(words[1]), float(words[2]))

    try:
        result = Local().run(
            command,
            timeout_s=limit,
            input=json.dumps(dataclasses.asdict(task)),
            on_line=line,
        )
    except CommandTimeout:
        return Failed(reason=f"the process was ended: it did not finish within {limit:g} s")
    if result.status:
        return Failed(reason=_death(result.status, result.stderr))
    try:
        document = json.loads(result.stdout.strip().rpartition("\n")[2])
        found = artifacts.from_document(_Document, document, "the worker's answer")
    except (ValueError, SchemaError) as error:
        return Failed(reason=f"the process wrote no measurement: {error}")
    return found.measured or found.failed or Failed(reason="the process wrote no measurement")


def _death(status: int, stderr: str) -> str:
    lines = [text for text in stderr.splitlines() if text and not text.startswith(PROGRESS)]
    last = f": {lines[-1][-_TAIL:]}" if lines else ""
    if status == 137:
        return (
            f"the process was killed (SIGKILL), often for want of memory: try a smaller batch{last}"
        )
    if status > 128:
        return f"the process died of signal {status - 128}{last}"
    return f"the process ended with status {status}{last}"
