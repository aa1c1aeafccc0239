"""bundle_for: the newest bundle of a model that fits, or one that is exported now."""

from __future__ import annotations

from pathlib import Path

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import MANIFEST_FILE
from elfatt_deploy.errors import InputFileError, MissingDependency
from elfatt_deploy.pipeline.exporting import export_bundle
from elfatt_deploy.pipeline.records import ExportRequest, Progress, silent


def find_bundle(
    folder: Path,
    name: str,
    *,
    height: int | None,
    width: int | None,
    precision: str,
    batch: int | str | None,
    target: str = "",
    any_batch: bool = False,
) -> Path | None:
    """Return the newest bundle of a model as it is published; None where there is none.

    One that needs a plugin is not found so: its name tells it apart.

    Args:
        folder: where to look, one level deep.
        name: of the model.
        height: input rows; None for any.
        width: input columns; None for any.
        precision: `fp32` or `fp16`.
        batch: images in a run, or `dynamic`; None means 1.
        target: of the bundle; empty for any.
        any_batch: whether the batch of the graph does not matter.
    """
    newest: tuple[str, Path] | None = None
    for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
        manifest = bundles.read_document(path)
        model = manifest.get("model")
        if not isinstance(model, dict) or model.get("settings") or manifest.get("plugin"):
            continue
        wanted = (name, height, width, precision, target)
        found = (model.get("name"), height and model.get("height"), width and model.get("width"),
                 manifest.get("precision"), target and manifest.get("target"))  # fmt: skip
        created = str(manifest.get("created"))
        fits = any_batch or manifest.get("batch") in (batch or 1, "dynamic")
        if wanted == found and fits and (newest is None or created > newest[0]):
            newest = (created, path.parent)
    return newest[1] if newest else None


def bundle_for(
    folder: Path,
    name: str,
    *,
    size: tuple[int | None, int | None],
    precision: str,
    batch: int | str | None,
    target: str,
    progress: Progress = silent,
) -> tuple[Path, bool]:
    """Return a bundle of a model, and whether it had to be exported.

    Args:
        folder: where it is looked up, and exported to.
        name: of the model.
        size: rows and columns of the input; None for any that is there, or the model's own.
        precision: `fp32` or `fp16`.
        batch: images in a run, or `dynamic`; None means 1.
        target: of the bundle.
        progress: called with each stage of an export.

    Raises:
        MissingDependency: there is none, and torch is absent.
        InputFileError: there is none, and its export fails parity.
        ExportError: there is none, and it cannot be exported.
    """
    height, width = size
    found = find_bundle(
        folder,
        name,
        height=height,
        width=width,
        precision=precision,
        batch=batch,
        target=target,
    )
    if found is not None:
        return found, False
    asked = ExportRequest(
        model=name,
        height=height,
        width=width,
        batch=batch,
        precision=precision,
        target=target,
        output=folder,
    )
    command = f"elfatt-deploy export --model {name} --precision {precision} --target {target}"
    command += f" --batch {batch or 1} -o {folder}"
    try:
        outcome = export_bundle(asked, lambda stage: progress(f"exporting {name}: {stage}"))
    except MissingDependency as error:
        raise MissingDependency(
            f"there is no bundle of {name} ({precision}, batch {batch or 1}, {target}) below "
            f"{folder}, and to export one: {error.message}",
            hint=f"run '{command}' where torch is and copy it here, or {error.hint}",
        ) from error
    if outcome.bundle is None:
        raise InputFileError(
            f"there is no bundle of {name} ({precision}), and its export failed parity",
            hint=command,
        )
    return outcome.bundle.path, True
