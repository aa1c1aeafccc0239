import os
import shutil
import subprocess
import time
from importlib import resources

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.records import ClockReading, Counter, RailChannel, ThermalZone
from elfatt_deploy.device.telemetry import SysfsSampler, TegrastatsSampler
from elfatt_deploy.errors import ConnectError, ProbeError
from elfatt_deploy.transport.local import Local

HWMON = "/sys/class/hwmon/hwmon5"
IIO = "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
GPU = "/sys/class/devfreq/gpu-gpc-0"
NOT_READ = Unavailable(reason="not read")
RAILS = (
    RailChannel(name="VDD_GPU", layout="hwmon", folder=HWMON, index=1),
    RailChannel(name="POM_5V_IN", layout="iio", folder=IIO, index=0),
)
ZONES = (
    ThermalZone(name="tj-thermal", value_c=NOT_READ, path="/sys/class/thermal/thermal_zone0/temp"),
    ThermalZone(name="gpu-thermal", value_c=NOT_READ, path="/sys/class/thermal/thermal_zone1/temp"),
)
CLOCKS = tuple(
    ClockReading(
        name=name, folder=folder, now_hz=NOT_READ, min_hz=NOT_READ, max_hz=NOT_READ,
        governor=NOT_READ,
    )
    for name, folder in (
        ("cpu0", "/sys/devices/system/cpu/cpu0/cpufreq"),
        ("gpu", GPU),
        ("emc", "/sys/kernel/debug/clk/override.emc"),
    )
)  # fmt: skip
COUNTERS = (Counter(name="oc3", value=NOT_READ, path="/sys/class/hwmon/hwmon3/oc3_event_cnt"),)
#: rail 1 is that of a Thor (L4T R38.4): 12040 mV, 640 mA
FILES = {
    f"{HWMON}/in1_input": "12040\n",
    f"{HWMON}/curr1_input": "640\n",
    f"{IIO}/in_power0_input": "2150",  # without a line break
    "/sys/class/thermal/thermal_zone0/temp": "49468\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1113600\n",
    f"{GPU}/cur_freq": "408000000\n",
    "/sys/kernel/debug/clk/override.emc/clk_rate": "1600000000\n",
    "/sys/class/hwmon/hwmon3/oc3_event_cnt": "27390\n",
}
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


class Board(Local):
    """A tree of files; its shell can be chosen, and its connection lost."""

    def __init__(self, root, shell):
        self.root, self.shell, self.lost = root, shell, False
        self.tools = root / "tools"  # first in PATH
        self.tools.mkdir()
        path = f"{self.tools}:{os.environ['PATH']}"
        super().__init__({"ELFATT_DEPLOY_ROOT": str(root), "PATH": path}, name="the board")
        self.program("sh", f'exec {shutil.which(shell)} {"sh" if shell == "busybox" else ""} "$@"')

    def program(self, name, text):
        (self.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.tools / name).chmod(0o755)

    def run(self, command, **options):
        if self.lost:
            raise ConnectError("the connection to the board was lost")
        return super().run(command, **options)

    def write(self, path, text):
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    @property
    def left(self):
        return sorted(path.name for path in (self.root / "tmp").iterdir())


@pytest.fixture(params=SHELLS)
def board(request, tmp_path):
    made = Board(tmp_path, request.param)
    for path, text in FILES.items():
        made.write(path, text)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "uptime").symlink_to("/proc/uptime")
    return made


@pytest.fixture
def sampler(board):
    def make(**changes):
        return SysfsSampler(board, RAILS, ZONES, CLOCKS, COUNTERS, **{"rate_hz": 50, **changes})

    return make


def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")


def collect(sampler, count):
    found = []
    until(lambda: found.extend(sampler.read_new()) or len(found) >= count)
    return found


def test_samples_hold_what_the_files_hold(board, sampler):
    with sampler() as running:
        collect(running, 3)
        trace = running.stop()
    sample = trace.samples[0]
    assert sample.power_mw == pytest.approx({"VDD_GPU": 12040 * 640 / 1000, "POM_5V_IN": 2150.0})
    assert sample.temperature_c["tj-thermal"] == pytest.approx(49.468)
    assert sample.temperature_c["gpu-thermal"] is None  # it has no file: never 0
    assert sample.clock_hz == {"cpu0": 1113600e3, "gpu": 408e6, "emc": 1600e6}
    assert sample.counters == {"oc3": 27390}
    stamps = [sample.uptime_s for sample in trace.samples]
    assert stamps == sorted(stamps)
    with open("/proc/uptime") as file:
        assert 0 <= float(file.read().split()[0]) - stamps[0] < 60
    assert (trace.source, trace.period_s, trace.notes) == ("sysfs", 0.02, ())
    assert board.left == []


def test_a_sensor_that_vanishes_leaves_a_gap_and_one_that_comes_back_ends_it(board, sampler):
    with sampler() as running:
        collect(running, 1)
        (board.root / HWMON[1:] / "curr1_input").unlink()
        until(lambda: any(s.power_mw["VDD_GPU"] is None for s in running.read_new()))
        board.write(f"{HWMON}/curr1_input", "320\n")
        until(lambda: any(s.power_mw["VDD_GPU"] == 12040 * 0.32 for s in running.read_new()))
        trace = running.stop()
    readings = [sample.power_mw["VDD_GPU"] for sample in trace.samples]
    assert readings[0] == pytest.approx(7705.6)
    assert set(readings[1:]) - {readings[0]} == {None, 12040 * 0.32}
    assert all(sample.power_mw["POM_5V_IN"] == 2150.0 for sample in trace.samples)


