"""From efficient-attention vision transformers in PyTorch to verified ONNX bundles.

    model -> export -> graph (lint, simplify) -> runners -> parity -> bundle

`pipeline` calls the stages in that order; each stage's folder has its name.
"""

from __future__ import annotations

import importlib
import logging
from typing import Any

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

_PUBLIC = {
    "Attention": "models.registry",
    "Bundle": "artifacts",
    "ElfattDeployError": "errors",
    "ModelSpec": "models.spec",
    "ParityReport": "artifacts",
    "check_bundle": "pipeline",
    "export_bundle": "pipeline",
    "read_bundle": "bundles",
    "register_attention": "models.registry",
    "register_model": "models.registry",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604  (the names resolve lazily below)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
