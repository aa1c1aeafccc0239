"""The emulated nvpmodel says what captures of real ones say, and really changes the board."""

import pytest

from elfatt_deploy.device import nvpmodel, probes


def _set(say, board, number, **settings):
    return say(board, "sudo", "-n", "nvpmodel", "-m", str(number), **settings)


def test_a_query_says_name_and_id(make_board, say):
    board = make_board("xavier-nx")
    _set(say, board, 0)
    assert say(board, "sudo", "-n", "nvpmodel", "-q") == (
        0, ["NV Power Mode: MODE_15W_2CORE", "0"], [],
    )  # fmt: skip


def test_a_query_without_root_tells_the_mode_and_then_errors(make_board, say):
    status, stdout, stderr = say(make_board("agx-orin-64gb"), "nvpmodel", "-q")
    assert (status, stdout) == (0, ["NV Power Mode: MODE_30W", "2"])
    assert stderr[0] == "NVPM ERROR: Error opening /sys/kernel/nvpmodel_clk_cap/emc: 13"


def test_a_verbose_query_shows_what_is_real_beside_what_is_wanted(make_board, say):
    board = make_board("nano")
    _, stdout, _ = say(board, "sudo", "-n", "nvpmodel", "-q", "--verbose")
    assert stdout[:4] == [
        "NVPM VERB: Config file: /etc/nvpmodel.conf",
        "NVPM VERB: parsing done for /etc/nvpmodel.conf",
        "NVPM VERB: Current mode: NV Power Mode: MAXN",
        "0",
    ]
    readings = {(r.param, r.argument): r for r in nvpmodel.parse_readings("\n".join(stdout))}
    gpu = readings["GPU", "MAX_FREQ"]
    assert (gpu.real, gpu.configured) == ("921600000", "2147483647")


def test_the_whole_configuration_is_shown_as_captured(make_board, say):
    _, stdout, _ = say(make_board("nano"), "nvpmodel", "-p", "--verbose")
    for line in (
        "NVPM VERB: PM_CONFIG: DEFAULT=MAXN(0)",
        "NVPM VERB: PARAM TYPE=CLOCK NAME=CPU_A57",
        "NVPM VERB: MAX_FREQ /sys/devices/gpu.0/devfreq/57000000.gpu/max_freq",
        "NVPM VERB: POWER_MODEL: ID=1 NAME=5W",
        "NVPM VERB: CPU_ONLINE CORE_2 0",
        "NVPM VERB: CPU_A57 MAX_FREQ 918000",
        "NVPM VERB: EMC MAX_FREQ 1600000000",
    ):
        assert line in stdout


def test_a_mode_writes_cores_and_clocks_as_a_real_nano_rounds_them(make_board, say):
    board = make_board("nano")
    assert _set(say, board, 1) == (0, [], [])
    with board.open() as transport:
        snapshot = probes.snapshot(transport)
    clocks = {clock.name: clock for clock in snapshot.clocks}
    assert (snapshot.mode.name, snapshot.cores_online) == ("5W", 2)
    # 918 and 640 MHz are asked for; captures of a real Nano in 5W show these.
    assert (clocks["cpu0"].max_hz, clocks["gpu"].max_hz) == (921_600_000, 614_400_000)
    assert board.machine.read("/sys/devices/system/cpu/online") == "0-1"
    assert board.machine.read("/var/lib/nvpmodel/status") == "pmode:0001"
    _set(say, board, 0)
    assert board.machine.read("/sys/devices/system/cpu/online") == "0-3"


def test_tx2_switches_the_cores_that_its_configuration_names(make_board, say):
    board = make_board("tx2")
    assert board.machine.read("/sys/devices/system/cpu/online") == "0,3-5"
    _set(say, board, 0)
    assert board.machine.read("/sys/devices/system/cpu/online") == "0-5"
    assert "CORE_0" not in board.machine.read("/etc/nvpmodel.conf")


