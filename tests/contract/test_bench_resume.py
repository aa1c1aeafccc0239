"""A call of `bench` that is killed, interrupted or runs into a full disk, again and again.

What is asserted after each end stands in `tests/fakes/bench_calls.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "fakes" / "bench_calls.py"


@pytest.mark.parametrize(
    ("mode", "times"), [("kill", 50), ("interrupt", 10), ("full", 10)], ids=str
)
def test_at_most_the_cell_in_flight_is_lost_and_the_call_goes_on(mode, times, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'ort' is not installed")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), mode, str(tmp_path), "7", str(times)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["records"] >= 2
    assert found["measured"] >= 12
