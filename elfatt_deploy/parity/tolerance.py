"""What each comparison allows, with its reason. Loosening an entry is a reviewed change."""

from __future__ import annotations

from elfatt_deploy.artifacts import Tolerance
from elfatt_deploy.errors import UnknownNameError

_TABLE: dict[str, Tolerance] = {
    # Float32 on another runtime sums in another order. Official PyTorch code stays within 2.2e-6 of
    # its own float64 run on these models, and so does ONNX Runtime on a CPU. The smallest mistake
    # of algebra that we know of, GELU in its tanh form, moves a logit by 4e-4.
    "fp32": Tolerance(max_abs=1e-4, relative_l2=2e-5, cosine=0.9999999),
    # Mixed precision rounds each tensor to 11 bits, 2.8e-4 of its size. Over the depth of these
    # models that makes 0.7e-3 to 1.5e-3 of the logits where nothing is wrong, and 0.4 or more where
    # a value overflowed. Agreement of the best class is judged as well (see `parity_row`).
    "fp16": Tolerance(max_abs=3e-2, relative_l2=5e-3, cosine=0.99998),
    # TF32 multiplies numbers of the same 11 bits, with the range of float32.
    "tf32": Tolerance(max_abs=3e-2, relative_l2=5e-3, cosine=0.99998),
}

#: An inner tensor that is this far off, relative to the spread of its values, is not rounding.
#: fp32: checkpoints of the reference models differ by at most 7.5e-6 between float32 and float64.
#: fp16: the worst value of any block of the models stays below 2e-2 in the emulation.
_INNER = {"fp32": 1e-3, "fp16": 5e-2}


def tolerance(precision: str) -> Tolerance:
    """Return the tolerance for logits of that precision against float32 torch.

    Raises:
        UnknownNameError: the table has no such precision.
    """
    if precision not in _TABLE:
        raise UnknownNameError("precision", precision, _TABLE)
    return _TABLE[precision]


def inner_limit(precision: str) -> float:
    """Return how far an inner tensor may be off at that precision, relative to its spread.

    Raises:
        UnknownNameError: the table has no such precision.
    """
    if precision not in _INNER:
        raise UnknownNameError("precision", precision, _INNER)
    return _INNER[precision]
