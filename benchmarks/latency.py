"""How much faster or slower is ELFATT than the other attentions on a CPU, and from which size on?

    python benchmarks/latency.py --size 224 448 896 --threads 1

CSWin-T with each attention, batch 1, float32, as `elfatt-deploy export` writes it, seeded weights.
Above 224 ELFATT has blocks of 7-7-14-14 (--set blocks=7-7-14-14) in place of the default, blocks
that grow with the image; LOCAL has the package's default stripes. Every graph is held against the
torch module before it is timed. A network whose attention scores would not fit in the memory is
left out, with the estimate.
"""

from pathlib import Path

import _common

BASE = "elfatt"
ATTENTIONS = ("elfatt", "global", "effatt", "local")
SETTINGS = {224: (), 448: ("blocks=7-7-14-14",), 896: ("blocks=7-7-14-14",)}
MEMORY_SHARE = 0.8


def score_bytes(attention, size):
    """Estimate the memory of the largest softmax attention over all tokens.

    heads * N^2 scores of 4 bytes, twice: while torch traces the export, the scores and their
    softmax stand in memory together. (ONNX Runtime later works in place: once.)
    """
    from elfatt_deploy.models import registry

    config = registry.get(f"cswin_t_{attention}").config
    tokens = [rows * cols for rows, cols in config.map_sizes(size, size)]
    return max(
        2 * 4 * config.heads[level] * tokens[level] ** 2
        for level, depth in enumerate(config.depths)
        for index in range(depth)
        if level == 3 or config.mechanism(level + 1, index) == "global"  # the last one always is
    )


def available_bytes():
    """Return the memory that Linux says is available."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("/proc/meminfo does not say how much memory is available")


def left_out(attention, size):
    """Return why the network is not run, or nothing."""
    needed, limit = score_bytes(attention, size), MEMORY_SHARE * available_bytes()
    if needed <= limit:
        return ""
    return (
        f"left out: its scores need {needed / 2**30:.1f} GiB by estimate, above "
        f"{100 * MEMORY_SHARE:.0f} % of the available memory, {limit / 2**30:.1f} GiB"
    )


def graph_of(attention, size, images):
    """Return the bytes of the graph, its number of nodes and its distance from torch."""
    name = f"cswin_t_{attention}"
    _common.note(f"{name} at {size}: exporting and checking")
    model = _common.our_model(name, size, SETTINGS[size])
    expected = _common.torch_logits(model, images)
    proto = _common.our_graph(model, images)
    data = proto.SerializeToString()
    return data, len(proto.graph.node), _common.checked_graph(name, data, images, expected)


def report(size, args):
    """Print one table for each number of threads."""
    images = _common.noise(1, size)
    reasons = {attention: left_out(attention, size) for attention in ATTENTIONS}
    graphs = {a: graph_of(a, size, images) for a in ATTENTIONS if not reasons[a]}
    for threads in args.threads:
        _common.note(f"timing at {size} with {threads} threads")
        sessions = {a: _common.session(data, threads) for a, (data, _, _) in graphs.items()}
        samples = _common.interleaved_sessions(sessions, images, args)
        del sessions  # so that the arenas of two numbers of threads do not add up
        rows = []
        for attention in ATTENTIONS:
            if reasons[attention]:
                rows.append((attention.upper(), reasons[attention], *[""] * 5))
                continue
            mine, (_, nodes, error) = samples[attention], graphs[attention]
            ratios = _common.ratio(mine, samples[BASE])
            milliseconds = _common.milliseconds(mine)
            rows.append((attention.upper(), *ratios, milliseconds, nodes, f"{error:.1e}"))
        _common.table(
            f"CSWin-T at {size}, batch 1, {threads} threads: latency over ELFATT's",
            ("attention", *_common.RATIO_COLUMNS, "median (ms)", "nodes", "logits off by"),
            rows,
        )


def main():
    """Read the options and report on each size."""
    parser = _common.parser(__doc__)
    parser.add_argument("--size", type=int, nargs="+", default=[224], choices=SETTINGS, help="side")
    args = parser.parse_args()
    _common.header(args, _common.SESSION_RUN)
    for size in args.size:
        report(size, args)


if __name__ == "__main__":
    main()
