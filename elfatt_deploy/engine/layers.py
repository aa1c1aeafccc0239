"""What an engine is made of: its layer information as records, in every shape TensorRT writes.

- names alone (`{"Layers": ["Conv_0 + Relu_1", ...]}`): a build without detailed verbosity;
- TensorRT 8.2 to 10: objects whose tensors have `Format/Datatype`;
- TensorRT 11: `Datatype` and `Format` apart, `I/O Tensors` in place of `Bindings`.

TensorRT does not escape names: control characters and stray backslashes are read as they stand.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from elfatt_deploy.errors import InputFileError

Kind = Literal[
    "attention", "matmul", "convolution", "fused", "pointwise", "move", "other", "opaque"
]
#: what a layer computes in; `mixed`: its operands differ; `none`: no floating-point operand;
#: `unknown`: the information does not say
LayerPrecision = Literal["fp16", "fp32", "tf32", "bf16", "int8", "fp8", "mixed", "none", "unknown"]

_ONNX_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
#: a backslash that begins no JSON escape
_STRAY_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)')
#: 8.x shows all that its second compiler took as one such layer
_OPAQUE = re.compile(r"\{ForeignNode\[")
_ATTENTION = re.compile(r"mha|attention", re.IGNORECASE)
_MATMUL = re.compile(
    r"gemm|matmul|matrixmultiply|fullyconnected|einsum|linear|addmm|bmm|(?-i:(?<![a-z])Fc(?=[A-Z_]))",
    re.IGNORECASE,
)
_CONVOLUTION = re.compile(r"conv(?!ert)|correlation", re.IGNORECASE)
_MOVE = re.compile(r"reformat|noop|shuffle|copy|constant|signal|wait|slice|concat|transpose", re.I)
_FUSED = re.compile(r"kgen|fusion|myelin", re.IGNORECASE)
_GENERATED = re.compile(r"^__myl_")
_POINTWISE = re.compile(r"pointwise|elementwise|activation|softmax|norm|reduce|unary|PWN", re.I)

#: datatypes as all versions write them, BF16 first: its name holds that of FP16
_DATATYPES: tuple[tuple[re.Pattern[str], LayerPrecision], ...] = (
    (re.compile(r"bf16|bfloat16", re.IGNORECASE), "bf16"),
    (re.compile(r"\bhalf\b|fp16|float16", re.IGNORECASE), "fp16"),
    (re.compile(r"\bfloat\b|fp32|float32", re.IGNORECASE), "fp32"),
    (re.compile(r"fp8", re.IGNORECASE), "fp8"),
    (re.compile(r"(?<!u)int8", re.IGNORECASE), "int8"),
)
#: what names of kernels say of their operands, from CUTLASS, cuBLAS and cuDNN: `f16f16_f16f16_f16`,
#: `h16816gemm`, `s16816gemm_fp16`, `tf32f32`, `s1688gemm` (TF32 without another type), `sgemm`
_TACTICS: tuple[tuple[re.Pattern[str], LayerPrecision], ...] = (
    (re.compile(r"tf32", re.IGNORECASE), "tf32"),
    (re.compile(r"bf16", re.IGNORECASE), "bf16"),
    (re.compile(r"i8i8|int8|imma|i16832|i8816", re.IGNORECASE), "int8"),
    (re.compile(r"f16f16|fp16|hmma|(?:^|_)h\d{3,}|hgemm|hcudnn", re.IGNORECASE), "fp16"),
    (re.compile(r"(?:volta|turing).*s(?:884|1688)|s884", re.IGNORECASE), "fp16"),  # no TF32 there
    (re.compile(r"s1688", re.IGNORECASE), "tf32"),
    (re.compile(r"f32f32|sgemm|scudnn|fp32", re.IGNORECASE), "fp32"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LayerTensor:
    """A tensor that a layer reads or writes.

    Args:
        name: its name in the engine.
        shape: its dimensions.
        datatype: as TensorRT writes it, layout included: `Half`, `Row major linear FP32`.
    """

    name: str
    shape: tuple[int, ...]
    datatype: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of an engine.

    Args:
        name: its name, often of all the nodes in it.
        kind: what it does; `opaque` where one layer hides many.
        precision: what it computes in.
        inputs: what it reads, weights left out; empty where only its name is known.
        outputs: what it writes.
        nodes: names of the ONNX nodes in it, as far as they are known.
        type: LayerType as TensorRT writes it; empty where only its name is known.
        tactic: name of its kernel; empty where there is none.
    """

    name: str
    kind: Kind
    precision: LayerPrecision
    inputs: tuple[LayerTensor, ...] = ()
    outputs: tuple[LayerTensor, ...] = ()
    nodes: tuple[str, ...] = ()
    type: str = ""
    tactic: str = ""


