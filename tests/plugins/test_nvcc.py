"""nvcc takes the kernels for every architecture that it knows, and they fit into registers."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "plugin_resources.py"
INSTANCES = {
    (kernel, storage, dims)
    for kernel in ("attend", "apply_context")
    for storage in ("float", "half")
    for dims in (32, 64)
}
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN6elfatt6attendI6__halfLi64EEEvNS_7ProblemE' for 'sm_87'
ptxas info    : Function properties for _ZN6elfatt6attendI6__halfLi64EEEvNS_7ProblemE
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 144 registers, used 1 barriers, 19712 bytes smem, 480 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN6elfatt13apply_contextIfLi32EEEvv' for 'sm_87'
ptxas info    : Function properties for _ZN6elfatt13apply_contextIfLi32EEEvv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 96 registers, 480 bytes cmem[0]
"""


@pytest.fixture(scope="module")
def resources():
    spec = importlib.util.spec_from_file_location("plugin_resources", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_what_ptxas_says_is_read(resources):
    assert resources.parse_ptxas(PTXAS) == [
        resources.Resources(87, "apply_context", "float", 32, 96, 0, 0, 0, 0),
        resources.Resources(87, "attend", "half", 64, 144, 19712, 8, 12, 16),
    ]


@pytest.mark.parametrize("arch", [75, 80, 86, 87, 89, 90, 110])
def test_kernels_compile_without_spills(arch, resources):
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc is not installed")
    if arch not in resources.nvcc_archs(nvcc):
        pytest.skip(f"this nvcc has no target sm_{arch}")
    rows = resources.compiled_by_nvcc(nvcc, arch)
    assert {(row.kernel, row.storage, row.dims) for row in rows} == INSTANCES
    spilled = [row for row in rows if row.spill_store_bytes or row.spill_load_bytes]
    assert spilled == []
    assert max(row.shared_bytes for row in rows) <= 48 * 1024
    # rows of 72 halves: the layout of the tensor-core path, which no other has
    shared = {(row.kernel, row.storage, row.dims): row.shared_bytes for row in rows}
    assert shared["attend", "half", 64] == 2 * 64 * 72 * 2 + 4 * 64 * 4 + 64 * 4
