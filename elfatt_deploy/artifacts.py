"""The records that cross stages, and how they are read and written.

A bundle is a folder with `model.onnx`, `golden.npz` and `manifest.json`: all that a later stage, or
a board, needs. Records are frozen; a document is validated once, when it is read.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from elfatt_deploy.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

MANIFEST_SCHEMA = "elfatt-deploy/bundle"
MANIFEST_VERSION = 1
MODEL_FILE, GOLDEN_FILE, MANIFEST_FILE = "model.onnx", "golden.npz", "manifest.json"

_Record = TypeVar("_Record")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Stands where a measurement is absent, and says why it is."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, in the unit of the quantity that it belongs to."""

    low: float
    high: float
    level: float = 0.95


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an image becomes one row of `images`.

    The image is resized so that its shorter side (relative to the asked aspect) is
    `height / crop_share`, cropped at the centre, scaled to 0..1, and normalised per channel.
    """

    height: int
    width: int
    crop_share: float
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    colour_order: str = "RGB"
    layout: str = "NCHW"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Parameters, and multiply-accumulates of one image, as the paper counts them."""

    params: int
    macs: int
    softmax_attention_macs: int

    @property
    def gflops_nfa(self) -> float:
        """Giga multiply-accumulates of all products (the paper's "nFA" column)."""
        return self.macs / 1e9

    @property
    def gflops_fa(self) -> float:
        """The same without the products of softmax attention (the paper's "FA" column)."""
        return (self.macs - self.softmax_attention_macs) / 1e9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """An input or output of the graph; a dimension is a number or, where dynamic, its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class GraphSummary:
    """What a file's graph holds, read back from the file."""

    opset: int
    ir_version: int
    nodes: int
    op_counts: dict[str, int]
    initializer_bytes: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """Which model a bundle holds, complete enough to build it again."""

    name: str
    family: str
    builder: str
    settings: dict[str, str]
    config: dict[str, Any]
    height: int
    width: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights came from.

    Args:
        source: `random(SEED)`; `module(SEED)` for those that a user's function made with torch's
            generator at that seed; else the name of a file.
        sha256: digest of the file, or of the module's tensors.
        url: where the file was fetched from; empty for a file of the user's.
        key_map: `package.module:function` that turned its keys into the model's.
        swap_halves: whether the halves of ELFATT were exchanged.
        resized: what was resized for another input size, a line each.
    """

    source: str
    sha256: str | None = None
    url: str = ""
    key_map: str | None = None
    swap_halves: bool = False
    resized: tuple[str, ...] = ()

    @property
    def random(self) -> bool:
        """Whether no checkpoint was given, so that logits mean nothing."""
        return self.source.startswith("random(")

    @property
    def seed(self) -> int | None:
        """The seed from which the weights can be made again; None where they are in a file."""
        found = re.fullmatch(r"(?:random|module)\((\d+)\)", self.source)
        return int(found[1]) if found else None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """What a comparison allows; see `parity/tolerance.py` for the reasons."""

    max_abs: float
    relative_l2: float
    cosine: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ParityRow:
    """One set of inputs at one batch size, against the reference logits.

    `max_abs`, `mean_abs` and `p99_abs` are in logits; `scale` is the largest reference logit, by
    which `Tolerance.max_abs` is multiplied where it exceeds 1. `top1` and `top5` are the shares of
    images that keep their best classes; they are shown and not judged, for two classes may lie
    closer than any rounding. `flips` are: images whose best class changes although it leads the
    second by more than the largest error of the image.
    """

    inputs: str
    batch: int
    images: int
    values: int
    max_abs: float
    mean_abs: float
    p99_abs: float
    relative_l2: float
    cosine: float
    scale: float
    top1: float
    top5: float
    nonfinite: int
    passed: bool
    flips: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """All rows of one comparison, and the first tensor that diverges where it failed."""

    reference: str
    candidate: str
    tolerance: Tolerance
    rows: tuple[ParityRow, ...]
    first_divergence: str | None = None

    @property
    def passed(self) -> bool:
        """Whether there is at least one row and every row passed."""
        return bool(self.rows) and all(row.passed for row in self.rows)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """A node that stays FP32 in mixed precision.

    Args:
        node: its name in the graph.
        op: its op.
        reason: why, in words.
        local_error: what FP16 does to its result where its inputs are exact, relative; None where a
            value is lost altogether.
    """

    node: str
    op: str
    reason: str
    local_error: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionMap:
    """Which nodes stay FP32, and what that was measured on.

    Args:
        islands: the nodes, in the order of the graph.
        limit: relative L2 error of the logits of any image that the search allowed.
        relative_l2: largest one of the emulated mixed precision with these islands.
        all_half: the same without any island; None where a logit was not finite.
        images: number of images.
        tries: how often the search ran the whole graph.
    """

    islands: tuple[Island, ...]
    limit: float
    relative_l2: float
    all_half: float | None
    images: int
    tries: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PluginUse:
    """The TensorRT plugin that a graph needs.

    Args:
        name: as `export --plugin` calls it.
        op: op of its nodes.
        version: plugin version that the nodes ask for.
        namespace: plugin namespace that they ask for.
        library: file name of the library that TensorRT must load first.
        nodes: number of its nodes: attention blocks that use it.
        blocks: number of all attention blocks; the others are in plain ops.
        verified: what ran in place of the plugin where outputs were compared.
    """

    name: str
    op: str
    version: str
    namespace: str
    library: str
    nodes: int
    blocks: int
    verified: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BundleManifest:
    """The manifest of a bundle.

    `parity` is that of the file in ONNX Runtime. With precision `fp16` there are a `precision_map`
    and the parity of the emulated FP16 as well, for ONNX Runtime proves the graph and not the
    numerics. A graph that needs a plugin says so in `plugin`, which manifests of older versions
    lack.
    """

    schema: str
    version: int
    created: str
    model: ModelIdentity
    weights: Weights
    precision: str
    target: str
    batch: int | str
    preprocessing: Preprocessing
    counts: Counts | None
    graph: GraphSummary
    rewrites: tuple[str, ...]
    exporter: str
    image_source: str
    taps: tuple[str, ...]
    parity: ParityReport
    versions: dict[str, str]
    files: dict[str, str]
    precision_map: PrecisionMap | None = None
    emulation: ParityReport | None = None
    plugin: PluginUse | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle on disk: its folder and its manifest."""

    path: Path
    manifest: BundleManifest

    @property
    def model_path(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    @property
    def golden_path(self) -> Path:
        """The inputs and reference outputs."""
        return self.path / GOLDEN_FILE


def to_document(record: Any) -> dict[str, Any]:
    """Turn a record into plain JSON values."""
    document: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(record), default=str))
    return document


def from_document(kind: type[_Record], document: Mapping[str, Any], origin: str) -> _Record:
    """Validate a JSON document and turn it into a record.

    Raises:
        SchemaError: a field is missing, of the wrong type, or unknown.
    """
    # pydantic (which typer brings) costs 0.1 s at import: not on the way to --help
    from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

    strict = with_config(ConfigDict(extra="forbid"))(kind)
    try:
        return TypeAdapter(strict).validate_python(dict(document))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise SchemaError(
            f"{origin} does not match its schema: {where}: {first['msg']}"
            + (f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""),
            hint="export the bundle again with this version",
        ) from error
