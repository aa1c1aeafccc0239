"""The emulated reboot: it takes the board away for some seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from elfatt_deploy.device.sim.machine import Machine


def main(machine: Machine, arguments: Sequence[str]) -> int:
    """Run it; arguments are not looked at."""
    if not machine.as_root:
        sys.stderr.write("Call to Reboot failed: Interactive authentication required.\n")
        return 1
    machine.reboot()
    return 0
