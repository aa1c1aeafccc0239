"""A simulated board behind a real sshd on loopback, and short sweeps of it that are disturbed."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from elfatt_deploy.device.sim.board import SimulatedBoard
from elfatt_deploy.results import store
from elfatt_deploy.results.schema import Statistics

HERE = Path(__file__).parent
#: a sweep that takes longer than this is broken
BOUND_S = 240.0


def load(name):
    """Return `tests/fakes/NAME.py`, also where this file was not loaded as a test."""
    spec = importlib.util.spec_from_file_location(f"fake_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Rig:
    """One board, one server, one results file; used with `with`.

    Args:
        folder: for all of it.
        bundle: what is measured.
        board: a name of `profiles/boards`.
        modes: power modes that are swept.
        ssh: whether the board is behind an SSH server; else it is reached as `sim:`.
    """

    def __init__(self, folder, bundle, *, board="nano", modes=("MAXN", "5W"), ssh=True):
        self.folder = Path(folder)
        self.bundle, self.modes = bundle, modes
        self.board = SimulatedBoard(board, self.folder / "sims" / board, speed=200.0)
        self.results = self.folder / "results.jsonl"
        self.sshd = None
        if ssh:
            server = load("sshd")
            self.sshd = server.Sshd(self.folder / "sshd", command=str(self.board.login))
        self.before = self.state()

    def __enter__(self):
        if self.sshd is not None:
            self.sshd.start()
        return self

    def __exit__(self, *error):
        if self.sshd is not None:
            self.sshd.stop()

    @property
    def device(self):
        return self.sshd.device if self.sshd is not None else f"sim:{self.board.name}"

    @property
    def environment(self):
        found = {
            **os.environ,
            "ELFATT_DEPLOY_STATE": str(self.folder / "state"),
            "ELFATT_DEPLOY_SIM_FOLDER": str(self.folder / "sims"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
        }
        if self.sshd is not None:
            found["ELFATT_DEPLOY_SSH_CONFIG"] = str(self.sshd.config)
        return found

    def start(self, *more, results=None):
        """Start a sweep; its output is kept in files."""
        command = [sys.executable, HERE / "sweep_child.py", self.device,
                   results or self.results, self.bundle, *self.modes, *more]  # fmt: skip
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                [str(word) for word in command],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def sweep(self, *more, results=None):
        """Run a sweep to its end and return its exit code."""
        return self.finish(self.start(*more, results=results))

    def finish(self, process):
        """Wait for a sweep."""
        try:
            return process.wait(BOUND_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)

    def restore(self):
        """Run `elfatt-deploy restore` as a user would; returns its exit code."""
        command = (sys.executable, "-m", "elfatt_deploy", "restore", "--device", self.device)
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=BOUND_S,
            check=False,
        )  # fmt: skip
        (self.folder / "err").write_text(done.stderr)
        return done.returncode

    @property
    def said(self):
        return (self.folder / "err").read_text(errors="replace")

    @property
    def shown(self):
        return (self.folder / "out").read_text(errors="replace")

    @property
    def journals(self):
        return sorted((self.folder / "state" / "journal").glob("*.json"))

    def records(self, results=None):
        """Return the records, whole ones alone."""
        path = results or self.results
        return store.read(path).records if path.is_file() else ()

    def numbers(self):
        """Return the keys of the cells that have numbers."""
        return {r.key for r in self.records() if isinstance(r.statistics, Statistics)}

    def state(self):
        """Return what a sweep changes on the board: mode, online cores, limits of all clocks."""
        root = self.board.root
        files = {}
        for pattern in ("sys/devices/system/cpu/cpu*/online",
                        "sys/devices/system/cpu/cpu*/cpufreq/scaling_m*_freq",
                        "sys/devices/**/m??_freq"):  # fmt: skip
            for path in sorted(root.glob(pattern)):
                files[str(path.relative_to(root))] = path.read_text()
        mode = subprocess.run(
            ("nvpmodel", "-q"), env={**os.environ, **self.board.environment},
            capture_output=True, text=True, check=False, timeout=30,
        ).stdout  # fmt: skip
        return mode, files

    def wait_for(self, condition, process):
        """Wait until something holds or a sweep has ended; whether it held."""
        end = time.monotonic() + BOUND_S
        while time.monotonic() < end:
            if condition():
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.01)
        raise AssertionError("not in time")
