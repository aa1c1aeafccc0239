"""The plan of a simulated board: a header that says what it is, and the ONNX file in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from elfatt_deploy.device.sim.facts import Facts
from elfatt_deploy.device.sim.physics import Work

#: the first line of the file; no real plan begins so
MAGIC = b"elfatt-deploy simulated plan 1\n"


class NotAPlan(Exception):
    """A file that is no simulated plan, or a torn one."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An input or output: a side of -1 is open."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan.

    Args:
        board: that built it.
        tensorrt: version of TensorRT.
        sm: compute capability of the board.
        sha256: of the ONNX file.
        inputs: what is fed.
        outputs: what comes out.
        dynamic: inputs whose shape is given when it runs.
        smallest: shapes that dynamic inputs may have at least.
        best: shapes that it was built for.
        largest: shapes that they may have at most.
        work: what a query asks for at `best`.
        layers: the layer information.
    """

    board: str
    tensorrt: str
    sm: int
    sha256: str
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    dynamic: tuple[str, ...]
    smallest: dict[str, tuple[int, ...]]
    best: dict[str, tuple[int, ...]]
    largest: dict[str, tuple[int, ...]]
    work: Work
    layers: dict[str, Any]


def plan_bytes(plan: Plan, model: bytes) -> bytes:
    """Return the file of a plan."""
    header = json.dumps(dataclasses.asdict(plan)).encode()
    return MAGIC + header + b"\n" + model


def read_plan(path: Path) -> tuple[Plan, bytes]:
    """Return a plan and the ONNX file in it.

    Raises:
        OSError: it cannot be read.
        NotAPlan: it is none, or a torn one.
    """
    data = path.read_bytes()
    header, _, model = data[len(MAGIC) :].partition(b"\n")
    if not data.startswith(MAGIC):
        raise NotAPlan("Magic tag does not match")
    try:
        document = json.loads(header)
    except ValueError as error:
        raise NotAPlan("Failed to read header from the stream") from error
    if hashlib.sha256(model).hexdigest() != document["sha256"]:
        raise NotAPlan("Failed to read the whole stream")
    shapes: dict[str, Any] = {
        key: {name: tuple(shape) for name, shape in document.pop(key).items()}
        for key in ("smallest", "best", "largest")
    }
    edges: dict[str, Any] = {
        key: tuple(Edge(**{**entry, "shape": tuple(entry["shape"])}) for entry in document.pop(key))
        for key in ("inputs", "outputs")
    }
    work = Work(**document.pop("work"))
    dynamic = tuple(document.pop("dynamic"))
    return Plan(**document, **shapes, **edges, work=work, dynamic=dynamic), model


def refusal(plan: Plan, facts: Facts) -> str | None:
    """Return why this board cannot take a plan, as TensorRT says it; None where it can."""
    if plan.tensorrt != facts.tensorrt:
        return (
            "Error Code 1: Serialization (Serialization assertion stdVersionRead == "
            "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: "
            f"{facts.tensorrt}, Serialized Engine Version: {plan.tensorrt})"
        )
    if plan.sm != facts.sm:
        return (
            "The engine plan file is generated on an incompatible device, expecting compute "
            f"{facts.sm // 10}.{facts.sm % 10} got compute {plan.sm // 10}.{plan.sm % 10}, "
            "please rebuild."
        )
    return None
