"""What the benchmark scripts share: options, header, sessions, interleaved timing, tables.

Importing this file loads neither torch nor ONNX Runtime: `cost.py` measures the memory of child
processes, and on Linux a child's peak is never reported below that of the parent at the fork.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ("elfatt-deploy", "torch", "onnx", "onnxruntime", "onnxslim", "onnxscript")
SESSION_RUN = "latency, wall clock of InferenceSession.run from array to array, CPU provider"
RATIO_COLUMNS = ("ratio of medians", "quartiles of rounds", "min..max of rounds")


def parser(doc, *, rounds=30, warmup=3, threads=(1,)):
    """Return the shared options; the defaults are the script's. No threads, no such option."""
    summary = doc.partition("\n")[0]
    found = argparse.ArgumentParser(
        description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = found.add_argument
    add("--rounds", type=at_least(2), default=rounds, help="timed rounds")
    add("--warmup", type=at_least(1), default=warmup, help="rounds before the timed ones")
    add("--seed", type=int, default=0, help="seed of the order within a round")
    if threads:
        words = "intra-op threads, one table each"
        add("--threads", type=at_least(1), nargs="+", default=list(threads), help=words)
    return found


def at_least(least):
    """Return an argparse type: a whole number, `least` or more."""

    def whole(text):
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return whole


def header(args, quantity):
    """Print what was measured, where, with what and how often; `quantity` says what a time is."""
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes")
    lines = {
        "command": f"`{command}`",
        "kind": "measured",
        "quantity": quantity,
        "machine": _machine(),
        "threads": _thread_words(getattr(args, "threads", None)),
        "huge pages": _huge_pages(),
        "versions": _versions(),
        "source": _git_state(),
        "date": now,
        "repeats": f"{args.rounds} rounds after {args.warmup} of warm-up; a round runs every "
        f"candidate once, in an order shuffled with seed {args.seed}",
        "load average at the start": f"{os.getloadavg()[0]:.2f} (a quiet machine is near 0)",
    }
    print(f"# {Path(sys.argv[0]).stem}\n")
    for name, text in lines.items():
        print(f"- {name}: {text}")


def _thread_words(threads):
    if not threads:
        return "each program's own choice"
    counts = " and ".join(map(str, threads))
    return f"{counts} within an op, 1 between ops; the workers of an idle session do not spin"


def _machine():
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.is_file() else []
    fields = {name.strip(): text.strip() for name, _, text in (x.partition(":") for x in lines)}
    model = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields:
        model += f" (family {fields['cpu family']}, model {fields['model']})"
    virtual = ", virtual machine" if " hypervisor" in fields.get("flags", "") else ""
    return f"{model}, {os.cpu_count()} cores{virtual}, {platform.system()} {platform.machine()}"


def _huge_pages():
    # Imported here: this file may load nothing heavy at its start, and this module loads numpy.
    from elfatt_deploy.bench import machine_state

    found = machine_state.read_state().huge_pages
    return found if isinstance(found, str) else found.reason


def _versions():
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def _git_state():
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True)
        changed = subprocess.check_output([*git, "status", "--porcelain"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"commit {commit.strip()}, {'with' if changed else 'no'} uncommitted changes"


def table(title, columns, rows):
    """Print a Markdown table."""
    print(f"\n## {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def note(text):
    """Say on stderr what is going on; stdout holds the result only."""
    print(text, file=sys.stderr, flush=True)


def interleaved(candidates, args):
    """Return the seconds of every candidate in every timed round.

    Args:
        candidates: name to a function without arguments.
        args: `rounds`, `warmup` and `seed`.
    """
    samples = {name: [] for name in candidates}
    order, rng = list(candidates), random.Random(args.seed)
    for number in range(-args.warmup, args.rounds):
        rng.shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            elapsed = time.perf_counter() - start
            if number >= 0:
                samples[name].append(elapsed)
    return samples


def ratio(samples, base):
    """Return the cells of `RATIO_COLUMNS` for samples / base, which share their rounds."""
    each = [one / other for one, other in zip(samples, base, strict=True)]
    low, _, high = statistics.quantiles(each, n=4, method="inclusive")
    middle = statistics.median(samples) / statistics.median(base)
    return (f"{middle:.2f}", f"{low:.2f}..{high:.2f}", f"{min(each):.2f}..{max(each):.2f}")


def milliseconds(samples):
    """Return the median of samples in seconds as milliseconds."""
    return f"{1e3 * statistics.median(samples):.1f}"


def bundle(model, size, folder):
    """Export a model for ONNX Runtime, square input of `size`, and return its bundle."""
    from elfatt_deploy.pipeline import ExportRequest, export_bundle

    request = ExportRequest(model=model, height=size, width=size, target="ort", output=folder)
    made = export_bundle(request).bundle
    if made is None:
        sys.exit(f"{model} at {size} failed parity")
    return made


def session(model, threads, profile_prefix=None):
    """Return a CPU session of ONNX Runtime on the bytes of a model."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Workers of a session spin on after a run, and would take a core from the next candidate.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def interleaved_sessions(sessions, images, args):
    """Return the seconds of every session in every timed round."""
    runs = {key: lambda s=s: s.run(["logits"], {"images": images}) for key, s in sessions.items()}
    return interleaved(runs, args)


def noise(batch, size):
    """Return images [batch, 3, size, size] with the statistics of photographs."""
    from elfatt_deploy import preprocessing
    from elfatt_deploy.models import registry

    recipe = registry.get("cswin_t_elfatt").preprocessing(size, size)
    return preprocessing.noise_images(batch, recipe)


def our_model(name, size, settings=()):
    """Return a registered model with its seeded weights."""
    from elfatt_deploy.models import registry, seeded
    from elfatt_deploy.models.settings import parse_settings

    model = registry.get(name).configured(parse_settings(settings)).build(size, size)
    seeded.fill(model)
    return model


def our_graph(model, images, target="ort"):
    """Return the graph that `elfatt-deploy export` writes in FP32 for a target and these images."""
    import torch

    from elfatt_deploy import recipes
    from elfatt_deploy.export import exporter, rewrites
    from elfatt_deploy.graph import simplify

    target = recipes.target(target)
    proto = exporter.onnx_from_torch(
        rewrites.rewritten(model, target.local),
        torch.from_numpy(images),
        opset=target.opset,
        dynamic_batch=False,
    )
    proto = simplify.simplified(proto)
    simplify.drop_outputs(proto, exporter.OUTPUT)
    simplify.strip_metadata(proto)
    return proto


def torch_logits(model, images):
    """Return the logits of a torch module as an array."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(images)).numpy()


def checked(name, found, expected):
    """Return the largest difference of two arrays of logits; end the program above tolerance."""
    import numpy as np

    from elfatt_deploy.parity.tolerance import tolerance

    limit = tolerance("fp32").max_abs
    error = float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
    if not error < limit:
        sys.exit(f"{name}: logits differ by {error:.1e}, above {limit:.0e}; nothing was timed")
    return error


def checked_graph(name, data, images, expected):
    """Run the bytes of a graph once; returns the difference as `checked` does."""
    found = session(data, threads=0).run(["logits"], {"images": images})[0]
    return checked(name, found, expected)
