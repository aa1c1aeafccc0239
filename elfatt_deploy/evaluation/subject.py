"""What is evaluated: a bundle, or an ONNX file from elsewhere and what is assumed about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import (
    MODEL_FILE,
    Bundle,
    GraphSummary,
    Preprocessing,
    TensorInfo,
)
from elfatt_deploy.errors import InputFileError, UnknownNameError, UsageError
from elfatt_deploy.evaluation.records import EvalRequest
from elfatt_deploy.graph import summary

#: methods that Pillow resizes with
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
#: timm's default for a model that says nothing of its own
_CROP_SHARE = 0.875
_DEFAULT_BATCH = 8


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A classifier in an ONNX file.

    Args:
        name: the bundle's folder, or the file's name.
        path: the ONNX file.
        sha256: its digest.
        weights: where its weights came from.
        random: whether nobody trained them.
        precision: its precision; `as stored` where nobody says.
        input_name: the tensor that takes images [B, 3, height, width].
        output_name: the tensor that gives logits [B, classes].
        classes: number of logits.
        batch: images in one run; None where the graph takes any number.
        preprocessing: how an image becomes an input.
        preprocessing_source: who says so.
    """

    name: str
    path: Path
    sha256: str
    weights: str
    random: bool = False
    precision: str
    input_name: str
    output_name: str
    classes: int
    batch: int | None
    preprocessing: Preprocessing
    preprocessing_source: str

    def batch_size(self, asked: int | None) -> int:
        """Return how many images one run takes.

        Raises:
            UsageError: it is below 1, or the batch of the graph is fixed at another size.
        """
        if asked is not None and asked < 1:
            raise UsageError(f"a batch of {asked}", hint="use a number from 1")
        if self.batch is None:
            return _DEFAULT_BATCH if asked is None else asked
        if asked not in (None, self.batch):
            raise UsageError(
                f"the graph's batch is fixed at {self.batch}: --batch {asked} cannot be used",
                hint="leave --batch out, or export with --batch dynamic",
            )
        return self.batch


def read(request: EvalRequest) -> tuple[Subject, Bundle | None]:
    """Read what a request names; the bundle is None where it is an ONNX file.

    Raises:
        InputFileError: it is missing, was changed since the export, or is no classifier of images.
        SchemaError: the manifest of a bundle does not read back.
        UsageError: an option does not go with it.
        UnknownNameError: there is no such preprocessing setting.
        MissingDependency: an ONNX file is read by onnx, which is absent.
    """
    if request.model.is_file():
        if request.runner == "torch":
            raise UsageError(f"--runner torch needs a bundle, and {request.model} is a file")
        subject = graph_subject(
            request.model,
            bundles.sha256_of(request.model),
            summary.summarize(summary.load(request.model)),
            height=request.height,
            width=request.width,
            settings=request.preprocess,
        )
        return subject, None
    if request.height or request.width:
        raise UsageError("--resolution is for an ONNX file: a bundle has one input size")
    bundle = bundles.read_bundle(request.model)
    subject = bundle_subject(bundle, request.preprocess)
    if request.runner == "torch":
        if not bundle.manifest.model.builder:
            raise UsageError(f"--runner torch: {bundle.path} was made from an ONNX file")
        # the module takes any batch, whatever the graph's is
        subject = dataclasses.replace(subject, batch=None, precision="fp32")
    return subject, bundle


def bundle_subject(bundle: Bundle, settings: Sequence[str] = ()) -> Subject:
    """Return what a bundle holds.

    Args:
        bundle: the bundle.
        settings: changes of the preprocessing, where that was assumed: the bundle was made from an
            ONNX file; see `with_settings`.

    Raises:
        InputFileError: its graph is no classifier of images.
        UsageError: the bundle knows its preprocessing, or a setting cannot be used.
    """
    manifest = bundle.manifest
    weights = manifest.weights
    known = bool(manifest.model.builder)
    if known and settings:
        raise UsageError(
            f"--preprocess is for an ONNX file: {bundle.path} has the preprocessing of its model"
        )
    image, logits = _ends(manifest.graph, str(bundle.path))
    return Subject(
        name=bundle.path.resolve().name,
        path=bundle.model_path,
        sha256=manifest.files[MODEL_FILE],
        weights=weights.source + (f" (SHA-256 {weights.sha256})" if weights.sha256 else ""),
        random=weights.random,
        precision=manifest.precision,
        input_name=image.name,
        output_name=logits.name,
        classes=int(logits.shape[-1]),
        batch=_number(image.shape[0]),
        preprocessing=with_settings(manifest.preprocessing, settings),
        preprocessing_source="the bundle's manifest" if known else _assumed(settings),
    )


