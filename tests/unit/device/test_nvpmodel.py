import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import nvpmodel
from elfatt_deploy.errors import PowerModeError, ProbeError


def _mhz(value):
    return value if value is None else value / 1e6


def test_every_configuration_means_what_its_table_says(nvpmodel_config_capture):
    config = nvpmodel.parse_config(nvpmodel_config_capture["output"])
    expected = nvpmodel_config_capture["expected"]

    assert config.malformed == ()
    assert config.unknown == ()
    assert config.default_id == expected["default_id"]
    assert [
        {
            "id": mode.id,
            "name": mode.name,
            "cores": mode.cores,
            "cpu_max_mhz": _mhz(mode.cpu_max_hz),
            "gpu_max_mhz": _mhz(mode.gpu_max_hz),
            "emc_max_mhz": _mhz(mode.emc_max_hz),
            "tpc_mask": mode.tpc_mask,
        }
        for mode in config.modes
    ] == expected["modes"]


def test_no_line_of_a_configuration_is_lost(nvpmodel_config_capture):
    lines = [
        line.replace("NVPM VERB:", "").strip()
        for line in nvpmodel_config_capture["output"].splitlines()
    ]
    body = [line for line in lines if line and "PARAM TYPE" not in line]
    body = [line for line in body if "POWER_MODEL" not in line and "PM_CONFIG" not in line]
    config = nvpmodel.parse_config(nvpmodel_config_capture["output"])

    kept = [f"{name} {path}" for p in config.parameters for name, path in p.paths]
    kept += [f"{s.param} {s.argument} {s.value}" for m in config.modes for s in m.settings]

    assert kept == [" ".join(line.split()) for line in body]


def test_the_limits_of_a_power_monitor_are_a_parameter_too(captured):
    config = nvpmodel.parse_config(captured("nvpmodel_config", "xavier-nx_r32")["output"])

    limit = next(p for p in config.parameters if p.name == "VDDIN_OC_LIMIT")

    assert limit.kind == "HWMON"
    assert limit.paths[1] == (
        "CRIT",
        "/sys/devices/platform/c250000.i2c/i2c-7/7-0040/hwmon curr1_crit",
    )


def test_what_cannot_be_understood_is_named_and_stops_nothing():
    config = nvpmodel.parse_config(
        "what is this\n"
        "< POWER_MODEL ID=0 NAME=A >\nCPU_ONLINE CORE_0 1\nCPU_ONLINE CORE_1 1\n"
        "GPU MAX_FREQ fast\nGPU\n"
        "< POWER_MODEL ID=1 NAME=B >\nCPU_ONLINE CORE_0 1\n"
        "< FAN_CONFIG DEFAULT=cool >\nsomething of the fan\n"
    )

    assert config.malformed == (
        "line 1: what is this",
        "line 6: GPU",
        "mode 0 A: GPU MAX_FREQ fast",
    )
    assert config.unknown == ("FAN_CONFIG DEFAULT=cool",)
    assert isinstance(config.default_id, Unavailable)
    first, second = config.modes
    assert first.cores == 2
    assert isinstance(first.gpu_max_hz, Unavailable)
    assert isinstance(second.cores, Unavailable)
    assert "CORE_1" in second.cores.reason
    assert nvpmodel.describe(first) == "0 A: 2 cores, CPU ?, GPU ?, EMC ?"


def test_the_mode_is_read_from_every_query(nvpmodel_query_capture):
    expected = nvpmodel_query_capture["expected"]

    mode = nvpmodel.parse_query(nvpmodel_query_capture["output"])

    assert (mode.id, mode.name) == (expected["id"], expected["name"])


def test_a_verbose_query_tells_what_stands_in_each_file(captured):
    text = captured("nvpmodel_query", "nano_jp4_verbose")["output"]

    readings = nvpmodel.parse_readings(text)

    assert len(readings) == text.count("REAL_VAL")
    gpu = next(r for r in readings if (r.param, r.argument) == ("GPU", "MAX_FREQ"))
    assert (gpu.real, gpu.configured) == ("921600000", "2147483647")
    assert gpu.path == "/sys/devices/gpu.0/devfreq/57000000.gpu/max_freq"


