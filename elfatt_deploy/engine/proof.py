"""What an engine really computes in, from its layer information.

The layers that decide are those with products in them: attention, matrix products, convolutions,
kernels that fuse one of these with its neighbours, and opaque regions. The rule:

- `fp16`: every deciding layer that is no FP32 island computes in FP16;
- `fp16-partial`: some do, others do not (or have operands of several types);
- `tf32`: none in FP16, and at least one in TF32;
- `fp32`: all in FP32, none with a TF32 kernel: strict FP32;
- `other`: anything else, such as INT8;
- `...-unproven`, after what was asked for: names alone, no layer that decides, or an opaque region
  (`{ForeignNode[...]}` of TensorRT 8, which hides its kernels), and nothing against it.

"Computes in FP16" means that the operands of the products are FP16, by the name of the kernel or
else by what the layer reads; sums may be wider. Norms, softmax and other pointwise layers do not
decide: TensorRT widens them inside a kernel, where no layer information shows it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from elfatt_deploy.engine.config import Precision
from elfatt_deploy.engine.layers import Layer, LayerPrecision

Verdict = Literal[
    "fp16", "fp16-partial", "tf32", "fp32", "other",
    "fp16-unproven", "tf32-unproven", "fp32-unproven",
]  # fmt: skip

_PRODUCTS = ("attention", "matmul", "convolution")
_DECIDING = (*_PRODUCTS, "fused", "opaque")
_UNPROVEN: dict[Precision, Verdict] = {
    "fp16": "fp16-unproven",
    "tf32": "tf32-unproven",
    "fp32": "fp32-unproven",
}
#: the verdicts that keep what was asked for; TF32 is a permission, not an order
_KEPT: dict[Precision, tuple[Verdict, ...]] = {
    "fp16": ("fp16",),
    "tf32": ("tf32", "fp32"),
    "fp32": ("fp32",),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionShare:
    """How many of the deciding layers, islands included, compute in a precision."""

    precision: LayerPrecision
    layers: int
    share: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionProof:
    """What an engine computes in, and what says so.

    Args:
        asked: the precision of the build.
        verdict: the word; see the rule at the top of this module.
        layers: all layers of the engine.
        deciding: those with products in them.
        shares: of the deciding layers, the most frequent first.
        not_fp16: deciding layers that are no islands and not FP16, by name.
        tf32: deciding layers with a TF32 kernel, by name.
        opaque: deciding layers that do not tell their precision, by name.
        islands_in_fp16: products of FP32 islands that run in FP16 all the same, by name.
    """

    asked: Precision
    verdict: Verdict
    layers: int
    deciding: int
    shares: tuple[PrecisionShare, ...] = ()
    not_fp16: tuple[str, ...] = ()
    tf32: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    islands_in_fp16: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        """Whether the engine is what was asked for, beyond doubt."""
        return self.verdict in _KEPT[self.asked] and not self.islands_in_fp16


def prove(
    layers: Sequence[Layer], precision: Precision, islands: Iterable[str] = ()
) -> PrecisionProof:
    """Judge an engine by its layers.

    Args:
        layers: of `parse_layers`; none at all where the builder gave no information.
        precision: what was asked for.
        islands: ONNX nodes that are to stay FP32.
    """
    kept = set(islands)
    deciding = [layer for layer in layers if layer.kind in _DECIDING]
    # Without its type a layer is a name, and what the name seems to say proves nothing.
    named_only = not any(layer.type for layer in layers)
    free = [layer for layer in deciding if not kept & set(layer.nodes)]
    counts = Counter(layer.precision for layer in deciding)
    return PrecisionProof(
        asked=precision,
        verdict=_verdict(precision, free, named_only),
        layers=len(layers),
        deciding=len(deciding),
        shares=tuple(
            PrecisionShare(precision=word, layers=count, share=count / len(deciding))
            for word, count in counts.most_common()
        ),
        not_fp16=_names(layer for layer in free if layer.precision not in ("fp16", "unknown")),
        tf32=_names(layer for layer in deciding if layer.precision == "tf32"),
        opaque=_names(layer for layer in deciding if layer.precision == "unknown"),
        islands_in_fp16=_names(
            layer
            for layer in deciding
            if layer not in free and layer.kind in _PRODUCTS and layer.precision == "fp16"
        ),
    )


def _names(layers: Iterable[Layer]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers)


def _verdict(asked: Precision, free: list[Layer], named_only: bool) -> Verdict:
    found = {layer.precision for layer in free}
    doubtful = named_only or not found or "unknown" in found
    if doubtful and not (asked == "fp32" and found & {"fp16", "tf32", "mixed"}):
        return _UNPROVEN[asked]
    if found == {"fp16"}:
        return "fp16"
    if found & {"fp16", "mixed"}:
        return "fp16-partial"
    if found - {"fp32", "tf32", "unknown"}:
        return "other"
    return "tf32" if "tf32" in found else "fp32"
