"""What does VMamba's selective scan cost in the forms that ONNX can express?

    python benchmarks/scan.py --threads 1

Times the four scans of one block alone, at the four map sizes that VMamba-T has at 224 pixels, in
float32: in blocks, as the package exports them; by doubling, log2(L) steps over the whole sequence
(Hillis and Steele); and as an ONNX Loop over the tokens. The closed form with cumulative sums is
not timed but judged: it divides by products of decays, which vanish. Errors are against float64.
"""

import _common

LEVELS = {"level 1": (56, 96), "level 2": (28, 192), "level 3": (14, 384), "level 4": (7, 768)}
FORMS = ("blocks", "doubling", "Loop")


def doubling(decay, drive):
    """Run the recurrence along the third axis in log2(L) steps over the whole sequence."""
    from torch.nn import functional

    step, length = 1, drive.shape[2]
    while step < length:
        before = (0, 0, step, 0)
        drive = drive + decay * functional.pad(drive[:, :, :-step], before)
        decay = decay * functional.pad(decay[:, :, :-step], before)
        step *= 2
    return drive


def loop():
    """Return the recurrence along the third axis as a scripted loop, which exports as a Loop."""
    from naive_vmamba import scan

    swap = (0, 1, 3, 2)  # the naive scan runs along the last axis
    return lambda decay, drive: scan(decay.permute(swap), drive.permute(swap)).permute(swap)


def closed_form(decay, drive):
    """Run the recurrence as cumulative products and sums, with a division."""
    products = decay.cumprod(2)
    return products * (drive / products).cumsum(2)


def scans(side, channels, recurrence=None):
    """Return a module that maps tokens to their scans, and tokens for it.

    Args:
        side: rows and columns of the map.
        channels: channels C.
        recurrence: a function of decays and drives; none for the package's own.
    """
    import torch

    from elfatt_deploy.models import seeded
    from elfatt_deploy.models.attention import scan
    from elfatt_deploy.models.backbones.vmamba import Mixer

    class Alone(torch.nn.Module):
        def __init__(self):
            super().__init__()
            mixer = Mixer(channels, side, side)
            seeded.fill(mixer)
            self.mixer = mixer.exported()

        def forward(self, tokens):
            ours = scan.linear_recurrence
            if recurrence is not None:
                scan.linear_recurrence = lambda decay, drive, _: recurrence(decay, drive)
            try:
                return self.mixer.scans.scanned(tokens, self.mixer.scan_weights())
            finally:
                scan.linear_recurrence = ours

    tokens = torch.from_numpy(seeded.unit_noise("tokens", (side * side, channels))).float()
    return Alone().eval(), tokens


def graph(module, tokens):
    """Return the simplified ONNX graph of a module of tokens."""
    import io
    import warnings

    import onnx
    import torch

    from elfatt_deploy.graph import simplify

    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's doubts about a loop that is scripted
        torch.onnx.export(
            module, (tokens,), file, opset_version=17, dynamo=False,
            input_names=["images"], output_names=["logits"],
        )  # fmt: skip
    return simplify.simplified(onnx.load_model_from_string(file.getvalue()))


def relative_error(found, exact):
    """Return the largest difference over the largest magnitude; `not finite` where it is none."""
    import numpy as np

    error = float(np.abs(np.asarray(found) - exact).max() / np.abs(exact).max())
    return f"{error:.1e}" if np.isfinite(error) else "not finite"


def rows_of(level, args, threads):
    """Yield one row for each form at one level."""
    import torch

    side, channels = LEVELS[level]
    recurrences = {"blocks": None, "doubling": doubling, "Loop": loop()}
    sessions, nodes, errors = {}, {}, {}
    for form in FORMS:
        _common.note(f"{level}, {form}: exporting")
        module, tokens = scans(side, channels, recurrences[form])
        with torch.no_grad():
            exact = scans(side, channels)[0].double()(tokens.double()).numpy()
        proto = graph(module, tokens)
        nodes[form] = len(proto.graph.node)
        sessions[form] = _common.session(proto.SerializeToString(), threads)
        errors[form] = relative_error(
            sessions[form].run(None, {"images": tokens.numpy()})[0], exact
        )
    samples = _common.interleaved_sessions(sessions, tokens.numpy(), args)
    size = f"{level}: {side * side} x {channels}"
    for form in FORMS:
        ratio = _common.ratio(samples[form], samples["blocks"])
        yield (size, form, *ratio, _common.milliseconds(samples[form]), nodes[form], errors[form])
    with torch.no_grad():
        found = scans(side, channels, closed_form)[0](tokens)
    yield (size, "closed form", *["not timed"] * 4, "-", relative_error(found, exact))


def main():
    """Read the options and print one table for each number of threads."""
    args = _common.parser(__doc__).parse_args()
    _common.header(args, _common.SESSION_RUN)
    columns = ("tokens x channels", "form", *_common.RATIO_COLUMNS, "median (ms)", "nodes",
               "relative error")  # fmt: skip
    for threads in args.threads:
        _common.table(
            f"Four scans of a block, float32, {threads} threads: time over that in blocks",
            columns,
            (row for level in LEVELS for row in rows_of(level, args, threads)),
        )


if __name__ == "__main__":
    main()
