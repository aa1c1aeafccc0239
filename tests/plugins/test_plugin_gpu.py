"""The parts of benchmarks/plugin_gpu.py that need no GPU; the rest has not run anywhere yet."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from elfatt_deploy.models import registry

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location("plugin_gpu", BENCHMARKS / "plugin_gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("_common", None)


def test_its_fields_are_those_of_the_reference(script, plugin):
    names = [field.name for field in plugin.dataclasses.fields(plugin.reference.Shape)]
    assert list(script.FIELDS) == [*names, "half"]


def test_every_kind_of_block_of_a_model_is_there(script):
    found = [
        (mechanism, context.level, context.rows, context.dim)
        for mechanism, context in script.level_contexts("cswin_t_elfatt", 224)
    ]
    assert found == [
        ("elfatt", 1, 56, 64),
        ("elfatt", 2, 28, 128),
        ("global", 3, 14, 256),
        ("elfatt", 3, 14, 256),
        ("global", 4, 7, 512),
    ]


def test_the_floor_counts_every_tensor_once(script):
    fields = {"batch": 2, "rows": 3, "cols": 5, "channels": 16}
    assert script.floor_bytes(script.Shape(**fields, lepe=0, half=0)) == 4 * (2 * 15 * 16 * 4)
    assert script.floor_bytes(script.Shape(**fields, lepe=1, half=1)) == 2 * (1920 + 160)


def test_large_inputs_come_in_small_batches(script):
    assert script.conditions((224, 512, 1024), (1, 32, 128)) == [
        (224, 1), (224, 32), (224, 128), (512, 1), (512, 32), (1024, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("mechanism", ["elfatt", "effatt", "global"])
@pytest.mark.parametrize("explicit", [True, False])
def test_the_torch_block_is_what_the_kernels_compute(mechanism, explicit, script, plugin):
    """The modules that it times on a GPU, against the reference, by way of the shape's fields."""
    _, context = script.level_contexts("cswin_t_elfatt", 64)[0]
    torch.manual_seed(0)
    branches = registry.attention_branches(mechanism, context)
    shape = script.shape_of(branches, context, 2, half=False)
    block = script.torch_block(branches, explicit).double().eval()
    qkv = torch.randn(2, context.rows * context.cols, 3 * context.dim, dtype=torch.float64)
    with torch.no_grad():
        found = block(qkv).numpy()
    weight = torch.cat([b.get_v.weight.detach().reshape(-1, 9) for b in branches]).numpy()
    bias = torch.cat([b.get_v.bias.detach() for b in branches]).numpy()
    fields = {name: getattr(shape, name) for name in script.FIELDS if name != "half"}
    wanted = plugin.reference.attention(plugin.reference.Shape(**fields), qkv.numpy(), weight, bias)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_without_a_gpu_it_says_that_nothing_ran(script, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(sys, "argv", ["plugin_gpu.py"])
    with pytest.raises(SystemExit, match="torch sees no CUDA GPU: nothing was run"):
        script.main()
