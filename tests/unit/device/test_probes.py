import os
import shutil
import subprocess

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import probes
from elfatt_deploy.errors import ProbeError
from elfatt_deploy.transport.base import CommandResult

#: how a capture writes a reading that fails, and how it fails in a tree of ordinary files
_FAILS = (None, "EAGAIN", "EACCES")


@pytest.fixture
def parsed(board_tree, run_script):
    """Return a function that runs the script on a tree of files and parses its answer."""
    return lambda files: probes.parse_snapshot(run_script(board_tree(files)))


def _value(value):
    return None if isinstance(value, Unavailable) else value


def _rounded(value, scale=1.0):
    return None if isinstance(value, Unavailable) else round(value * scale, 6)


def _shown(snapshot, expected):
    """Return what a snapshot tells, as the captures write what they expect."""
    told = {
        "l4t": _value(snapshot.l4t),
        "jetpack": _value(snapshot.jetpack),
        "model": _value(snapshot.model),
        "rails": {rail.name: [rail.layout, rail.index] for rail in snapshot.rails},
        "power_mw": {rail.name: _rounded(rail.power_mw) for rail in snapshot.readings},
        "zones": {zone.name: _rounded(zone.value_c) for zone in snapshot.zones},
        "counters": {counter.name: counter.value for counter in snapshot.counters},
        "clocks_mhz": {
            clock.name: [_rounded(clock.min_hz, 1e-6), _rounded(clock.max_hz, 1e-6)]
            for clock in snapshot.clocks
        },
        "locked": _value(snapshot.clocks_locked),
    }
    return {key: told[key] for key in expected}


def test_every_listing_of_sysfs_is_read_by_the_script(parsed, sysfs_capture):
    files = {
        path: None if value in _FAILS else value for path, value in sysfs_capture["output"].items()
    }

    snapshot = parsed(files)

    expected = sysfs_capture["expected"]
    assert _shown(snapshot, expected) == expected
    assert snapshot.malformed == ()


def test_a_reading_that_fails_is_an_error_and_no_zero(parsed, captured):
    files = captured("sysfs", "orin-nano-8gb-super_r36.4.3")["output"]

    snapshot = parsed({path: None if v in _FAILS else v for path, v in files.items()})

    off = next(zone for zone in snapshot.zones if zone.name == "thermal_zone3")
    assert off.value_c == Unavailable(
        reason="/sys/class/thermal/thermal_zone3/temp: Is a directory"
    )


@pytest.mark.parametrize("shell", [("dash",), ("bash", "--posix"), ("busybox", "sh")], ids=" ".join)
def test_each_shell_gives_the_same_answer(board_tree, run_script, captured, shell):
    if shutil.which(shell[0]) is None:
        pytest.skip(f"there is no {shell[0]} here")
    files = captured("sysfs", "agx-thor_r38.4")["output"]
    root = board_tree({path: None if v in _FAILS else v for path, v in files.items()})

    answer = run_script(root, shell=shell)

    snapshot = probes.parse_snapshot(answer)
    assert [rail.name for rail in snapshot.rails] == ["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"]
    assert snapshot.l4t == "38.4.0"
    assert isinstance(snapshot.zones[0].value_c, Unavailable)


def test_the_module_is_told_by_whatever_names_it(parsed, module_capture):
    files = {
        "compatible": "/proc/device-tree/compatible",
        "boot": "/etc/nv_boot_control.conf",
        "dtsfilename": "/proc/device-tree/nvidia,dtsfilename",
    }
    told = {files[k]: v.replace(" ", "\0") if k == "compatible" else v + "\n"
            for k, v in module_capture["output"].items()}  # fmt: skip

    snapshot = parsed(told)

    expected = module_capture["expected"]
    assert snapshot.module == expected["module"]
    assert _value(snapshot.soc) == expected["soc"]


def test_the_clients_of_nvmap_are_the_users_of_the_gpu(parsed, nvmap_clients_capture):
    snapshot = parsed({"/sys/kernel/debug/nvmap/iovmm/clients": nvmap_clients_capture["output"]})

    assert list(snapshot.gpu_users) == nvmap_clients_capture["expected"]


def test_the_carrier_of_thor_tells_its_input(parsed):
    hwmon = "/sys/class/hwmon/hwmon2"

    snapshot = parsed(
        {
            f"{hwmon}/name": "ina238",
            f"{hwmon}/in1_label": "VIN",
            f"{hwmon}/in1_input": "19700",
            f"{hwmon}/curr1_input": "1004",
        }
    )

    assert [(r.name, r.layout, r.folder, r.index) for r in snapshot.rails] == [
        ("VIN", "hwmon", hwmon, 1)
    ]
    assert snapshot.readings[0].power_mw == pytest.approx(19778.8)


