"""The sensors of a board that computes: written by a thread of the simulated trtexec alone.

The thread ends with the process, and it ends the process within a second after its parent's end, so
that nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

from elfatt_deploy.device.sim import physics
from elfatt_deploy.device.sim.conf import CPU_FOLDER
from elfatt_deploy.device.sim.machine import Machine

#: share of the run at which faults of the middle happen
MIDDLE = 0.5
_WATCH_S = 0.25
#: events that one over-current brings
_EVENTS = 7
_FULL_LOAD = 990


class Busy:
    """Writes busy readings from `start` until the `with` block ends, then those of rest.

    Args:
        machine: the board.
    """

    def __init__(self, machine: Machine) -> None:
        """Nothing is written yet."""
        self._machine = machine
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tripped = self._alarmed = self._blinded = False
        self._celsius = physics.steady_c(machine.facts, machine.facts.idle_w)

    def __enter__(self) -> Busy:
        """End with a whole `with` block also on SIGTERM."""
        signal.signal(signal.SIGTERM, _leave)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the thread and write a board at rest."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            with self._machine.changing() as state:
                state.busy_pid = 0
            self._machine.write_at_rest()

    def start(self, clocks: physics.Clocks) -> None:
        """Begin to write what a board under full load shows."""
        with self._machine.changing() as state:
            state.busy_pid = os.getpid()
        chance = self._machine.chance("power")
        facts = self._machine.facts
        watts = physics.busy_w(facts, clocks)
        self._write_clocks(clocks)

        def update() -> None:
            last = time.monotonic()
            while not self._stop.wait(1.0 / facts.rule.rate_hz):
                now = time.monotonic()
                self._celsius = physics.next_c(facts, self._celsius, watts, now - last)
                last = now
                noise = 1.0 + chance.gauss(0.0, facts.rule.noise)
                self._machine.write_power(physics.rail_mw(facts, watts * noise))
                trip = facts.rule.trip_c if self._tripped else self._celsius
                self._machine.write_temperature(trip)

        self._thread = threading.Thread(target=update, daemon=True)
        self._thread.start()

    def _write_clocks(self, clocks: physics.Clocks) -> None:
        machine, facts = self._machine, self._machine.facts
        for core in range(facts.cores):
            folder = f"{CPU_FOLDER}/cpu{core}/cpufreq"
            machine.write(f"{folder}/scaling_cur_freq", machine.read(f"{folder}/scaling_max_freq"))
        machine.write(f"{facts.gpu_folder}/cur_freq", round(clocks.gpu_hz))
        machine.write(f"{facts.gpu_power}/load", _FULL_LOAD)
        machine.write_emc(clocks.emc_hz)

    def middle(self, clocks: physics.Clocks) -> float:
        """Let the faults of the middle of a run happen; return how much slower the board is now."""
        machine, facts = self._machine, self._machine.facts
        if machine.happens("board-reboots-mid-run"):
            self._stop.set()
            if self._thread is not None:
                self._thread.join()
            machine.reboot(abrupt=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if not self._alarmed and facts.counters and machine.happens("over-current"):
            self._alarmed = True
            path = facts.counters[-1]
            machine.write(path, machine.number(path) + _EVENTS)
        if not self._blinded and machine.happens("sensor-vanishes"):
            self._blinded = True
            folder = machine.path(facts.rails[0].folder)
            for kind in ("in_power{}", "in_voltage{}", "in_current{}", "in{}", "curr{}"):
                name = f"{kind.format(facts.rails[0].index)}_input"
                (folder / name).unlink(missing_ok=True)
        if machine.happens("thermal-trip"):
            self._tripped = True
            slow = clocks.gpu_hz * facts.rule.trip_clock_share
            machine.write(f"{facts.gpu_folder}/cur_freq", round(slow))
            return 1.0 / facts.rule.trip_clock_share
        return 1.0


def watch_parent(machine: Machine) -> None:
    """End this process soon after the one that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_S)
        with contextlib.suppress(OSError):
            if machine.state().busy_pid == os.getpid():
                with machine.changing() as state:
                    state.busy_pid = 0
                machine.write_at_rest()
        os._exit(128 + signal.SIGHUP)

    threading.Thread(target=watch, daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
