"""What does a report of 2,000 records cost: seconds from the results file to the page, and bytes?

The records are synthetic ones of an emulated board, made by `tests/fakes`. A round is a whole
process each time: start, reading and checking the file, statistics, tables, charts, page.
"""

import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _common

from elfatt_deploy.artifacts import to_document

FAKES = Path(__file__).resolve().parents[1] / "tests" / "fakes"
PROGRAM = (
    "import sys; from pathlib import Path; from elfatt_deploy.pipeline import reporting; "
    "from elfatt_deploy.report.assembling import Asked; "
    "made = reporting.make((Path(sys.argv[1]),), Asked(), include_simulated=True); "
    "reporting.write(made.report, None, Path(sys.argv[2]))"
)


def fake(name):
    spec = importlib.util.spec_from_file_location(name, FAKES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(results, page):
    """Return the seconds of one process by the clock and of its processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", PROGRAM, results, page], check=True)
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = _common.parser(__doc__, rounds=5, warmup=1, threads=())
    parser.add_argument("--records", type=_common.at_least(1), default=2000)
    args = parser.parse_args()
    _common.header(args, "a whole process: results file to HTML page")
    records = fake("report_records").many(fake("run_records"), args.records)
    with tempfile.TemporaryDirectory() as folder:
        results, page = Path(folder) / "results.jsonl", Path(folder) / "report.html"
        with results.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(to_document(record)) + "\n" for record in records)
        rounds = [timed(results, page) for _ in range(args.warmup + args.rounds)][args.warmup :]
        sizes = results.stat().st_size, page.stat().st_size
    print("\n| records | results (MB) | page (MB) | wall clock (s) | range (s) | processor (s) |")
    print("| ---: | ---: | ---: | ---: | --- | ---: |")
    wall = [one[0] for one in rounds]
    print(
        f"| {args.records} | {sizes[0] / 1e6:.2f} | {sizes[1] / 1e6:.2f} "
        f"| {statistics.median(wall):.2f} | {min(wall):.2f}..{max(wall):.2f} "
        f"| {statistics.median(one[1] for one in rounds):.2f} |"
    )


if __name__ == "__main__":
    main()