def test_a_chip_that_is_there_twice_is_one_and_two_rails_of_one_name_are_named(parsed):
    def chip(folder, *labels):
        files = {f"{folder}/name": "ina3221"}
        for n, label in enumerate(labels, start=1):
            files[f"{folder}/in{n}_label"] = label
            files[f"{folder}/in{n}_input"] = "5000"
            files[f"{folder}/curr{n}_input"] = "100"
        return files

    snapshot = parsed(
        {
            **chip("/sys/class/hwmon/hwmon3", "VDD_GPU_SOC", "NC", "VDD_CPU_CV"),
            **chip("/sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3", "VDD_GPU_SOC", "NC"),
            **chip("/sys/class/hwmon/hwmon4", "VDD_CPU_CV"),
        }
    )

    assert [(r.name, r.index) for r in snapshot.rails] == [("VDD_GPU_SOC", 1), ("VDD_CPU_CV", 3)]
    assert snapshot.malformed == ("/sys/class/hwmon/hwmon4/in1_label: a second rail VDD_CPU_CV",)


def test_a_core_that_is_off_does_not_unlock_the_clocks(parsed):
    def cpu(number, lowest):
        folder = f"/sys/devices/system/cpu/cpu{number}/cpufreq"
        return {f"{folder}/scaling_min_freq": lowest, f"{folder}/scaling_max_freq": "1000"}

    gpu = "/sys/class/devfreq/17000000.gpu"
    files = {f"{gpu}/min_freq": "500", f"{gpu}/max_freq": "500", **cpu(0, "1000"), **cpu(1, "10")}
    online = "/sys/devices/system/cpu/online"

    assert parsed({**files, online: "0"}).clocks_locked is True


def test_a_core_with_a_range_left_is_not_locked(parsed):
    folder, gpu = "/sys/devices/system/cpu/cpu0/cpufreq", "/sys/class/devfreq/17000000.gpu"

    snapshot = parsed(
        {
            "/sys/devices/system/cpu/online": "0",
            f"{folder}/scaling_min_freq": "10",
            f"{folder}/scaling_max_freq": "1000",
            f"{gpu}/min_freq": "500",
            f"{gpu}/max_freq": "500",
        }
    )

    assert snapshot.clocks_locked is False


def test_a_fan_is_no_throttling_and_an_alert_is(parsed):
    thermal = "/sys/class/thermal"

    snapshot = parsed(
        {
            f"{thermal}/cooling_device0/type": "pwm-fan",
            f"{thermal}/cooling_device0/cur_state": "3",
            f"{thermal}/cooling_device1/type": "gpu-throttle-alert",
            f"{thermal}/cooling_device1/cur_state": "1",
            "/sys/class/hwmon/hwmon0/name": "pwmfan",
            "/sys/class/hwmon/hwmon0/pwm1": "69",
            "/proc/77/comm": "nvfancontrol",
            "/proc/78/comm": "Xorg",
        }
    )

    assert [(c.name, c.value) for c in snapshot.counters] == [("thermal-gpu-throttle-alert", 1)]
    assert snapshot.fan == "pwm 69 of 255, by nvfancontrol"
    assert snapshot.display_server == "Xorg"


def test_software_and_memory_are_read(parsed, captured, tmp_path):
    snapshot = parsed(
        {
            "/etc/elfatt-deploy-simulated": "",
            "/etc/nvpmodel.conf": captured("nvpmodel_config", "agx-orin-64gb_r35")["output"],
            "/proc/meminfo": "MemTotal:  64000 kB\nMemFree: 1 kB\nMemAvailable: 32000 kB\n"
            "SwapTotal: 2000 kB\nSwapFree: 500 kB\n",
            "/proc/loadavg": "0.25 0.1 0.1 1/200 999",
            "/sys/devices/system/cpu/present": "0-11",
            "/sys/devices/system/cpu/online": "0,3-5",
            "/usr/local/cuda/version.json": '{"cuda" : {\n "name" : "CUDA SDK",\n'
            ' "version" : "12.6.11"\n}}',
            "/usr/lib/aarch64-linux-gnu/libnvinfer.so.10": "",
            "/usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0": "",
        }
    )

    assert snapshot.simulated
    assert not snapshot.jetson
    assert (snapshot.cores_present, snapshot.cores_online) == (12, 4)
    assert snapshot.memory_free_bytes == 32000 * 1024
    assert snapshot.swap_used_bytes == 1500 * 1024
    assert snapshot.load == 0.25
    assert snapshot.cuda == "12.6.11"
    assert snapshot.tensorrt == "10.3.0"
    assert isinstance(snapshot.trtexec, Unavailable)
    assert len(snapshot.nvpmodel.modes) == 4
    assert snapshot.mode == Unavailable(reason="there is no program nvpmodel")
    assert snapshot.work_folder == os.fspath(tmp_path)
    assert snapshot.disk_free_bytes > 0
    assert snapshot.taken_uptime_s == 12.5


