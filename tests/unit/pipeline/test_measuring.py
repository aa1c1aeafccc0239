"""Which bundle `bench` takes for a model."""

from __future__ import annotations

import json

import pytest

from elfatt_deploy.errors import SchemaError
from elfatt_deploy.pipeline.lookup import find_bundle


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes the manifest of a bundle and gives its folder."""

    def write(name, created, *, batch=1, precision="fp32", size=224, settings=None):
        path = tmp_path / name
        path.mkdir()
        model = {"name": "net", "height": size, "width": size, "settings": settings or {}}
        document = {"created": created, "batch": batch, "precision": precision, "model": model}
        (path / "manifest.json").write_text(json.dumps(document))
        return path

    return write


def _find(folder, *, batch=None, precision="fp32", **more):
    return find_bundle(
        folder, "net", height=224, width=224, precision=precision, batch=batch, **more
    )


def test_the_newest_bundle_is_taken(folder, tmp_path):
    folder("a", "2030-01-01")
    newest = folder("b", "2030-01-03")
    folder("c", "2030-01-02")
    assert _find(tmp_path) == newest


def test_a_bundle_of_something_else_is_not(folder, tmp_path):
    folder("settings", "2030-01-01", settings={"lepe": "false"})
    folder("half", "2030-01-01", precision="fp16")
    folder("large", "2030-01-01", size=448)
    folder("many", "2030-01-01", batch=8)
    assert _find(tmp_path) is None
    assert _find(tmp_path / "nowhere") is None
    assert _find(tmp_path, precision="fp16").name == "half"


def test_an_open_batch_fits_every_batch_and_torch_takes_any(folder, tmp_path):
    eight = folder("eight", "2030-01-01", batch=8)
    assert _find(tmp_path, batch=8) == eight
    assert _find(tmp_path, batch=2) is None
    assert _find(tmp_path, batch=2, any_batch=True) == eight
    dynamic = folder("open", "2030-01-02", batch="dynamic")
    assert _find(tmp_path, batch=2) == dynamic


def test_a_torn_manifest_is_named(folder, tmp_path):
    (folder("torn", "2030-01-01") / "manifest.json").write_text("{")
    with pytest.raises(SchemaError, match="torn"):
        _find(tmp_path)
