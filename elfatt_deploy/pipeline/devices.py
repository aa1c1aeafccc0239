"""open_device: what `--device` names -> a transport to it."""

from __future__ import annotations

from elfatt_deploy.errors import UsageError
from elfatt_deploy.transport.base import Transport

SSH, SIM = "ssh://", "sim:"


def open_device(device: str) -> Transport:
    """Return the transport to a device, to be used with `with`.

    Args:
        device: `local`, `ssh://[user@]host[:port]` or `sim:BOARD`.

    Raises:
        UsageError: it is none of these.
        UnknownNameError: there is no such simulated board.
    """
    if device.startswith(SIM):
        from elfatt_deploy.device.sim.board import open_simulated

        return open_simulated(device)
    if device == "local" or device.startswith(SSH):
        from elfatt_deploy.transport.opening import open_transport

        return open_transport(device)
    raise UsageError(
        f"--device {device} is no device",
        hint="use local, ssh://user@host, or sim:BOARD such as sim:agx-orin-64gb",
    )
