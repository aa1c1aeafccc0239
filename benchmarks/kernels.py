"""How many kernels does the TensorRT-for-RTX builder make of our graph, and of the naive one?

    python benchmarks/kernels.py

Needs the extra `rtx`, and no GPU: the builder compiles for SM 8.6 and its verbose log lists the
kernels. Nothing runs, so there are no times here. The half-precision graphs are the torch modules
turned to half before export; they are counted, not proved.
"""

import re

import _common
import naive

ATTENTIONS = ("elfatt", "global")


def kernels(data):
    """Return the names of the kernels that the builder makes of a graph."""
    import tensorrt_rtx as trt

    class Log(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.lines = []

        def log(self, _, message):
            self.lines.append(message)

    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(data):
        raise SystemExit(f"the parser refuses the graph: {parser.get_error(0)}")
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if builder.build_serialized_network(network, config) is None:
        raise SystemExit("the builder fails on the graph")
    return re.findall(r"^Name: (\S+), LayerType: \w+", "\n".join(log.lines), re.MULTILINE)


def main():
    """Build every graph and print its kernels."""
    import tensorrt_rtx

    print(f"- kind: measured (counted by the builder), tensorrt_rtx {tensorrt_rtx.__version__}")
    images, rows = _common.noise(1, naive.SIZE), []
    for attention in ATTENTIONS:
        model = _common.our_model(f"cswin_t_{attention}", naive.SIZE)
        net, half = naive.build(model, attention), images.astype("float16")
        graphs = {
            ("fp32", "ours"): _common.our_graph(model, images).SerializeToString(),
            ("fp32", "naive"): naive.exported(net, images),
            ("fp16", "ours"): _common.our_graph(model.half(), half).SerializeToString(),
            ("fp16", "naive"): naive.exported(net.half(), half),
        }
        for (precision, form), data in graphs.items():
            names = kernels(data)
            fused = sum("mha" in name for name in names)
            rows.append((f"cswin_t_{attention}", precision, form, len(names), fused))
    columns = ("model", "precision", "graph", "kernels", "of them fused attention")
    _common.table("Kernels at 224, batch 1, SM 8.6", columns, rows)


if __name__ == "__main__":
    main()
