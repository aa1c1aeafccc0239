"""open_board: a board under measurement: found, locked, changed, and put back."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from elfatt_deploy.artifacts import Bundle, ParityReport, Unavailable
from elfatt_deploy.bench.sweep import SweepCell
from elfatt_deploy.device import boards, probes
from elfatt_deploy.device.boards import BoardFile
from elfatt_deploy.device.records import NvpmodelMode, Snapshot
from elfatt_deploy.device.session import BoardSession, Consent
from elfatt_deploy.device.stamped import Stamped, run_stamped
from elfatt_deploy.engine.plan import Plan
from elfatt_deploy.engine.trtexec_command import plugin_places
from elfatt_deploy.errors import DeviceError, PowerModeError
from elfatt_deploy.pipeline.board_building import Builder, find_builder
from elfatt_deploy.pipeline.devices import open_device
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.results.parts import Cell
from elfatt_deploy.transport.base import CommandResult, Transport
from elfatt_deploy.transport.wrapped import Wrapped

_REMOVE_TIMEOUT_S = 60.0


class Noted(Wrapped):
    """A transport that keeps the commands it was given, for the record of what was done.

    Args:
        inner: what runs them.
    """

    def __init__(self, inner: Transport) -> None:
        """Begin with none."""
        super().__init__(inner)
        self.commands: list[str] = []

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command; see `Transport.run`."""
        self.commands.append(shlex.join(_short(command)))
        return super().run(command, timeout_s=timeout_s, input=input, on_line=on_line)


