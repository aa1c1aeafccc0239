"""An engine is called FP16 only where its layers say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from elfatt_deploy.engine.layers import Layer, read_layers
from elfatt_deploy.engine.proof import prove

DATA = Path(__file__).parents[2] / "data" / "trtexec"


def _layers(*found):
    """Return layers of (kind, precision), or (kind, precision, node)."""
    return tuple(
        Layer(
            name=f"layer {index}",
            kind=entry[0],
            precision=entry[1],
            type="gemm",
            nodes=tuple(entry[2:]) or (f"node {index}",),
        )
        for index, entry in enumerate(found)
    )


def test_a_real_fp16_engine_is_proved():
    proof = prove(read_layers(DATA / "trt8.4_a100_resnet18_fp16.layerinfo.json"), "fp16")
    assert (proof.verdict, proof.proved) == ("fp16", True)
    assert (proof.layers, proof.deciding) == (36, 21)
    assert [(s.precision, s.layers, s.share) for s in proof.shares] == [("fp16", 21, 1.0)]


def test_the_same_engine_is_no_strict_fp32():
    proof = prove(read_layers(DATA / "trt8.4_a100_resnet18_fp16.layerinfo.json"), "fp32")
    assert (proof.verdict, proof.proved) == ("fp16", False)


@pytest.mark.parametrize("precision", ["fp16", "tf32", "fp32"])
@pytest.mark.parametrize("layers", [read_layers(DATA / "layerinfo_names_only.json"), ()])
def test_names_alone_and_no_layers_prove_nothing(layers, precision):
    proof = prove(layers, precision)
    assert (proof.verdict, proof.proved) == (f"{precision}-unproven", False)


def test_one_fp32_product_makes_it_partial_and_is_named():
    layers = read_layers(DATA / "synthetic_trt10_layerinfo.json")
    proof = prove(layers, "fp16")
    assert (proof.verdict, proof.proved) == ("fp16-partial", False)
    assert proof.not_fp16 == ("/head/Gemm_myl0_5",)
    assert [(s.precision, s.layers, s.share) for s in proof.shares] == [
        ("fp16", 3, 0.75),
        ("fp32", 1, 0.25),
    ]


def test_an_island_in_fp32_is_as_it_should_be():
    layers = read_layers(DATA / "synthetic_trt10_layerinfo.json")
    proof = prove(layers, "fp16", islands=("/head/Gemm", "/norm/LayerNormalization"))
    assert (proof.verdict, proof.proved, proof.not_fp16) == ("fp16", True, ())


def test_a_product_that_should_be_an_island_and_is_not_denies_the_proof():
    layers = read_layers(DATA / "synthetic_trt10_layerinfo.json")
    proof = prove(layers, "fp16", islands=("/head/Gemm", "/qkv/MatMul"))
    assert (proof.verdict, proof.proved) == ("fp16", False)
    assert proof.islands_in_fp16 == ("/qkv/MatMul_myl0_3",)


@pytest.mark.parametrize(
    ("found", "asked", "verdict"),
    [
        ([("matmul", "fp32"), ("convolution", "fp32")], "fp16", "fp32"),
        ([("matmul", "tf32"), ("matmul", "fp32")], "fp16", "tf32"),
        ([("fused", "mixed"), ("matmul", "fp32")], "fp16", "fp16-partial"),
        ([("matmul", "int8")], "fp16", "other"),
        ([("matmul", "fp16"), ("pointwise", "fp32"), ("move", "fp32")], "fp16", "fp16"),
        ([("pointwise", "fp16")], "fp16", "fp16-unproven"),
        ([("matmul", "fp16"), ("opaque", "unknown")], "fp16", "fp16-unproven"),
        ([("matmul", "fp32", "head")], "fp16", "fp32"),
        ([("matmul", "fp32")], "fp32", "fp32"),
        ([("matmul", "fp32"), ("matmul", "tf32")], "fp32", "tf32"),
        ([("opaque", "unknown"), ("matmul", "tf32")], "fp32", "tf32"),
        ([("opaque", "unknown"), ("matmul", "fp32")], "fp32", "fp32-unproven"),
        ([("matmul", "fp32"), ("matmul", "fp16")], "fp32", "fp16-partial"),
        ([("matmul", "fp32")], "tf32", "fp32"),
        ([("matmul", "tf32")], "tf32", "tf32"),
    ],
)
def test_the_rule(found, asked, verdict):
    proof = prove(_layers(*found), asked)
    assert proof.verdict == verdict
    kept = {"fp16": {"fp16"}, "fp32": {"fp32"}, "tf32": {"tf32", "fp32"}}[asked]
    assert proof.proved == (verdict in kept)


def test_only_islands_leave_nothing_to_prove():
    proof = prove(_layers(("matmul", "fp32", "head")), "fp16", islands=("head",))
    assert proof.verdict == "fp16-unproven"


def test_tf32_kernels_and_opaque_regions_are_named():
    proof = prove(_layers(("matmul", "tf32"), ("opaque", "unknown")), "fp32")
    assert (proof.tf32, proof.opaque) == (("layer 0",), ("layer 1",))
