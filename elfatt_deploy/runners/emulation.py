"""FP16 on a CPU, honestly: every tensor is rounded; `graph/rounding.py` states the limits."""

from __future__ import annotations

from collections.abc import Collection

from elfatt_deploy import optional
from elfatt_deploy.errors import InputFileError
from elfatt_deploy.graph import half, rounding
from elfatt_deploy.runners.ort_runner import OrtRunner


class EmulationRunner(OrtRunner):
    """One ONNX graph as FP16 would compute it, in FP32 arithmetic that rounds after each op.

    Args:
        model: bytes of an ONNX file: typed FP16, or FP32, which is then turned into FP16.
        islands: nodes of an FP32 file that stay FP32.
        threads: threads within an op; 0 means ONNX Runtime's choice.
    """

    def __init__(self, model: bytes, *, islands: Collection[str] = (), threads: int = 0) -> None:
        """Convert the graph; nothing is loaded yet.

        Raises:
            InputFileError: the bytes are no ONNX file.
            ExportError: the graph cannot be converted to FP16.
        """
        onnx_module = optional.load("onnx")
        from google.protobuf.message import DecodeError

        try:
            proto = onnx_module.load_model_from_string(model)
        except DecodeError as error:
            raise InputFileError(f"not a whole ONNX file: {error}") from error
        if not rounding.is_typed_half(proto):
            proto = half.mixed(proto, islands)
        graph = rounding.emulated(proto).SerializeToString()
        super().__init__(graph, threads=threads, optimised=False)
        self.name = f"fp16-emulation{self.plain_ops}"
