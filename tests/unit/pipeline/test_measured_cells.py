"""What a cell of `bench` runs in, and what is proved of it."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy import bundles
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import contracts, protocol
from elfatt_deploy.bench.cells import BenchRequest
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.errors import InputFileError, SchemaError, UsageError
from elfatt_deploy.pipeline import measured_cells

MACHINE = Machine(cpu="Test CPU", cores=8, virtual=False, system="Linux", load=0.1)
NO_GIT = Unavailable(reason="a test")


def _request(**more):
    rest = {
        "models": () if "plans" in more else ("tiny",),
        "contract": contracts.contract("single-stream/1"),
        "plan": protocol.PLANS["quick"],
        **more,
    }
    return BenchRequest(**rest)


@pytest.fixture
def bundle(fake, tmp_path):
    def make(precision="fp32", target="ort", **more):
        folder = tmp_path / f"bundle-{precision}-{target}"
        return bundles.read_bundle(fake("bundle").write(folder, precision, target, **more))

    return make


@pytest.mark.parametrize(
    ("asked", "stored", "runs", "proof"),
    [
        ({}, "fp32", "fp32", "fp32"),
        ({"precision": "fp16"}, "fp16", "fp16", "fp16-unproven"),
        ({"provider": "cuda", "precision": "tf32"}, "fp32", "tf32", "tf32-unproven"),
        ({"provider": "tensorrt"}, "fp32", "fp32", "fp32-unproven"),
    ],
)
def test_onnx_runtime_runs_what_the_bundle_has_but_for_tf32(bundle, asked, stored, runs, proof):
    request = _request(**asked)
    assert measured_cells.stored_precision(request) == stored
    cell = measured_cells.cell_of(request, "tiny", bundle(stored), None)
    assert cell.precision == runs
    assert measured_cells.proof(request, cell) == proof
    assert measured_cells.record_cell(request, cell).precision == runs


def test_torch_takes_fp32_bundles_for_every_precision(bundle):
    for precision in ("fp32", "fp16"):
        request = _request(runner="torch", precision=precision)
        assert measured_cells.stored_precision(request) == "fp32"
    with pytest.raises(UsageError, match="runs the weights of an FP32 bundle, and .* is fp16"):
        measured_cells.cell_of(request, "tiny", bundle("fp16"), None)
    with pytest.raises(UsageError, match="was made from an ONNX file"):
        measured_cells.cell_of(request, "tiny", bundle("fp32"), None)


def test_a_file_that_onnx_runtime_would_run_in_fp32_is_refused(bundle):
    with pytest.raises(UsageError, match="builds in FP16: ort would run it in FP32") as caught:
        measured_cells.cell_of(_request(), "tiny", bundle("fp16", "jp5"), None)
    assert "--plan DIR" in caught.value.hint


@pytest.fixture
def plan(fake, tmp_path):
    def make(**more):
        made = fake("plan_bundle")
        bundle = made.write(tmp_path / "tiny")
        folder = made.write_plan(bundle, **{"tensorrt": "10.3.0", **more})
        return _request(runner="trtexec", provider="tensorrt", plans=(folder,)), folder

    return make


def test_a_plan_brings_its_bundle_precision_batch_and_proof(plan):
    request, folder = plan()
    bundle, found = measured_cells.with_bundle(request, folder)
    assert bundle.path == folder.parent
    cell = measured_cells.cell_of(request, "tiny", bundle, found)
    assert (cell.precision, cell.batch) == ("fp16", 2)
    assert measured_cells.proof(request, cell) == "fp16"
    assert "no layer information" in measured_cells.evidence(cell)
    four = dataclasses.replace(request, batch=4)
    assert measured_cells.cell_of(four, "tiny", bundle, found).batch == 4
    with pytest.raises(UsageError, match="takes batches 1 to 4, not 5"):
        measured_cells.cell_of(dataclasses.replace(request, batch=5), "tiny", bundle, found)


def test_a_plan_of_a_fixed_batch_takes_that_one_alone(plan):
    request, folder = plan()
    bundle, found = measured_cells.with_bundle(request, folder)
    manifest = dataclasses.replace(found.manifest, profile=None, batch=3)
    fixed = dataclasses.replace(found, manifest=manifest)
    assert measured_cells.cell_of(request, "tiny", bundle, fixed).batch == 3
    with pytest.raises(UsageError, match="has the fixed batch 3"):
        measured_cells.cell_of(dataclasses.replace(request, batch=2), "tiny", bundle, fixed)


def test_a_plan_without_its_bundle_or_of_an_emulated_board_is_refused(plan, tmp_path):
    request, folder = plan(simulated=True)
    with pytest.raises(UsageError, match="an emulated board built"):
        measured_cells.with_bundle(request, folder)
    (tmp_path / "tiny" / "plan").rename(tmp_path / "plan")
    (tmp_path / "plan" / "plan.json").write_text("{}")
    with pytest.raises(SchemaError):
        measured_cells.with_bundle(request, tmp_path / "plan")
    with pytest.raises(InputFileError, match="is no plan of this program"):
        measured_cells.with_bundle(request, folder)


def test_all_that_makes_a_call_is_in_its_identity(bundle):
    def call(git=NO_GIT, machine=MACHINE, **more):
        request = _request(**more)
        cell = measured_cells.cell_of(request, "tiny", found, None)
        return measured_cells.call_of(request, (cell,), machine, git)

    found = bundle(batch="dynamic")
    same = call()
    assert same == call()
    others = (
        call(seed=1),
        call(threads=2),
        call(batch=4),
        call(contract=contracts.contract("throughput/1")),
        call(plan=protocol.PLANS["strict"]),
        call(device="ssh://board"),
        call(machine=dataclasses.replace(MACHINE, cores=4)),
        call(git=Unavailable(reason="another")),
    )
    assert all(other != same for other in others)
