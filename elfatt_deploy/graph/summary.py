"""What a graph holds, read back from the file."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.artifacts import GraphSummary, TensorInfo
from elfatt_deploy.errors import InputFileError

if TYPE_CHECKING:
    import onnx


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file.

    Raises:
        InputFileError: the file is missing, truncated or of another kind.
    """
    onnx_module = optional.load("onnx")
    from google.protobuf.message import DecodeError

    try:
        model: onnx.ModelProto = onnx_module.load(str(path))
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror}") from error
    except onnx_module.checker.ValidationError as error:  # weights in a file beside it
        raise InputFileError(f"{path} is not complete: {error}") from error
    except (DecodeError, ValueError) as error:
        raise InputFileError(f"{path} is not a whole ONNX file: {error}") from error
    if not model.graph.node:
        raise InputFileError(f"{path} is not an ONNX file with a graph")
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset of the default domain, as the file states it; 0 where it states none."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def summarize(model: onnx.ModelProto) -> GraphSummary:
    """Return the opset, the ops, the weights' size and the inputs and outputs of a graph."""
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    return GraphSummary(
        opset=opset_of(model),
        ir_version=model.ir_version,
        nodes=len(graph.node),
        op_counts=dict(Counter(node.op_type for node in graph.node).most_common()),
        initializer_bytes=sum(map(_bytes, graph.initializer)),
        inputs=tuple(_info(value) for value in graph.input if value.name not in weights),
        outputs=tuple(_info(value) for value in graph.output),
    )


def _bytes(tensor: onnx.TensorProto) -> int:
    """Return the size of a tensor's values, whichever field of the file holds them."""
    dtype = optional.load("onnx").helper.tensor_dtype_to_np_dtype(tensor.data_type)
    size: int = math.prod(tensor.dims) * dtype.itemsize
    return size


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    onnx_module = optional.load("onnx")
    tensor = value.type.tensor_type
    dtype = onnx_module.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = tuple(d.dim_param if d.dim_param else int(d.dim_value) for d in tensor.shape.dim)
    return TensorInfo(name=value.name, dtype=str(dtype), shape=shape)
