"""Runs workers in fresh processes, several of them in turn, and reads what they measured."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable, Generator, Sequence

from elfatt_deploy import artifacts, units
from elfatt_deploy.bench import machine
from elfatt_deploy.bench.cells import Failed, Measured, Ran
from elfatt_deploy.bench.worker import PROGRESS, WAITING, Task
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.transport.local import Local
from elfatt_deploy.transport.process import Deadline

WORKER = (sys.executable, "-m", "elfatt_deploy.bench.worker")
#: for the start of Python, the session and the comparison, and for a last run that takes long
_MARGIN_S = 300.0
_TAIL = 300
_ASKED = re.compile(rf"{WAITING} (-?\d+)\n")
#: memory that must be free for one more process, as a multiple of what the largest one took
_ROOM = 1.5
#: called with the number of the task, the number of runs so far and their median in ms
Tell = Callable[[int, int, float], None]
#: returns the command line of a task's worker
Command = Callable[[Task], Sequence[str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    measured: Measured | None = None
    failed: Failed | None = None


def run_worker(task: Task) -> Measured | Failed:
    """Measure one repetition of one cell in a fresh process; see `run_workers`.

    Raises:
        CommandError: Python cannot be started.
    """
    ((_, ran),) = run_workers((task,))
    return ran.outcome


def run_workers(
    tasks: Sequence[Task],
    tell: Tell | None = None,
    *,
    command: Command = lambda _: WORKER,
    timeout_s: float | None = None,
) -> Generator[tuple[int, Ran], None, None]:
    """Measure one repetition of each task in a fresh process; yields the number of each as it ends.

    Tasks that take turns are all loaded and warmed up, one after the other, and then run in turn;
    each round has the order of the last one reversed. Where the memory does not hold them all, the
    others follow when these have ended. Never more than one process runs at a time. One that dies
    or hangs is a failure, no error.

    Args:
        tasks: what to measure.
        tell: told of the running median.
        command: the command line of a task's worker.
        timeout_s: when a step is given up (loading, or a turn); None means the task's own bounds
            and a margin.

    Raises:
        CommandError: Python cannot be started.
    """
    left = list(enumerate(tasks))
    while left:
        waiting: list[_Worker] = []
        try:
            while left and _fits(waiting):
                number, task = left.pop(0)
                waiting.append(_Worker(number, task, command(task), tell, timeout_s))
                if waiting[-1].ended():
                    yield waiting.pop().result()
            while waiting:
                for worker in tuple(waiting):
                    if worker.ended(in_turn=True):
                        waiting.remove(worker)
                        yield worker.result()
                waiting.reverse()
        finally:
            for worker in waiting:
                worker.end()


def _fits(waiting: Sequence[_Worker]) -> bool:
    """Whether one more process fits into the memory, as far as this system tells it."""
    available = machine.available_bytes()
    if not waiting or not isinstance(available, int):
        return True
    return available >= _ROOM * max(worker.peak_bytes for worker in waiting)


class _Worker:
    """A worker's process, begun at once; what it says is read only while it is its turn.

    Args:
        number: of the task.
        task: what it measures.
        command: its command line.
        tell: told of the running median.
        timeout_s: as in `run_workers`.

    Raises:
        CommandError: it cannot be started.
    """

    def __init__(
        self,
        number: int,
        task: Task,
        command: Sequence[str],
        tell: Tell | None,
        timeout_s: float | None,
    ) -> None:
        """Start it, and give it the task."""
        own = task.limits.most_seconds + task.steady.most_seconds + _MARGIN_S
        self._number, self._tell, self._limit_s = number, tell, timeout_s or own
        self._started, self._spent_s, self._step = units.now(), 0.0, Deadline(None)
        #: largest memory that it had in use when it began to wait
        self.peak_bytes = 0
        self._texts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._process = Local().start(command)
        self._process.write(json.dumps(dataclasses.asdict(task)) + "\n")
        self._lines = self._process.lines(
            Deadline(None), streams=("stdout", "stderr"), idle=self._silent
        )
        self._failed: Failed | None = None
        self._status = 0

    def ended(self, *, in_turn: bool = False) -> bool:
        """Let it go on until it waits or has ended; returns whether it has ended."""
        self._step = Deadline(self._limit_s)
        if in_turn:
            self._process.write("\n")
        try:
            for name, line in self._lines:
                if name == "stderr" and (asked := _ASKED.fullmatch(line)):
                    self.peak_bytes = int(asked[1])
                    return False
                self._texts[name].append(line)
                self._told(line)
                self._in_time()
            self._status = self._process.wait(self._step)
        except TimeoutError:
            reason = f"the process was ended: it did not finish within {self._limit_s:g} s"
            self._failed = Failed(reason=reason)
        finally:
            self._spent_s += self._step.elapsed_s
        return True

    def result(self) -> tuple[int, Ran]:
        """Return what an ended one came to, and clear what it left."""
        self.end()
        outcome = self._failed or self._outcome()
        ran = Ran(outcome=outcome, started=self._started, duration_s=self._spent_s)
        return self._number, ran

    def end(self) -> None:
        """End it, and all that it started."""
        self._process.end()

    def _in_time(self) -> None:
        if self._step.left_s == 0:
            raise TimeoutError

    def _silent(self) -> None:
        """Give up a step that takes too long, and end what an ended process left running."""
        self._in_time()
        if self._process.ended:  # what it left running holds the streams open
            self._process.kill_group()

    def _told(self, line: str) -> None:
        words = line.split()
        if self._tell is not None and len(words) == 3 and words[0] == PROGRESS:
            self._tell(self._number, int(words[1]), float(words[2]))

    def _outcome(self) -> Measured | Failed:
        stdout, stderr = ("".join(self._texts[name]) for name in ("stdout", "stderr"))
        if self._status:
            return Failed(reason=_death(self._status, stderr))
        try:
            document = json.loads(stdout.strip().rpartition("\n")[2])
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