def graph_subject(
    path: Path,
    sha256: str,
    graph: GraphSummary,
    *,
    height: int | None = None,
    width: int | None = None,
    settings: Sequence[str] = (),
) -> Subject:
    """Return what an ONNX file holds that says nothing of its preprocessing.

    Args:
        path: the file.
        sha256: its digest.
        graph: its summary.
        height: input rows, where the graph leaves them open.
        width: input columns, where the graph leaves them open.
        settings: changes of the assumed preprocessing; see `with_settings`.

    Raises:
        InputFileError: the graph is no classifier of images.
        UsageError: the input size is missing, or another one than the graph's; or a setting cannot
            be used.
    """
    image, logits = _ends(graph, str(path))
    sides = []
    for what, asked, stored in zip(
        ("rows", "columns"), (height, width), map(_number, image.shape[2:]), strict=True
    ):
        if asked is None and stored is None:
            raise UsageError(
                f"{path} takes images of any number of {what}", hint="say which with --resolution"
            )
        if None not in (asked, stored) and asked != stored:
            raise UsageError(f"{path} takes {stored} {what}, not {asked}")
        sides.append(stored or asked or 0)
    assumed = Preprocessing(height=sides[0], width=sides[1], crop_share=_CROP_SHARE)
    return Subject(
        name=path.name,
        path=path,
        sha256=sha256,
        weights="in the file",
        precision="as stored",
        input_name=image.name,
        output_name=logits.name,
        classes=int(logits.shape[-1]),
        batch=_number(image.shape[0]),
        preprocessing=with_settings(assumed, settings),
        preprocessing_source=_assumed(settings),
    )


def _assumed(settings: Sequence[str]) -> str:
    """Return how an ONNX file, which says nothing, came to its preprocessing."""
    return "assumed" + (f", then {', '.join(settings)}" if settings else ": the file says nothing")


def _number(dimension: int | str) -> int | None:
    """Return a dimension, None where it is open: a name, or 0 where not even that is stored."""
    return dimension or None if isinstance(dimension, int) else None


def _ends(graph: GraphSummary, origin: str) -> tuple[TensorInfo, TensorInfo]:
    """Return the image input and the logits of a classifier."""
    if len(graph.inputs) != 1:
        raise InputFileError(
            f"{origin} has {len(graph.inputs)} inputs ({_shapes(graph.inputs)}): a classifier has "
            "one",
        )
    image = graph.inputs[0]
    if len(image.shape) != 4 or _number(image.shape[1]) not in (None, 3):
        raise InputFileError(
            f"{origin} takes {_shapes([image])}, not images [batch, 3, rows, cols]"
        )
    if image.dtype != "float32":
        raise InputFileError(
            f"the input of {origin} is {image.dtype}, not float32",
            hint="convert it so that inputs and outputs stay float32 (keep_io_types)",
        )
    flat = [info for info in graph.outputs if len(info.shape) == 2]
    logits = next((info for info in flat if info.name == "logits"), flat[0] if flat else None)
    if logits is None or (len(flat) > 1 and logits.name != "logits"):
        raise InputFileError(
            f"{origin} gives {_shapes(graph.outputs)}, not one output [batch, classes]",
            hint="a graph of several such outputs has to name one of them 'logits'",
        )
    if _number(logits.shape[1]) is None:
        raise InputFileError(f"{origin} does not say how many classes it has: {_shapes([logits])}")
    return image, logits


def _shapes(tensors: Sequence[TensorInfo]) -> str:
    return ", ".join(f"{info.name} {list(info.shape)}" for info in tensors)


def with_settings(recipe: Preprocessing, settings: Sequence[str]) -> Preprocessing:
    """Return a preprocessing with `crop`, `interpolation`, `mean` or `std` changed.

    `mean` and `std` take a number for each channel, as in `0.5-0.5-0.5`.

    Raises:
        UnknownNameError: there is no such key or interpolation.
        UsageError: a value cannot be used.
    """
    changes: dict[str, Any] = {}
    for text in settings:
        key, _, value = text.partition("=")
        if key == "interpolation":
            if value not in INTERPOLATIONS:
                raise UnknownNameError("interpolation", value, INTERPOLATIONS)
            changes["interpolation"] = value
        elif key == "crop":
            changes["crop_share"] = _numbers(text, value, 1)[0]
        elif key in ("mean", "std"):
            changes[key] = _numbers(text, value, 3)
        else:
            raise UnknownNameError(
                "preprocessing setting", key, ("crop", "interpolation", "mean", "std")
            )
    changed = dataclasses.replace(recipe, **changes)
    if not 0 < changed.crop_share <= 1:
        raise UsageError(f"a crop of {changed.crop_share:g}", hint="it is a share, above 0 to 1")
    if min(changed.std) <= 0:
        raise UsageError("a standard deviation must be above 0")
    return changed


def _numbers(text: str, value: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in value.split("-"))
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        form = "a number" if count == 1 else f"{count} numbers, as in 0.5-0.5-0.5"
        raise UsageError(f"--preprocess {text} cannot be read", hint=f"it takes {form}")
    return numbers
