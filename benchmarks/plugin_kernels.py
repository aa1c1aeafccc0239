"""How many kernels is an attention block with the plugin's node, and how many in plain ops?

    python benchmarks/plugin_kernels.py
    python benchmarks/plugin_kernels.py --models cswin_t_effatt cswin_t_global --precision fp32

Needs the extra `rtx`, and no GPU: the builder of TensorRT for RTX compiles for SM 8.6 and its
verbose log lists the kernels. It has no plugin layers, so the network with the plugin is cut at its
nodes, and each piece between two nodes is built alone: what a node reads is an output of the piece
before it, what it makes an input of the piece behind it. (In one network of all pieces the builder
would fuse what stands before a node with what stands behind it.) The kernels of the pieces are
counted; to each block that has a node the launches of one call are added, as the plugin's source
states them (`elfatt_attention_launches`: 2 with a linear part, 1 without). Nothing runs: neither
these kernels nor the plugin's. Not counted are entries that only synchronise two streams. 224
pixels, batch 1, weights of seed 0. Every model has processes of its own.
"""

import argparse
import datetime
import importlib.metadata
import multiprocessing
import sys
from pathlib import Path

import _common

SIZE = 224
#: kernels of a block that the issue of this plugin allows
MOST = 9
COLUMNS = (
    "block", "node", "plain ops", "around the node", "plugin's launches", "with the plugin",
)  # fmt: skip


def plain_counts(name, precision):
    """Return the kernels of each block of a model in plain ops, of the whole graph, and events."""
    model, images = _common.our_model(name, SIZE), _common.noise(1, SIZE)
    graph = _typed(_common.our_graph(model, images, "jp6"), precision)
    return _counted([graph], graph, _taps(model))


def cut_counts(name, precision):
    """Return the same around the plugin's nodes, and (block, node) of each of them."""
    from elfatt_deploy.engine import rtx
    from elfatt_deploy.export import plugin
    from elfatt_deploy.graph import plugin_body, plugin_nodes

    model, images = _common.our_model(name, SIZE), _common.noise(1, SIZE)
    taps = _taps(model)
    graph = _typed(_common.our_graph(plugin.with_nodes(model), images, "jp6"), precision)
    typed = plugin_body.infer_shapes(graph, strict_mode=True, data_prop=True)
    blocks = rtx.blocks_of_nodes(graph.SerializeToString(), taps)
    nodes = [
        (blocks[node.name], plugin_nodes.attributes_of(node))
        for node in plugin_nodes.plugin_nodes(graph)
    ]
    return *_counted(plugin_nodes.pieces(typed), graph, taps), nodes


def _typed(graph, precision):
    from elfatt_deploy.graph import half

    return half.mixed(graph, ()) if precision == "fp16" else graph


def _counted(pieces, graph, taps):
    """Return the kernels of each block of a graph that is built in pieces, of all, and events."""
    from elfatt_deploy.engine import rtx

    found = [kernel for piece in pieces for kernel in rtx.kernels(piece.SerializeToString())]
    kernels = tuple(kernel for kernel in found if kernel.kind not in rtx.EVENTS)
    count = rtx.count(kernels, rtx.blocks_of_nodes(graph.SerializeToString(), taps))
    return dict(count.blocks), count.kernels, len(found) - len(kernels)


def _taps(model):
    from elfatt_deploy.export import exporter

    return tuple(exporter.tap_modules(model))


def launches(node):
    """Return the kernels that one call of the plugin launches."""
    return 2 if node.global_heads else 1


def shape(node):
    """Return a node in words: its map, the blocks of its block part."""
    parts = [f"{node.rows}x{node.cols}"]
    if node.global_heads:
        parts.append("linear")
    if node.local_heads:
        parts.append(f"blocks {node.block_rows}x{node.block_cols}")
    return ", ".join(parts)


def tables(pool, name, precision):
    """Print the table of a model; returns the most kernels of one of its blocks with a node."""
    _common.note(f"{name} {precision}: exporting and building")
    plain, whole, events = pool.apply(plain_counts, (name, precision))
    around, rest, cut_events, nodes = pool.apply(cut_counts, (name, precision))
    rows, most = [], 0
    for block, node in nodes:
        both = around[block] + launches(node)
        most = max(most, both)
        rows.append((block, shape(node), plain[block], around[block], launches(node), both))
    added = sum(launches(node) for _, node in nodes)
    rows.append(("whole network", f"{len(nodes)} nodes", whole, rest, added, rest + added))
    _common.table(f"{name}, {precision}", COLUMNS, rows)
    print(f"\nEvents between streams, not counted: plain ops {events}, pieces {cut_events}.")
    return most


def main():
    """Build both forms of every model and print the kernels of their blocks."""
    import tensorrt_rtx

    from elfatt_deploy.models import registry

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = sorted(registry.models())
    parser.add_argument("--models", nargs="+", default=["cswin_t_elfatt"], choices=names)
    parser.add_argument("--precision", nargs="+", default=["fp16"], choices=["fp16", "fp32"])
    args = parser.parse_args()
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    onnx = importlib.metadata.version("onnx")
    print(f"- command: `{command}`")
    print(f"- kind: counted by the builder, tensorrt_rtx {tensorrt_rtx.__version__}, onnx {onnx}")
    print("- the plugin's launches: from its source; nothing ran on a GPU")
    print(f"- date: {datetime.datetime.now(datetime.timezone.utc).date().isoformat()}")
    most = 0
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for name in args.models:
            for precision in args.precision:
                most = max(most, tables(pool, name, precision))
    print(f"\nMost kernels of a block with a node: {most}; wanted: at most {MOST}.")
    return 0 if most <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
