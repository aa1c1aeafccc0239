import dataclasses

import pytest

from elfatt_deploy import recipes
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import boards, nvpmodel, probes
from elfatt_deploy.device.records import ModeNow
from elfatt_deploy.errors import PowerModeError, SchemaError, UnknownNameError

NAMES = (
    "nano", "tx2", "xavier-nx", "agx-xavier", "orin-nano-4gb", "orin-nano-8gb", "orin-nx-8gb",
    "orin-nx-16gb", "agx-orin-32gb", "agx-orin-64gb", "agx-thor", "orin-nano-4gb-super",
    "orin-nano-8gb-super", "orin-nx-8gb-super", "orin-nx-16gb-super",
)  # fmt: skip
#: board -> the configuration that its modes were taken from
CONFIGS = {
    "nano": "nano-custom_r32",
    "tx2": "tx2_r32",
    "xavier-nx": "xavier-nx_r32",
    "agx-xavier": "agx-xavier_r32",
    **{name: f"{name}_r35" for name in NAMES if "orin" in name and "super" not in name},
    **{name: f"{name}_r36" for name in NAMES if name.endswith("-super")},
}
_GIB = 2**30


@pytest.fixture
def snapshot():
    """Return a function that changes what a bare machine tells of itself."""
    bare = probes.parse_snapshot(
        "#elfatt-deploy snapshot 1\n=/proc/uptime\t5.0 1.0\n"
        "=/proc/device-tree/compatible\tnvidia,tegra234\n@end\n"
    )
    return lambda **told: dataclasses.replace(bare, **told)


@pytest.fixture
def config(captured):
    """Return a function from a name to a parsed configuration."""
    return lambda name: nvpmodel.parse_config(captured("nvpmodel_config", name)["output"])


def test_all_boards_have_a_file():
    assert sorted(boards.boards()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_board_fits_together(name):
    board = boards.board(name)

    assert board.target in recipes.targets()
    assert board.sm in (*recipes.target(board.target).sm, 62)  # 62: TX2, whose SM jp4 leaves out
    assert sum(mode.default for mode in board.modes) == 1
    assert board.gpu_peak.tpcs <= board.gpu_peak.die_tpcs
    for mode in board.modes:
        for cap, most in (
            (mode.cpu_max_hz, board.cpu_max_hz),
            (mode.gpu_max_hz, board.gpu_peak.gpu_max_hz),
            (mode.emc_max_hz, board.emc_max_hz),
        ):
            assert not isinstance(cap, float) or 0 < cap <= most
    assert board.total is not None
    assert board.total.sum == (len(board.total.rails) > 1)


def test_a_memory_moves_two_words_in_a_clock():
    bits = {"nano": 64, "xavier-nx": 128, "agx-xavier": 256, "agx-orin-64gb": 256,
            "orin-nx-16gb": 128, "orin-nano-8gb": 128, "orin-nano-8gb-super": 128,
            "orin-nano-4gb": 64, "agx-thor": 256}  # fmt: skip
    for name, width in bits.items():
        board = boards.board(name)
        computed = width / 8 * 2 * board.emc_max_hz
        assert board.gpu_peak.bandwidth_bytes_per_s == pytest.approx(computed, rel=0.005), name


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_modes_are_those_of_the_configuration(name, config, snapshot):
    board, own = boards.board(name), config(CONFIGS[name])
    own = dataclasses.replace(own, modes=tuple(m for m in own.modes if m.name != "BirdEdge"))

    merged = boards.modes_of(snapshot(nvpmodel=own), board)

    assert merged == board.modes


def test_the_peak_of_agx_orin_is_the_known_one():
    peak = boards.board("agx-orin-64gb").gpu_peak

    flops = peak.tpcs * peak.sms_per_tpc * peak.cores_per_sm * 2 * peak.gpu_max_hz

    assert flops == pytest.approx(5.3e12, rel=0.01)


def test_what_nobody_checked_is_named():
    assert boards.board("agx-orin-64gb").unverified == ()
    assert "gpu_max_hz" in boards.board("agx-xavier").unverified


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"module": "p3701-0005"}, "agx-orin-64gb"),
        # the developer kit's module comes with 32 GB too
        ({"module": "p3701-0000", "memory_total_bytes": 30 * _GIB}, "agx-orin-64gb"),
        ({"module": "p3448-0000"}, "nano"),
        ({"module": "p3834-0008"}, "agx-thor"),
        ({"model": "Jetson-AGX"}, "agx-xavier"),
        ({"model": "quill", "memory_total_bytes": 7852 * 2**20}, "tx2"),
        # the number of the kit, which is no module's
        ({"module": "p2972-0000", "model": "Jetson-AGX"}, "agx-xavier"),
        ({"model": "NVIDIA Jetson Nano Developer Kit"}, "nano"),
        ({"model": "Jetson AGX Orin", "cores_present": 12}, "agx-orin-64gb"),
        ({"model": "Jetson AGX Orin", "cores_present": 8}, "agx-orin-32gb"),
    ],
)
def test_a_machine_is_identified(snapshot, told, name):
    assert boards.identify(snapshot(**told)).name == name


