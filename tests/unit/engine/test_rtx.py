"""The list of kernels, from the log of the real builder where it is installed."""

from __future__ import annotations

import pytest

from elfatt_deploy.engine import rtx
from elfatt_deploy.engine.rtx import Kernel
from elfatt_deploy.errors import EngineError, MissingDependency

#: synthetic, in the form of the log of tensorrt_rtx 1.7.1
LOG = """Layers:
Name: /net/a/Gemm_myl0_0, LayerType: gemm, Inputs: [ { Name: x } ], Metadata: [ONNX Layer: /net/a/Gemm]
Name: __mye1_myl0_1, LayerType: signal, Inputs: [], Metadata: 
Name: _gemm_mha_v2_myl0_2, LayerType: kgen, Metadata: [ONNX Layer: /net/b/MatMul][ONNX Layer: /net/b/Softmax]
Name: __myl_Add_myl0_3, LayerType: kgen, Metadata: [ONNX Layer: /net/c/Add]

Bindings:
images
""".splitlines()  # noqa: E501, W291
BLOCK_OF = {"/net/a/Gemm": "a", "/net/b/MatMul": "b", "/net/b/Softmax": "b", "/net/c/Add": "b"}


def test_entries_are_read_with_their_nodes():
    assert rtx.parsed_kernels(LOG) == (
        Kernel(name="/net/a/Gemm_myl0_0", kind="gemm", nodes=("/net/a/Gemm",)),
        Kernel(name="__mye1_myl0_1", kind="signal"),
        Kernel(name="_gemm_mha_v2_myl0_2", kind="kgen", nodes=("/net/b/MatMul", "/net/b/Softmax")),
        Kernel(name="__myl_Add_myl0_3", kind="kgen", nodes=("/net/c/Add",)),
    )


def test_kernels_are_counted_by_kind_and_by_block():
    count = rtx.count(rtx.parsed_kernels(LOG), BLOCK_OF)
    assert (count.kernels, count.events, count.fused_attention) == (4, 1, 1)
    assert count.blocks == (("a", 2), ("b", 2))  # an event goes with the kernel before it
    assert rtx.count(rtx.parsed_kernels(LOG)).blocks == ()


def test_a_node_belongs_to_the_first_tap_at_or_behind_it(onnx_model):
    nodes = [
        ("Relu", ["x"], ["h"], "one", {}),
        ("Neg", ["h"], ["stage1"], "two", {}),
        ("Abs", ["stage1"], ["stage2"], "three", {}),
        ("Exp", ["stage2"], ["y"], "four", {}),
    ]
    data = onnx_model(nodes).SerializeToString()
    blocks = rtx.blocks_of_nodes(data, ("stage1", "stage2"))
    assert blocks == {"one": "stage1", "two": "stage1", "three": "stage2", "four": ""}


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependency, match="tensorrt_rtx") as caught:
        rtx.kernels(b"")
    assert "[rtx]" in caught.value.hint


@pytest.fixture
def builder():
    return pytest.importorskip("tensorrt_rtx", reason="needs the extra rtx")


@pytest.mark.usefixtures("builder")
def test_a_graph_of_one_op_is_one_kernel(onnx_model):
    data = onnx_model([("Exp", ["x"], ["y"], "growth", {})]).SerializeToString()
    (kernel,) = rtx.kernels(data)
    assert kernel.nodes == ("growth",)


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([("Nonsense", ["x"], ["y"], "odd", {})], r"node 'odd' \(Nonsense\)"),
        (
            [("Cast", ["x"], ["h"], "half", {"to": 10}), ("Add", ["x", "h"], ["y"], "sum", {})],
            r"node 'sum' \(Add\).*must have same input types",
        ),
    ],
    ids=["unknown op", "mixed types"],
)
def test_what_the_parser_refuses_is_said_with_the_node(nodes, said, onnx_model):
    with pytest.raises(EngineError, match=said) as caught:
        rtx.kernels(onnx_model(nodes).SerializeToString())
    assert "cudaError" not in caught.value.message


@pytest.mark.usefixtures("builder")
def test_what_is_no_graph_is_refused():
    with pytest.raises(EngineError, match="does not take the graph"):
        rtx.kernels(b"junk")
