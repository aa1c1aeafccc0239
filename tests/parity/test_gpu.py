"""ONNX parity on an NVIDIA GPU: `pytest -m gpu` with the ort-gpu extra."""

from __future__ import annotations

import subprocess

import pytest

from elfatt_deploy.models import registry
from elfatt_deploy.pipeline import ExportRequest, check_bundle, export_bundle

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _gpu():
    """Skip with the reason where there is no device or no CUDA build of ONNX Runtime."""
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no NVIDIA driver: nvidia-smi is not installed")
    if listing.returncode or not listing.stdout.strip():
        pytest.skip(f"no NVIDIA GPU: {listing.stderr.strip() or 'nvidia-smi lists none'}")
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("the installed ONNX Runtime has no CUDA: install the ort-gpu extra")


@pytest.mark.parametrize("name", [n for n, s in registry.models().items() if not s.ablation])
def test_cuda_gives_the_logits_of_torch(name, tmp_path):
    outcome = export_bundle(ExportRequest(model=name, batch="dynamic", output=tmp_path))
    assert check_bundle(outcome.bundle.path, provider="cuda").passed