@pytest.mark.parametrize(
    ("told", "own", "name"),
    [
        ({"module": "p3767-0005"}, "orin-nano-8gb_r35", "orin-nano-8gb"),
        ({"module": "p3767-0005"}, "orin-nano-8gb-super_r36", "orin-nano-8gb-super"),
        ({"module": "p3767-0000"}, "orin-nx-16gb_r35", "orin-nx-16gb"),
        (
            {"model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
             "memory_total_bytes": 7620 * 2**20},
            "orin-nano-8gb-super_r36",
            "orin-nano-8gb-super",
        ),
        (
            {"model": "NVIDIA Orin NX Developer Kit", "cores_present": 6},
            "orin-nx-8gb_r35",
            "orin-nx-8gb",
        ),
    ],
)  # fmt: skip
def test_its_power_modes_part_a_board_from_its_super_variant(snapshot, config, told, own, name):
    assert boards.identify(snapshot(nvpmodel=config(own), **told)).name == name


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"module": "p3767-0003"}, "it can be orin-nano-8gb, orin-nano-8gb-super"),
        ({"model": "Jetson AGX Orin"}, "it can be agx-orin-32gb, agx-orin-64gb"),
        ({"module": "p9999-0001", "model": "Jetson Foo"}, "fits p9999-0001 or Jetson Foo"),
        ({"model": "NVIDIA Jetson Nano 2GB Developer Kit"}, "no board file fits"),
        ({"model": "Jetson TX2 NX"}, "no board file fits"),
        # the industrial module, which is in no file, and a TX2 with half of the memory
        ({"module": "p3701-0008", "model": "Jetson AGX Orin", "cores_present": 12}, "p3701-0008"),
        ({"model": "quill", "memory_total_bytes": 3 * _GIB}, "no board file fits quill"),
        ({}, "no board file fits what it tells"),
        ({"soc": Unavailable(reason="none")}, "it is no Jetson"),
    ],
)
def test_a_board_is_never_guessed(snapshot, told, reason):
    found = boards.identify(snapshot(**told))

    assert isinstance(found, Unavailable)
    assert reason in found.reason


def test_the_boards_own_modes_win_and_the_file_fills_what_they_lack(snapshot, config):
    own = config("agx-orin-64gb_r35")
    silent = Unavailable(reason="the mode does not set it")
    changed = (
        dataclasses.replace(own.modes[0], gpu_max_hz=1e9),
        dataclasses.replace(own.modes[1], cores=silent, cpu_max_hz=silent, gpu_max_hz=420e6),
        dataclasses.replace(own.modes[2], id=7, name="MODE_33W", emc_max_hz=silent),
    )
    here = snapshot(
        nvpmodel=dataclasses.replace(own, modes=changed, default_id=7),
        mode=ModeNow(id=1, name="MODE_15W"),
    )

    maxn, small, new = boards.modes_of(here, boards.board("agx-orin-64gb"))

    assert (maxn.gpu_max_hz, maxn.budget_w) == (1e9, 60.0)
    assert (small.cores, small.cpu_max_hz, small.gpu_max_hz) == (4, 1113.6e6, 420e6)
    assert (new.budget_w, new.emc_max_hz, new.default) == (33.0, silent, True)
    assert [m.reboot for m in (maxn, small, new)] == [True, False, True]  # seen from mode 1
    assert [m.tpcs_on for m in (maxn, small, new)] == [8, 3, 4]


def test_an_unknown_board_still_has_its_own_modes(snapshot, config):
    unknown = Unavailable(reason="no board file fits")

    modes = boards.modes_of(snapshot(nvpmodel=config("xavier-nx_r32")), unknown)

    assert [m.id for m in modes] == list(range(9))
    assert isinstance(modes[0].tpcs_on, Unavailable)
    assert boards.modes_of(snapshot(), unknown) == ()


@pytest.mark.parametrize(
    ("board", "label", "id"),
    [("nano", "10W", 0), ("agx-orin-64gb", "60W", 0), ("agx-orin-64gb", "maxn", 0),
     ("orin-nx-16gb-super", "40w", 4), ("agx-thor", "120W", 1)],
)  # fmt: skip
def test_a_label_means_a_mode_by_its_watts_too(board, label, id):
    assert boards.find_mode(boards.board(board).modes, label).id == id


def test_a_label_that_fits_no_mode_is_refused_with_the_list():
    modes = boards.board("agx-thor").modes

    with pytest.raises(PowerModeError, match="no power mode '15W'") as caught:
        boards.find_mode(modes, "15W")

    assert "1 120W: ? cores, CPU ?, GPU ?, EMC ?" in caught.value.message


def _own_file(folder, change):
    text = (recipes.profiles_folder() / "boards" / "nano.toml").read_text()
    path = folder / "nano.toml"
    path.write_text(change(text))
    return path


def test_a_users_file_takes_the_place_of_ours(monkeypatch, tmp_path):
    _own_file(tmp_path, lambda text: text.replace('title = "', 'title = "My ', 1))
    monkeypatch.setenv("ELFATT_DEPLOY_BOARDS", str(tmp_path))

    assert boards.board("nano").title == "My Jetson Nano 4 GB"
    assert len(boards.boards()) == len(NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("sm = 53", 'sm = "Maxwell"'), "sm: Input should be a valid integer"),
        (lambda t: t.replace("cores = 4\n", "", 1), "cores: Field required"),
        (lambda t: t.replace("sm = 53", "sm = 53\ncolour = 1"), "colour: Unexpected"),
        (lambda t: t.replace('total = "', 'totals = "'), "names no source for total"),
        (lambda t: t.replace("id = 1\n", "id = 0\n"), "two power modes of one id"),
    ],
)
def test_a_board_file_is_validated(tmp_path, change, message):
    with pytest.raises(SchemaError, match=message) as caught:
        boards.read_board(_own_file(tmp_path, change))
    assert "bundle" not in caught.value.hint


def test_an_unknown_board_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean .*agx-orin-64gb") as caught:
        boards.board("agx-orin-64")
    assert "ELFATT_DEPLOY_BOARDS" in caught.value.hint
