"""Where the programs of a simulated board begin: `main(folder, program, arguments)`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy.device.sim.machine import Machine
from elfatt_deploy.errors import ElfattDeployError

#: what a program of a board that is not there ends with, as an SSH client does
GONE = 255
#: file of `bin/` -> module
PROGRAMS = {
    "nvpmodel": "nvpmodel",
    "jetson_clocks": "jetson_clocks",
    "tegrastats": "tegrastats",
    "trtexec": "trtexec",
    "reboot": "reboot",
}


def main(folder: str, program: str, arguments: Sequence[str]) -> int:
    """Run an emulated program.

    Args:
        folder: of the simulated board.
        program: the path that it was called by.
        arguments: without the program.
    """
    machine = Machine(Path(folder))
    name = Path(program).name
    if machine.is_down():
        sys.stderr.write(f"{name}: the simulated board is rebooting\n")
        return GONE
    if name == "trtexec" and machine.fault("no-trtexec"):
        sys.stderr.write(f"sh: {program}: not found\n")
        return 127
    machine.settle()
    module = importlib.import_module(f"elfatt_deploy.device.sim.{PROGRAMS[name]}")
    called = (program, *arguments) if name == "trtexec" else tuple(arguments)
    try:
        status: int = module.main(machine, called)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read the output is gone
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (flushed at exit)
        return 128 + signal.SIGPIPE
    except ElfattDeployError as error:
        sys.stderr.write(f"{name} of the simulated board: {error}\n")
        return 70
    return status
