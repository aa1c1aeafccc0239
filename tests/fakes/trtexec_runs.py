"""A program that runs plans like trtexec of one version; see `trtexec_replay.py` for its settings.

A plan is any file that begins with `ftrt`. `logits` [B, 2] are the sum of an image and its
negative, as of the fake runtime. Scenarios: `success`, and one method each below.
"""

import array
import json
import math
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from trtexec_replay import Trtexec, write  # noqa: E402

#: of one inference, before and after the first one; the latency has the copies in it
COMPUTE_MS, COPY_MS = (1.25, 1.5, 1.375), 0.25
CLASSES = 2


def _number(value):
    """As C++ writes it by default."""
    return f"{value:g}"


class Runs(Trtexec):
    """One run of a plan."""

    def run(self):
        self.banner("RUNNING")
        if "--help" in self.options:
            write("=== Model Options ===\n  --onnx=<file>  ONNX model")
            return 0
        with self.runs.open("a") as file:
            file.write(json.dumps(self.arguments) + "\n")
        unknown = self.unknown()
        if unknown:
            self.say(f"[10/05/2025-10:46:31] [E] Unknown option: {k} {v}" for k, v in unknown)
            return self.fail()
        if not Path(self.options["--loadEngine"][0]).read_bytes().startswith(b"ftrt"):
            return self.refuses_plan()
        return getattr(self, self.scenario)()

    def copies(self):
        if self.version.startswith("11"):
            return "--includeDataTransfers" in self.options
        return "--noDataTransfers" not in self.options

    def images(self):
        spec = self.options["--loadInputs"][0]
        name, _, path = spec.partition(":")
        assert name == "images", spec
        values = array.array("f")
        values.frombytes(Path(path).read_bytes())
        return values

    def rows(self):
        """Return the warm-up, and start and compute of all inferences: the least number of them."""
        warm_up = float(self.options["--warmUp"][0])
        least = int(self.options["--iterations"][0])
        rows, at, timed = [], 0.0, 0
        while timed < least:
            compute = COMPUTE_MS[len(rows) % len(COMPUTE_MS)]
            rows.append((at, compute))
            timed += at >= warm_up
            at += compute + 1.0
        return warm_up, rows

    def export_times(self, rows):
        copy = COPY_MS if self.copies() else 0.0
        lines = []
        for at, compute in rows:
            start = at + copy
            fields = {
                "startEnqMs": at, "endEnqMs": at, "startH2dMs": at, "endH2dMs": start,
                "startComputeMs": start, "endComputeMs": start + compute,
                "startD2hMs": start + compute, "endD2hMs": start + compute + copy,
                "h2dMs": copy, "computeMs": compute, "d2hMs": copy,
                "latencyMs": compute + 2 * copy,
            }  # fmt: skip
            if self.version.startswith("8.2"):
                fields["endToEndMs"] = compute + 2 * copy
            lines.append(
                "{ " + ", ".join(f'"{k}" : {_number(v)}' for k, v in fields.items()) + " }"
            )
        text = "[\n  " + "\n, ".join(lines) + "\n]\n"
        Path(self.options["--exportTimes"][0]).write_text(text)

    def summary(self, rows):
        times = sorted(compute for _, compute in rows)
        half = len(times) // 2
        median = times[half] if len(times) % 2 else (times[half - 1] + times[half]) / 2
        latency = median + (2 * COPY_MS if self.copies() else 0.0)
        words = "[01/01/2026-00:00:00] [I] "
        self.say(
            [
                f"{words}=== Performance summary ===",
                f"{words}Throughput: 100 qps",
                f"{words}Latency: min = 1 ms, max = 9 ms, mean = 2 ms, median = {latency:g} ms, p",
                f"{words}GPU Compute Time: min = 1 ms, max = 9 ms, median = {median:g} ms, p",
            ]
        )

    def success(self):
        capability = "5.3" if self.era == 8 else "8.7"
        self.say(
            [
                "[01/01/2026-00:00:00] [I] Selected Device: NVIDIA Fake",
                f"[01/01/2026-00:00:00] [I] Compute Capability: {capability}",
                "[01/01/2026-00:00:00] [I] Device Global Memory: 8192 MiB",
            ]
        )
        warm_up, rows = self.rows()
        first = sum(at + (COPY_MS if self.copies() else 0.0) < warm_up for at, _ in rows)
        self.say(
            [f"[01/01/2026-00:00:00] [I] Warmup completed {first} queries over {warm_up:g} ms"]
        )
        if "--exportTimes" in self.options:
            whole = self.version.startswith(("8.2", "8.4"))
            self.export_times(rows if whole else rows[first:])
        if "--exportOutput" in self.options:
            self.export_output(sums(self.images(), self.options))
        self.summary(rows[first:])
        self.banner("PASSED")
        return 0

    def export_output(self, values):
        shape = f"{len(values) // CLASSES}x{CLASSES}"
        text = ", ".join(map(_number, values))
        Path(self.options["--exportOutput"][0]).write_text(
            f'[\n  {{ "name" : "logits"\n  , "dimensions" : "{shape}"\n'
            f'  , "values" : [ {text} ]\n  }}\n]\n'
        )

    def refuses_plan(self):
        self.replay("desktop_trt10.13.3_false_pass.log")
        self.banner("PASSED")
        return 0

    def killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def no_summary(self):
        self.banner("PASSED")
        return 0

    def no_graph(self):
        self.say(
            [
                "[01/01/2026-00:00:00] [W] The built TensorRT engine contains operations that are "
                "not permitted under CUDA graph capture mode.",
                "[01/01/2026-00:00:00] [W] The specified --useCudaGraph flag has been ignored. The "
                "inference will be launched without using CUDA graph launch.",
            ]
        )
        return self.success()

    def torn_times(self):
        status = self.success()
        for path in map(Path, self.options.get("--exportTimes", [])):
            path.write_text(path.read_text()[:-20])
        return status

    def other_times(self):
        status = self.success()
        if "--exportTimes" in self.options:
            self.export_times([(at, 3 * compute) for at, compute in self.rows()[1]])
        return status

    def nan_output(self):
        status = self.success()
        if "--exportOutput" in self.options:
            self.export_output([math.nan, -math.inf])
        return status

    def wrong_output(self):
        status = self.success()
        if "--exportOutput" in self.options:
            self.export_output([-value for value in sums(self.images(), self.options)])
        return status


def sums(values, options):
    """Return the logits of all images; the batch is that of --shapes, or 1."""
    batch = (
        int(options["--shapes"][0].partition(":")[2].split("x")[0]) if "--shapes" in options else 1
    )
    size = len(values) // batch
    found = []
    for n in range(batch):
        total = math.fsum(values[n * size : (n + 1) * size])
        found += [total, -total]
    return found


if __name__ == "__main__":
    sys.exit(Runs(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2:]).run())
