"""The kernels of a model: what each computes and moves, counted beforehand and shipped.

`python -m elfatt_deploy.predict.counting` writes `profiles/kernels/MODEL.json` from the models
themselves, and a test counts one of them again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, Literal

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import from_document
from elfatt_deploy.errors import InputFileError, UnknownNameError, UsageError

#: eager: a kernel for each op of the framework; fused: as a compiler groups them; plugin: fused,
#: and the plugin's node in the blocks that it covers
Regime = Literal["eager", "fused", "plugin"]
Precision = Literal["fp32", "fp16"]
#: product: matrix products and linear layers; convolution: over all channels, or groups of them;
#: depthwise: channel by channel; attention: softmax(Q K^T) V; plugin: one of the plugin's kernels;
#: memory: all else, which moves data
Kind = Literal["product", "convolution", "depthwise", "attention", "plugin", "memory"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that a part of the network runs `count` times, for one image.

    Args:
        level: part of the network: `stem`, `1` to `4`, `head`.
        kind: what it is.
        count: how often it is launched.
        flops: floating-point operations of one launch, two a multiply-accumulate.
        activation_bytes: of an image, read and written by one launch.
        weight_bytes: read by one launch, whatever the batch.
        score_bytes: of an image, the matrix of scores that an attention which is not one kernel
            writes and reads; 0 for other kinds.
        tensor_flops: of one launch, beyond `flops`: what a kernel of the plugin does on tensor
            cores in FP16, where the GPU has them; 0 for other kinds.
    """

    level: str
    kind: Kind
    count: int
    flops: float
    activation_bytes: float
    weight_bytes: float
    score_bytes: float = 0.0
    tensor_flops: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KernelTable:
    """All kernels of a model at one input size.

    Args:
        model: its name.
        height: input rows.
        width: input columns.
        eager_fp32: a kernel for each op of the framework.
        eager_fp16: the same under automatic mixed precision, with its casts.
        fused: as an optimising compiler groups them, in FP32.
        plugin: the same with the plugin's node; empty where it covers no block.
        plugin_blocks: how many blocks of each level have a node; empty where none has.
    """

    model: str
    height: int
    width: int
    eager_fp32: tuple[Kernel, ...]
    eager_fp16: tuple[Kernel, ...]
    fused: tuple[Kernel, ...]
    plugin: tuple[Kernel, ...] = ()
    plugin_blocks: dict[str, int] = dataclasses.field(default_factory=dict)

    def kernels(self, regime: Regime, precision: Precision) -> tuple[Kernel, ...]:
        """Return the kernels of a regime; fused ones in FP16 move half the bytes.

        Raises:
            UsageError: the plugin covers no block of the model.
        """
        if regime == "eager":
            return self.eager_fp32 if precision == "fp32" else self.eager_fp16
        fused = self.fused if regime == "fused" else self.plugin
        if not fused:
            raise UsageError(
                f"the plugin covers no attention block of {self.model}",
                hint="predict it without --plugin",
            )
        if precision == "fp32":
            return fused
        return tuple(
            dataclasses.replace(
                kernel,
                activation_bytes=kernel.activation_bytes / 2,
                weight_bytes=kernel.weight_bytes / 2,
                score_bytes=kernel.score_bytes / 2,
            )
            for kernel in fused
        )


#: the columns of a row of the files
_COLUMNS = tuple(field.name for field in dataclasses.fields(Kernel))
#: those that every row has
_NEEDED = 6
_LISTS = ("eager_fp32", "eager_fp16", "fused", "plugin")


def known_models() -> tuple[str, ...]:
    """Return the models whose kernels are shipped."""
    folder = recipes.profiles_folder() / "kernels"
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


@functools.cache
def kernel_table(model: str) -> KernelTable:
    """Return the kernels of a model.

    Raises:
        UnknownNameError: they are not shipped.
        InputFileError: the file cannot be read.
        SchemaError: it does not hold what it should.
    """
    if model not in known_models():
        raise UnknownNameError(
            "model with counted kernels", model, known_models(),
            hint="'python -m elfatt_deploy.predict.counting' counts them anew, with torch",
        )  # fmt: skip
    path = recipes.profiles_folder() / "kernels" / f"{model}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputFileError(f"cannot read {path}: {error}") from error
    for name in _LISTS:
        rows = document.get(name, ())
        document[name] = [dict(zip(_COLUMNS, row, strict=False)) for row in rows]
    return from_document(KernelTable, document, str(path))


def kernel_document(table: KernelTable) -> str:
    """Return the text of a file: a row a line, in the order of the columns of `Kernel`."""
    head: dict[str, Any] = {"model": table.model, "height": table.height, "width": table.width}
    if table.plugin_blocks:
        head["plugin_blocks"] = table.plugin_blocks
    lines = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    for name in _LISTS:
        if name == "plugin" and not table.plugin:
            continue
        rows = (_row(kernel) for kernel in getattr(table, name))
        lines.append(f'"{name}": [\n' + ",\n".join(rows) + "\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _row(kernel: Kernel) -> str:
    values = [getattr(kernel, name) for name in _COLUMNS]
    while len(values) > _NEEDED and not values[-1]:
        values.pop()
    return json.dumps(
        [round(value) if isinstance(value, float) else value for value in values],
        separators=(",", ":"),
    )