def test_no_sample_is_lost_or_doubled_by_a_lost_connection(board, sampler):
    with sampler() as running:
        first = collect(running, 2)
        board.lost = True
        with pytest.raises(ConnectError):
            running.read_new()
        board.lost = False
        second = collect(running, 2)
        trace = running.stop()
    assert trace.samples[: len(first) + len(second)] == (*first, *second)
    assert len({id(sample) for sample in trace.samples}) == len(trace.samples)
    assert len({sample.uptime_s for sample in trace.samples}) > len(trace.samples) * 0.8


def test_it_ends_by_itself_and_says_so(board, sampler):
    running = sampler(life_s=1)
    running.start()
    until(lambda: running.read_new() or True)
    folder = next((board.root / "tmp").iterdir())
    until(lambda: (folder / "ended").exists())
    trace = running.stop()
    assert trace.notes == ("the sampler ended before it was stopped: the time is over",)
    assert trace.samples


def test_it_ends_when_the_run_that_started_it_has_left_the_board(board, sampler):
    board.write("/tmp/elfatt-deploy.lock/owner", "token=first\nhost=here\n")
    running = sampler()
    running.start()
    collect(running, 2)
    # that run was killed, and another one has taken the board
    board.write("/tmp/elfatt-deploy.lock/owner", "token=second\nhost=here\n")
    folder = next((board.root / "tmp").glob("*samples*"))
    until(lambda: (folder / "ended").exists())
    assert "the board has changed hands" in running.stop().notes[0]


def test_a_board_that_lost_its_samples_is_told(board, sampler):
    running = sampler()
    running.start()
    seen = collect(running, 2)
    folder = next((board.root / "tmp").iterdir())
    (folder / "stop").touch()
    until(lambda: (folder / "ended").exists())
    shutil.rmtree(folder)  # as a reboot does with /tmp
    trace = running.stop()
    assert trace.samples == tuple(seen)
    assert "gone from the board" in trace.notes[0]


def test_a_sleep_of_whole_seconds_is_told(board, sampler):
    board.program("sleep", 'case $1 in *.*) exit 1;; esac\nexec /bin/sleep 0.0"$1"')
    if board.shell == "busybox":
        pytest.skip("busybox finds its own sleep")
    with sampler() as running:
        collect(running, 1)
        trace = running.stop()
    assert trace.period_s == 1.0
    assert trace.notes == ("the board's sleep takes whole seconds: 1 samples a second",)


def test_a_folder_that_another_program_made_there_is_taken_as_it_is(board, sampler):
    folder = board.root / "tmp" / "work"  # as `mktemp -d` names it on an emulated board
    folder.mkdir()
    with sampler(work_folder=str(folder)) as running:
        collect(running, 1)
        assert [path.name[:22] for path in folder.iterdir()] == ["elfatt-deploy-samples-"]
        running.stop()


def test_without_room_or_without_sensors_it_does_not_start(board, sampler):
    with pytest.raises(ProbeError, match="no sampler could be started on the board"):
        sampler(work_folder="/proc/uptime").start()
    with pytest.raises(ProbeError, match="nothing to sample on the board"):
        SysfsSampler(board).start()


def test_a_script_that_was_cut_short_does_nothing(tmp_path):
    for name in ("sample.sh", "control.sh"):
        text = (resources.files("elfatt_deploy.device") / "scripts" / name).read_text()
        for end in range(0, len(text) - len('main "$@"\n'), 97):
            done = subprocess.run(
                ["sh", "-s", "--", "forget", "/x"], input=text[:end], capture_output=True,
                text=True, env={"PATH": os.environ["PATH"], "ELFATT_DEPLOY_ROOT": str(tmp_path)},
            )  # fmt: skip
            assert done.stdout == ""


def test_tegrastats_is_stamped_and_parsed(board):
    # a line of an Orin Nano 8 GB in 25 W, verbatim
    line = (
        "04-27-2026 14:59:41 RAM 775/7620MB (lfb 3x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,"
        "0%@729,0%@729,0%@729,0%@729,0%@729] GR3D_FREQ 0% cpu@48.468C soc2@47.531C soc0@48.062C "
        "gpu@48.562C tj@49.156C soc1@49.156C VDD_IN 4761mW/4778mW VDD_CPU_GPU_CV 515mW/501mW "
        "VDD_SOC 1428mW/1428mW"
    )
    board.program(
        "tegrastats",
        f"""[ "$1 $2" = "--interval 100" ] || exit 1
while :; do echo '{line}'; sleep 0.02 || exit; done""",
    )
    with TegrastatsSampler(board) as running:
        collect(running, 2)
        trace = running.stop()
    assert trace.source == "tegrastats"
    assert trace.samples[0].power_mw == {
        "VDD_IN": 4761.0, "VDD_CPU_GPU_CV": 515.0, "VDD_SOC": 1428.0,
    }  # fmt: skip
    assert trace.samples[0].temperature_c["tj"] == 49.156
    assert board.left == []


def test_a_board_without_tegrastats_says_so(board):
    with pytest.raises(ProbeError, match="no sampler could be started"):
        TegrastatsSampler(board).start()
