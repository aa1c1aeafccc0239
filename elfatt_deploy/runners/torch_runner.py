"""A torch module in float32, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

import copy
from collections.abc import Mapping
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


class TorchRunner(Runner):
    """One torch module in eval mode, from images [B, 3, H, W] to logits [B, classes].

    The module that is given is left as it is: a float32 copy of it runs. TF32 is off while the
    runner is open: FP32 is to mean FP32.

    Args:
        module: the module.
        device: `cpu` or `cuda`.
        threads: threads within an op on the CPU, while the runner is open; 0 leaves them.
        input_name: what `infer` calls the images.
        output_name: what `infer` calls the logits.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: str = "cpu",
        threads: int = 0,
        input_name: str = "images",
        output_name: str = "logits",
    ) -> None:
        """Keep what to run; nothing is copied yet."""
        if device not in DEVICES:
            raise UnknownNameError("device of torch", device, DEVICES)
        self.module, self.device, self.threads = module, device, threads
        self.input_name, self.output_name = input_name, output_name
        self.name = f"torch float32 ({device})"
        self._running: nn.Module | None = None
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
            self._running = copy.deepcopy(self.module).float().eval().to(self.device)
        except RuntimeError as error:
            raise RunnerError(f"the model cannot be put on {self.device}: {error}") from error
        if self.threads:
            self._restore.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(self.threads)
        if self.device == "cuda":
            for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
                self._restore.callback(setattr, backend, "allow_tf32", backend.allow_tf32)
                backend.allow_tf32 = False

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
                logits: Any = self._running(torch.from_numpy(images.copy()).to(self.device))
        except (RuntimeError, ValueError, TypeError) as error:
            raise RunnerError(f"the model does not run on {images.shape}: {error}") from error
        if not isinstance(logits, torch.Tensor):
            raise RunnerError(f"the model gives a {type(logits).__name__}, not one tensor")
        return {self.output_name: logits.cpu().numpy()}

    def close(self) -> None:
        """Drop the copy and put torch's settings back."""
        self._running = None
        self._restore.close()
