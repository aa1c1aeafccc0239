"""The CPU's stand-in for a GPU notices the mistakes that it is there for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

MISTAKES = {
    "race_after_write": "race on byte 0 of shared memory: thread 0 wrote it",
    "race_after_read": "another thread read it since the last barrier",
    "two_writers": "race on byte 0 of shared memory: thread 0 wrote it",
    "unwritten": "nobody wrote byte 0 of shared memory",
    "outside": "element 64 of a view of 64",
    "unaligned": "element 1 of a view is not aligned",
    "lonely_barrier": "divergence: thread 0 is at",
    "two_barriers": "divergence: thread 0 is at",
    "lonely_shuffle": "divergence: thread 0 is at the end",
}


@pytest.fixture(scope="module")
def faults(host_program):
    program = host_program("faults", 530, sources=(Path(__file__).parent / "faults.cu",))

    def run(*words):
        return subprocess.run([program, *words], capture_output=True, text=True)

    return run


@pytest.mark.parametrize("mode", MISTAKES)
def test_a_mistake_ends_the_program_with_its_place(faults, mode):
    done = faults(mode)
    assert done.returncode == 3
    assert done.stderr.startswith("block 0, thread ")
    assert MISTAKES[mode] in done.stderr


def test_threads_that_keep_the_rules_run_through(faults):
    done = faults("right")
    assert (done.returncode, done.stdout) == (0, "1\n" * 64)


def test_a_shuffle_brings_the_value_of_the_other_lane(faults):
    assert list(map(int, faults("shuffle").stdout.split())) == [lane ^ 2 for lane in range(64)]


def _converted(faults, mode, values, dtype, folder):
    (folder / "in").write_bytes(values.tobytes())
    assert faults(mode, folder / "in", folder / "out").returncode == 0
    return np.frombuffer((folder / "out").read_bytes(), dtype)


def test_every_half_becomes_the_same_float_as_in_numpy(faults, tmp_path):
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    found = _converted(faults, "float_from_half", halves, np.float32, tmp_path)
    np.testing.assert_array_equal(found, halves.astype(np.float32))


def test_floats_round_to_the_same_half_as_in_numpy(faults, tmp_path):
    halves = np.arange(1 << 15, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    middle = (halves[1:] + halves[:-1]) / 2  # exact in float32
    near = [np.nextafter(middle, np.float32(side)) for side in (0, np.inf)]
    edge = np.array([65519.996, 65520, 1e30, np.inf, 2.0**-25, 2.9e-8, 1e-30, 0], np.float32)
    floats = np.concatenate([halves, middle, *near, edge])
    floats = np.concatenate([floats, -floats])
    found = _converted(faults, "half_from_float", floats, np.uint16, tmp_path)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, floats.astype(np.float16).view(np.uint16))
