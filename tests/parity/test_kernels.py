"""No graph gets worse in the TensorRT-for-RTX builder than `tests/data/kernels.json` says.

The baseline is written by `benchmarks/kernels.py --write-baseline`; here are one model of each
shape of graph and both precisions, and the kernels of each block of ELFATT, VaniATT and EFFATT.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from elfatt_deploy import preprocessing, recipes
from elfatt_deploy.engine import rtx
from elfatt_deploy.export import exporter, rewrites
from elfatt_deploy.graph import half, simplify
from elfatt_deploy.models import registry, seeded

pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")

BASELINE = json.loads((Path(__file__).parents[1] / "data" / "kernels.json").read_text())
MODELS = ("cswin_t_elfatt", "cswin_t_effatt", "swin_t_local", "convnext_t", "efficientvit_b2")
SIZE = 224
#: most kernels of a block in FP16
ELFATT, OTHERS = 13, 11


@pytest.fixture(scope="module", params=MODELS)
def counts(request):
    """Return (name, precision -> KernelCount) of a model as it is exported for jp6."""
    spec, target = registry.get(request.param), recipes.target("jp6")
    model = spec.build(SIZE, SIZE)
    seeded.fill(model)
    images = preprocessing.noise_images(1, spec.preprocessing(SIZE, SIZE))
    graph = exporter.onnx_from_torch(
        rewrites.rewritten(model, target.local),
        torch.from_numpy(images),
        opset=target.opset,
        dynamic_batch=False,
    )
    graph = simplify.simplified(graph)
    taps = simplify.drop_outputs(graph, exporter.OUTPUT)
    found = {}
    for precision, proto in (("fp32", graph), ("fp16", half.mixed(graph, ()))):
        data = proto.SerializeToString()
        found[precision] = rtx.count(rtx.kernels(data), rtx.blocks_of_nodes(data, taps))
    return request.param, found


@pytest.mark.slow
def test_no_graph_has_more_kernels_or_fewer_fused_attentions_than_before(counts):
    name, found = counts
    for precision, count in found.items():
        before = BASELINE[name][precision]
        assert count.kernels <= before["kernels"], precision
        assert count.fused_attention >= before["fused_attention"], precision
    if name in ("cswin_t_elfatt", "cswin_t_effatt"):
        for block, kernels in dict(found["fp16"].blocks).items():
            level, _, index = block.removeprefix("stage").partition(".")
            if not block.startswith("stage") or not index.isdigit():
                continue  # the stem, the mergings and the head
            softmax = level == "4" or (level == "3" and int(index) % 2 == 0)
            elfatt = name == "cswin_t_elfatt" and not softmax
            assert kernels <= (ELFATT if elfatt else OTHERS), block


def test_the_baseline_reaches_what_was_asked_for():
    whole = BASELINE["cswin_t_elfatt"]["fp16"]
    assert whole["kernels"] <= 335
    assert whole["fused_attention"] == 25
