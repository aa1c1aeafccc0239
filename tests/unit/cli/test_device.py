import json
import subprocess

import pytest
from typer.testing import CliRunner

from elfatt_deploy.cli import device
from elfatt_deploy.device import probes
from elfatt_deploy.pipeline import devices
from elfatt_deploy.transport.base import CommandResult

PROBE = "#elfatt-deploy snapshot 1\n"


class _Board:
    """A transport whose script leaves a given answer."""

    name = "board"

    def __init__(self, answer):
        self.answer = answer

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def run(self, command, *, timeout_s=None, input=None, on_line=None):
        assert input == probes.script("snapshot.sh")
        return CommandResult(command=command, status=0, stdout=self.answer, stderr="", seconds=0.0)


@pytest.fixture
def shown(monkeypatch):
    """Return a function that runs a verb on a board that gives an answer."""
    monkeypatch.setenv("NO_COLOR", "1")

    def run(answer, *arguments):
        monkeypatch.setattr(devices, "open_device", lambda name: _Board(answer))
        return CliRunner().invoke(device.app, list(arguments))

    return run


@pytest.fixture
def answer(tmp_path):
    """Return a function that runs the script on a tree with these files."""

    def run(**files):
        for path, content in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        environment = {"PATH": "/usr/bin:/bin", "ELFATT_DEPLOY_ROOT": str(tmp_path)}
        script = probes.script("snapshot.sh")
        done = subprocess.run(
            ["sh", "-s"], input=script, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    return run


CONF = (
    "< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n"
    "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\nCPU_A57 MAX_FREQ -1\nGPU MAX_FREQ -1\n"
    "EMC MAX_FREQ 0\n< POWER_MODEL ID=1 NAME=5W >\nCPU_ONLINE CORE_0 1\nCPU_A57 MAX_FREQ 918000\n"
    "GPU MAX_FREQ 640000000\n< PM_CONFIG DEFAULT=0 >\n"
)
INA = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"


@pytest.fixture
def nano(answer):
    """Return the answer of a small Nano with one rail."""
    return answer(
        **{
            "proc/uptime": "99.5 1.0",
            "proc/device-tree/model": "NVIDIA Jetson Nano Developer Kit\0",
            "proc/device-tree/compatible": "nvidia,p3449-0000+p3448-0000\0nvidia,tegra210\0",
            "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1\n",
            "etc/nvpmodel.conf": CONF,
            f"{INA}/rail_name_0": "POM_5V_IN",
            f"{INA}/in_power0_input": "1750",
            f"{INA}/in_voltage0_input": "5000",
            f"{INA}/in_current0_input": "350",
            "sys/class/thermal/thermal_zone0/type": "GPU-therm",
            "sys/class/thermal/thermal_zone0/temp": "40500",
        }
    )


def test_info_shows_a_board(shown, nano):
    result = shown(nano, "info", "--device", "ssh://nano")

    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "ssh://nano"
    for line in (
        "board Jetson Nano 4 GB",
        "module p3448-0000",
        "Jetson Linux (L4T) 32.7.1",
        "JetPack 4.6.1",
        "POM_5V_IN 1.75 5.00 0.35 yes",
        "GPU-therm 40.5 degC",
    ):
        assert line in lines
    assert "SIMULATED" not in result.stdout
    assert "no Jetson" not in result.stdout


def test_info_as_json_is_one_document_with_everything(shown, nano):
    result = shown(nano, "info", "--json")

    document = json.loads(result.stdout)
    assert (document["schema"], document["version"]) == ("elfatt-deploy/device", 1)
    assert document["board"]["name"] == "nano"
    assert document["board"]["total"]["rails"] == ["POM_5V_IN"]
    assert document["snapshot"]["readings"][0]["power_mw"] == 1750.0
    assert document["snapshot"]["mode"] == {"reason": "there is no program nvpmodel"}
    assert result.stderr == ""


def test_a_simulated_board_is_marked_in_every_output(shown, answer, nano):
    simulated = answer(**{"etc/elfatt-deploy-simulated": ""})

    assert shown(simulated, "info").stdout.startswith("local - SIMULATED")
    assert "SIMULATED" in shown(simulated, "modes").stdout.splitlines()[0]
    assert json.loads(shown(simulated, "info", "--json").stdout)["snapshot"]["simulated"] is True
    assert json.loads(shown(simulated, "modes", "--json").stdout)["simulated"] is True


def test_info_on_a_plain_machine_says_what_it_is_and_what_was_looked_for(shown):
    plain = f"{PROBE}@system\n=/proc/uptime\t5.0 1.0\n=uname\tx86_64\n@end\n"

    result = shown(plain, "info")

    assert result.exit_code == 0
    assert "it is no Jetson" in result.stdout
    assert "no Jetson found: looked for /etc/nv_tegra_release" in result.stdout


def test_modes_lists_what_each_mode_caps(shown, nano):
    result = shown(nano.replace("@end", "=nvpmodel -q\t0\n|NV Power Mode: 5W\n|1\n@end"), "modes")

    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["0", "MAXN", "1", "-", "-", "-", "1", "yes"] in rows  # the default
    # the current one; its EMC cap is the board file's, for the configuration here sets none
    assert ["1", "5W", "1", "918", "640", "1600", "1", "yes"] in rows
    assert "from the board's /etc/nvpmodel.conf" in result.stdout


def test_modes_as_json(shown, nano):
    document = json.loads(shown(nano, "modes", "--json").stdout)

    assert document["schema"] == "elfatt-deploy/device-modes"
    assert document["source"] == "the board"
    assert [(m["id"], m["budget_w"], m["default"]) for m in document["modes"]] == [
        (0, 10.0, True),
        (1, 5.0, False),
    ]


def test_modes_of_a_machine_that_has_none_is_an_error_of_the_device(shown):
    plain = f"{PROBE}@system\n=/proc/uptime\t5.0 1.0\n@end\n"

    result = shown(plain, "modes", "--device", "ssh://pc")

    assert result.exit_code == 4
    assert result.stdout == ""
    assert "ssh://pc has no power modes: there is no /etc/nvpmodel.conf, and it is no Jetson" in (
        result.stderr
    )
    assert "device info --device ssh://pc" in result.stderr


def test_what_was_not_understood_is_said(shown):
    odd = f"{PROBE}=/proc/uptime\t5.0 1.0\n=/sys/class/thermal/thermal_zone0/temp\twarm\n@end\n"

    result = shown(odd, "info")

    assert "warning: not understood: /sys/class/thermal/thermal_zone0/temp: warm" in result.stderr
