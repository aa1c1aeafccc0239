"""Absent and broken packages become messages that say what to install."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from elfatt_deploy import optional
from elfatt_deploy.errors import MissingDependency


@pytest.fixture
def fake_package(tmp_path, monkeypatch):
    """Put a module `fakepkg` of the given source on the path; it belongs to the extra `export`."""

    def write(source):
        (tmp_path / "fakepkg.py").write_text(source, encoding="utf-8")
        monkeypatch.setitem(optional.EXTRA_OF, "fakepkg", "export")
        monkeypatch.delitem(sys.modules, "fakepkg", raising=False)
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    sys.modules.pop("fakepkg", None)


@pytest.mark.parametrize(("package", "extra"), sorted(optional.EXTRA_OF.items()))
def test_a_missing_package_names_the_extra_and_the_command(package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # what Python takes for "cannot be found"
    with pytest.raises(MissingDependency, match=f"'{package}' is not installed") as caught:
        optional.load(package)
    assert caught.value.hint == optional.install_command(package)
    assert caught.value.hint.startswith("pip install ")
    assert f'[{extra}]"' in caught.value.hint


def test_a_missing_package_outside_every_extra_is_installed_by_its_own_name():
    with pytest.raises(MissingDependency, match="'no_such_package' is not installed") as caught:
        optional.load("no_such_package.part")
    assert caught.value.hint == "pip install no_such_package"


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        ("ImportError('numpy.core.multiarray failed to import')", "multiarray failed to import"),
        ("OSError('libcudart.so.13: cannot open shared object file')", "libcudart.so.13"),
        ("ModuleNotFoundError('No module named filelock', name='filelock')", "filelock"),
        # what onnx with a protobuf that is too new, and a module built for numpy 1, raise
        ("TypeError('Descriptors cannot be created directly')", "Descriptors"),
        ("AttributeError('_ARRAY_API not found')", "_ARRAY_API"),
        ("SystemError('initialization failed')", "initialization failed"),
    ],
    ids=lambda text: text.partition("(")[0],
)
def test_a_broken_package_is_told_from_a_missing_one(raised, shown, fake_package):
    fake_package(f"raise {raised}")
    with pytest.raises(MissingDependency) as caught:
        optional.load("fakepkg")
    assert "'fakepkg' is installed but does not import" in caught.value.message
    assert shown in caught.value.message
    assert "doctor" in caught.value.hint
    assert optional.install_command("fakepkg") in caught.value.hint
    assert caught.value.__cause__ is not None


def test_a_working_package_is_returned(fake_package):
    fake_package("answer = 42")
    assert optional.load("fakepkg").answer == 42


def test_the_two_builds_of_onnx_runtime_are_never_advised_together():
    command = optional.install_command("onnxruntime")
    assert f"pip install {optional.requirement('ort')}" in command
    assert "never both" in command


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        (None, '"elfatt-deploy[ort]"'),
        ('{"url": "file:///src/it", "dir_info": {"editable": true}}', '-e "/src/it[ort]"'),
        ('{"url": "file:///my%20src/it", "dir_info": {"editable": true}}', '-e "/my src/it[ort]"'),
    ],
    ids=["from an index", "editable", "editable, space in the path"],
)
def test_pip_is_told_where_this_program_was_installed_from(record, asked, monkeypatch):
    class Distribution:
        def read_text(self, name):
            return record if name == "direct_url.json" else None

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    assert optional.requirement("ort") == asked


def test_a_program_that_was_never_installed_is_asked_for_by_name(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    assert optional.requirement("ort") == '"elfatt-deploy[ort]"'
