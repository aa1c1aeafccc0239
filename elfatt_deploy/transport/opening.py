"""From what `--device` takes to a transport."""

from __future__ import annotations

import os
from pathlib import Path

from elfatt_deploy.errors import UsageError
from elfatt_deploy.transport.base import Transport
from elfatt_deploy.transport.local import Local
from elfatt_deploy.transport.ssh import Ssh
from elfatt_deploy.transport.ssh_target import parse_target

#: names a file that ssh takes in place of the user's own configuration (its option -F)
CONFIG_VARIABLE = "ELFATT_DEPLOY_SSH_CONFIG"


def open_transport(device: str) -> Transport:
    """Return the transport to a device; it connects when it is used, or entered with `with`.

    Args:
        device: `local` or `ssh://[user@]host[:port]`.

    Raises:
        UsageError: it is neither, or an SSH address that is not of this form.
    """
    if device == "local":
        return Local()
    if device.startswith("ssh:"):
        return Ssh(parse_target(device), config=ssh_config())
    raise UsageError(
        f"unknown device '{device}'", hint="use local, or ssh://[user@]host[:port] for a board"
    )


def ssh_config() -> Path | None:
    """Return the ssh configuration that ELFATT_DEPLOY_SSH_CONFIG names; None where it is empty.

    Raises:
        UsageError: there is no such file.
    """
    value = os.environ.get(CONFIG_VARIABLE, "")
    if not value:
        return None
    path = Path(value)
    if not path.is_file():
        raise UsageError(
            f"{CONFIG_VARIABLE} names no file: {value}",
            hint=f"name an ssh configuration, or 'unset {CONFIG_VARIABLE}' to use your own",
        )
    return path
