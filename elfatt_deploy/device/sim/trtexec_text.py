"""How trtexec writes: its lines, its banner, its summary. The forms are those of captured logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from elfatt_deploy.device.sim.facts import Facts
from elfatt_deploy.device.sim.physics import Clocks

#: names of the trace's columns, in the order of the summary
Rows = Sequence[dict[str, float]]


class Log:
    """Writes what trtexec of one version writes.

    Args:
        facts: the board, whose TensorRT it is.
        command: the program and its arguments.
        verbose: whether lines for `--verbose` are written.
    """

    def __init__(self, facts: Facts, command: Sequence[str], *, verbose: bool = False) -> None:
        """Nothing is written yet."""
        self._facts = facts
        self._command = command
        self.verbose = verbose

    def banner(self, word: str) -> None:
        """Write the first or the last line: RUNNING, PASSED or FAILED."""
        numbers = self._facts.version
        scale = 10_000 if numbers[0] >= 10 else 1000
        number = numbers[0] * scale + numbers[1] * 100 + numbers[2]
        build = f" [b{self._facts.build}]" if self._facts.build else ""
        text = " ".join(self._command)
        _write(sys.stdout, f"&&&& {word} TensorRT.trtexec [TensorRT v{number}]{build} # {text}")

    def info(self, text: str) -> None:
        """Write a line of information, to standard output."""
        self._line("I", text)

    def detail(self, text: str) -> None:
        """Write a line that only `--verbose` shows."""
        if self.verbose:
            self._line("V", text)

    def warning(self, text: str) -> None:
        """Write a warning, to standard error."""
        self._line("W", text)

    def error(self, text: str) -> None:
        """Write an error, to standard error."""
        self._line("E", text)

    def bare(self, text: str, *, error: bool = False) -> None:
        """Write a line without time and level."""
        _write(sys.stderr if error else sys.stdout, text)

    def _line(self, level: str, text: str) -> None:
        stamp = time.strftime("%m/%d/%Y-%H:%M:%S")
        _write(sys.stdout if level in "VI" else sys.stderr, f"[{stamp}] [{level}] {text}")


def _write(stream: TextIO, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


def device_lines(facts: Facts, clocks: Clocks) -> list[str]:
    """Return the block that describes the GPU; its name says that it is simulated."""
    lines = ["=== Device Information ==="]
    name = f"{facts.gpu_name} (simulated)"
    if facts.version >= (10,):
        lines += ["Available Devices:", f'  Device 0: "{name}"']
    return [
        *lines,
        f"Selected Device: {name}",
        f"Compute Capability: {facts.sm // 10}.{facts.sm % 10}",
        f"SMs: {clocks.tpcs * facts.sms_per_tpc}",
        f"Compute Clock Rate: {clocks.gpu_hz / 1e9:g} GHz",
        f"Device Global Memory: {facts.memory_mib} MiB",
        f"Memory Clock Rate: {clocks.emc_hz / 1e9:g} GHz",
        "",
        f"TensorRT version: {facts.tensorrt}",
    ]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by trtexec's formula: the value with that share at or below it."""
    ordered = sorted(values)
    left_out = int((1.0 - percent / 100.0) * len(ordered))
    return ordered[max(0, len(ordered) - 1 - left_out)]


def median(values: Sequence[float]) -> float:
    """Return the median."""
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def average_lines(rows: Rows, count: int, *, end_to_end: bool) -> list[str]:
    """Return the lines of the averages over `count` runs each."""
    lines = ["=== Trace details ===", f"Trace averages of {count} runs:"]
    for start in range(0, len(rows) - count + 1, count):
        part = rows[start : start + count]
        mean = {key: sum(row[key] for row in part) / count for key in part[0]}
        enqueue = f"{mean['endEnqMs'] - mean['startEnqMs']:g} ms"
        inside = f"end to end {mean['endToEndMs']:g} ms, enqueue" if end_to_end else "enqueue"
        lines.append(
            f"Average on {count} runs - GPU latency: {mean['computeMs']:g} ms - Host latency: "
            f"{mean['latencyMs']:g} ms ({inside} {enqueue})"
        )
    return lines


def summary_lines(
    rows: Rows, walltime_s: float, percents: Sequence[float], *, end_to_end: bool
) -> list[str]:
    """Return the performance summary.

    Args:
        rows: the timed queries.
        walltime_s: from the first one's start to the last one's end.
        percents: percentiles to show.
        end_to_end: whether the version shows the end-to-end latency.
    """
    picks: list[tuple[str, Callable[[dict[str, float]], float]]] = [
        ("Latency", lambda row: row["latencyMs"])
    ]
    if end_to_end:
        picks.append(("End-to-End Host Latency", lambda row: row["endToEndMs"]))
    picks += [
        ("Enqueue Time", lambda row: row["endEnqMs"] - row["startEnqMs"]),
        ("H2D Latency", lambda row: row["h2dMs"]),
        ("GPU Compute Time", lambda row: row["computeMs"]),
        ("D2H Latency", lambda row: row["d2hMs"]),
    ]
    lines = ["=== Performance summary ===", f"Throughput: {len(rows) / walltime_s:g} qps"]
    for name, pick in picks:
        values = [pick(row) for row in rows]
        shown = ", ".join(f"percentile({p:g}%) = {percentile(values, p):g} ms" for p in percents)
        lines.append(
            f"{name}: min = {min(values):g} ms, max = {max(values):g} ms, "
            f"mean = {sum(values) / len(values):g} ms, median = {median(values):g} ms, {shown}"
        )
    total = sum(row["computeMs"] for row in rows) / 1e3
    return [
        *lines,
        f"Total Host Walltime: {walltime_s:g} s",
        f"Total GPU Compute Time: {total:g} s",
        "Explanations of the performance metrics are printed in the verbose logs.",
        "",
    ]
