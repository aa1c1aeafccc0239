"""A torch module in float32 or float16, as it is or compiled, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from elfatt_deploy import optional
from elfatt_deploy.errors import RunnerError, UnknownNameError
from elfatt_deploy.runners.base import Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

DEVICES = ("cpu", "cuda")
#: precision -> the type of weights and images
_DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16"}


class TorchRunner(Runner):
    """One torch module in eval mode, from images [B, 3, H, W] to logits [B, classes].

    The module that is given is left as it is: a copy of it runs. TF32 is off while the runner is
    open, unless it is asked for: FP32 is to mean FP32.

    Args:
        module: the module.
        device: `cpu` or `cuda`.
        precision: `fp32`; `tf32`, which allows it on CUDA; `fp16`, where weights and images are
            float16 throughout. Images and logits of `infer` are float32 in any case.
        compiled: whether `torch.compile` rewrites the module, at its first run.
        threads: threads within an op on the CPU, while the runner is open; 0 leaves them.
        input_name: what `infer` calls the images.
        output_name: what `infer` calls the logits.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
        threads: int = 0,
        input_name: str = "images",
        output_name: str = "logits",
    ) -> None:
        """Keep what to run; nothing is copied yet."""
        if device not in DEVICES:
            raise UnknownNameError("device of torch", device, DEVICES)
        if precision not in _DTYPES:
            raise UnknownNameError("precision of torch", precision, _DTYPES)
        self.module, self.device, self.threads = module, device, threads
        self.precision, self.compiled = precision, compiled
        self.input_name, self.output_name = input_name, output_name
        kind = "tf32" if precision == "tf32" else _DTYPES[precision]
        self.name = f"torch {kind} ({device}{', compiled' if compiled else ''})"
        self._running: Callable[[Any], Any] | None = None
        self._restore = ExitStack()

    def open(self) -> None:
        """Copy the module to the device.

        Raises:
            MissingDependency: torch is absent or broken.
            RunnerError: torch finds no device, or the module does not fit on it.
        """
        torch = optional.load("torch")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise RunnerError(
                "the installed torch finds no CUDA device",
                hint="check the driver with nvidia-smi, or use --provider cpu",
            )
        try:
            running = copy.deepcopy(self.module).float().eval().to(self.device)
            if self.precision == "fp16":
                running = running.half()
        except RuntimeError as error:
            raise RunnerError(f"the model cannot be put on {self.device}: {error}") from error
        self._running = torch.compile(running) if self.compiled else running
        if self.threads:
            self._restore.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(self.threads)
        if self.device == "cuda":
            for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
                self._restore.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = self.precision == "tf32"

    def infer(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run once.

        Raises:
            RunnerError: the runner is not open, the module does not take these inputs, or it gives
                something else than one tensor.
        """
        if self._running is None:
            raise RunnerError(f"{self.name} is not open")
        if set(feeds) != {self.input_name}:
            raise RunnerError(f"the model takes '{self.input_name}', not {', '.join(feeds) or '-'}")
        torch = optional.load("torch")
        images = feeds[self.input_name]
        try:
            with torch.inference_mode():
                given = torch.from_numpy(images.copy()).to(self.device)
                logits = self._running(given.half() if self.precision == "fp16" else given)
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunnerError(f"the model does not run on {images.shape}: {error}") from error
        if not isinstance(logits, torch.Tensor):
            raise RunnerError(f"the model gives a {type(logits).__name__}, not one tensor")
        if self.precision == "fp16":
            logits = logits.float()
        return {self.output_name: logits.cpu().numpy()}

    def close(self) -> None:
        """Drop the copy and put torch's settings back."""
        self._running = None
        self._restore.close()
