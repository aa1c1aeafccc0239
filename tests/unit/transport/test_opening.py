"""From a device to its transport."""

from __future__ import annotations

import pytest

from elfatt_deploy.errors import UsageError
from elfatt_deploy.transport.local import Local
from elfatt_deploy.transport.opening import open_transport, ssh_config
from elfatt_deploy.transport.ssh import Ssh


def test_devices_and_their_transports():
    assert isinstance(open_transport("local"), Local)
    board = open_transport("ssh://me@orin")
    assert isinstance(board, Ssh)
    assert board.name == "me@orin"


@pytest.mark.parametrize("device", ["", "Local", "usb://1", "sim:nano", "orin"])
def test_an_unknown_device_says_what_there_is(device):
    with pytest.raises(UsageError, match="unknown device") as caught:
        open_transport(device)
    assert "ssh://[user@]host[:port]" in caught.value.hint


def test_another_ssh_configuration_can_be_named(tmp_path, monkeypatch):
    monkeypatch.delenv("ELFATT_DEPLOY_SSH_CONFIG", raising=False)
    assert ssh_config() is None
    monkeypatch.setenv("ELFATT_DEPLOY_SSH_CONFIG", "")
    assert ssh_config() is None
    (tmp_path / "config").write_text("")
    monkeypatch.setenv("ELFATT_DEPLOY_SSH_CONFIG", str(tmp_path / "config"))
    assert ssh_config() == tmp_path / "config"


@pytest.mark.parametrize("value", ["0", "1", "/no/such/file"])
def test_a_configuration_that_is_not_there_is_an_error(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELFATT_DEPLOY_SSH_CONFIG", value)
    with pytest.raises(UsageError, match=f"ELFATT_DEPLOY_SSH_CONFIG names no file: {value}"):
        open_transport("ssh://orin")
