"""The FP32 torch model beside the runner: whether there is one, and proof that it is the right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elfatt_deploy import optional
from elfatt_deploy.artifacts import Bundle
from elfatt_deploy.errors import CheckpointError, MissingDependency
from elfatt_deploy.golden import read_golden
from elfatt_deploy.parity import compare
from elfatt_deploy.parity.tolerance import tolerance
from elfatt_deploy.runners.torch_runner import TorchRunner

if TYPE_CHECKING:
    from torch import nn

    from elfatt_deploy.evaluation.records import EvalRequest

_PROOF_BATCH = 2


def why_none(request: EvalRequest, bundle: Bundle | None) -> str:
    """Return why the FP32 torch model cannot or need not see the images; empty where it can."""
    if not request.agreement:
        return "not asked for"
    if bundle is None or not bundle.manifest.model.builder:
        return "an ONNX file does not say which torch model it was made from"
    if request.runner == "torch":
        return "this is the FP32 torch model"
    weights = bundle.manifest.weights
    if weights.seed is None and request.weights is None:
        return f"it needs the weights {weights.source}: give them with --weights FILE"
    try:
        optional.load("torch")
    except MissingDependency as error:
        return f"{error.message}: {error.hint}"
    return ""


def proven_runner(module: nn.Module, bundle: Bundle, request: EvalRequest) -> TorchRunner:
    """Return a runner of a bundle's torch module, once it gave the golden logits again.

    With `--provider cuda` the reference runs there too where torch finds a device, and on the CPU
    where it does not; its name says which.

    Raises:
        CheckpointError: it gives other logits than the module that the bundle was made from.
        InputFileError: the golden file does not read back.
        RunnerError: the module does not run.
    """
    wanted = request.provider == "cuda"
    found = wanted and (request.runner == "torch" or optional.load("torch").cuda.is_available())
    runner = TorchRunner(module, device="cuda" if found else "cpu")
    golden = read_golden(bundle.golden_path)
    with runner:
        report = compare.compare(runner, golden, _PROOF_BATCH, tolerance("fp32"))
    if not report.passed:
        raise CheckpointError(
            f"the torch model does not give the golden logits of {bundle.path}: its code or its "
            "weights changed since the export",
            hint="export the bundle again",
        )
    return runner
