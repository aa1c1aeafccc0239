"""How far is FP16 on a GPU from FP64, and is the emulation a fair judge of it?

    python benchmarks/half_gpu.py --device cuda

For every model: logits of the float64 module on the CPU against those of the module in half on the
device, of the `ort` FP16 file in ONNX Runtime on the device, and of the emulation. Relative L2, the
worst of the photographs. With `--device cpu` it runs anywhere, and says nothing about a GPU.
"""

import argparse
import importlib.metadata

import _common
import numpy as np

PACKAGES = ("torch", "onnxruntime", "onnxruntime-gpu")


def worst(found, exact):
    """Return the largest relative L2 error of a row."""
    error = np.linalg.norm(found.astype(np.float64) - exact, axis=1)
    return f"{(error / np.linalg.norm(exact, axis=1)).max():.1e}"


def half_logits(model, images, device):
    """Return the logits of the torch module in half precision."""
    import torch

    with torch.no_grad():
        return (
            model.half()
            .to(device)(torch.from_numpy(images).half().to(device))
            .float()
            .cpu()
            .numpy()
        )


def row_of(name, device):
    """Return the errors of one model."""
    import torch

    from elfatt_deploy import preprocessing
    from elfatt_deploy.golden import gather_inputs
    from elfatt_deploy.graph import half
    from elfatt_deploy.models import registry, seeded
    from elfatt_deploy.parity import prove
    from elfatt_deploy.precision import guard
    from elfatt_deploy.runners.emulation import EmulationRunner
    from elfatt_deploy.runners.ort_runner import OrtRunner

    _common.note(name)
    spec = registry.get(name)
    height, width = spec.size(None, None)
    recipe = spec.preprocessing(height, width)
    images = gather_inputs(recipe, preprocessing.photograph_paths(), "photos").images[:4]

    def built():
        model = spec.build(height, width)
        seeded.fill(model)
        return model

    with torch.no_grad():
        exact = built().double()(torch.from_numpy(images).double()).numpy()
    graph = _common.our_graph(built(), images[:1])
    single = _common.torch_logits(built(), images)
    islands = [
        i.node for i in guard.precision_map(graph, images, single, 1, lambda _: None).islands
    ]
    data = half.mixed(graph, islands).SerializeToString()
    with EmulationRunner(data) as runner:
        emulated = prove.reference_logits(runner, images, 1)
    with OrtRunner(data, provider=device) as runner:
        in_ort = prove.reference_logits(runner, images, 1)
    in_torch = half_logits(built(), images, device)
    found = (single, in_torch, in_ort, emulated)
    return (name, len(islands), *(worst(logits, exact) for logits in found))


def main():
    """Print the table."""
    from elfatt_deploy.models import registry

    names = [name for name, spec in registry.models().items() if not spec.ablation]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--models", nargs="+", default=names)
    args = parser.parse_args()
    if args.device == "cuda":
        import torch

        print(f"- device: {torch.cuda.get_device_name()}")
    else:
        print("- device: CPU")
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    told = (f"{p} {importlib.metadata.version(p)}" for p in PACKAGES if p in installed)
    print(f"- kind: measured; versions: {', '.join(told)}")
    columns = ("model", "islands", "FP32 torch", "half torch", "FP16 file in ONNX Runtime",
               "emulated FP16")  # fmt: skip
    rows = (row_of(name, args.device) for name in args.models)
    _common.table(f"Against FP64, on {args.device}", columns, rows)


if __name__ == "__main__":
    main()