def read_layers(path: Path) -> tuple[Layer, ...]:
    """Read a file of layer information.

    Raises:
        InputFileError: it is missing, or holds no layer information.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}") from error
    return parse_layers(text, str(path))


def parse_layers(text: str, source: str = "the layer information") -> tuple[Layer, ...]:
    """Parse layer information of any version.

    Args:
        text: what the engine inspector or `--exportLayerInfo` gave.
        source: where it is from, for messages.

    Raises:
        InputFileError: it is not JSON, or not layer information.
    """
    mended = _STRAY_ESCAPE.sub(lambda match: match[0] if match[1] else r"\\", text)
    try:
        document = json.loads(mended, strict=False)
    except ValueError as error:
        raise InputFileError(
            f"{source} is not JSON: {error}", hint="build the plan again, it may be cut"
        ) from error
    entries = document.get("Layers") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InputFileError(f"{source} is JSON without a list 'Layers'")
    try:
        return tuple(
            _named(entry) if isinstance(entry, str) else _detailed(entry) for entry in entries
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputFileError(f"{source} has a layer of unknown form: {error!r}") from error


def _named(name: str) -> Layer:
    return Layer(name=name, kind=_kind(name, "", "", ()), precision="unknown", nodes=_parts(name))


def _detailed(entry: Mapping[str, Any]) -> Layer:
    name, type_, tactic = (str(entry.get(key, "")) for key in ("Name", "LayerType", "TacticName"))
    inputs, outputs = _tensors(entry.get("Inputs")), _tensors(entry.get("Outputs"))
    nodes = tuple(_ONNX_NODE.findall(str(entry.get("Metadata", "")))) or _parts(name)
    kind = _kind(name, type_, tactic, nodes)
    weights = [
        str(entry[key]["Type"]) for key in ("Weights", "Bias") if isinstance(entry.get(key), dict)
    ]
    return Layer(
        name=name,
        kind=kind,
        precision=_precision(kind, tactic, [*(t.datatype for t in inputs), *weights]),
        inputs=inputs,
        outputs=outputs,
        nodes=nodes,
        type=type_,
        tactic=tactic,
    )


def _tensors(entries: list[Mapping[str, Any]] | None) -> tuple[LayerTensor, ...]:
    return tuple(
        LayerTensor(
            name=str(entry.get("Name", "")),
            shape=tuple(int(side) for side in entry.get("Dimensions", ())),
            datatype=str(
                next(
                    (
                        entry[key]
                        for key in ("Datatype", "DataType", "Format/Datatype")
                        if key in entry
                    ),
                    "",
                )
            ),
        )
        for entry in entries or ()
    )


def _parts(name: str) -> tuple[str, ...]:
    """Return the nodes in a name such as `Conv_0 + PWN(Relu_1)`."""
    return tuple(re.sub(r"^(?:PWN\()+|\)+$", "", part.strip()) for part in name.split(" + "))


def _kind(name: str, type_: str, tactic: str, nodes: tuple[str, ...]) -> Kind:
    """Return what a layer does, from the surest sign to the weakest.

    A reformat carries the name of the layer it serves, so the type comes before the names.
    """
    if _OPAQUE.search(name):
        return "opaque"
    if _MOVE.search(type_) or name.startswith("Reformatting CopyNode"):
        return "move"
    signs = " ".join((type_, tactic, name))
    if _ATTENTION.search(tactic) or (_FUSED.search(type_) and re.search("mha", name)):
        return "attention"
    if _FUSED.search(type_):
        # The last part alone: "/conv1/Relu" is a Relu. A kernel that Myelin wrote is named after
        # its ops, and lists the node of a product whose bias it adds: nodes tell nothing there.
        named = (name,) if _GENERATED.search(name) else (name, *nodes)
        inside = " ".join((tactic, *(part.rsplit("/", 1)[-1] for part in named)))
        return "fused" if _MATMUL.search(inside) or _CONVOLUTION.search(inside) else "pointwise"
    if _CONVOLUTION.search(type_ or signs):
        return "convolution"
    if _MATMUL.search(type_ or signs):
        return "matmul"
    return "pointwise" if _POINTWISE.search(signs) else "other"


def _precision(kind: Kind, tactic: str, datatypes: list[str]) -> LayerPrecision:
    """Return what a layer computes in: what its kernel's name says, else what it reads.

    Accumulation is not looked at: a product of FP16 operands is FP16 however wide its sum is.
    """
    if kind == "opaque":  # its edges say nothing of the many layers inside
        return "unknown"
    if kind in ("attention", "matmul", "convolution", "fused"):
        for pattern, precision in _TACTICS:
            if pattern.search(tactic):
                return precision
    found = {
        next((word for pattern, word in _DATATYPES if pattern.search(text)), "none")
        for text in datatypes
    } - {"none"}
    if not datatypes:
        return "unknown"
    if len(found) > 1:
        return "mixed"
    return found.pop() if found else "none"  # type: ignore[return-value]
