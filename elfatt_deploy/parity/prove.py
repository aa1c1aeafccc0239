"""A bundle's graph against its golden outputs; where it fails, the first tensor that diverges."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from elfatt_deploy import artifacts
from elfatt_deploy.artifacts import Bundle, ParityReport
from elfatt_deploy.engine import plan as plans
from elfatt_deploy.errors import RunnerError, UnknownNameError, UsageError
from elfatt_deploy.golden import Golden, GoldenInputs, read_golden
from elfatt_deploy.graph import simplify, summary
from elfatt_deploy.parity import compare, locate
from elfatt_deploy.parity.tolerance import inner_limit, tolerance
from elfatt_deploy.runners.emulation import EmulationRunner
from elfatt_deploy.runners.ort_runner import OrtRunner
from elfatt_deploy.runners.trt_runner import TrtRunner

#: runners that can give every tensor of a graph
RUNNERS = ("ort", "ort-plain", "fp16-emulation")

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from elfatt_deploy.runners.base import Runner


def prove(
    folder: Path, batch: int | str, precision: str, *, provider: str, layers: bool = False
) -> tuple[ParityReport, tuple[locate.TensorError, ...]]:
    """Compare logits; where they fail, or `layers` is set, the named inner tensors as well.

    Raises:
        InputFileError: the golden file is missing or torn.
        RunnerError: ONNX Runtime refuses the graph or the provider.
    """
    golden = read_golden(folder / artifacts.GOLDEN_FILE)
    with OrtRunner(str(folder / artifacts.MODEL_FILE), provider=provider) as runner:
        report = compare.compare(runner, golden, batch, tolerance(precision))
    if report.passed and not layers:
        return report, ()
    errors = _tap_errors(folder / artifacts.MODEL_FILE, golden, batch, precision, provider)
    if not report.passed:
        report = dataclasses.replace(report, first_divergence=locate.first_divergence(errors))
    return report, errors


def prove_half(folder: Path, batch: int | str, islands: Collection[str]) -> ParityReport:
    """Compare the logits of emulated FP16 with the golden ones.

    Args:
        folder: the bundle's folder.
        batch: batch size of the graph, or `dynamic`.
        islands: nodes that stay FP32, where the file is FP32.

    Raises:
        InputFileError: a file is missing or torn.
        ExportError: the graph cannot be converted to FP16.
        RunnerError: ONNX Runtime refuses the graph.
    """
    golden = read_golden(folder / artifacts.GOLDEN_FILE)
    model = summary.load(folder / artifacts.MODEL_FILE).SerializeToString()
    with EmulationRunner(model, islands=islands) as runner:
        return compare.compare(runner, golden, batch, tolerance("fp16"))


def prove_plan(bundle: Bundle, plan: Path, plugins: tuple[Path, ...] = ()) -> ParityReport:
    """Run a TensorRT plan on this machine's GPU and compare its logits with the golden ones.

    The tolerance is that of the precision the plan was built with, whatever its layers say.

    Args:
        bundle: what the plan was built from.
        plan: its folder.
        plugins: plugin libraries to load first.

    Raises:
        InputFileError: the plan or the golden file is missing or torn, or a library does not load.
        MissingDependency: TensorRT, or both CUDA libraries, are absent.
        PlanMismatch: the plan belongs to another place or another bundle.
        EngineError: CUDA or TensorRT fails.
    """
    golden = read_golden(bundle.golden_path)
    precision = plans.read_plan(plan).manifest.precision
    with TrtRunner(plan, bundle=bundle, plugins=plugins) as runner:
        return compare.compare(runner, golden, bundle.manifest.batch, tolerance(precision))


def _tap_errors(
    model: Path, golden: Golden, batch: int | str, precision: str, provider: str
) -> tuple[locate.TensorError, ...]:
    """Run the graph once with every named inner tensor as an output."""
    if not golden.taps:
        return ()
    proto = summary.load(model)
    simplify.add_outputs(proto, tuple(golden.taps))
    with OrtRunner(proto.SerializeToString(), provider=provider) as runner:
        size = compare.batches_of(batch)[0]
        return locate.tap_errors(runner, golden, size, inner_limit(precision))


def pairwise(
    folder: Path,
    batch: int | str,
    islands: Collection[str],
    candidate: str,
    reference: str,
    provider: str,
) -> tuple[locate.TensorError, ...]:
    """Compare every floating-point tensor of the graph between two runners, on the first image.

    Args:
        folder: the bundle's folder.
        batch: batch size of the graph, or `dynamic`.
        islands: nodes that stay FP32 in emulated FP16, where the file is FP32.
        candidate: `ort`, `ort-plain` (not optimised) or `fp16-emulation`.
        reference: another one of these.
        provider: what `ort` runs on.

    Raises:
        UnknownNameError: there is no such runner.
        UsageError: both are the same.
        InputFileError: a file of the bundle is missing or torn.
        RunnerError: ONNX Runtime refuses the graph.
    """
    for name in (candidate, reference):
        if name not in RUNNERS:
            raise UnknownNameError("runner", name, RUNNERS)
    if candidate == reference:
        raise UsageError(f"{candidate} compared with itself", hint=f"others: {', '.join(RUNNERS)}")
    golden = read_golden(folder / artifacts.GOLDEN_FILE)
    proto = summary.load(folder / artifacts.MODEL_FILE)
    names = simplify.float_outputs(proto)
    simplify.add_outputs(proto, names)
    model = proto.SerializeToString()
    images = np.repeat(golden.images[:1], compare.batches_of(batch)[0], axis=0)
    half = "fp16" if "fp16-emulation" in (candidate, reference) else "fp32"
    with (
        _named(reference, model, islands, provider) as one,
        _named(candidate, model, islands, provider) as other,
    ):
        return locate.pair_errors(one, other, names, images, inner_limit(half))


def _named(name: str, model: bytes, islands: Collection[str], provider: str) -> Runner:
    if name == "fp16-emulation":
        return EmulationRunner(model, islands=islands)
    return OrtRunner(model, provider=provider, optimised=name == "ort")


def against_plain(
    model: bytes, inputs: GoldenInputs, batch: int | str, *, provider: str
) -> ParityReport:
    """Compare ONNX Runtime with itself running node by node on the CPU, at FP32 tolerance.

    Raises:
        RunnerError: ONNX Runtime refuses the graph or the provider.
    """
    with OrtRunner(model, optimised=False) as runner:
        golden = Golden(
            images=inputs.images,
            logits=reference_logits(runner, inputs.images, batch),
            names=inputs.names,
            sets=inputs.sets,
            taps={},
            tap_positions={},
            reference=runner.name,
        )
    with OrtRunner(model, provider=provider) as runner:
        return compare.compare(runner, golden, batch, tolerance("fp32"))


def reference_logits(
    runner: Runner, images: NDArray[np.float32], batch: int | str
) -> NDArray[np.float32]:
    """Return what a runner gives for every image [U, 3, H, W]; [U, classes] in float32.

    Raises:
        RunnerError: the runner fails, or does not give one row of logits an image.
    """
    size = compare.batches_of(batch)[0]
    order = np.resize(np.arange(len(images)), -(-len(images) // size) * size)
    outputs = []
    for start in range(0, len(order), size):
        chosen = images[order[start : start + size]]
        logits = runner.infer({"images": np.ascontiguousarray(chosen)})["logits"]
        if logits.ndim != 2 or len(logits) != size:
            raise RunnerError(
                f"{runner.name} gives an output of shape {logits.shape} for {size} images",
                hint="the output must be logits [B, classes]; where only the number of rows is "
                "wrong, the batch size was frozen when the file was made",
            )
        outputs.append(logits)
    return np.concatenate(outputs)[: len(images)]
