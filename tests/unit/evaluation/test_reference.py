"""The torch model sees the images only where it is there, asked for and the right one."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from elfatt_deploy import optional
from elfatt_deploy.artifacts import GOLDEN_FILE, Weights
from elfatt_deploy.errors import CheckpointError, MissingDependency
from elfatt_deploy.evaluation.records import EvalRequest
from elfatt_deploy.evaluation.reference import proven_runner, why_none
from elfatt_deploy.golden import GoldenInputs, write_golden

REQUEST = EvalRequest(model=Path("bundle"), data=Path("data"))


@dataclasses.dataclass(frozen=True)
class _Bundle:
    """As much of a bundle as is asked for."""

    path: Path = Path("bundle")
    builder: str = "package.module:build"
    weights: Weights = Weights(source="w.pth", sha256="ab")

    @property
    def golden_path(self):
        return self.path / GOLDEN_FILE

    @property
    def manifest(self):
        model = types.SimpleNamespace(builder=self.builder)
        return types.SimpleNamespace(model=model, weights=self.weights)


@pytest.mark.parametrize(
    ("changes", "bundle", "told"),
    [
        ({"agreement": False, "weights": Path("w.pth")}, _Bundle(), "not asked for"),
        ({"weights": Path("w.pth")}, None, "does not say which torch model"),
        ({"weights": Path("w.pth")}, _Bundle(builder=""), "does not say which torch model"),
        ({"runner": "torch", "weights": Path("w.pth")}, _Bundle(), "this is the FP32 torch model"),
        ({}, _Bundle(), "needs the weights w.pth: give them with --weights"),
        ({"weights": Path("w.pth")}, _Bundle(), ""),
        ({}, _Bundle(weights=Weights(source="random(3)")), ""),
        ({}, _Bundle(weights=Weights(source="module(0)", sha256="ab")), ""),
    ],
)
def test_the_reason_is_that_of_the_request(changes, bundle, told):
    found = why_none(dataclasses.replace(REQUEST, **changes), bundle)
    assert told in found
    assert bool(told) == bool(found)


def test_without_torch_the_reason_names_it_and_how_to_get_it(monkeypatch):
    def absent(name):
        raise MissingDependency(f"the package '{name}' is not installed", hint="pip install it")

    monkeypatch.setattr(optional, "load", absent)
    found = why_none(dataclasses.replace(REQUEST, weights=Path("w.pth")), _Bundle())
    assert found == "the package 'torch' is not installed: pip install it"


@pytest.fixture
def proof(tmp_path):
    """Return a module, and a bundle with the logits that it gave."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    images = np.random.default_rng(0).standard_normal((3, 3, 2, 2)).astype(np.float32)
    with torch.no_grad():
        logits = net(torch.from_numpy(images)).numpy()
    inputs = GoldenInputs(images=images, names=("a", "b", "c"), sets=("photos",) * 3)
    write_golden(tmp_path / GOLDEN_FILE, inputs, logits, {})
    return net, _Bundle(path=tmp_path)


def test_a_module_that_gives_the_golden_logits_is_taken(proof):
    net, bundle = proof
    with proven_runner(net, bundle, REQUEST) as runner:
        found = runner.infer({"images": np.zeros((1, 3, 2, 2), np.float32)})["logits"]
    np.testing.assert_allclose(found[0], net[1].bias.detach().numpy(), rtol=1e-6)


def test_a_module_that_gives_other_logits_is_refused(proof):
    net, bundle = proof
    with torch.no_grad():
        net[1].bias[2] += 0.01
    with pytest.raises(CheckpointError, match="does not give the golden logits of"):
        proven_runner(net, bundle, REQUEST)


def test_beside_a_gpu_runner_the_reference_may_be_on_the_cpu_and_says_so(proof, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    request = dataclasses.replace(REQUEST, provider="cuda")
    assert proven_runner(*proof, request).name == "torch float32 (cpu)"