def _short(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command without the text of a script of ours, which the version tells."""
    return tuple("(script)" if "\n" in part else part for part in command)


class Stamping(Wrapped):
    """Runs commands whose lines are stamped by the board's clock; the last run is kept.

    Args:
        inner: what runs them.
    """

    def __init__(self, inner: Transport) -> None:
        """Begin with none."""
        super().__init__(inner)
        self.last: Stamped | None = None

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float | None = None,
        input: str | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandResult:
        """Run a command, which gets no input; see `Transport.run`."""
        found = run_stamped(self.inner, command, timeout_s=timeout_s, on_line=on_line)
        self.last = found
        first, last = (found.lines[0][0], found.lines[-1][0]) if found.lines else (0.0, 0.0)
        return CommandResult(
            command=found.command,
            status=found.status,
            stdout=found.text,
            stderr="",
            seconds=last - first,
        )


@dataclasses.dataclass(slots=True, kw_only=True)
class BoardRun:
    """A board while it is measured.

    Args:
        device: as it was named.
        transport: to it.
        snapshot: as it was found.
        board: its file; Unavailable for an unknown board.
        builder: its trtexec.
        session: what changes it and puts it back.
        work: our folder there.
        mode: the power mode that was set; None where it was left.
        entered: whether a mode was entered yet.
        locked: whether its clocks are.
        unlocked: why they are not.
        pushed: digest of the plan that lies in `work`.
        plugins: plugin libraries that lie there.
        parity: plan and batch -> what its logits were held against.
        layers_taken: plan and power mode of which the time of each layer is known.
        restored: what was verified at the end.
    """

    device: str
    transport: Noted
    snapshot: Snapshot
    board: BoardFile | Unavailable
    builder: Builder
    session: BoardSession
    work: str
    mode: NvpmodelMode | None = None
    entered: bool = False
    locked: bool = False
    unlocked: str = ""
    pushed: str = ""
    plugins: tuple[str, ...] = ()
    parity: dict[tuple[str, int], ParityReport] = dataclasses.field(default_factory=dict)
    layers_taken: set[tuple[str, int | None]] = dataclasses.field(default_factory=set)
    restored: str = "nothing was changed"

    def cell(self, batch: int, cell: SweepCell, bundle: Bundle) -> Cell:
        """Return what a record of one cell is called."""
        manifest = bundle.manifest
        return Cell(
            model=manifest.model.name,
            settings=tuple(sorted(f"{k}={v}" for k, v in manifest.model.settings.items())),
            height=manifest.preprocessing.height,
            width=manifest.preprocessing.width,
            batch=batch,
            precision=cell.precision,
            target=manifest.target,
            runner="trtexec",
            provider="tensorrt",
            contract=cell.contract,
            device=self.device,
            power=cell.mode.asked,
        )

    def enter(self, mode: NvpmodelMode | None, progress: Progress) -> None:
        """Set a power mode and lock the clocks, unless that is how the board stands.

        Clocks that cannot be locked do not end the measurement: its numbers are marked.

        Raises:
            PowerModeError: the board refuses the mode, or is in another one afterwards.
            ConnectError: it was lost.
        """
        if self.entered and (mode is None or mode == self.mode):
            return
        if mode is not None:
            progress(f"setting power mode {mode.id} {mode.name}")
            self.session.set_mode(mode)
            self._keep_folder()
        self.mode, self.entered = mode, True
        progress("locking the clocks")
        try:
            self.session.lock_clocks()
        except PowerModeError as error:
            self.locked, self.unlocked = False, error.message
        else:
            self.locked, self.unlocked = True, ""

    def _keep_folder(self) -> None:
        """Make our folder on the board again where a reboot has emptied its /tmp."""
        there = self.transport.run(("test", "-d", self.work), timeout_s=_REMOVE_TIMEOUT_S)
        if there.status:
            self.transport.run(("mkdir", "-p", self.work), timeout_s=_REMOVE_TIMEOUT_S)
            self.pushed, self.plugins = "", ()

    def push_plugins(self, libraries: tuple[Path, ...]) -> None:
        """Bring plugin libraries to the board, once."""
        if len(self.plugins) == len(libraries):
            return
        there = plugin_places(self.work, libraries)
        for path, remote in zip(libraries, there, strict=True):
            self.transport.push(path, remote)
        self.plugins = there

    def push_plan(self, plan: Plan) -> str:
        """Bring a plan to the board, in the place of the one before; returns where it lies."""
        digest = plan.manifest.files[plan.path.name]
        remote = f"{self.work}/{digest[:16]}.plan"
        if self.pushed != digest:
            self.transport.run(
                ("sh", "-c", 'rm -f "$1"/*.plan', "sh", self.work), timeout_s=_REMOVE_TIMEOUT_S
            )
            self.pushed = ""
            self.transport.push(plan.path, remote)
            self.pushed = digest
        return remote


@contextmanager
def open_board(
    device: str, *, allow_reboot: bool = False, keep: bool = False, say: Progress = silent
) -> Iterator[BoardRun]:
    """Connect to a board, take it for ourselves, and put it back at the end.

    Args:
        device: `local`, `ssh://...` or `sim:BOARD`.
        allow_reboot: whether it may be started anew where a power mode demands it.
        keep: whether what was pushed stays there.
        say: called with what is being done to the board.

    Raises:
        DeviceError: it cannot be reached, is being used, is no Jetson, or cannot be put back.
    """
    with open_device(device) as inner:
        transport = Noted(inner)
        snapshot = probes.snapshot(transport)
        check_jetson(device, snapshot)
        board = boards.identify(snapshot)
        builder = find_builder(transport, snapshot, board)
        session = BoardSession(
            transport,
            snapshot,
            board,
            device=device,
            consent=Consent(reboot=allow_reboot),
            say=say,
        )
        run = BoardRun(
            device=device,
            transport=transport,
            snapshot=snapshot,
            board=board,
            builder=builder,
            session=session,
            work="",
        )
        with session, _work_folder(transport, keep=keep) as run.work:
            run.snapshot = probes.snapshot(transport)  # an earlier run's changes are gone now
            if not keep:
                session.note_folder(run.work)
            yield run
        if session.report is not None and session.report.restored:
            steps = "; ".join(session.report.steps)
            run.restored = f"put back to {session.report.mode} and read back: {steps}"


@contextmanager
def _work_folder(transport: Transport, *, keep: bool) -> Iterator[str]:
    """Give a folder on the board, which goes at the end unless it is kept."""
    if not keep:
        with transport.temporary_folder() as folder:
            yield folder
        return
    found = transport.run(("mktemp", "-d"), timeout_s=_REMOVE_TIMEOUT_S)
    folder = found.stdout.strip()
    if found.status or not folder:
        raise DeviceError(
            f"cannot make a folder on {transport.name}: {found.stderr.strip() or found.status}",
            hint="make room there",
        )
    yield folder


def check_jetson(device: str, snapshot: Snapshot) -> None:
    """Refuse a machine without power modes.

    Raises:
        DeviceError: it is no Jetson.
    """
    if not snapshot.jetson:
        raise DeviceError(
            f"--device {device}: {snapshot.machine} with Linux {snapshot.kernel} is no Jetson "
            "(neither a Tegra in its device tree nor /etc/nv_tegra_release)",
            hint="name a board with --device ssh://user@board, or try the workflow on an emulated "
            "one with --device sim:agx-orin-64gb; 'elfatt-deploy bench' without --power measures "
            "this machine",
        )


def plan_digest(plan: Plan) -> str:
    """Return the SHA-256 of a plan's file."""
    return plan.manifest.files[plan.path.name]
