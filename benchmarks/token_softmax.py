"""How much of linear attention's context survives FP16 when its softmax runs over many tokens?

    python benchmarks/token_softmax.py

The context of a head is softmax_tokens(K)^T V, [d, d]. Over 65,536 tokens (1024x1024 pixels) a
softmax has values around 1.5e-5, below the normal numbers of FP16. Each form is computed in FP32
from FP16 inputs and rounded to FP16 where a graph would hand a tensor on, as the package's
emulation does; sums of products are FP32. The error is |context - exact| / |exact| against float64.
Nothing is timed.
"""

import argparse

import _common
import torch

WIDTH = 32
#: spread of K, and mean of V in units of its spread
CASES = {
    "K nearly constant, V centred": (0.1, 0.0),
    "K of unit spread, V centred": (1.0, 0.0),
    "K of unit spread, V off centre": (1.0, 1.0),
    "K of spread 4 (peaked)": (4.0, 0.0),
}


def half(x):
    """Round to FP16 and back."""
    return x.half().float()


def softmax(k, v):
    """softmax(K)^T V, the softmax handed on in FP16."""
    return half(half(k.softmax(0)).T @ v)


def softmax_scaled(k, v):
    """The softmax times sqrt(N) before it is rounded, its inverse behind the product."""
    scale = len(k) ** 0.5
    return half(half(half(k.softmax(0) * scale).T @ v) / scale)


def normalised_late(k, v):
    """exp(K - max)^T V over the sum of exp(K - max); both over sqrt(N) against overflow."""
    scale = len(k) ** -0.5
    weights = half((half(k - k.amax(0))).exp())
    return half(half(weights.T @ half(v * scale)) / half(weights.sum(0) * scale)[:, None])


def normalised_late_unscaled(k, v):
    """The same without sqrt(N): the sums overflow."""
    weights = half((half(k - k.amax(0))).exp())
    return half(half(weights.T @ v) / half(weights.sum(0))[:, None])


FORMS = (softmax, softmax_scaled, normalised_late, normalised_late_unscaled)


def errors(tokens, spread, mean, seeds):
    """Return by form the median relative error over the seeds."""
    found = {form.__name__: [] for form in FORMS}
    for seed in range(seeds):
        draw = torch.Generator().manual_seed(seed)
        k = half(spread * torch.randn(tokens, WIDTH, generator=draw))
        v = half(mean + torch.randn(tokens, WIDTH, generator=draw))
        exact = k.double().softmax(0).T @ v.double()
        for form in FORMS:
            off = (form(k, v).double() - exact).norm() / exact.norm()
            found[form.__name__].append(float(off))
    return {name: sorted(values)[len(values) // 2] for name, values in found.items()}


def main():
    """Print one table for each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=_common.at_least(1), default=5)
    args = parser.parse_args()
    print(
        f"- kind: emulated FP16 on a CPU, torch {torch.__version__}, median of {args.seeds} seeds"
    )
    for case, (spread, mean) in CASES.items():
        rows = []
        for side in (56, 128, 256, 512):
            found = errors(side * side, spread, mean, args.seeds)
            rows.append((side * side, *(f"{value:.1e}" for value in found.values())))
        _common.table(case, ("tokens", *(form.__name__ for form in FORMS)), rows)


if __name__ == "__main__":
    main()
