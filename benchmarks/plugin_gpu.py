"""Is the ELFATT plugin right on a GPU, and how far is it from torch and from the memory's floor?

    python benchmarks/plugin_gpu.py > plugin-gpu.md
    python benchmarks/plugin_gpu.py --sanitize

Builds plugins/elfatt_attention as a plain shared library with nvcc, calls it on torch tensors,
holds it against the package's own modules in float64 and times both, for every level of the models
at each input size. `--sanitize` runs the checks under compute-sanitizer instead. Needs a CUDA GPU,
torch with CUDA and nvcc. Has not run on a GPU yet.
"""

import argparse
import ctypes
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import _common

FOLDER = Path(__file__).parents[1] / "plugins" / "elfatt_attention"
MODELS = ("cswin_t_elfatt", "cswin_b_elfatt", "swin_t_elfatt")
SIZES, BATCHES = (224, 512, 1024), (1, 32, 128)
#: relative L2 against float64, as in tests/plugins
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3}
FIELDS = ("batch", "rows", "cols", "channels", "global_channels", "global_heads", "local_heads",
          "block_rows", "block_cols", "lepe", "half")  # fmt: skip
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
COLUMNS = (
    "model", "input", "level", "map", "mechanism", "batch", "storage", "error", "plugin, us",
    "torch explicit, us", "torch SDPA, us", "torch compiled, us", "floor, us", "% of the floor",
)  # fmt: skip


class Shape(ctypes.Structure):
    """ElfattAttentionShape of the header."""

    _fields_ = tuple((name, ctypes.c_int) for name in FIELDS)


def level_contexts(name, size):
    """Return (mechanism, AttentionContext) of every kind of block of a model, level by level."""
    from elfatt_deploy.models import registry
    from elfatt_deploy.models.attention.context import AttentionContext

    config = registry.get(name).config
    sides, found = config.block_sides(size, size), []
    for info in config.levels_at(size, size):
        for mechanism in dict.fromkeys(info.blocks):
            context = AttentionContext(
                dim=info.channels, heads=info.heads, rows=info.rows, cols=info.cols,
                level=info.level, block=sides[info.level - 1], lepe=config.lepe,
                global_ratio=config.global_ratio,
            )  # fmt: skip
            found.append((mechanism, context))
    return found


def shape_of(branches, context, batch, half):
    """Return what the kernels are told of a block with these branches."""
    from elfatt_deploy.models.attention.layers import WindowAttention

    blocks = [branch for branch in branches if isinstance(branch, WindowAttention)]
    linear = [branch for branch in branches if branch not in blocks]
    shape = Shape(batch=batch, rows=context.rows, cols=context.cols, channels=context.dim,
                  lepe=context.lepe, half=half)  # fmt: skip
    for branch in linear:
        shape.global_channels, shape.global_heads = branch.channels, branch.heads
    for branch in blocks:
        shape.local_heads = branch.heads
        shape.block_rows, shape.block_cols = branch.windows.height, branch.windows.width
    return shape


def floor_bytes(shape):
    """Return the bytes that any implementation moves: Q, K, V and the output once, the weights."""
    element = 2 if shape.half else 4
    tokens = shape.batch * shape.rows * shape.cols
    return element * (4 * tokens * shape.channels + 10 * shape.channels * bool(shape.lepe))


def conditions(sizes, batches):
    """Return the (size, batch) pairs: as many pixels as 128 images of 224 have, at most."""
    most = 128 * 224 * 224 * 1.4
    return [(s, b) for s in sizes for b in batches if b * s * s <= most or b == min(batches)]


