import dataclasses
import json
import os
import subprocess
import sys

import pytest

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device.journal import Found, Journal, Owner, Phase
from elfatt_deploy.errors import BusyError, DeviceError, SchemaError

DEVICE = "ssh://nvidia@orin:2222"


def journal(**changes):
    fields = {
        "device": DEVICE,
        "board": "agx-orin-64gb",
        "created": units.now(),
        "owner": journals.this_process(),
        "board_boot_id": "boot-1",
        "found": Found(
            mode_id=2, mode_name="MODE_30W", online="0-7", fan_service="active",
            files=(("/sys/class/devfreq/17000000.gpu/max_freq", "612000000"),),
        ),
    }  # fmt: skip
    return Journal(**{**fields, **changes})


def test_it_reads_back_as_written(tmp_path):
    written = journal(phase=Phase.CHANGED, pinned_file="/var/tmp/x", pinned_mode_id=1)
    journals.create(written, tmp_path)
    assert journals.read(DEVICE, tmp_path) == written
    changed = dataclasses.replace(written, phase=Phase.RESTORING)
    journals.write(changed, tmp_path)
    assert journals.read(DEVICE, tmp_path) == changed
    assert journals.entries(tmp_path) == (changed,)
    journals.remove(DEVICE, tmp_path)
    assert journals.read(DEVICE, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    journals.remove(DEVICE, tmp_path)  # again: it is gone already


def test_it_is_synced_before_it_gets_its_name(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "link", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))[1]
        )
    journals.create(journal(), tmp_path)
    journals.write(journal(), tmp_path)
    assert order == ["fsync", "link", "fsync", "fsync", "replace", "fsync"]


def test_the_second_to_create_one_is_refused(tmp_path):
    journals.create(journal(), tmp_path)
    with pytest.raises(BusyError, match="is being changed by another run"):
        journals.create(journal(), tmp_path)


@pytest.mark.parametrize("device", ["local", "ssh://a@b/../..", "sim:nano", "..", "ssh://[::1]:22"])
def test_each_device_has_a_file_of_its_own_in_the_folder(device, tmp_path):
    journals.create(journal(device=device), tmp_path)
    assert [path.parent for path in tmp_path.iterdir()] == [tmp_path]
    assert journals.read(device, tmp_path).device == device


def test_where_journals_lie(monkeypatch, tmp_path):
    monkeypatch.setenv("ELFATT_DEPLOY_STATE", str(tmp_path))
    assert journals.default_folder() == tmp_path / "journal"
    for unset in ("", None):
        monkeypatch.setenv("HOME", "/home/somebody")
        if unset is None:
            monkeypatch.delenv("ELFATT_DEPLOY_STATE")
        else:
            monkeypatch.setenv("ELFATT_DEPLOY_STATE", unset)
        expected = "/home/somebody/.local/state/elfatt-deploy/journal"
        assert str(journals.default_folder()) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:50], "is no JSON"),
        (lambda text: "[1]", "its schema is None"),
        (lambda text: text.replace("elfatt-deploy/journal", "other"), "its schema is 'other'"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "is of version 2"),
        (lambda text: text.replace('"phase": "prepared"', '"phase": "odd"'), "does not match"),
        (lambda text: text.replace('"mode_id": 2,', ""), "does not match its schema: found"),
        (lambda text: text.replace(DEVICE, "ssh://other"), "is the journal of ssh://other"),
    ],
)
def test_a_foreign_or_damaged_journal_is_named(change, message, tmp_path):
    journals.create(journal(), tmp_path)
    path = journals.path_of(DEVICE, tmp_path)
    path.write_text(change(path.read_text()))
    with pytest.raises(SchemaError, match=message) as caught:
        journals.read(DEVICE, tmp_path)
    assert str(path) in str(caught.value)
    assert "export the bundle" not in caught.value.hint


def test_a_damaged_journal_does_not_hide_the_others(tmp_path):
    journals.create(journal(), tmp_path)
    (tmp_path / "a.json").write_text("{")
    first, second = journals.entries(tmp_path)
    assert "a.json is no JSON" in first.reason
    assert second.device == DEVICE


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_changed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="nothing was changed on the board") as caught:
        journals.create(journal(), tmp_path / "file" / "journal")
    assert "ELFATT_DEPLOY_STATE" in caught.value.hint


def test_whether_an_owner_lives():
    me = journals.this_process()
    assert me.alive is True
    assert dataclasses.replace(me, started="1").alive is False  # the number is used again
    assert dataclasses.replace(me, boot_id="another start").alive is False
    assert me.ended().alive is False
    other = dataclasses.replace(me, host="elsewhere")
    assert other.alive == Unavailable(reason="it ran on elsewhere")
    assert str(other) == f"process {me.pid} on elsewhere"


def test_a_process_that_ended_and_was_not_waited_for_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    me = journals.this_process()
    owner = Owner(
        host=me.host, boot_id=me.boot_id, pid=child.pid, started=journals._started(child.pid)
    )
    assert owner.alive is True
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.alive is False
    child.wait()


def test_it_holds_no_more_than_it_says(tmp_path):
    journals.create(journal(), tmp_path)
    document = json.loads(journals.path_of(DEVICE, tmp_path).read_text())
    assert (document["schema"], document["version"]) == ("elfatt-deploy/journal", 1)
    assert set(document["found"]) == {field.name for field in dataclasses.fields(Found)}
