"""ONNX Runtime, on the CPU or on an NVIDIA GPU, there also through TensorRT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elfatt_deploy import optional
from elfatt_deploy.errors import RunnerError, UnknownNameError
from elfatt_deploy.graph import plugin_body, plugin_nodes, summary
from elfatt_deploy.models.plugin_node import OP
from elfatt_deploy.runners.base import Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: provider -> ONNX Runtime's name and options. TF32 is off: FP32 is to mean FP32. Of TensorRT's
#: provider no option says so.
PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
    "tensorrt": ("TensorrtExecutionProvider", {}),
}
#: what a runner's name says where it was given the plugin's node in plain ops
_PLAIN_OPS = f", {OP} in plain ops"
#: what takes the nodes that a provider leaves, in this order
_REST = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu")}


def check_provider(provider: str) -> None:
    """Raise where there is no provider of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if provider not in PROVIDERS:
        raise UnknownNameError("provider", provider, PROVIDERS)


class OrtRunner(Runner):
    """One ONNX graph in one ONNX Runtime session.

    It has no plugin of TensorRT: of a graph with the node `ElfattAttention` it runs that node's
    body in plain ops, and its name says so.

    Args:
        model: the path of an ONNX file, or its bytes.
        provider: `cpu`, `cuda` or `tensorrt`, which builds an engine for each input shape.
        threads: threads within an op; 0 means ONNX Runtime's choice.
        tf32: whether CUDA may multiply in TF32.
        optimised: whether ONNX Runtime may rewrite the graph; without, it runs node by node.
    """

    def __init__(
        self,
        model: str | bytes,
        *,
        provider: str = "cpu",
        threads: int = 0,
        tf32: bool = False,
        optimised: bool = True,
    ) -> None:
        """Keep what to load; nothing is loaded yet."""
        check_provider(provider)
        self.model, self.provider, self.threads = model, provider, threads
        self.optimised, self.tf32 = optimised, tf32
        notes = (", TF32" if tf32 else "") + ("" if optimised else ", not optimised")
        #: what the name says where the node of the plugin runs in plain ops
        self.plain_ops = _PLAIN_OPS if plugin_nodes.holds_nodes(model) else ""
        self.name = f"ort ({PROVIDERS[provider][0]}{notes}){self.plain_ops}"
        self._session: Any = None

    def open(self) -> None:
        """Load the graph.

        Raises:
            MissingDependency: ONNX Runtime is absent or broken.
            InputFileError: the file holds the plugin's node, and is not complete.
            SchemaError: such a node is not as it must be.
            RunnerError: it refuses the graph, or does not use the provider that was asked for.
        """
        ort = optional.load("onnxruntime")
        options = ort.SessionOptions()
        options.log_severity_level = 4  # its errors become ours, said once
        options.intra_op_num_threads = self.threads
        # the workers of an idle session would take the cores from whatever runs next to it
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if not self.optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            # In the order of the file: the default order may keep every tensor until the end.
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        provider, _ = PROVIDERS[self.provider]
        if provider not in ort.get_available_providers():
            raise RunnerError(
                f"the installed ONNX Runtime has no {provider}",
                hint=f"pip uninstall onnxruntime; pip install {optional.requirement('ort-gpu')}",
            )
        model = self._runnable()
        try:
            session = ort.InferenceSession(
                model,
                options,
                providers=[self._settings(name) for name in (self.provider, *_REST[self.provider])],
            )
        except Exception as error:  # its exceptions share no public base
            raise RunnerError(f"ONNX Runtime refuses the graph: {error}") from error
        used = session.get_providers()
        if provider not in used:  # the list of available ones does not look for a device
            raise RunnerError(
                f"ONNX Runtime fell back to {', '.join(used)}: {provider} found no usable device"
                + (" or no TensorRT of its version" if self.provider == "tensorrt" else ""),
                hint="check the driver with nvidia-smi, or use --provider cpu",
            )
        self._session = session

    def _runnable(self) -> str | bytes:
        """Return what ONNX Runtime can load: plain ops in place of the plugin's nodes."""
        if not self.plain_ops:
            return self.model
        if isinstance(self.model, str):
            proto = summary.load(Path(self.model))
        else:
            proto = optional.load("onnx").load_model_from_string(self.model)
        data: bytes = plugin_body.expanded(proto).SerializeToString()
        return data

    def _settings(self, provider: str) -> tuple[str, dict[str, str]]:
        """Return what ONNX Runtime is told of a provider."""
        name, settings = PROVIDERS[provider]
        if self.tf32 and provider == "cuda":
            settings = {**settings, "use_tf32": "1"}
        return name, settings

    def infer(self, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run once.

        Raises:
            RunnerError: the session is not open, or the graph does not take these inputs.
        """
        if self._session is None:
            raise RunnerError(f"{self.name} is not open")
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise RunnerError(f"ONNX Runtime cannot run the graph on {shapes}: {error}") from error
        return {o.name: v for o, v in zip(self._session.get_outputs(), values, strict=True)}

    def close(self) -> None:
        """Give the session back."""
        self._session = None
