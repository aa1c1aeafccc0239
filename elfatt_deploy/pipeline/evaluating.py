"""evaluate_bundle: digests -> labelled images -> runner, beside it torch -> accuracy, agreement."""

from __future__ import annotations

from elfatt_deploy import optional
from elfatt_deploy.errors import UnknownNameError
from elfatt_deploy.evaluation import imagefolder, reference, subject
from elfatt_deploy.evaluation.evaluate import evaluate
from elfatt_deploy.evaluation.plan import EvalPlan
from elfatt_deploy.evaluation.records import EvalOutcome, EvalRequest
from elfatt_deploy.pipeline.manifest import versions
from elfatt_deploy.pipeline.records import Progress, silent
from elfatt_deploy.runners.ort_runner import OrtRunner, check_provider

#: runner of an evaluation -> packages that its predictions depend on
_RUNNERS = {
    "ort": ("numpy", "pillow", "onnxruntime", "onnxruntime-gpu"),
    "torch": ("numpy", "pillow", "torch"),
}


def evaluate_bundle(request: EvalRequest, progress: Progress = silent) -> EvalOutcome:
    """Measure accuracy on labelled images, and agreement with the FP32 torch model.

    Raises:
        UnknownNameError: there is no such runner or provider.
        UsageError: a size or setting that cannot be used.
        MissingDependency: Pillow, or what the runner needs, is absent.
        InputFileError: the model, the images, their labels or the weights cannot be used.
        SchemaError: the manifest, or the log of an earlier run, does not read back.
        RunnerError: a runner refuses the model or its provider.
        ExportError: the log cannot be written.
        EvalInterrupted: on Ctrl-C; finished images are kept.
    """
    check_provider(request.provider)
    if request.runner not in _RUNNERS:
        raise UnknownNameError("runner", request.runner, _RUNNERS)
    progress("reading the model")
    what, bundle = subject.read(request)
    batch = what.batch_size(request.batch)
    progress("listing the images")
    labels = imagefolder.read_labels(request.labels, what.classes) if request.labels else None
    folder = imagefolder.read_folder(request.data, what.classes, labels)
    note = reference.why_none(request, bundle)
    in_torch = None
    if bundle is not None and (request.runner == "torch" or not note):
        optional.load("torch")
        from elfatt_deploy.models import weights as weight_files

        progress("building the torch model")
        manifest = bundle.manifest
        module = weight_files.rebuilt(manifest.model, manifest.weights, request.weights)
        in_torch = reference.proven_runner(module, bundle, request)
    packages = _RUNNERS[request.runner] + (() if note else ("torch",))
    plan = EvalPlan(
        subject=what,
        folder=folder,
        batch=batch,
        limit=request.limit,
        agreement_note=note,
        versions=versions(packages),
        output=request.output,
    )
    if request.runner == "torch" and in_torch is not None:
        return evaluate(plan, in_torch, None, progress)
    runner = OrtRunner(str(what.path), provider=request.provider)
    return evaluate(plan, runner, in_torch, progress)
