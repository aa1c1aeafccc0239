"""A plan run by trtexec, here or on a board: every call is a process of its own.

Nothing of ours runs on the other side. Outputs come back as text, so `infer` is for comparing and
`time` for timing.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy.engine import trtexec, trtexec_outputs, trtexec_run, trtexec_times
from elfatt_deploy.engine.dialects import dialect_of
from elfatt_deploy.engine.trtexec_log import TrtexecLog
from elfatt_deploy.engine.trtexec_run import INPUT, RunLength, RunPlaces
from elfatt_deploy.engine.trtexec_times import TrtexecTimes
from elfatt_deploy.errors import DeviceError, EngineError, RunnerError
from elfatt_deploy.runners.base import Runner
from elfatt_deploy.transport.base import Transport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: to load a plan and run it once; a Nano takes half a minute
_ONCE_S = 600.0
_WARMED = re.compile(r"Warmup completed (\d+) quer")


class TrtexecRunner(Runner):
    """One plan on one machine.

    Args:
        transport: the machine, connected.
        plan: the plan's file there.
        trtexec: the program there.
        dynamic: whether the plan has a dynamic batch, so that the shape must be said.
        plugins: plugin libraries there.
    """

    def __init__(
        self,
        transport: Transport,
        plan: str,
        *,
        trtexec: str = "trtexec",
        dynamic: bool = False,
        plugins: tuple[str, ...] = (),
    ) -> None:
        """Keep what to run; nothing is asked yet."""
        self.transport, self.plan, self.trtexec = transport, plan, trtexec
        self.dynamic, self.plugins = dynamic, plugins
        self.name = "trtexec"
        #: TensorRT's version, and what the last run said; known once open, and once run
        self.version = ""
        self.log: TrtexecLog | None = None
        #: the commands that ran the plan, in order
        self.commands: list[tuple[str, ...]] = []
        self._program, self._there, self._here = "", "", Path()
        self._owned = ExitStack()

    def open(self) -> None:
        """Find trtexec and make a folder for its files; the plan is not loaded yet.

        Raises:
            CommandError: there is no trtexec.
            EngineError: it is none, or older than all that we know.
            DeviceError: no folder can be made there.
        """
        self.close()
        self._program, self.version = trtexec.find_program(self.transport, self.trtexec)
        dialect_of(self.version)
        with ExitStack() as undo:
            self._there = undo.enter_context(self.transport.temporary_folder())
            self._here = Path(undo.enter_context(tempfile.TemporaryDirectory()))
            self._owned = undo.pop_all()
        self.name = f"trtexec (TensorRT {self.version}, {self.transport.name})"

    def infer(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run once, with copies and without CUDA graph.

        Raises:
            RunnerError: the runner is not open, or the feed is not `images` alone.
            EngineError: trtexec fails, or its outputs cannot be read.
            DeviceError: files cannot be moved.
        """
        places = self._places(feeds, outputs=f"{self._there}/outputs.json")
        command = trtexec_run.parity_command(
            dialect_of(self.version), places, self._shape(feeds[INPUT])
        )
        self._run(command, _ONCE_S)
        text = self._read(places.outputs)
        return trtexec_outputs.parse_outputs(text, "the file of --exportOutput")

    def time(
        self,
        feeds: Mapping[str, NDArray[np.float32]],
        contract: str,
        length: RunLength,
        *,
        timeout_s: float,
    ) -> tuple[TrtexecTimes, int]:
        """Time the plan by a contract; the file of times must fit what trtexec printed.

        Args:
            feeds: `images`.
            contract: name and version.
            length: how long.
            timeout_s: when trtexec is ended.

        Returns:
            The times, and the number of inferences in the warm-up.

        Raises:
            RunnerError: the runner is not open, or the feed is not `images` alone.
            UnknownNameError: there is no such contract.
            EngineError: trtexec fails, or its times cannot be read or contradict what it printed.
            DeviceError: files cannot be moved.
        """
        places = self._places(feeds, times=f"{self._there}/times.json")
        dialect, origin = dialect_of(self.version), "the file of --exportTimes"
        command = trtexec_run.run_command(
            dialect, contract, places, length, self._shape(feeds[INPUT])
        )
        warmed: list[int] = []

        def on_line(line: str) -> None:
            if match := _WARMED.search(line):
                warmed.append(int(match[1]))

        log = self._run(command, timeout_s, on_line)
        times = trtexec_times.parse_times(
            self._read(places.times),
            warm_up_ms=length.warm_up_ms,
            with_warm_up=dialect.times_with_warm_up,
            origin=origin,
        )
        if log.summary is not None:  # `run` demands one
            trtexec_times.check_summary(times, log.summary, origin)
        return times, warmed[-1] if warmed else times.warm_up_rows

    def close(self) -> None:
        """Remove the files of this runner, there and here."""
        self._owned.close()
        self._program = ""

    def _places(
        self, feeds: Mapping[str, NDArray[np.float32]], *, times: str = "", outputs: str = ""
    ) -> RunPlaces:
        """Bring the input there, and name all files."""
        if not self._program:
            raise RunnerError(f"{self.name} is not open")
        if set(feeds) != {INPUT}:
            raise RunnerError(f"the plan takes '{INPUT}', not {', '.join(feeds) or '-'}")
        inputs = f"{self._there}/images.bin"
        trtexec_outputs.write_input(self._here / "images.bin", feeds[INPUT])
        self.transport.push(self._here / "images.bin", inputs)
        return RunPlaces(
            program=self._program,
            plan=self.plan,
            times=times,
            inputs=inputs,
            outputs=outputs,
            plugins=self.plugins,
        )

    def _shape(self, images: NDArray[np.float32]) -> tuple[int, ...] | None:
        return images.shape if self.dynamic else None

    def _run(
        self, command: tuple[str, ...], timeout_s: float, on_line: trtexec_run.OnLine | None = None
    ) -> TrtexecLog:
        self.commands.append(command)
        self.log = trtexec_run.run(
            self.transport, command, self.version, timeout_s=timeout_s, on_line=on_line
        )
        return self.log

    def _read(self, remote: str) -> str:
        try:
            return self.transport.read_text(remote)
        except DeviceError as error:
            raise EngineError(
                f"trtexec ended well and left no {Path(remote).name}: {error.message}",
                hint="make room on that machine and run the cell again",
            ) from error
