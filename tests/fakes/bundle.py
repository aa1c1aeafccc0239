"""A whole bundle without a real model: files of a few bytes and a manifest that fits them."""

from __future__ import annotations

from elfatt_deploy import artifacts, bundles
from elfatt_deploy.artifacts import (
    BundleManifest,
    GraphSummary,
    ModelIdentity,
    ParityReport,
    Preprocessing,
    Tolerance,
    Weights,
)


def write(folder, precision="fp32", target="jp6", batch=1, precision_map=None):
    """Write the bundle into a new folder and return it; its images are 64 x 96."""
    folder.mkdir()
    names = (artifacts.MODEL_FILE, artifacts.GOLDEN_FILE)
    for name in names:
        (folder / name).write_bytes(name.encode())
    manifest = BundleManifest(
        schema=artifacts.MANIFEST_SCHEMA,
        version=artifacts.MANIFEST_VERSION,
        created="2026-01-01T00:00:00+00:00",
        model=ModelIdentity(
            name="tiny", family="", builder="", settings={}, config={}, height=64, width=96
        ),
        weights=Weights(source="random(0)"),
        precision=precision,
        target=target,
        batch=batch,
        preprocessing=Preprocessing(height=64, width=96, crop_share=0.9),
        counts=None,
        graph=GraphSummary(
            opset=17,
            ir_version=8,
            nodes=0,
            op_counts={},
            initializer_bytes=0,
            inputs=(),
            outputs=(),
        ),
        rewrites=(),
        exporter="",
        image_source="",
        taps=(),
        parity=ParityReport(
            reference="",
            candidate="",
            tolerance=Tolerance(max_abs=1.0, relative_l2=1.0, cosine=0.0),
            rows=(),
        ),
        versions={},
        files={name: bundles.sha256_of(folder / name) for name in names},
        precision_map=precision_map,
    )
    bundles.write_manifest(folder, manifest)
    return folder
