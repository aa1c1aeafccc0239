"""A GPU of fakes: each CUDA library, each TensorRT, and a plan that belongs to both."""

from __future__ import annotations

import hashlib
import sys

import pytest

from elfatt_deploy.engine import plan as plans
from elfatt_deploy.engine.config import BatchProfile, BuildDevice


@pytest.fixture
def cuda_fake(fake, monkeypatch):
    """Return a function that installs a fake CUDA library, and returns its machine.

    `cuda-python`; `cudart`, the same under its older name; `no graphs`, one without their calls;
    `pycuda`; `old pycuda`, without primary contexts; `none`.
    """

    def install(library):
        machine = fake("cuda_machine").Machine()
        python, pycuda = fake("cuda_python"), fake("pycuda_fake")
        found = {
            "cuda-python": lambda: python.modules(machine),
            "cudart": lambda: python.modules(machine, "cuda.cudart"),
            "no graphs": lambda: python.modules(
                machine, "cuda.cudart", without=("cudaGraphInstantiateWithFlags",)
            ),
            "pycuda": lambda: pycuda.modules(machine),
            "old pycuda": lambda: pycuda.modules(machine, primary=False),
            "none": dict,
        }[library]()
        for name, module in {"cuda": None, "pycuda": None, **found}.items():
            monkeypatch.setitem(sys.modules, name, module)
        return machine

    return install


@pytest.fixture
def plan_folder(fake, tmp_path):
    """Return a function that writes the plan of the fake runtime as `build` would."""

    def write(tensorrt, *, sm=87, data=None):
        data = fake("tensorrt_runtime").PLAN if data is None else data
        (tmp_path / "model.plan").write_bytes(data)
        manifest = plans.PlanManifest(
            created="2026-01-01T00:00:00+00:00",
            model="tiny",
            target="jp6",
            batch="dynamic",
            model_sha256="0" * 64,
            bundle_sha256="0" * 64,
            tensorrt=tensorrt,
            device=BuildDevice(name="NVIDIA Fake", sm=sm, memory_bytes=8 << 30),
            precision="fp16",
            proof="fp16",
            typed=True,
            profile=BatchProfile(smallest=1, best=2, largest=4),
            workspace_bytes=1 << 30,
            attempts=1,
            build_seconds=1.0,
            method="tensorrt",
            versions={},
            files={"model.plan": hashlib.sha256(data).hexdigest()},
        )
        plans.write_manifest(tmp_path, manifest)
        return tmp_path

    return write
