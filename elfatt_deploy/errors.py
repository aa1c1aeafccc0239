"""Every failure this tool reports on purpose, and the exit code of each kind.

    ElfattDeployError                 70  a bug of ours, if it is not one of these
    |- UsageError                      2  an option or name that cannot be used
    |  |- UnknownNameError             2  a name with no entry; lists the nearest
    |  '- ModelError                   2  a configuration or size the model cannot take
    |- MissingDependency               3  a package that is absent or does not import
    |- InputFileError                  3  a file that is missing, unreadable or of another kind
    |  |- CheckpointError              3  weights that do not fit or cannot be trusted
    |  '- SchemaError                  3  one of our own documents that does not read back
    |- DeviceError                     4  the machine that a command runs on
    |  |- ConnectError                 4  a machine that cannot be reached, or was lost
    |  |- ProbeError                   4  a reading of a board that cannot be had
    |  |- PowerModeError               4  a power mode that is not had: unknown, refused, not kept
    |  |- BusyError                    4  a board that somebody else is measuring on
    |  '- CommandError                 4  a command there that did not run or did not succeed
    |     '- CommandTimeout            4  a command there that did not end in time
    |- ExportError                     5  the export itself, or writing its result
    |  '- TargetError                  5  an opset or op that the target does not take
    |- EngineError                     5  TensorRT could not build or save a plan
    |  '- PlanMismatch                 5  a plan of another GPU, TensorRT or bundle
    '- RunnerError                     5  a back end that could not load or run a graph

Exit code 1 is a verdict, 2 usage, 3 a missing or unusable package or file, 4 a device, 5 export or
build, 70 our bug, 130 interrupted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ElfattDeployError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what failed, on what, and what was found.
        hint: what to do next; shown on a line of its own.
    """

    exit_code = 70
    #: what to do next where the one who raises it has nothing better to say
    default_hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the hint apart, so that a caller can show either."""
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint

    def __str__(self) -> str:
        """Return the message, then the hint on a line of its own."""
        return f"{self.message}\n  next: {self.hint}" if self.hint else self.message


class UsageError(ElfattDeployError):
    """An option, a name or a combination of them that cannot be used."""

    exit_code = 2
    default_hint = "add --help to the command to see what it takes"


class UnknownNameError(UsageError):
    """A name without an entry in one of our tables."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        """List the nearest names; all of them where none is near and they are few."""
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
        if near:
            text = f"did you mean {' or '.join(near)}?"
        elif len(known) <= 12:
            text = f"known: {', '.join(known)}"
        else:
            text = f"{len(known)} are known"
        super().__init__(f"unknown {kind} '{name}': {text}", hint=hint)


class ModelError(UsageError):
    """A configuration, or an input size, that the model cannot take."""


class MissingDependency(ElfattDeployError):
    """A package that is needed here and is absent, or present and broken."""

    exit_code = 3


class InputFileError(ElfattDeployError):
    """A file that is missing, unreadable, truncated or of another kind."""

    exit_code = 3
    default_hint = "check the path, and that the file was copied whole"


class CheckpointError(InputFileError):
    """Weights that cannot be read, cannot be trusted or do not fit the model."""

    default_hint = "name a .pth or .safetensors file that holds the state_dict of this model"


class SchemaError(InputFileError):
    """A manifest or record that does not match its schema."""

    default_hint = "export the bundle again with this version"


class DeviceError(ElfattDeployError):
    """A machine that cannot be reached or used."""

    exit_code = 4


class ConnectError(DeviceError):
    """A machine that cannot be reached, that is not the one we know, or that was lost meanwhile."""

    default_hint = "try 'ssh' to that machine by hand: it must connect without asking anything"


class ProbeError(DeviceError):
    """A reading of a board that cannot be had, or cannot be understood."""

    default_hint = "'elfatt-deploy device info' shows what the board tells"


class PowerModeError(DeviceError):
    """A power mode or clock that the board does not have, refuses, or does not keep.

    Args:
        message: what failed, on what, and what was found.
        hint: what to do next.
        asked: the mode that was asked for, as a text.
        read_back: what the board says it is in; empty where it was not asked.
    """

    default_hint = "'elfatt-deploy device modes' lists the modes of the board"

    def __init__(
        self, message: str, *, hint: str = "", asked: str = "", read_back: str = ""
    ) -> None:
        """Keep both modes."""
        super().__init__(message, hint=hint)
        self.asked = asked
        self.read_back = read_back


class BusyError(DeviceError):
    """A board on which somebody else is measuring."""

    default_hint = "wait until they are done"


class CommandError(DeviceError):
    """A command on a device that could not be started, or that failed.

    Args:
        message: what failed, on what, and what was found.
        hint: what to do next.
        command: the program and its arguments.
        status: its exit status, 128 + n after signal n; None where it has none.
        stderr: what it wrote there.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        command: tuple[str, ...] = (),
        status: int | None = None,
        stderr: str = "",
    ) -> None:
        """Keep what a caller may want to look at."""
        super().__init__(message, hint=hint)
        self.command = command
        self.status = status
        self.stderr = stderr


class CommandTimeout(CommandError):
    """A command that did not end in time, and was ended."""


class ExportError(ElfattDeployError):
    """An export that could not be made, or whose result could not be written."""

    exit_code = 5
    default_hint = "'elfatt-deploy doctor' shows the versions to put into a bug report"


class TargetError(ExportError):
    """An ONNX file whose opset, ops or ranks do not fit the chosen target."""


class EngineError(ElfattDeployError):
    """A plan that TensorRT could not build, or that could not be written or loaded."""

    exit_code = 5
    default_hint = "'elfatt-deploy doctor' shows the versions to put into a bug report"


class PlanMismatch(EngineError):
    """A plan that was built for another GPU, by another TensorRT, or from another bundle."""

    default_hint = "build the plan again, on this machine: 'elfatt-deploy build BUNDLE'"


class RunnerError(ElfattDeployError):
    """A back end that could not load or run a graph."""

    exit_code = 5
    default_hint = "'elfatt-deploy doctor' shows the versions to put into a bug report"
