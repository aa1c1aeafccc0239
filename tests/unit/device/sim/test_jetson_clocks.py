"""The emulated jetson_clocks pins, stores, restores and shows clocks."""

import pytest

from elfatt_deploy.device import jetson_clocks, probes


def _root(say, board, *arguments):
    return say(board, "sudo", "-n", "jetson_clocks", *arguments)


def _locked(board):
    with board.open() as transport:
        return probes.snapshot(transport).clocks_locked


@pytest.mark.parametrize("name", ["nano", "tx2", "agx-orin-64gb", "agx-thor"])
def test_clocks_are_pinned_to_the_highest_of_the_mode_and_put_back(name, make_board, say, tmp_path):
    board = make_board(name)
    file = tmp_path / "clocks.txt"
    before = _root(say, board, "--show")
    assert _root(say, board, "--store", str(file)) == (0, [], [])
    assert _root(say, board) == (0, [], [])
    assert _locked(board) is True
    pinned = _root(say, board, "--show")
    assert pinned[1] != before[1]
    assert _root(say, board, "--restore", str(file)) == (0, [], [])
    assert _root(say, board, "--show") == before
    assert _locked(board) is False


def test_the_real_parser_reads_what_is_shown(make_board, say):
    board = make_board("nano")
    say(board, "sudo", "-n", "nvpmodel", "-m", "1")
    _root(say, board)
    _, stdout, _ = _root(say, board, "--show")
    shown = jetson_clocks.parse_show("\n".join(stdout))
    clocks = {clock.name: clock for clock in shown.clocks}
    assert (shown.soc, shown.machine) == ("tegra210", "NVIDIA Jetson Nano Developer Kit")
    assert shown.unknown == ()
    # as captured on a Nano in its 5W mode, after jetson_clocks
    assert (clocks["GPU"].min_hz, clocks["GPU"].max_hz) == (614_400_000, 614_400_000)
    assert clocks["EMC"].override is True
    assert "Fan: speed=255" in stdout
    assert "NV Power Mode: 5W" in stdout
    assert [clock.online for name, clock in sorted(clocks.items()) if name.startswith("cpu")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_it_needs_root(make_board, say):
    status, stdout, _ = say(make_board("nano"), "jetson_clocks", "--show")
    assert status == 1
    assert "as a root user" in stdout[0]


def test_a_stored_file_that_is_missing_is_an_error(make_board, say):
    status, stdout, _ = _root(say, make_board("nano"), "--restore", "/nowhere/clocks")
    assert (status, stdout) == (1, ["Error: Could not open /nowhere/clocks!"])


def test_an_unknown_option_is_an_error(make_board, say):
    assert _root(say, make_board("nano"), "--fast")[0] == 1


def test_a_reboot_undoes_it(make_board, say):
    board = make_board("agx-orin-64gb")
    _root(say, board)
    say(board, "sudo", "-n", "reboot")
    assert _locked(board) is False
