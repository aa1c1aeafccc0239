"""The state of the machine, from invented /proc and /sys files."""

from __future__ import annotations

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine_state
from elfatt_deploy.bench.machine_state import ForeignWork


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that writes a file of a system of our own."""
    for name in ("CPUS", "THERMAL", "MEMINFO", "STAT", "HUGE_PAGES"):
        monkeypatch.setattr(machine_state, f"_{name}", tmp_path / name.lower())
    monkeypatch.setattr(machine_state.shutil, "which", lambda name: None)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def test_a_system_that_shows_nothing_has_nothing_invented(system):
    state = machine_state.read_state()
    for name in ("governor", "clock_hz", "clock_max_hz", "temperatures_c", "throttle_events",
                 "swap_used_bytes", "huge_pages", "gpu_processes"):  # fmt: skip
        assert isinstance(getattr(state, name), Unavailable), name


def test_clocks_governors_temperatures_and_throttling_are_read(system):
    for core, (governor, khz) in enumerate((("performance", 2000000), ("powersave", 1000000))):
        system(f"cpus/cpu{core}/cpufreq/scaling_governor", f"{governor}\n")
        system(f"cpus/cpu{core}/cpufreq/scaling_cur_freq", f"{khz}\n")
        system(f"cpus/cpu{core}/thermal_throttle/core_throttle_count", f"{core + 1}\n")
    system("cpus/cpuidle/current_driver", "none")
    system("thermal/thermal_zone0/type", "x86_pkg_temp\n")
    system("thermal/thermal_zone0/temp", "41500\n")
    system("thermal/thermal_zone1/temp", "")
    state = machine_state.read_state()
    assert state.governor == "performance powersave"
    assert state.clock_hz == 1.5e9
    assert isinstance(state.clock_max_hz, Unavailable)
    assert state.temperatures_c == {"zone0 x86_pkg_temp": 41.5}
    assert state.throttle_events == {"core_throttle_count": 3}


def test_swap_in_use_is_total_less_free():
    assert machine_state.swap_used("SwapTotal: 100 kB\nSwapFree:   60 kB\n") == 40 * 1024
    assert isinstance(machine_state.swap_used("MemTotal: 1 kB\n"), Unavailable)


@pytest.mark.parametrize(
    ("enabled", "tunables", "expected"),
    [
        ("always [madvise] never", "", "madvise"),
        ("[always] madvise never", "glibc.malloc.hugetlb=0", "always"),
        ("always [madvise] never", "glibc.malloc.hugetlb=1", "madvise, by malloc"),
        ("always [madvise] never", "glibc.x=3:glibc.malloc.hugetlb=2", "madvise, by malloc"),
        ("always madvise [never]", "other.glibc.malloc.hugetlb=1", "never"),
    ],
)  # fmt: skip
def test_the_rule_for_huge_pages_is_the_kernels_and_mallocs(enabled, tunables, expected):
    assert machine_state.huge_pages(enabled, tunables) == expected
    assert isinstance(machine_state.huge_pages("", tunables), Unavailable)


def test_busy_time_leaves_idle_and_waiting_out():
    stat = "cpu  100 10 20 5000 700 3 2 15 0 0\ncpu0 1 1 1 1 1 1 1 1\n"
    assert machine_state.busy_seconds(stat, ticks=100) == pytest.approx(1.5)
    assert isinstance(machine_state.busy_seconds(""), Unavailable)


def test_foreign_work_is_the_busy_time_that_is_not_ours(system, monkeypatch):
    now, own = iter((0.0, 10.0)), iter((1.0, 4.0))
    monkeypatch.setattr(machine_state.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(machine_state, "_own", lambda: next(own))
    monkeypatch.setattr(machine_state.os, "sysconf", lambda name: 100)
    system("stat", "cpu 1000 0 0 0 0 0 0 0\n")
    work = ForeignWork()
    system("stat", "cpu 2300 0 0 0 0 0 0 0\n")
    assert work.cores() == pytest.approx((13 - 3) / 10)


def test_what_others_do_in_a_pause_is_not_foreign(system, monkeypatch):
    now = iter((0.0, 10.0, 50.0, 60.0))
    monkeypatch.setattr(machine_state.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(machine_state, "_own", lambda: 0.0)
    monkeypatch.setattr(machine_state.os, "sysconf", lambda name: 100)
    system("stat", "cpu 0 0 0 0 0 0 0 0\n")
    work = ForeignWork()
    system("stat", "cpu 200 0 0 0 0 0 0 0\n")
    work.pause()
    system("stat", "cpu 4200 0 0 0 0 0 0 0\n")
    work.resume()
    system("stat", "cpu 4300 0 0 0 0 0 0 0\n")
    assert work.cores() == pytest.approx((2 + 1) / 20)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("77, python, 512 MiB", "78, other, 1 MiB"), 512 * 2**20),
        (("78, other, 1 MiB",), None),
        (("77, python, [N/A]",), None),
    ],
)
def test_gpu_memory_is_that_of_the_process(monkeypatch, lines, expected):
    monkeypatch.setattr(machine_state, "_gpu_processes", lambda: lines)
    found = machine_state.gpu_bytes_of(77)
    assert found == expected if expected else isinstance(found, Unavailable)


def test_nvidia_smi_is_read_where_there_is_one(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho '12, train, 5 MiB'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine_state.read_state().gpu_processes == ("12, train, 5 MiB",)
    script.write_text("#!/bin/sh\nexit 9\n")
    found = machine_state.read_state().gpu_processes
    assert found == Unavailable(reason="nvidia-smi ended with status 9")