@pytest.mark.parametrize(
    ("name", "mode", "mask"),
    [
        ("agx-orin-64gb", 1, 248),
        ("orin-nx-16gb", 1, 252),
        ("agx-xavier", 1, 5),
        ("xavier-nx", 3, 1),
    ],
)
def test_masks_are_those_of_the_captured_configurations(name, mode, mask, make_board):
    conf = make_board(name).machine.conf()
    assert conf.mode(mode).value("TPC_POWER_GATING", "TPC_PG_MASK") == str(mask)


def test_a_change_of_the_mask_asks_for_a_reboot_on_orin_and_no_answer_is_no(make_board, say):
    board = make_board("agx-orin-64gb")
    status, stdout, stderr = _set(say, board, 1)
    assert (status, stdout) == (0, [])
    assert stderr == [
        "NVPM WARN: Golden image context is already created",
        "NVPM WARN: Reboot required for changing to this power mode: 1",
        "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:",
        "NVPM ERROR: optMask is 1, no request for power mode",
    ]
    assert nvpmodel.needs_reboot("\n".join(stderr))
    assert _set(say, board, 1, input="n\n")[2] == stderr
    assert board.machine.state().mode == 2
    assert board.machine.state().boots == 1


def test_a_reboot_that_is_accepted_brings_the_mode(make_board, say):
    board = make_board("agx-orin-64gb")
    *_, last = _set(say, board, 0, input="YES\n")[2]
    assert last == "NVPM WARN: rebooting"
    state = board.machine.state()
    assert (state.mode, state.boots) == (0, 2)
    assert board.machine.read("/sys/devices/platform/gpu.0/tpc_pg_mask") == "0"


def test_modes_with_one_mask_need_no_reboot(make_board, say):
    board = make_board("agx-orin-64gb")
    _set(say, board, 0, input="yes\n")
    assert _set(say, board, 3) == (0, [], [])
    assert board.machine.clocks().gpu_hz == 816e6


def test_the_mode_of_the_status_file_is_applied_at_the_next_start(make_board, say):
    board = make_board("agx-orin-64gb")
    board.machine.write("/var/lib/nvpmodel/status", "pmode:0001")
    say(board, "sudo", "-n", "reboot")
    assert say(board, "nvpmodel", "-q")[1] == ["NV Power Mode: MODE_15W", "1"]
    assert board.machine.clocks().tpcs == 3


def test_a_status_file_without_a_known_mode_leads_to_the_default(make_board, say):
    board = make_board("nano")
    board.machine.write("/var/lib/nvpmodel/status", "pmode:0009")
    say(board, "sudo", "-n", "reboot")
    assert board.machine.state().mode == 0


def test_without_root_a_mode_is_refused_with_status_0(make_board, say):
    board = make_board("nano")
    status, _, stderr = say(board, "nvpmodel", "-m", "1")
    assert status == 0
    assert stderr[0] == "NVPM ERROR: Error opening /sys/devices/system/cpu/cpu1/online: 13"
    assert stderr[-1] == "NVPM ERROR: failed to set power mode!"
    assert board.machine.state().mode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-m", "7"), "power mode 7 is not in the configuration"),
        (("--nonsense",), "unknown option --nonsense"),
        (("-q", "-f", "/nowhere/nvpmodel.conf"), "Error opening /nowhere/nvpmodel.conf: 2"),
    ],
)
def test_what_it_does_not_know_is_an_error(arguments, text, make_board, say):
    status, _, stderr = say(make_board("nano"), "sudo", "-n", "nvpmodel", *arguments)
    assert status == 255
    assert text in stderr[0]


def test_another_configuration_can_be_named(make_board, say, tmp_path):
    board = make_board("nano")
    text = board.machine.read("/etc/nvpmodel.conf").replace("NAME=5W", "NAME=SLOW")
    (tmp_path / "own.conf").write_text(text)
    _, stdout, _ = say(board, "nvpmodel", "-f", str(tmp_path / "own.conf"), "-p", "--verbose")
    assert "NVPM VERB: POWER_MODEL: ID=1 NAME=SLOW" in stdout
