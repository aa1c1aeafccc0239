"""What TensorRT says while it builds: log lines kept, progress passed on, Ctrl-C held back.

TensorRT calls these objects from C++ that does not expect exceptions: one that leaves a callback
ends the process. So Ctrl-C inside a callback is noted, and raised when TensorRT has returned.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from elfatt_deploy.errors import EngineError

_Value = TypeVar("_Value")
_SHOWN = 8


class Progress(Protocol):
    """Shows the stage under way."""

    def __call__(self, stage: str, /) -> None:
        """Show one line."""


class Log:
    """The lines of one build, by severity, and the one check of what TensorRT returns."""

    def __init__(self, trt: Any) -> None:
        """Make `logger`, a subclass of the bindings' ILogger that writes here."""
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.interrupted = False
        self.logger = _logger(trt, self)

    def demand(self, value: _Value, failed: str, *, hint: str = "") -> _Value:
        """Return what a TensorRT call returned.

        Args:
            value: None and False mean that the call failed.
            failed: the message of that failure.
            hint: what to do next.

        Raises:
            EngineError: the call failed; the message holds what TensorRT logged as an error.
            KeyboardInterrupt: Ctrl-C was pressed meanwhile.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        if value is None or value is False:
            lines = dict.fromkeys(self.errors)
            told = [line for line in lines][-_SHOWN:] or ["(TensorRT logged no error)"]
            raise EngineError("\n  ".join([f"{failed}:", *told]), hint=hint)
        return value


def _logger(trt: Any, log: Log) -> Any:
    """Return a logger; its base must be initialised, or the bindings refuse it."""
    severity = trt.ILogger.Severity
    kept = {
        severity.INTERNAL_ERROR: log.errors,
        severity.ERROR: log.errors,
        severity.WARNING: log.warnings,
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, level: Any, message: str) -> None:
            try:
                if level in kept:
                    kept[level].append(message.strip())
            except KeyboardInterrupt:
                log.interrupted = True

    return Logger()


def monitor(trt: Any, log: Log, progress: Progress) -> Any | None:
    """Return a progress monitor, which also ends a build on Ctrl-C; None before TensorRT 9."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = int(num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                progress(f"{phase_name}: {int(step) + 1} of {self.steps.get(phase_name, 0)}")
            except KeyboardInterrupt:
                log.interrupted = True
            return not log.interrupted

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
