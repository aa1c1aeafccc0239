"""What the machine is and how much memory is free, from invented /proc and /sys files."""

from __future__ import annotations

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine

CPUINFO = """processor\t: 0
model name\t: Test CPU @ 2.00GHz
flags\t\t: fpu hypervisor avx2

processor\t: 1
model name\t: Another
"""
MEMINFO = "MemTotal:  8388608 kB\nMemFree:  100 kB\nMemAvailable:  4194304 kB\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that writes the files of a system of our own."""
    for name in ("cpuinfo", "meminfo"):
        monkeypatch.setattr(machine, f"_{name.upper()}", tmp_path / name)
    monkeypatch.setattr(machine, "_CGROUP_ROOT", tmp_path / "cgroup")

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_the_processor_is_the_first_of_cpuinfo(system):
    system(cpuinfo=CPUINFO)
    found = machine.read_machine()
    assert found.cpu == "Test CPU @ 2.00GHz"
    assert found.virtual
    assert found.cores >= 1


def test_without_cpuinfo_there_is_still_a_name(system):
    found = machine.read_machine()
    assert found.cpu
    assert not found.virtual


def test_no_load_average_is_said_and_not_zero(system, monkeypatch):
    def fails():
        raise OSError

    monkeypatch.setattr(machine.os, "getloadavg", fails)
    assert machine.read_machine().load == Unavailable(reason="this system tells no load average")


def test_available_memory_is_that_of_the_kernel(system):
    system(meminfo=MEMINFO)
    assert machine.available_bytes() == 4 * 2**30


def test_without_meminfo_the_memory_is_unknown(system):
    assert "MemAvailable" in machine.available_bytes().reason


def test_the_limit_of_a_container_counts_less_what_it_uses_for_good(system):
    system(
        meminfo=MEMINFO,
        cgroup__memory_DOT_max=f"{2**30}\n",
        cgroup__memory_DOT_current=f"{600 * 2**20}\n",
        cgroup__memory_DOT_stat=f"anon 5\ninactive_file {100 * 2**20}\n",
    )
    assert machine.available_bytes() == 524 * 2**20


def test_a_container_without_a_limit_has_the_memory_of_the_machine(system):
    system(
        meminfo=MEMINFO,
        cgroup__memory_DOT_max="max\n",
        cgroup__memory_DOT_current="5\n",
        cgroup__memory_DOT_stat="",
    )
    assert machine.available_bytes() == 4 * 2**30


def test_the_first_version_of_control_groups_is_read_too(system):
    system(
        meminfo=MEMINFO,
        cgroup__memory__memory_DOT_limit_in_bytes=f"{2**30}\n",
        cgroup__memory__memory_DOT_usage_in_bytes=f"{2**30 + 5}\n",
        cgroup__memory__memory_DOT_stat="cache 1\ntotal_inactive_file 0\n",
    )
    assert machine.available_bytes() == 0
