"""What does a command of elfatt-deploy cost, as a whole process?

    python benchmarks/cost.py --rounds 10

Wall time and peak memory of `--help`, `models` and `export --model cswin_t_elfatt`, beside that of
an interpreter that does nothing. Files are in the page cache and byte code is compiled: the warm-up
rounds see to that. This script loads neither torch nor numpy, because a child's peak memory is
never reported below that of its parent at the fork.
"""

import os
import resource
import statistics
import sys
import sysconfig
import tempfile
from pathlib import Path

import _common

BASE = "python -c pass"
#: bytes in a unit of ru_maxrss
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def commands(folder):
    """Return the argument lists by the name they are shown under."""
    program = str(Path(sysconfig.get_path("scripts"), "elfatt-deploy"))
    export = ["export", "--model", "cswin_t_elfatt", "--quiet"]
    return {
        BASE: [sys.executable, "-c", "pass"],
        "elfatt-deploy --help": [program, "--help"],
        "elfatt-deploy models": [program, "models"],
        "elfatt-deploy export --model cswin_t_elfatt": [program, *export, "-o", folder],
    }


def peak_bytes(command):
    """Run a command to its end, its output thrown away; returns its peak resident memory."""
    sink = (os.POSIX_SPAWN_OPEN, sys.stdout.fileno(), os.devnull, os.O_WRONLY, 0)
    child = os.posix_spawn(command[0], command, os.environ, file_actions=[sink])
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(f"{Path(command[0]).name} {' '.join(command[1:])} ended with code {code}")
    return usage.ru_maxrss * RSS_UNIT


def spread(values, scale, digits):
    """Return median and range of values / scale."""
    median, low, high = (
        f"{value / scale:.{digits}f}"
        for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({low}..{high})"


def main():
    """Run every command in every round and print."""
    args = _common.parser(__doc__, rounds=10, warmup=1, threads=()).parse_args()
    _common.header(args, "wall clock and peak resident memory (wait4) of a whole process")
    with tempfile.TemporaryDirectory() as folder:
        samples, peaks = measured(commands(folder), args)
    floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    print(f"- lowest peak that can be seen, this script's own: {floor / 2**20:.1f} MiB")
    rows = []
    for name, seconds in samples.items():
        bound = "at most " if statistics.median(peaks[name]) <= floor else ""
        memory = bound + spread(peaks[name], 2**20, 1)
        over_base, _, _ = _common.ratio(seconds, samples[BASE])
        rows.append((f"`{name}`", spread(seconds, 1, 2), memory, over_base))
    _common.table(
        f"Whole process: median (min..max) of {args.rounds} runs",
        ("command", "wall time (s)", "peak memory (MiB)", f"median time over `{BASE}`"),
        rows,
    )


def measured(by_name, args):
    """Return seconds and peak bytes of every timed run by name."""
    peaks = {name: [] for name in by_name}

    def run(name):
        _common.note(name)
        peaks[name].append(peak_bytes(by_name[name]))

    samples = _common.interleaved({name: lambda n=name: run(n) for name in by_name}, args)
    return samples, {name: values[args.warmup :] for name, values in peaks.items()}


if __name__ == "__main__":
    main()
