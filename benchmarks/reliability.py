"""Writes docs/reliability.md: short sweeps of a simulated board, disturbed at random moments.

    python benchmarks/reliability.py [--bundle DIR] [--times 30] [--seed 0]

The board is behind a real OpenSSH server on loopback. Each try begins with a board that was put
back; the numbers are counts of what held afterwards, each checked by reading the files.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAKES = ROOT / "tests" / "fakes"
CHECKS = (
    "no earlier record lost",
    "no record without its evidence",
    "the sweep was completed",
    "the board was put back",
    "no journal left",
)
LEGEND = """\
Short sweeps (4 cells: two contracts in two power modes of a simulated Jetson Nano) behind a real
OpenSSH server on loopback, disturbed at random moments between their start and their end.
Simulated: what is shown is that nothing is lost and that the board is put back, not how fast
anything is. Where a sweep was ended by what disturbed it, the same command was given again; a lost
connection it survives. A moment may fall behind the end of a sweep that was faster than the timed
one: such a try is not "ended by it". The
other faults of the list (a mode that is refused or not kept, a reboot in the middle, a full disk, a
sensor that vanishes, over-current, a hanging or killed trtexec, a refused plan, two sweeps at once)
are tests of their own, in `tests/e2e/test_sweep.py` and `tests/unit/device`.
"""


def main() -> None:
    """Disturb, check, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="for jp4; by default a tiny ELFATT network")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "reliability.md")
    asked = parser.parse_args()
    spec = importlib.util.spec_from_file_location("sweep_rig", FAKES / "sweep_rig.py")
    rigs = importlib.util.module_from_spec(spec)
    sys.modules["sweep_rig"] = rigs
    spec.loader.exec_module(rigs)
    # A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chance = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        asked.bundle = asked.bundle or _tiny(Path(folder) / "bundles")
        length = _length(rigs, Path(folder) / "plain", asked.bundle)
        rows = {
            what: _many(rigs, Path(folder) / what.split()[0], asked, chance, length, disturb)
            for what, disturb in (
                ("connection dropped", _drop),
                ("SIGKILL", _kill),
                ("Ctrl-C", _interrupt),
            )
        }
    asked.output.write_text(_page(rows, asked, length))


def _tiny(folder):
    """Export a CSWin with ELFATT of a few thousand parameters, whose sweep takes seconds."""
    from elfatt_deploy.models import registry
    from elfatt_deploy.pipeline import ExportRequest, export_bundle

    spec = registry.get("cswin_t_elfatt")
    config = dataclasses.replace(
        spec.config, embed_dim=16, depths=(1, 1, 2, 1), heads=(2, 2, 2, 2), classes=10
    )
    tiny = dataclasses.replace(spec, name="tiny_elfatt", config=config, input_size=64)
    registry.register_model(tiny)
    request = ExportRequest(model="tiny_elfatt", target="jp4", output=folder)
    return export_bundle(request).bundle.path


def _length(rigs, folder, bundle):
    """Return how long a sweep takes that is left alone."""
    folder.mkdir(parents=True)
    with rigs.Rig(folder, bundle) as rig:
        assert rig.sweep() == 0, rig.said  # builds the plan, which all others reuse
        rig.results.unlink()
        began = time.monotonic()
        assert rig.sweep() == 0, rig.said
        return time.monotonic() - began


def _many(rigs, folder, asked, chance, length, disturb):
    """Return how often each check held."""
    held = collections.Counter()
    for number in range(asked.times):
        work = folder / str(number)
        work.mkdir(parents=True)
        with rigs.Rig(work, asked.bundle) as rig:
            process = rig.start()
            time.sleep(chance.uniform(0.0, length))
            earlier = rig.records()
            disturb(rig, process)
            code = rig.finish(process)
            held["ended"] += code != 0
            after = rig.records()
            held[CHECKS[0]] += after[: len(earlier)] == earlier
            if code != 0:
                again = rig.sweep()
                held[CHECKS[2]] += again == 0 and len(rig.numbers()) == 4
            else:
                held[CHECKS[2]] += len(rig.numbers()) == 4
            held[CHECKS[1]] += all(_whole(record) for record in rig.records())
            held[CHECKS[3]] += rig.state() == rig.before
            held[CHECKS[4]] += not rig.journals
            print(number, code, dict(held), flush=True)
    return held


def _whole(record):
    """Whether a record with numbers has parity, samples, the mode read back and its commands."""
    from elfatt_deploy.results.schema import Statistics

    if not isinstance(record.statistics, Statistics):
        return not record.repetitions
    return bool(
        record.source == "simulated"
        and record.parity.passed
        and record.repetitions
        and record.power_mode.name == record.cell.power
        and record.device_commands
    )


def _drop(rig, process):
    rig.sshd.drop()


def _kill(rig, process):
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)


def _interrupt(rig, process):
    if process.poll() is None:
        os.kill(process.pid, signal.SIGINT)


def _page(rows, asked, length):
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    lines = [
        "# Reliability",
        "",
        f"Written by `python benchmarks/reliability.py --times {asked.times} --seed {asked.seed}` "
        f"on {today}; a sweep that was left alone took {length:.0f} s.",
        "",
        LEGEND,
        "| disturbed by | tries | ended by it | " + " | ".join(CHECKS) + " |",
        "| --- | --- | --- |" + " --- |" * len(CHECKS),
    ]
    for what, held in rows.items():
        cells = [f"{held[check]}/{asked.times}" for check in CHECKS]
        lines.append(f"| {what} | {asked.times} | {held['ended']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