def test_a_query_without_root_tells_the_mode_and_then_complains():
    mode = nvpmodel.parse_query(
        "NV Power Mode: MAXN\n0\nNVPM ERROR: failed to read PARAM EMC: ARG MAX_FREQ: "
        "PATH /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13\n"
    )

    assert (mode.id, mode.name) == (0, "MAXN")


@pytest.mark.parametrize("text", ["", "NVPM ERROR: no such device\n", "NV Power Mode: MAXN\n"])
def test_a_query_that_names_no_mode_says_what_it_says(text):
    with pytest.raises(ProbeError, match="names no power mode; it says: (nothing|NV)"):
        nvpmodel.parse_query(text)


def test_setting_a_mode_tells_whether_it_needs_a_reboot(nvpmodel_set_capture):
    text, expected = nvpmodel_set_capture["output"], nvpmodel_set_capture["expected"]

    assert nvpmodel.needs_reboot(text) is expected["reboot"]
    assert list(nvpmodel.errors_in(text)) == expected["errors"]


@pytest.mark.parametrize(
    ("board", "label", "id"),
    [
        ("agx-orin-64gb_r35", "15W", 1),
        ("agx-orin-64gb_r35", "MODE_15W", 1),
        ("agx-orin-64gb_r35", "mode_30w", 2),
        ("agx-orin-64gb_r35", "maxn", 0),
        ("agx-orin-64gb_r35", "3", 3),
        ("orin-nano-8gb_r35", "15W", 0),
        ("agx-xavier_r32", "MODE_15W", 2),
        ("agx-xavier_r32", "15W_DESKTOP", 7),
        ("xavier-nx_r32", "15w_6core", 2),
        ("nano-custom_r32", "5W", 1),
        ("nano-custom_r32", "birdedge", 2),
        ("orin-nano-4gb_r35", "7W_AI", 1),
        ("orin-nx-16gb-super_r36", "maxn_super", 0),
    ],
)
def test_a_label_means_one_mode(captured, board, label, id):
    config = nvpmodel.parse_config(captured("nvpmodel_config", board)["output"])

    assert nvpmodel.resolve_mode(config, label).id == id


@pytest.mark.parametrize(
    ("board", "label", "ids"),
    [
        ("agx-xavier_r32", "15W", (2, 7)),
        ("xavier-nx_r32", "15W", (0, 1, 2)),
        ("xavier-nx_r32", "10w", (3, 4, 5)),
        ("orin-nano-4gb_r35", "7W", (1, 2)),
    ],
)
def test_a_label_that_means_several_modes_lists_them(captured, board, label, ids):
    config = nvpmodel.parse_config(captured("nvpmodel_config", board)["output"])

    with pytest.raises(PowerModeError, match=f"means {len(ids)} modes of the board") as caught:
        nvpmodel.resolve_mode(config, label)

    described = [nvpmodel.describe(mode) for mode in config.modes if mode.id in ids]
    assert [line.strip() for line in caught.value.message.splitlines()[1:]] == described
    assert f"--power {ids[0]}" in caught.value.hint
    assert caught.value.asked == label


@pytest.mark.parametrize("label", ["60W", "MAXN_SUPER", "9", "", "15"])
def test_a_label_that_means_none_lists_all(captured, label):
    config = nvpmodel.parse_config(captured("nvpmodel_config", "agx-orin-64gb_r35")["output"])

    with pytest.raises(PowerModeError, match=f"no power mode '{label}'") as caught:
        nvpmodel.resolve_mode(config, label)

    assert "1 MODE_15W: 4 cores, CPU 1113.6 MHz, GPU 408 MHz, EMC 2133 MHz" in caught.value.message


def test_watts_that_a_name_does_not_tell_can_be_given(captured):
    config = nvpmodel.parse_config(captured("nvpmodel_config", "nano-custom_r32")["output"])

    assert nvpmodel.resolve_mode(config, "10W", budgets=((0, 10.0),)).name == "MAXN"
