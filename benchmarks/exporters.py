"""Which of torch's two ONNX exporters writes the better file of ELFATT, and which opsets at all?

    python benchmarks/exporters.py --threads 1

Both export the same module (cswin_t_elfatt at 224 after our rewrites). The dynamo exporter is tried
twice: on an exported program (torch.export.export first), and on the module itself, where the
module can tell that it is being exported and write its attention in plain ops. It needs the package
onnxscript. A failure stands in the table as a cell.
"""

import argparse
import importlib.util
import io
import logging
import statistics
import warnings
from contextlib import contextmanager

import _common
import numpy as np
import torch
from torch import nn

SIZE = 224
OPSETS = (13, 17, 18)
#: the opset that all of them write, for everything that is timed or compared
SHARED_OPSET = 18
TRACED_BATCH, OTHER_BATCHES = 2, (1, 3)
NAMES = {"input_names": ["images"], "output_names": ["logits"]}


def torchscript(model, example, opset, dynamic):
    """Export with the TorchScript-based exporter."""
    import onnx

    buffer = io.BytesIO()
    axes = {"images": {0: "batch"}, "logits": {0: "batch"}} if dynamic else None
    options = {"opset_version": opset, "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(model, (example,), buffer, **NAMES, **options)
    return onnx.load_model_from_string(buffer.getvalue())


def dynamo_program(model, example, opset, dynamic):
    """Export with torch.export.export, then the dynamo exporter."""
    program = torch.export.export(model, (example,), dynamic_shapes=_shapes(dynamic))
    options = {"opset_version": opset, "dynamo": True, "verbose": False}
    return torch.onnx.export(program, **NAMES, **options).model_proto


def dynamo_module(model, example, opset, dynamic):
    """Export with the dynamo exporter, which captures the module itself."""
    options = {"opset_version": opset, "dynamo": True, "verbose": False}
    options["dynamic_shapes"] = _shapes(dynamic)
    return torch.onnx.export(model, (example,), **NAMES, **options).model_proto


def _shapes(dynamic):
    return ({0: torch.export.Dim("batch")},) if dynamic else None


def exporters():
    """Return the exporters by name; those that need onnxscript only where it is installed."""
    found = {"TorchScript": torchscript}
    if importlib.util.find_spec("onnxscript") is None:
        print("- dynamo exporter: skipped, the package onnxscript is not installed")
        return found
    return {**found, "dynamo, program": dynamo_program, "dynamo, module": dynamo_module}


@contextmanager
def quiet():
    """Silence the exporters' warnings; what they warn of is read back from the files."""
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def attempt(function, *args):
    """Return (result, "") or, where the function fails, (None, the error in a few words)."""
    try:
        with quiet():
            return function(*args), ""
    except Exception as error:  # what fails, and how, is a result here
        words = " ".join(str(error).split()).replace("|", "/")
        return None, f"fails: {type(error).__name__}: {words[:60]}"


def simplified(proto):
    """Return a copy of the graph that the package's simplifier has cleaned."""
    import onnx

    from elfatt_deploy.graph import simplify

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return simplify.simplified(copy)


def written_opset(name, export, model, example, asked):
    """Return the opset that the file states, or how the export fails."""
    from elfatt_deploy.graph import summary

    _common.note(f"{name}: asking for opset {asked}")
    proto, failure = attempt(export, model, example, asked, False)
    return failure or f"{summary.opset_of(proto)}"


def at_other_batches(export, model, images):
    """Export with a dynamic batch; returns for each other batch size whether the file is right."""
    example = torch.from_numpy(images[:TRACED_BATCH])
    proto, failure = attempt(export, model, example, SHARED_OPSET, True)
    if failure:
        return [failure] * len(OTHER_BATCHES)
    session, failure = attempt(_common.session, proto.SerializeToString(), 0)
    if failure:
        return [failure] * len(OTHER_BATCHES)
    return [agreement(session, model, images[:batch]) for batch in OTHER_BATCHES]


def agreement(session, model, images):
    """Say whether the file gives what torch gives."""
    from elfatt_deploy.parity.tolerance import tolerance

    expected = _common.torch_logits(model, images)
    found, failure = attempt(session.run, ["logits"], {"images": images})
    if failure:
        return failure
    if found[0].shape != expected.shape:
        return f"wrong, no error: shape {found[0].shape}, not {expected.shape}"
    error = float(np.abs(found[0] - expected).max())
    verdict = "right" if error < tolerance("fp32").max_abs else "wrong, no error"
    return f"{verdict}: off by {error:.1e}"


class BatchFromArithmetic(nn.Module):
    """The known trap: the batch is computed through a float, as Swin-like code often does."""

    def forward(self, images):
        """Flatten all but the batch."""
        return images.reshape(int(images.shape[0] / 1), -1) * 2


class BatchLeftOpen(nn.Module):
    """The same function with the batch left to reshape."""

    def forward(self, images):
        """Flatten all but the batch."""
        return images.reshape(-1, images.shape[1] * images.shape[2]) * 2


def export_times(tools, model, example, args):
    """Return the last file of each exporter and its seconds in every timed round."""
    files = {}

    def run(name):
        _common.note(f"{name}: exporting")
        files[name] = attempt(tools[name], model, example, SHARED_OPSET, False)

    rounds = argparse.Namespace(rounds=args.export_rounds, warmup=1, seed=args.seed)
    samples = _common.interleaved({name: lambda n=name: run(n) for name in tools}, rounds)
    return {name: files[name] for name in tools}, samples


def print_exports(files, samples):
    """Print how long each exporter takes and how many nodes it writes."""
    rows = []
    for name, (proto, failure) in files.items():
        if failure:
            rows.append((name, failure, *[""] * 5))
            continue
        seconds = samples[name]
        spread = f"{statistics.median(seconds):.1f} ({min(seconds):.1f}..{max(seconds):.1f})"
        slim, failure = attempt(simplified, proto)
        nodes = (node_count(proto), failure or node_count(slim))
        rows.append((name, *_common.ratio(seconds, samples["TorchScript"]), spread, *nodes))
    columns = ("median (min..max) (s)", "nodes but Constant", "the same after our simplifier")
    _common.table(
        f"Wall time of an export at opset {SHARED_OPSET}, batch 1, over TorchScript's",
        ("exporter", *_common.RATIO_COLUMNS, *columns),
        rows,
    )


def node_count(proto):
    """Return the number of nodes that are not constants."""
    return sum(node.op_type != "Constant" for node in proto.graph.node)


def print_opsets(tools, model, example):
    """Print the opset that each exporter's file states."""
    rows = [
        (name, *(written_opset(name, export, model, example, opset) for opset in OPSETS))
        for name, export in tools.items()
    ]
    _common.table(
        "Opset that the file states, by the opset asked for",
        ("exporter", *(f"asked for {opset}" for opset in OPSETS)),
        rows,
    )


def print_batches(tools, model, images):
    """Print whether a dynamic batch is right, for the model and for the trap."""
    small = np.random.default_rng(0).standard_normal((len(images), 4, 8)).astype(np.float32)
    modules = {
        "cswin_t_elfatt": (model, images),
        "batch from int(x.shape[0] / 1)": (BatchFromArithmetic().eval(), small),
        "batch left to reshape(-1, ...)": (BatchLeftOpen().eval(), small),
    }
    rows = [
        (label, name, *at_other_batches(export, *pair))
        for label, pair in modules.items()
        for name, export in tools.items()
    ]
    _common.table(
        f"Dynamic batch, traced at {TRACED_BATCH}: the file against torch",
        ("module", "exporter", *(f"at batch {batch}" for batch in OTHER_BATCHES)),
        rows,
    )


def graphs_of(files):
    """Return the bytes of every file that was written, as it is and simplified."""
    graphs = {}
    for name, (proto, _) in files.items():
        if proto is not None:
            graphs[name] = proto
            graphs[f"{name}, simplified"] = attempt(simplified, proto)[0]
    return {name: p.SerializeToString() for name, p in graphs.items() if p is not None}


def print_latency(graphs, images, expected, args):
    """Print the latency of every graph over that of what the package ships."""
    base = "TorchScript, simplified"
    errors = {n: _common.checked_graph(n, data, images, expected) for n, data in graphs.items()}
    for threads in args.threads:
        _common.note(f"timing with {threads} threads")
        sessions = {name: _common.session(data, threads) for name, data in graphs.items()}
        samples = _common.interleaved_sessions(sessions, images, args)
        rows = []
        for name, mine in samples.items():
            ratios, error = _common.ratio(mine, samples[base]), f"{errors[name]:.1e}"
            rows.append((name, *ratios, _common.milliseconds(mine), error))
        _common.table(
            f"At {SIZE}, batch 1, {threads} threads: latency over '{base}'",
            ("file", *_common.RATIO_COLUMNS, "median (ms)", "logits off by"),
            rows,
        )


def main():
    """Export every way, read back, compare and time."""
    from elfatt_deploy.export import rewrites

    parser = _common.parser(__doc__)
    words = "timed rounds of exports"
    parser.add_argument("--export-rounds", type=_common.at_least(2), default=3, help=words)
    args = parser.parse_args()
    _common.header(args, f"export, wall clock; {_common.SESSION_RUN}")
    torch.set_num_threads(1)  # tracing runs the model, and waits for a core that is taken
    words = f"{args.export_rounds} rounds after 1 of warm-up, torch on 1 thread"
    print(f"- repeats of exports: {words}", flush=True)
    tools = exporters()
    model = rewrites.rewritten(_common.our_model("cswin_t_elfatt", SIZE))
    images = _common.noise(max(TRACED_BATCH, *OTHER_BATCHES), SIZE)
    example = torch.from_numpy(images[:1])
    files, samples = export_times(tools, model, example, args)
    print_exports(files, samples)
    print_opsets(tools, model, example)
    print_batches(tools, model, images)
    expected = _common.torch_logits(model, images[:1])
    print_latency(graphs_of(files), images[:1], expected, args)


if __name__ == "__main__":
    main()
