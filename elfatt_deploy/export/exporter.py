"""A torch module to an ONNX graph in memory.

The exporter is torch's TorchScript-based one (`dynamo=False`). Measured on these models it is the
only one that writes opset 13 to 17, which TensorRT 8.2 to 10.3 need, and it is many times faster;
the figures are in `docs/export.md`. Its known trap, a batch size that is silently frozen, is closed
twice: the models never compute a shape from the batch, and parity runs at two batch sizes that are
not the traced one.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from elfatt_deploy import optional
from elfatt_deploy.errors import ExportError
from elfatt_deploy.export.rewrites import norm_followers

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

INPUT, OUTPUT = "images", "logits"


def tap_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose outputs become named tensors of the graph.

    They are the children of the model, and in place of one that only holds others (a list of
    blocks, a level) its children: stem, blocks and mergings of a backbone. Left out are norms that
    are folded at export, whose output changes.
    """
    folded = {norm for norm, _ in norm_followers(model)}
    return {
        # the exporter takes a name of digits alone for a number; two names are taken
        f"module.{name}" if name.isdigit() or name in (INPUT, OUTPUT) else name: module
        for name, module in _callable_children(model, "")
        if name not in folded
    }


def _callable_children(parent: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in parent.named_children():
        holds = type(child).forward is nn.Module.forward  # a ModuleList, or a class without forward
        if holds or (type(child) is nn.Sequential and len(child)):
            yield from _callable_children(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


@contextmanager
def tapped(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every tap module in the order in which they run."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for name, module in tap_modules(model).items():

        def keep(_: nn.Module, __: object, output: object, name: str = name) -> None:
            if isinstance(output, Tensor):
                seen.pop(name, None)  # of a module that runs twice, the last run counts
                seen[name] = output

        hooks.append(module.register_forward_hook(keep))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


class _WithTaps(nn.Module):
    def __init__(self, model: nn.Module, seen: dict[str, Tensor], names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.seen, self.names = model, seen, names

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits = self.net(images)
        return (logits, *(self.seen[name] for name in self.names))


def example_images(images: NDArray[np.float32], batch: int) -> Tensor:
    """Return a batch of golden images to trace with, repeated where there are fewer."""
    return torch.from_numpy(images[np.arange(batch) % len(images)])


def onnx_from_torch(
    model: nn.Module, example: Tensor, *, opset: int, dynamic_batch: bool
) -> onnx.ModelProto:
    """Export a module; the taps are outputs after the logits, under their module names.

    Args:
        model: module from images [B, 3, H, W] to logits [B, classes], in eval mode.
        example: the images that are traced; where the batch is dynamic, any batch size.
        opset: opset of the file.
        dynamic_batch: whether the first dimension is named instead of fixed.

    Raises:
        ExportError: an operator cannot be exported, or the module does not run on the example.
    """
    onnx_module = optional.load("onnx")
    buffer = io.BytesIO()
    with torch.no_grad(), tapped(model) as seen, quiet():
        try:
            logits = model(example[:1])  # one image tells which taps there are
        except Exception as error:
            raise ExportError(
                f"the model does not run on one image of shape {tuple(example.shape[1:])}: {error}"
            ) from error
        # A module that reuses its input, or gives the logits, adds no tensor of its own.
        names = tuple(name for name, value in seen.items() if value is not logits)
        outputs = (OUTPUT, *names)
        dynamic = {name: {0: "batch"} for name in (INPUT, OUTPUT)} if dynamic_batch else None
        try:
            torch.onnx.export(
                _WithTaps(model, seen, names).eval(),
                (example,),
                buffer,  # type: ignore[arg-type]
                input_names=[INPUT],
                output_names=list(outputs),
                dynamic_axes=dynamic,
                opset_version=opset,
                dynamo=False,
            )
        except (torch.onnx.errors.UnsupportedOperatorError, torch.onnx.OnnxExporterError) as error:
            raise ExportError(
                f"an operator of the model cannot be exported at opset {opset}: {error}",
                hint="write it in plain ops, or choose a target with a newer opset",
            ) from error
    proto: onnx.ModelProto = onnx_module.load_model_from_string(buffer.getvalue())
    return proto


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter says at each call."""
    # The exporter announces its own removal and every traced constant at each call. Deprecation is
    # answered in docs/export.md, and traced constants are what parity at two batch sizes is for.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=DeprecationWarning)
            warnings.simplefilter("ignore", category=torch.jit._trace.TracerWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="torch")
            yield
    finally:
        logger.setLevel(level)