@pytest.fixture
def programs(tmp_path):
    """Return a function that writes a program into a folder, and the PATH that begins with it."""
    folder = tmp_path / "programs"
    folder.mkdir()

    def write(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        return f"{folder}:/usr/bin:/bin"

    return write


def test_the_mode_is_asked_with_a_closed_input(board_tree, run_script, programs, captured):
    said = captured("nvpmodel_query", "nano_jp4")["output"]
    path = programs(
        "nvpmodel", f"cat; cat <<'END'\n{said}END\necho 'NVPM ERROR: EMC: 13' >&2; exit 1"
    )

    snapshot = probes.parse_snapshot(run_script(board_tree({}), path=path))

    assert (snapshot.mode.id, snapshot.mode.name) == (0, "MAXN")


def test_trtexec_is_found_where_jetpack_puts_it_or_on_the_path(board_tree, run_script, programs):
    path = programs("trtexec", "exit 0")
    root = board_tree({"/usr/src/tensorrt/bin/trtexec": "#!/bin/sh\n"})

    on_path = probes.parse_snapshot(run_script(root, path=path)).trtexec
    (root / "usr/src/tensorrt/bin/trtexec").chmod(0o755)
    of_jetpack = probes.parse_snapshot(run_script(root, path=path)).trtexec

    assert on_path == path.split(":")[0] + "/trtexec"
    assert of_jetpack == f"{root}/usr/src/tensorrt/bin/trtexec"


def test_a_serial_number_is_never_read(board_tree, run_script):
    root = board_tree(
        {
            "/proc/device-tree/serial-number": "SECRET-1",
            "/sys/firmware/devicetree/base/serial-number": "SECRET-2",
            "/etc/nv_boot_control.conf": "TNSPEC 3767-300-0005-L.0-1-1-x-\nTEGRA_SERIAL SECRET-3\n",
        }
    )

    assert "SECRET" not in run_script(root)


def test_this_machine_is_no_jetson_and_fails_nothing(run_script):
    snapshot = probes.parse_snapshot(run_script(""))

    assert not snapshot.jetson
    assert not snapshot.simulated
    assert snapshot.memory_total_bytes > 2**20
    assert snapshot.malformed == ()


def test_a_value_that_is_no_number_is_named():
    snapshot = probes.parse_snapshot(
        "#elfatt-deploy snapshot 1\n@system\n=/proc/uptime\t5.0 1.0\nwhat\n"
        "@thermal\n=/sys/class/thermal/thermal_zone0/temp\twarm\n"
        "!/sys/class/thermal/thermal_zone1/temp\tResource temporarily unavailable\n@end\n"
    )

    assert snapshot.malformed == ("what", "/sys/class/thermal/thermal_zone0/temp: warm")
    assert snapshot.zones[1].value_c == Unavailable(
        reason="/sys/class/thermal/thermal_zone1/temp: Resource temporarily unavailable"
    )


def test_no_line_is_needed_for_the_others(board_tree, run_script, sysfs_capture):
    files = sysfs_capture["output"]
    lines = run_script(
        board_tree({path: None if v in _FAILS else v for path, v in files.items()})
    ).splitlines()

    for index in range(1, len(lines) - 1):
        fewer = "\n".join(lines[:index] + lines[index + 1 :])
        torn = "\n".join([*lines[:index], lines[index][: len(lines[index]) // 2], "@end"])
        for text in (fewer, torn):
            if text.count("=/proc/uptime\t12.5"):
                assert probes.parse_snapshot(text).taken_uptime_s == 12.5
            else:
                with pytest.raises(ProbeError, match="uptime"):
                    probes.parse_snapshot(text)


class _Answers:
    """A transport whose every command leaves the same."""

    name = "user@board"

    def __init__(self, stdout, stderr=""):
        self.left = (stdout, stderr)
        self.asked = []

    def run(self, command, *, timeout_s=None, input=None, on_line=None):
        self.asked.append((command, input))
        out, err = self.left
        return CommandResult(command=command, status=0, stdout=out, stderr=err, seconds=0.1)


def test_all_is_read_in_one_round_trip():
    board = _Answers("#elfatt-deploy snapshot 1\n@system\n=/proc/uptime\t5.0 1.0\n@end\n")

    assert probes.snapshot(board).taken_uptime_s == 5.0
    assert board.asked == [(("sh", "-s"), probes.script("snapshot.sh"))]


@pytest.mark.parametrize(
    ("stdout", "message"),
    [
        ("Welcome!\n#elfatt-deploy snapshot 1\n@end\n", "it begins with: Welcome!"),
        ("", "it begins with: nothing"),
        ("#elfatt-deploy snapshot 1\n@system\n=/proc/upt", "ends early, with: =/proc/upt"),
        ("#elfatt-deploy snapshot 1\n@end\n", "does not tell its uptime"),
    ],
)
def test_another_answer_is_refused_by_name(stdout, message):
    with pytest.raises(ProbeError, match=message) as caught:
        probes.snapshot(_Answers(stdout, "sh: 1: not found"))

    assert caught.value.message.startswith("user@board: ")
    assert "sh: 1: not found" in caught.value.message


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck here")
def test_the_script_is_clean_for_a_posix_shell():
    result = subprocess.run(
        ["shellcheck", "--shell=sh", "-"],
        input=probes.script("snapshot.sh"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert result.stdout == ""
