"""How much faster is what we export than what the common path gives, for every model of the paper?

    python benchmarks/families.py --threads 1

Ours is what `elfatt-deploy export` writes; the common path is the straightforward module of
`naive.py` through plain torch.onnx.export at opset 17 and onnxslim with its default settings. Same
weights; both files are held against torch before they are timed. T sizes at 224 pixels. A model
that the package does not have, or cannot build, gets a row that says so.
"""

import _common
import naive

COLUMNS = (
    "model",
    "threads",
    "nodes, common path",
    "nodes, ours",
    *_common.RATIO_COLUMNS,
    "common path, median (ms)",
    "ours, median (ms)",
    "logits off by, common path",
    "logits off by, ours",
)


def slimmed(data):
    """Return what onnxslim makes of the bytes of a graph with its default settings."""
    import onnx
    import onnxslim

    return onnxslim.slim(onnx.load_model_from_string(data))


def exported(name, model, images):
    """Return by form the bytes of its graph, its nodes and by how much its logits are off."""
    _common.note(f"{name}: exporting and checking")
    expected = _common.torch_logits(model, images)
    protos = {
        "common path": slimmed(naive.exported(naive.loaded(name, model), images)),
        "ours": _common.our_graph(model, images),
    }
    found = {}
    for form, proto in protos.items():
        data = proto.SerializeToString()
        error = _common.checked_graph(f"{name}, {form}", data, images, expected)
        found[form] = (data, len(proto.graph.node), error)
    return found


def rows_of(name, images, args):
    """Yield one row for each number of threads, or one that says why there is none."""
    model, reason = naive.our_model(name)
    if model is None:
        yield (name, reason, *[""] * (len(COLUMNS) - 2))
        return
    graphs = exported(name, model, images)
    for threads in args.threads:
        _common.note(f"{name}: timing with {threads} threads")
        sessions = {form: _common.session(graphs[form][0], threads) for form in graphs}
        samples = _common.interleaved_sessions(sessions, images, args)
        yield (
            name,
            threads,
            *(nodes for _, nodes, _ in graphs.values()),
            *_common.ratio(samples["common path"], samples["ours"]),
            *(_common.milliseconds(samples[form]) for form in graphs),
            *(f"{error:.1e}" for _, _, error in graphs.values()),
        )


def main():
    """Read the options and print the table, row by row."""
    parser = _common.parser(__doc__)
    names = list(naive.NETS)
    parser.add_argument("--models", nargs="+", default=names, choices=names, help="which models")
    args = parser.parse_args()
    _common.header(args, _common.SESSION_RUN)
    images = _common.noise(1, naive.SIZE)
    _common.table(
        f"At {naive.SIZE}, batch 1: latency of the common path over ours, above 1 where ours is "
        "faster",
        COLUMNS,
        (row for name in args.models for row in rows_of(name, images, args)),
    )


if __name__ == "__main__":
    main()
