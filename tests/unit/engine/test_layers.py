"""Layer information of every shape that TensorRT writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elfatt_deploy.engine.layers import parse_layers, read_layers
from elfatt_deploy.errors import InputFileError

DATA = Path(__file__).parents[2] / "data" / "trtexec"


def _layer(name="x", type_="gemm", tactic="", reads=("Half",), gives=("Half",), **more):
    def tensors(types):
        return [{"Name": "t", "Dimensions": [1, 8], "Format/Datatype": text} for text in types]

    entry = {"Name": name, "LayerType": type_, "TacticName": tactic, **more}
    entry |= {"Inputs": tensors(reads), "Outputs": tensors(gives)}
    (layer,) = parse_layers(json.dumps({"Layers": [entry]}))
    return layer


def test_detailed_information_of_tensorrt_8():
    layers = read_layers(DATA / "trt8.4_a100_resnet18_fp16.layerinfo.json")
    assert len(layers) == 36
    first, conv = layers[:2]
    assert (first.kind, first.precision, first.type) == ("move", "fp32", "Reformat")
    assert (conv.kind, conv.precision, conv.nodes) == ("convolution", "fp16", ("Conv_0", "Relu_1"))
    assert conv.outputs[0].shape == (32, 64, 112, 112)
    assert conv.tactic.startswith("trt_turing_cutlass")
    assert sum(layer.kind == "convolution" for layer in layers) == 21


def test_names_alone_have_no_precision():
    layers = read_layers(DATA / "layerinfo_names_only.json")
    assert [layer.precision for layer in layers] == ["unknown"] * 6
    assert layers[0].nodes == ("Conv__25", "Relu")
    assert {layer.type for layer in layers} == {""}


def test_tensorrt_10_names_its_nodes_in_the_metadata():
    layers = read_layers(DATA / "synthetic_trt10_layerinfo.json")
    assert [(layer.kind, layer.precision) for layer in layers] == [
        ("pointwise", "fp32"),
        ("convolution", "fp16"),
        ("pointwise", "fp16"),
        ("matmul", "fp16"),
        ("attention", "fp16"),
        ("matmul", "fp32"),
    ]
    assert layers[4].nodes == ("MatMul_44", "Softmax_45", "MatMul_46")


def test_tensorrt_11_has_datatype_and_format_apart():
    (layer,) = read_layers(DATA / "synthetic_trt11_layerinfo.json")
    assert (layer.kind, layer.precision) == ("attention", "fp16")
    assert layer.inputs[0].datatype == "Half"


@pytest.mark.parametrize(
    ("tactic", "precision"),
    [
        ("sm80_xmma_gemm_f16f16_f16f32_f32_nn_n_tilesize64x64x64", "fp16"),
        ("ampere_h16816gemm_256x128_ldg8_nn_v1", "fp16"),
        ("volta_h884gemm_64x64", "fp16"),
        ("turing_fp16_s1688gemm_fp16_128x64", "fp16"),
        ("volta_s884cudnn_256x64_ldg8", "fp16"),
        ("turing_s1688cudnn_128x128_ldg8", "fp16"),
        ("h884cudnn_256x64_ldg8_relu", "fp16"),
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc", "tf32"),
        ("cutlass_80_tensorop_s1688gemm_128x128", "tf32"),
        ("ampere_sgemm_32x32_sliced1x4_nn", "fp32"),
        ("maxwell_scudnn_128x32_relu_medium_nn_v1", "fp32"),
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize32x32x8", "fp32"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32", "int8"),
        ("ampere_bf16_s16816gemm_bf16_128x128", "bf16"),
    ],
)
def test_the_name_of_a_kernel_tells_its_operands(tactic, precision):
    assert _layer(tactic=tactic, reads=("Float",)).precision == precision


@pytest.mark.parametrize(
    ("reads", "precision"),
    [
        (("Half", "Half"), "fp16"),
        (("Row major linear FP32",), "fp32"),
        (("Row major linear FP16 format", "Row major linear INT32 format"), "fp16"),
        (("Half", "Float"), "mixed"),
        (("BFloat16",), "bf16"),
        (("Int8",), "int8"),
        (("Int64", "Bool", "UInt8"), "none"),
        ((), "unknown"),
    ],
)
def test_without_a_telling_kernel_the_operands_are_what_a_layer_reads(reads, precision):
    assert _layer(reads=reads).precision == precision


def test_weights_are_operands():
    assert _layer(reads=("Half",), Weights={"Type": "Float", "Count": 3}).precision == "mixed"


@pytest.mark.parametrize(
    ("name", "type_", "kind"),
    [
        ("{ForeignNode[/norm1/ReduceMean.../head/Add]}", "Myelin", "opaque"),
        ("_gemm_mha_v2_myl0_8", "kgen", "attention"),
        ("__myl_FcAddAdd_myl0_3", "runtime_fusion", "fused"),
        ("/mlp/fc1/Add_myl0", "kgen", "pointwise"),
        ("/linear/conv1/Relu_myl0", "kgen", "pointwise"),
        ("node_linear_3_myl0", "kgen", "fused"),
        ("__myl_FcAddDivErfAddMulMul_myl0_11", "runtime_fusion", "fused"),
        ("__myl_AddMaxrSubExpSumDivMul_myl0_30", "kgen", "pointwise"),
        ("__myl_Conc_myl0_41", "runtime_function", "other"),
        ("/dw/Conv", "correlation", "convolution"),
        ("Reformatting CopyNode for Input Tensor 0 to /qkv/MatMul", "Reformat", "move"),
        ("PWN(/mlp/act/Erf)", "PointWiseV2", "pointwise"),
        ("/qkv/MatMul", "MatrixMultiply", "matmul"),
        ("/pool", "CudaPooling", "other"),
        ("wait", "wait", "move"),
    ],
)
def test_the_kind_of_a_layer(name, type_, kind):
    assert _layer(name, type_).kind == kind


def test_a_fused_kernel_is_known_by_its_nodes_unless_myelin_named_it_after_its_ops():
    metadata = "[ONNX Layer: /mlp/fc1/MatMul]\x1e[ONNX Layer: /mlp/act/Mul]"
    layer = _layer("/mlp/act/Mul_myl0_3", "fusion", Metadata=metadata)
    assert (layer.kind, layer.nodes) == ("fused", ("/mlp/fc1/MatMul", "/mlp/act/Mul"))
    bias = _layer("__myl_AddMoveReshSlicTran_myl0_4", "kgen", Metadata=metadata)
    assert bias.kind == "pointwise"


def test_an_opaque_region_tells_nothing_by_its_edges():
    assert _layer("{ForeignNode[a...b]}", "Myelin").precision == "unknown"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (r"a\.b", r"a\.b"),
        (r"a\u12", r"a\u12"),
        (r"a\\b", r"a\b"),
        (r"a\/b", "a/b"),
        ("a\x1eb\tc", "a\x1eb\tc"),
        (r"w\d\\\q", r"w\d" + "\\" + r"\q"),
    ],
)
def test_names_that_are_not_escaped_are_read_as_they_stand(written, name):
    (layer,) = parse_layers(f'{{"Layers": ["{written}"], "Bindings": []}}')
    assert layer.name == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"Layers": [{"Name"', "is not JSON"),
        ("", "is not JSON"),
        ("[]", "without a list 'Layers'"),
        ('{"Layers": "many"}', "without a list 'Layers'"),
        ('{"Layers": [3]}', "a layer of unknown form"),
        ('{"Layers": [{"Name": "a", "Inputs": ["t"]}]}', "a layer of unknown form"),
    ],
)
def test_what_is_no_layer_information_is_an_input_error(text, told, tmp_path):
    path = tmp_path / "layers.json"
    path.write_text(text)
    with pytest.raises(InputFileError, match=f"layers.json.*{told}"):
        read_layers(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputFileError, match="cannot read"):
        read_layers(tmp_path / "none.json")
