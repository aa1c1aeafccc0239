"""What do the plugin's kernels take of an SM: registers, shared memory, spills?

    python benchmarks/plugin_resources.py > docs/plugin-resources.md

Compiles plugins/elfatt_attention for every architecture that the nvcc at hand knows, and reads what
ptxas says; nothing runs. nvcc 13 has no targets before 7.5. For those `--nvrtc` takes the library
of CUDA 11.8's runtime compiler and `--cuda-include` the folder of its cuda_fp16.h, from the
packages nvidia-cuda-nvrtc-cu11 and nvidia-cuda-runtime-cu11 (and nvidia-cuda-nvcc-cu11 for
crt/host_defines.h).
"""

import argparse
import ctypes
import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "plugins" / "elfatt_attention"
NVCC_ARCHS = (75, 80, 86, 87, 89, 90, 110)
NVRTC_ARCHS = (53, 62, 72)
BOARDS = {53: "Nano", 62: "TX2", 72: "Xavier", 87: "Orin", 110: "Thor"}
COLUMNS = ("architecture", "kernel", "storage", "head dims up to", "registers a thread",
           "shared memory, bytes", "stack, bytes", "spilled stores, bytes",
           "spilled loads, bytes")  # fmt: skip
KERNEL = re.compile(r"_ZN6elfatt\d+(attend|apply_context)I(f|6__half)Li(\d+)EE")
#: host headers that the kernels name, for a compiler that has none
STUBS = {
    "math.h": "#define INFINITY __int_as_float(0x7f800000)\n",
    "string.h": "",
    "cuda_runtime.h": "",
}
INSTANCES = """
#include "kernels.cuh"
#define INSTANCE(T, D)                                                                           \\
  template __global__ void elfatt::attend<T, D>(elfatt::Problem, const T*, const T*, const T*,    \\
                                                float*, T*);                                      \\
  template __global__ void elfatt::apply_context<T, D>(elfatt::Problem, const T*, const T*,       \\
                                                       const T*, const float*, T*);
INSTANCE(float, 32)
INSTANCE(float, 64)
INSTANCE(__half, 32)
INSTANCE(__half, 64)
"""


@dataclasses.dataclass(frozen=True, order=True)
class Resources:
    """What ptxas says of one kernel."""

    arch: int
    kernel: str
    storage: str
    dims: int
    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int


def parse_ptxas(text):
    """Return the kernels in the output of `ptxas -v`, sorted."""
    found = []
    for part in text.split("Compiling entry function ")[1:]:
        name, arch = re.match(r"'(\S+)' for 'sm_(\d+)", part).groups()
        kernel, storage, dims = KERNEL.match(name).groups()
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        registers = re.search(r"Used (\d+) registers", part)[1]
        shared = re.search(r"(\d+) bytes smem", part)
        numbers = (registers, shared[1] if shared else 0, stack, stores, loads)
        words = "float" if storage == "f" else "half"
        found.append(Resources(int(arch), kernel, words, int(dims), *map(int, numbers)))
    return sorted(found)


def nvcc_archs(nvcc):
    """Return the architectures of `NVCC_ARCHS` that an nvcc knows."""
    listed = subprocess.check_output([nvcc, "--list-gpu-code"], text=True).split()
    return [arch for arch in NVCC_ARCHS if f"sm_{arch}" in listed]


def compiled_by_nvcc(nvcc, arch):
    """Compile the kernels for one architecture; returns what ptxas says of them."""
    with tempfile.TemporaryDirectory() as folder:
        target = ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]
        command = [nvcc, "-std=c++14", "-O3", *target, "-Xptxas", "-v", "-cubin"]
        files = ["-o", f"{folder}/kernels.cubin", FOLDER / "elfatt_attention.cu"]
        done = subprocess.run([*command, *files], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"nvcc failed for sm_{arch}:\n{done.stderr}")
    return parse_ptxas(done.stderr)


def compiled_by_nvrtc(library, include, arch):
    """The same by the runtime compiler: the kernels alone, without the code that launches them."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in STUBS.items():
            Path(folder, name).write_text(text)
        options = ["--std=c++14", f"--gpu-architecture=sm_{arch}", "--ptxas-options=-v",
                   f"-I{FOLDER}", f"-I{folder}", f"-I{include}"]  # fmt: skip
        words = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        library.nvrtcCreateProgram(
            ctypes.byref(program), INSTANCES.encode(), b"kernels.cu", 0, None, None
        )
        status = library.nvrtcCompileProgram(program, len(options), words)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    if status:
        sys.exit(f"NVRTC failed for sm_{arch}:\n{log.value.decode()}")
    return parse_ptxas(log.value.decode())


def print_page(rows, compilers):
    """Print docs/plugin-resources.md."""
    worst = max(row.spill_store_bytes + row.spill_load_bytes for row in rows)
    spilled = f"most bytes spilled by a kernel: {worst}" if worst else "spills: none"
    print("# Registers, shared memory and spills of the ELFATT plugin's kernels\n")
    print("Written by `benchmarks/plugin_resources.py`: what the compilers say, *not measured*. A")
    print("call is `attend`, then `apply_context` where there are linear heads; a thread block has")
    print("128 threads, and shared memory is static, below the 48 KiB that every GPU gives.\n")
    for compiler in compilers:
        print(f"- {compiler}")
    print(f"- {spilled}\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * len(COLUMNS))
    for row in rows:
        arch, *cells = dataclasses.astuple(row)
        board = f" ({BOARDS[arch]})" if arch in BOARDS else ""
        print("| " + " | ".join(map(str, (f"sm_{arch}{board}", *cells))) + " |")


def main():
    """Compile and print the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nvcc", default=shutil.which("nvcc") or "nvcc")
    parser.add_argument("--nvrtc", type=Path, help="libnvrtc.so of CUDA 11, for sm_53, 62 and 72")
    parser.add_argument("--cuda-include", type=Path, help="folder of its headers")
    args = parser.parse_args()
    if (args.nvrtc is None) != (args.cuda_include is None):
        parser.error("--nvrtc and --cuda-include go together")
    version = subprocess.check_output([args.nvcc, "--version"], text=True)
    release = re.search(r"release [\d.]+, V[\d.]+", version)[0]
    archs = nvcc_archs(args.nvcc)
    rows = [row for arch in archs for row in compiled_by_nvcc(args.nvcc, arch)]
    compilers = [f"sm_{archs[0]} and later: nvcc {release}, with -O3 -std=c++14"]
    if args.nvrtc:
        library = ctypes.CDLL(str(args.nvrtc))
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        compilers.append(
            f"sm_53, 62 and 72: NVRTC {major.value}.{minor.value}, the kernels alone. Nobody has"
            " compiled the whole with the nvcc of a JetPack yet (10.2 on Nano and TX2, 11.4 on"
            " Xavier)"
        )
        old = [compiled_by_nvrtc(library, args.cuda_include, arch) for arch in NVRTC_ARCHS]
        rows = [row for each in old for row in each] + rows
    print_page(rows, compilers)


if __name__ == "__main__":
    main()
