"""Published weights and weights of another input size, from `export` to the manifest."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import threading

import pytest
from safetensors.torch import save_file

from elfatt_deploy import bundles
from elfatt_deploy.errors import CheckpointError, UsageError
from elfatt_deploy.models import pretrained, registry, seeded
from elfatt_deploy.models.config import SwinConfig
from elfatt_deploy.pipeline import ExportRequest, export_bundle


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def address(tmp_path):
    """Serve a folder on loopback; returns the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def tiny_swin():
    """Register `tiny_swin`, whose relative position tables follow the input size."""
    spec = registry.get("swin_t_local")
    config = SwinConfig(
        embed_dim=16,
        depths=(1, 2, 1, 1),
        heads=(2, 2, 2, 2),
        attention="local",
        levels="1-2-3-4",
        elsewhere="local",
        lepe=False,
        classes=10,
    )
    tiny = dataclasses.replace(spec, name="tiny_swin", config=config, input_size=64)
    registry.register_model(tiny)
    yield tiny
    del registry._extra_models["tiny_swin"]


def _saved(spec, size, path):
    model = spec.build(size, size)
    seeded.fill(model, seed=3)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def _published(address, tiny_swin, tmp_path, monkeypatch):
    folder, url = address
    digest = _saved(tiny_swin, 64, folder / "tiny.safetensors")
    file = pretrained.PublishedFile(
        url=f"{url}/tiny.safetensors", input_size=64, sha256=digest, digest_source="this test"
    )
    entry = pretrained.Published(model="tiny_swin", page=url, files=(file,))
    monkeypatch.setattr(pretrained, "all_published", lambda: {"tiny_swin": entry})
    monkeypatch.setenv("ELFATT_DEPLOY_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("_published")
def test_published_weights_are_fetched_exported_and_recorded(tmp_path, address):
    said = []
    request = ExportRequest(model="tiny_swin", pretrained=True, target="ort", output=tmp_path)
    outcome = export_bundle(request, said.append)
    assert outcome.passed
    weights = bundles.read_bundle(outcome.bundle.path).manifest.weights
    served = address[0] / "tiny.safetensors"
    assert weights.url == f"{address[1]}/tiny.safetensors"
    assert weights.sha256 == hashlib.sha256(served.read_bytes()).hexdigest()
    assert weights.resized == ()
    assert any("fetching the published weights" in stage for stage in said)


@pytest.mark.usefixtures("_published")
def test_another_input_size_resizes_the_tables_and_says_which(tmp_path):
    request = ExportRequest(
        model="tiny_swin", pretrained=True, height=128, width=128, target="ort", output=tmp_path
    )
    outcome = export_bundle(request)
    assert outcome.passed
    resized = outcome.bundle.manifest.weights.resized
    assert len(resized) == 5  # one table a block
    assert all("bicubic" in line and "relative_position_bias_table" in line for line in resized)


def test_a_model_without_published_weights_says_why(tmp_path):
    request = ExportRequest(model="cswin_t_global", pretrained=True, output=tmp_path)
    with pytest.raises(CheckpointError, match="no weights of cswin_t_global") as caught:
        export_bundle(request)
    assert "--weights" in caught.value.hint


def test_two_sources_of_weights_are_refused(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"")
    request = ExportRequest(model="swin_t_local", pretrained=True, weights=weights)
    with pytest.raises(UsageError, match="give one of them"):
        export_bundle(request)
