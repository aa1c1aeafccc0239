import os
import platform

import pytest

from elfatt_deploy.device import journal as journals
from elfatt_deploy.device import lock
from elfatt_deploy.device.control import Controls
from elfatt_deploy.errors import BusyError, DeviceError
from elfatt_deploy.transport.local import Local


@pytest.fixture
def controls(tmp_path):
    (tmp_path / "tmp").mkdir()
    return Controls(Local({"ELFATT_DEPLOY_ROOT": str(tmp_path)}, name="the board"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "tmp" / "elfatt-deploy.lock"


def owner(folder, **changes):
    """Let somebody else hold the lock: the process that started this one."""
    me, pid = journals.this_process(), os.getppid()
    fields = {
        "token": "theirs", "host": me.host, "pid": str(pid), "started": journals._started(pid),
        "host_boot": me.boot_id, "board_boot": "boot-1", "since": "2026-01-01", **changes,
    }  # fmt: skip
    folder.mkdir()
    (folder / "owner").write_text("".join(f"{key}={value}\n" for key, value in fields.items()))


def test_it_is_a_folder_that_names_its_owner(controls, folder):
    lock.take(controls, "ours", board_boot_id="boot-1")
    text = (folder / "owner").read_text()
    assert f"token=ours\nhost={platform.node()}\npid={os.getpid()}\n" in text
    lock.take(controls, "ours", board_boot_id="boot-1")  # again: it is ours
    lock.drop(controls, "theirs")
    assert folder.is_dir()
    lock.drop(controls, "ours")
    assert not folder.exists()
    assert list(folder.parent.iterdir()) == []


def test_a_living_owner_is_named(controls, folder):
    owner(folder)
    with pytest.raises(BusyError, match=f"in use by process {os.getppid()} on ") as caught:
        lock.take(controls, "ours", board_boot_id="boot-1")
    assert "or end that process" in caught.value.hint
    assert "token=theirs" in (folder / "owner").read_text()


@pytest.mark.parametrize(
    "gone",
    [
        {"pid": "4194304"},  # no process has this number: it is above the highest
        {"started": "1"},  # the number is used again, by a process that started later
        {"host_boot": "an earlier start of this machine"},
        {"board_boot": "boot-0", "host": "elsewhere"},  # the board was started since
    ],
)
def test_a_lock_whose_owner_is_gone_is_broken(controls, folder, gone):
    owner(folder, **gone)
    lock.take(controls, "ours", board_boot_id="boot-1")
    assert "token=ours" in (folder / "owner").read_text()


def test_an_owner_on_another_host_is_broken_by_the_user_alone(controls, folder):
    owner(folder, host="elsewhere", pid="77")
    with pytest.raises(BusyError, match="process 77 on elsewhere, since 2026-01-01") as caught:
        lock.take(controls, "ours", board_boot_id="boot-1")
    assert "--break-lock" in caught.value.hint
    assert "/tmp/elfatt-deploy.lock" in caught.value.hint
    lock.take(controls, "ours", board_boot_id="boot-1", force=True)
    assert "token=ours" in (folder / "owner").read_text()


def test_a_lock_without_an_owner_is_somebody_in_between_or_long_gone(controls, folder):
    folder.mkdir()
    with pytest.raises(BusyError, match="at this moment"):
        lock.take(controls, "ours", board_boot_id="boot-1")
    os.utime(folder, (0, 0))
    lock.take(controls, "ours", board_boot_id="boot-1")
    assert "token=ours" in (folder / "owner").read_text()


def test_a_board_without_room_is_named(tmp_path):
    controls = Controls(Local({"ELFATT_DEPLOY_ROOT": str(tmp_path)}, name="the board"))
    with pytest.raises(DeviceError, match="cannot make the lock /tmp/elfatt-deploy.lock on the"):
        lock.take(controls, "ours", board_boot_id="boot-1")


def test_a_lock_that_this_process_lost_is_taken_anew(controls, folder):
    lock.take(controls, "first", board_boot_id="boot-1")
    with pytest.raises(BusyError, match=f"in use by process {os.getpid()} on "):
        lock.take(controls, "second", board_boot_id="boot-1")
    lock.abandon("first")  # as a session does that lost its board
    lock.take(controls, "second", board_boot_id="boot-1")
    assert "token=second" in (folder / "owner").read_text()
    lock.drop(controls, "second")
