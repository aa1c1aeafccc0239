"""The kernels of plugins/elfatt_attention on the CPU: builds, cases, errors."""

from __future__ import annotations

import dataclasses
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

from elfatt_deploy.models import seeded

FOLDER = Path(__file__).parents[2] / "plugins" / "elfatt_attention"
HOST = FOLDER / "host"
KERNELS = (FOLDER / "elfatt_attention.cu", HOST / "run_case.cpp")
FLAGS = ("-std=c++14", "-DELFATT_HOST", "-fno-strict-aliasing", "-Wno-unknown-pragmas")
OPTIMIZED = ("-O2",)
SANITIZED = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
#: what runs on the CPU: the name of a build, and the compute capability whose path it takes
ARCHS = {"plain": 530, "mma-k8": 750, "mma-k16": 870}


def _module(path):
    spec = importlib.util.spec_from_file_location(f"elfatt_plugin_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


reference = _module(FOLDER / "reference.py")


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of the node in float32: its shape and its inputs."""

    shape: reference.Shape
    qkv: np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None

    def stored(self, dtype):
        """Return the case with its inputs rounded to a storage type."""
        if not self.shape.lepe:
            return dataclasses.replace(self, qkv=self.qkv.astype(dtype))
        arrays = {n: getattr(self, n).astype(dtype) for n in ("qkv", "weight", "bias")}
        return dataclasses.replace(self, **arrays)

    def exact(self):
        """Return the float64 output for the inputs as they are stored."""
        return reference.attention(self.shape, self.qkv, self.weight, self.bias)

    def written(self):
        """Return the bytes that host/run_case.cpp reads."""
        half = self.qkv.dtype == np.float16
        header = struct.pack("11i", *dataclasses.astuple(self.shape), half)
        arrays = [self.qkv, self.weight, self.bias] if self.shape.lepe else [self.qkv]
        return header + b"".join(array.tobytes() for array in arrays)


def golden_case(case):
    """Return a golden attention case as a call of the node."""

    def noise(tensor, shape, gain):
        return (seeded.unit_noise(f"attn:{case['name']}:{tensor}", shape) * gain).astype(np.float32)

    size = (case["B"], case["H"] * case["W"], case["C"])
    gains = {"q": case["q_scale"], "k": case["k_scale"], "v": 1.0}
    qkv = np.concatenate([noise(name, size, gain) for name, gain in gains.items()], -1)
    block = (case["H"], case["W"]) if case["kind"] == "vanilla" else case["block"]
    shape = reference.Shape(
        batch=case["B"], rows=case["H"], cols=case["W"], channels=case["C"],
        global_channels=case["c1"], global_heads=case["global_heads"],
        local_heads=case["local_heads"],
        block_rows=block[0] if case["c2"] else 0, block_cols=block[1] if case["c2"] else 0,
        lepe=case["lepe"],
    )  # fmt: skip
    if not case["lepe"]:
        return Case(shape, qkv, None, None)
    parts = {"lepe_global": case["c1"], "lepe_local": case["c2"]}
    weight = [noise(f"{n}.weight", (c, 1, 3, 3), 1 / 3).reshape(c, 9) for n, c in parts.items()]
    bias = [noise(f"{n}.bias", (c,), 0.05) for n, c in parts.items()]
    return Case(shape, qkv, np.concatenate(weight), np.concatenate(bias))


def random_case(shape, seed, gain=2.0):
    """Return a case with normal noise; Q and K are `gain` times V."""
    rng = np.random.default_rng(seed)
    c = shape.channels
    qkv = rng.standard_normal((shape.batch, shape.rows * shape.cols, 3 * c))
    qkv[..., : 2 * c] *= gain
    qkv = qkv.astype(np.float32)
    if not shape.lepe:
        return Case(shape, qkv, None, None)
    weight = rng.standard_normal((c, 9)) / 3
    return Case(shape, qkv, weight.astype(np.float32), rng.standard_normal(c).astype(np.float32))


def elfatt_shape(side, channels, heads, block, **changes):
    """Return the shape of a block that is half linear, half cut into squares."""
    fields = {
        "batch": 1, "rows": side, "cols": side, "channels": channels,
        "global_channels": channels // 2, "global_heads": heads, "local_heads": heads,
        "block_rows": block, "block_cols": block, "lepe": True,
    }  # fmt: skip
    return reference.Shape(**{**fields, **changes})


def relative_l2(found, exact):
    """Return |found - exact| / |exact| over all elements."""
    return np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact)


def compile_host(program, arch, flags=OPTIMIZED, sources=KERNELS):
    """Compile kernels for the CPU as nvcc would for a compute capability (870: 8.7)."""
    options = [*FLAGS, *flags, f"-D__CUDA_ARCH__={arch}", f"-I{HOST}", f"-I{FOLDER}"]
    files = ["-x", "c++", *map(str, sources), str(HOST / "fibers.cpp")]
    subprocess.run(["g++", *options, *files, "-o", str(program)], check=True)


class Kernels:
    """The kernels as a program for the CPU."""

    def __init__(self, program):
        self.program = program

    def start(self, written, results):
        """Run the program on files; returns the finished process."""
        return subprocess.run([self.program, written, results], capture_output=True, text=True)

    def run(self, cases, folder):
        """Return the outputs of cases, in the storage type of their inputs."""
        written, results = folder / "cases.bin", folder / "results.bin"
        written.write_bytes(b"".join(case.written() for case in cases))
        done = self.start(written, results)
        assert done.returncode == 0, done.stderr
        data, outputs = results.read_bytes(), []
        for case in cases:
            shape = (case.shape.batch, case.shape.rows * case.shape.cols, case.shape.channels)
            count = int(np.prod(shape)) * case.qkv.itemsize
            outputs.append(np.frombuffer(data[:count], case.qkv.dtype).reshape(shape))
            data = data[count:]
        assert not data
        return outputs