def build(folder):
    """Compile the kernels for the GPU at hand and load them."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    library = Path(folder, "kernels.so")
    target = f"arch=compute_{major}{minor},code=sm_{major}{minor}"
    command = ["nvcc", "-O3", "-std=c++14", "-lineinfo", "-shared", "-Xcompiler", "-fPIC"]
    files = ["-gencode", target, "-o", library, FOLDER / "elfatt_attention.cu"]
    subprocess.run([*command, *files], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.elfatt_attention_workspace_bytes.restype = ctypes.c_size_t
    loaded.elfatt_attention_launch.argtypes = [ctypes.c_void_p] * 7
    return loaded


class Plugin:
    """One call of the kernels, with its own workspace and output."""

    def __init__(self, library, shape, qkv, weight, bias):
        import torch

        self.library, self.shape, self.inputs = library, shape, (qkv, weight, bias)
        size = library.elfatt_attention_workspace_bytes(ctypes.byref(shape))
        self.workspace = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
        self.out = torch.empty(*qkv.shape[:2], shape.channels, dtype=qkv.dtype, device="cuda")

    def __call__(self):
        """Queue the kernels; returns the output."""
        import torch

        pointers = [None if t is None else t.data_ptr() for t in (*self.inputs, self.workspace)]
        stream = torch.cuda.current_stream().cuda_stream
        status = self.library.elfatt_attention_launch(
            ctypes.byref(self.shape), *pointers, self.out.data_ptr(), stream
        )
        if status:
            sys.exit(f"the launch failed with {status}")
        return self.out


def torch_block(branches, explicit):
    """Return the attention of a block as a module from packed Q, K, V [B, N, 3C] to [B, N, C]."""
    import copy

    import torch

    class Explicit(torch.nn.Module):
        def forward(self, q, k, v):
            return (q @ k.transpose(-1, -2)).softmax(-1) @ v

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attns = torch.nn.ModuleList(copy.deepcopy(list(branches)))
            for branch in self.attns:
                if explicit and hasattr(branch, "attend"):
                    branch.attend = Explicit()

        def forward(self, qkv):
            outs, widths = [], [branch.channels for branch in self.attns]
            parts = [part.split(widths, -1) for part in qkv.chunk(3, -1)]
            for branch, q, k, v in zip(self.attns, *parts, strict=True):
                outs.append(branch(q * branch.q_scale, k, v))
            return torch.cat(outs, -1).reshape(*qkv.shape[:2], -1)

    return Block()


def inputs_of(branches, shape, dtype):
    """Return random qkv, and the LePE weights [C, 9] and bias of the branches, on the GPU."""
    import torch

    qkv = torch.randn(shape.batch, shape.rows * shape.cols, 3 * shape.channels, device="cuda")
    qkv[..., : 2 * shape.channels] *= 2  # logits of a few units
    if not shape.lepe:
        return qkv.to(dtype), None, None
    weight = torch.cat([branch.get_v.weight.detach().reshape(-1, 9) for branch in branches])
    bias = torch.cat([branch.get_v.bias.detach() for branch in branches])
    return tuple(t.to("cuda", dtype).contiguous() for t in (qkv, weight, bias))


def error_of(plugin, exact):
    """Return the relative L2 error of the first and the last image against float64."""
    qkv = plugin.inputs[0]
    ends = sorted({0, len(qkv) - 1})
    wanted = exact(qkv[ends].double())
    return float((plugin()[ends].double() - wanted).norm() / wanted.norm())


def microseconds(candidates, rounds=15, calls=10):
    """Return the median GPU time of a call, candidates interleaved in a shuffled order."""
    import torch

    samples, order, rng = {name: [] for name in candidates}, list(candidates), random.Random(0)
    for number in range(-3, rounds):
        rng.shuffle(order)
        for name in order:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(calls):
                candidates[name]()
            end.record()
            end.synchronize()
            if number >= 0:
                samples[name].append(1e3 * start.elapsed_time(end) / calls)
    return {name: statistics.median(found) for name, found in samples.items()}


def copy_bandwidth():
    """Return bytes a second of a copy in the GPU's memory, read and written bytes counted."""
    import torch

    source = torch.empty(1 << 28, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return 2e6 * source.nbytes / microseconds({"copy": lambda: target.copy_(source)})["copy"]


def row_of(library, name, size, mechanism, context, batch, storage, bandwidth):
    """Return one row; without a bandwidth nothing is timed."""
    import torch

    from elfatt_deploy.models import registry

    branches = registry.attention_branches(mechanism, context)
    shape = shape_of(branches, context, batch, storage == "fp16")
    head = (name, size, context.level, f"{context.rows}x{context.cols}", mechanism, batch, storage)
    if not library.elfatt_attention_supported(ctypes.byref(shape)):
        return (*head, "not taken by the kernels", *[""] * 6)
    dtype = torch.float16 if shape.half else torch.float32
    plugin = Plugin(library, shape, *inputs_of(branches, shape, dtype))
    # the weights as they are stored: rounded first, then used exactly
    modules = {explicit: torch_block(branches, explicit).to("cuda", dtype).eval()
               for explicit in (True, False)}  # fmt: skip
    error = error_of(plugin, torch_block(branches, True).to("cuda", dtype).double().eval())
    if not error <= TOLERANCE[storage]:
        sys.exit(f"{head}: error {error:.1e} is above {TOLERANCE[storage]:.0e}")
    if bandwidth is None:
        return (*head, f"{error:.1e}", *[""] * 6)
    compiled, qkv = torch.compile(modules[False]), plugin.inputs[0]
    times = microseconds({
        "plugin": plugin,
        "explicit": lambda: modules[True](qkv),
        "sdpa": lambda: modules[False](qkv),
        "compiled": lambda: compiled(qkv),
    })  # fmt: skip
    floor = 1e6 * floor_bytes(shape) / bandwidth
    cells = [f"{error:.1e}", *(f"{t:.1f}" for t in times.values()), f"{floor:.1f}"]
    return (*head, *cells, f"{100 * floor / times['plugin']:.0f}")


def rows_of(args, library, bandwidth):
    """Yield the rows of all models, sizes, batches and storage types."""
    import torch

    for name in args.models:
        for size, batch in conditions(args.sizes, args.batches):
            for mechanism, context in level_contexts(name, size):
                for storage in args.storage:
                    _common.note(f"{name} {size} level {context.level} {mechanism} x{batch}")
                    case = (name, size, mechanism, context, batch, storage)
                    try:
                        with torch.no_grad():
                            yield row_of(library, *case, bandwidth)
                    except torch.cuda.OutOfMemoryError:
                        torch.cuda.empty_cache()
                        yield (name, size, context.level, "", mechanism, batch, storage,
                               "out of memory", *[""] * 6)  # fmt: skip


def sanitize():
    """Run the checks at 224 and batch 2 under every tool of compute-sanitizer."""
    if shutil.which("compute-sanitizer") is None:
        sys.exit("compute-sanitizer is not in PATH; it is in the folder bin of the CUDA toolkit")
    own = [sys.executable, __file__, "--check", "--sizes", "224", "--batches", "2"]
    for tool in TOOLS:
        command = ["compute-sanitizer", "--tool", tool, "--kernel-regex", "kns=elfatt",
                   "--error-exitcode", "1", *own]  # fmt: skip
        _common.note(" ".join(command))
        subprocess.run(command, check=True)


def main():
    """Check and time, or sanitize."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--models", nargs="+", default=MODELS)
    add("--sizes", nargs="+", type=int, default=SIZES)
    add("--batches", nargs="+", type=int, default=BATCHES)
    add("--storage", nargs="+", default=list(TOLERANCE), choices=list(TOLERANCE))
    add("--check", action="store_true", help="compare with float64 only, time nothing")
    add("--sanitize", action="store_true", help="run --check under compute-sanitizer")
    args = parser.parse_args()
    if args.sanitize:
        sanitize()
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA GPU: nothing was run")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
        bandwidth = None if args.check else copy_bandwidth()
        print(f"- device: {torch.cuda.get_device_name()}, torch {torch.__version__}")
        print("- kind: measured; GPU time of a call in a row of ten, median of 15 rounds; torch's"
              " times hold the gaps between its kernels")  # fmt: skip
        if bandwidth:
            print(f"- floor: Q, K, V, output and weights once, at the {bandwidth / 1e9:.0f} GB/s"
                  " of a copy in the GPU's memory")  # fmt: skip
        _common.table("ELFATT plugin against torch", COLUMNS, rows_of(args, library, bandwidth))


if __name__ == "__main__":
    main()
