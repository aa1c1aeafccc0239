"""What do our graph forms gain on a CPU over a network exported just as it is written?

    python benchmarks/graph_forms.py --threads 1 2

Ours is what `elfatt-deploy export` writes; naive is `naive.py` through plain torch.onnx.export at
opset 17 without a simplifier. Same weights; both are held against torch before they are timed. The
shares of time come from ONNX Runtime's own profiler in separate sessions, not from the timed ones.
"""

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import _common
import naive

ATTENTIONS = ("elfatt", "global")
FORMS = ("ours", "naive")
#: ops that do the arithmetic of the network, under the names they have after fusion
PRODUCTS = {"Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"}


def exported(images):
    """Return the bytes of every graph by (attention, form), each checked."""
    graphs = {}
    for attention in ATTENTIONS:
        _common.note(f"cswin_t_{attention}: exporting and checking")
        model = _common.our_model(f"cswin_t_{attention}", naive.SIZE)
        expected = _common.torch_logits(model, images)
        ours = _common.our_graph(model, images).SerializeToString()
        graphs[attention, "ours"] = ours
        graphs[attention, "naive"] = naive.exported(naive.build(model, attention), images)
        for form in FORMS:
            name, data = f"cswin_t_{attention}, {form}", graphs[attention, form]
            _common.checked_graph(name, data, images, expected)
    return graphs


def op_counts(data):
    """Return the number of nodes of a file by op."""
    import onnx

    return Counter(node.op_type for node in onnx.load_model_from_string(data).graph.node)


def timed(graphs, images, threads, args):
    """Return the samples of every graph, interleaved."""
    sessions = {key: _common.session(data, threads) for key, data in graphs.items()}
    return _common.interleaved_sessions(sessions, images, args)


def profiled(graphs, images, threads, args):
    """Return for every graph what `kernels` reads from ONNX Runtime's profile."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = {
            key: _common.session(data, threads, str(Path(folder, "-".join(key))))
            for key, data in graphs.items()
        }
        _common.interleaved_sessions(sessions, images, args)
        files = {key: Path(one.end_profiling()) for key, one in sessions.items()}
        return {key: kernels(json.loads(f.read_text()), args) for key, f in files.items()}


def kernels(events, args):
    """Return the kernels of one run by op, and the per cent outside `PRODUCTS` of each run."""
    ops, spent = {}, defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["args"]["node_index"]
            ops[node] = event["args"]["op_name"]
            spent[node].append(event["dur"])  # one entry for each run, warm-up first
    outside = []
    for run in range(args.warmup, args.warmup + args.rounds):
        total = sum(durations[run] for durations in spent.values())
        products = sum(durations[run] for n, durations in spent.items() if ops[n] in PRODUCTS)
        outside.append(100 * (1 - products / total))
    return Counter(ops.values()), outside


def print_latency(samples):
    """Print, for each number of threads, the naive form over ours."""
    rows = []
    for threads, by_graph in samples.items():
        for attention in ATTENTIONS:
            ours, other = (by_graph[attention, form] for form in FORMS)
            medians = (_common.milliseconds(ours), _common.milliseconds(other))
            rows.append((f"cswin_t_{attention}", threads, *_common.ratio(other, ours), *medians))
    _common.table(
        f"At {naive.SIZE}, batch 1: latency of the naive form over ours",
        ("model", "threads", *_common.RATIO_COLUMNS, "ours, median (ms)", "naive, median (ms)"),
        rows,
    )


def print_shares(nodes, profiles):
    """Print nodes, kernels, and the time outside the products for each number of threads."""
    rows = []
    for key, counts in nodes.items():
        ran = next(iter(profiles.values()))[key][0]
        row = [", ".join(key), counts.total(), counts["Constant"], ran.total()]
        for profile in profiles.values():
            each = profile[key][1]
            row.append(f"{statistics.median(each):.1f} ({min(each):.1f}..{max(each):.1f})")
        rows.append(row)
    shares = [f"% of time outside products, {n} threads: median (min..max)" for n in profiles]
    _common.table(
        f"Nodes, and the kernel time outside products ({', '.join(sorted(PRODUCTS))})",
        ("graph", "nodes in the file", "of them Constant", "kernels ORT runs", *shares),
        rows,
    )


def print_ops(attention, nodes, profile):
    """Print the ops whose number differs, in the file or among the kernels that ORT runs."""
    columns = [nodes[attention, form] for form in FORMS]
    columns += [profile[attention, form][0] for form in FORMS]
    rows = []
    for op in sorted(set().union(*columns)):
        counts = [column[op] for column in columns]
        if counts[0] != counts[1] or counts[2] != counts[3]:
            rows.append((op, *counts))
    _common.table(
        f"cswin_t_{attention}: ops that differ in number",
        ("op", "file, ours", "file, naive", "ORT runs, ours", "ORT runs, naive"),
        rows,
    )


def main():
    """Export, check, time, profile and print."""
    args = _common.parser(__doc__, threads=(1, 2)).parse_args()
    _common.header(args, _common.SESSION_RUN)
    images = _common.noise(1, naive.SIZE)
    graphs = exported(images)
    nodes = {key: op_counts(data) for key, data in graphs.items()}
    samples, profiles = {}, {}
    for threads in args.threads:
        _common.note(f"timing, then profiling, with {threads} threads")
        samples[threads] = timed(graphs, images, threads, args)
        profiles[threads] = profiled(graphs, images, threads, args)
    print_latency(samples)
    print_shares(nodes, profiles)
    for attention in ATTENTIONS:
        print_ops(attention, nodes, profiles[args.threads[0]])


if __name__ == "__main__":
    main()
