# ruff: noqa: PT012 (a block that ends by an error has a body)
import dataclasses
import os
import signal
import threading

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device import journal as journals
from elfatt_deploy.device.control import Consent, Pace
from elfatt_deploy.device.records import ModeSetting, NvpmodelMode, Snapshot
from elfatt_deploy.device.restoring import restore
from elfatt_deploy.device.session import BoardSession
from elfatt_deploy.errors import BusyError, ConnectError, DeviceError, PowerModeError

DEVICE = "ssh://nvidia@orin"
PACE = Pace(patience_s=60.0, reboot_s=60.0, pause_s=0.0, settle_s=0.0)
#: for a board that stays away
GONE = dataclasses.replace(PACE, patience_s=0.0)
UNKNOWN = Unavailable(reason="not asked")


@pytest.fixture
def fakes(fake):
    return fake("board_fake")


@pytest.fixture
def board(fakes):
    return fakes.BoardFake()


@pytest.fixture
def modes(fakes):
    return {
        number: NvpmodelMode(
            id=number, name=mode.name, cores=mode.cores, cpu_max_hz=mode.cpu_khz * 1e3,
            gpu_max_hz=float(mode.gpu_hz), emc_max_hz=None, tpc_mask=mode.mask,
            settings=(ModeSetting(param="GPU", argument="MAX_FREQ", value=str(mode.gpu_hz)),),
        )
        for number, mode in fakes.MODES.items()
    }  # fmt: skip


def snapshot(**changes):
    fields = {field.name: UNKNOWN for field in dataclasses.fields(Snapshot)}
    fields |= {"clocks": (), "zones": (), "rails": (), "counters": (), "malformed": ()}
    return Snapshot(**{**fields, **changes})


@pytest.fixture
def session(board, tmp_path):
    def make(**changes):
        options = {"device": DEVICE, "journal_folder": tmp_path, "pace": PACE, **changes}
        return BoardSession(board, snapshot(), UNKNOWN, **options)

    return make


def changing(board):
    """Return the steps that are no mere readings."""
    return [step for step in board.steps if step not in ("boot", "state")]


def shown(steps):
    """Return steps with the random names of stored files numbered."""
    names = {}
    result = []
    for step in steps:
        words = [names.setdefault(w, f"F{len(names)}") if w.endswith(".conf") else w
                 for w in step.split()]  # fmt: skip
        result.append(" ".join(words[:1]) if words[0] == "drop" else " ".join(words))
    return result


def test_the_order_of_a_change_and_of_its_way_back(board, session, modes):
    before = board.condition
    with session() as changed:
        readback = changed.set_mode(modes[1])
        assert (readback.mode.name, readback.cores) == ("MODE_15W", 4)
        assert changed.lock_clocks().clocks[0].min_hz == 1113600e3
    assert shown(changing(board)) == [
        "take",
        "store F0",  # as found, in the mode that was found
        "mode 1",
        "store F1",  # as the new mode has them
        "pin",
        "take",  # on the way back the lock is made sure of
        "unpin F1",  # pins belong to a mode: let go before it is left
        "mode 2",
        "has F0",
        "unpin F0",
        "forget F1 F0",
        "drop",
    ]
    # every change was read back before anything else was done
    steps = board.steps
    for verb in ("mode 1", "pin", "mode 2"):
        assert steps[steps.index(verb) + 1] == "state"
    assert steps[-3] == "state"
    assert steps[-2].startswith("forget")
    assert board.condition == before
    assert changed.report.restored


def test_the_journal_is_on_the_disk_before_each_change(board, session, modes, tmp_path):
    seen = []

    def look(step):
        journal = journals.read(DEVICE, tmp_path)
        verb = step.split()[0]
        if verb in ("store", "mode", "pin", "unpin", "forget"):
            seen.append((verb, journal.phase.value, journal.pinned_file is not None))

    board.on_step = look
    with session() as changed:
        assert journals.read(DEVICE, tmp_path).phase is journals.Phase.PREPARED
        changed.set_mode(modes[3])
        changed.lock_clocks()
    assert seen == [
        ("store", "prepared", False),
        ("mode", "changing", False),
        ("store", "changing", True),
        ("pin", "changing", True),
        ("unpin", "restoring", True),
        ("mode", "restoring", True),
        ("unpin", "restoring", True),
        ("forget", "restoring", True),
    ]
    assert journals.read(DEVICE, tmp_path) is None


def test_a_second_mode_lets_the_pins_of_the_first_go(board, session, modes):
    with session() as changed:
        changed.set_mode(modes[1])
        changed.lock_clocks()
        changed.set_mode(modes[3])
        assert changed.lock_clocks().clocks[-1].min_hz == 816000000
    middle = shown(changing(board))[5:10]
    assert middle == ["unpin F1", "forget F1", "mode 3", "store F2", "pin"]


def test_clocks_that_were_pinned_before_are_pinned_after(board, session, modes):
    board.pin()
    before = board.condition
    with session() as changed:
        changed.set_mode(modes[1])
    assert board.condition == before


def test_the_fan_is_left_alone_unless_asked_for_and_put_back(board, session, modes):
    with session() as changed:
        changed.lock_clocks()
        assert board.fan == "active"
        changed.lock_clocks(fan=True)
        assert board.fan == "inactive"
    assert board.fan == "active"


def test_nothing_is_asked_for_where_the_board_is_in_that_mode(board, session, modes):
    with session() as changed:
        assert changed.set_mode(modes[2]).mode.id == 2
    assert shown(changing(board)) == ["take", "take", "forget", "drop"]
    assert changed.report.steps == ("nothing had been changed",)


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), DeviceError("y")]
)
def test_any_way_out_puts_the_board_back(board, session, modes, error, tmp_path):
    before = board.condition
    with pytest.raises(type(error)), session() as changed:
        changed.set_mode(modes[1])
        changed.lock_clocks()
        raise error
    assert board.condition == before
    assert (board.lock, board.stored) == (None, {})
    assert list(tmp_path.iterdir()) == []


def test_a_mode_that_wants_a_reboot_is_refused_without_consent(board, session, modes):
    board.wants_reboot = {0}
    with pytest.raises(PowerModeError, match="only with a reboot") as caught, session() as changed:
        changed.set_mode(modes[0])
    assert "--allow-reboot" in caught.value.hint
    assert (board.mode, board.boots, board.pending) == (2, 1, None)
    assert "reboot" not in board.steps


def test_with_consent_the_board_reboots_into_the_mode_and_back(board, session, modes):
    board.wants_reboot = {0, 2}
    before = board.condition
    with session(consent=Consent(reboot=True)) as changed:
        assert changed.set_mode(modes[0]).mode.name == "MAXN"
        assert board.lock is not None  # taken again: the reboot dropped it
        changed.lock_clocks()
    assert shown(changing(board)) == [
        "take", "store F0", "mode 0", "pending 0", "reboot", "take", "store F1", "pin",
        "take", "unpin F1", "mode 2", "pending 2", "reboot", "take", "has F0", "unpin F0",
        "forget F1 F0", "drop",
    ]  # fmt: skip
    assert (board.boots, changed.report.rebooted) == (3, True)
    assert board.condition == before


def test_a_way_back_that_wants_a_reboot_is_left_to_the_user(board, session, modes, tmp_path):
    with pytest.raises(PowerModeError, match="only with a reboot") as caught, session() as changed:
        changed.set_mode(modes[1])
        board.wants_reboot = {2}
    assert f"elfatt-deploy restore --device {DEVICE} --allow-reboot" in caught.value.hint
    assert (board.pending, board.boots) == (2, 1)
    board.start_again()  # the user does it, later
    report = restore(board, DEVICE, journal_folder=tmp_path, pace=PACE)
    assert (report.restored, report.rebooted, board.mode) == (True, False, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["refused", "ignored"])
def test_a_mode_that_is_not_had_is_an_error_whatever_the_status(board, session, modes, fault):
    setattr(board, fault, {1})
    before = board.condition
    with pytest.raises(PowerModeError, match="is in 2 MODE_30W") as caught, session() as changed:
        changed.set_mode(modes[1])
    assert (caught.value.asked, caught.value.read_back) == ("1 MODE_15W", "MODE_30W")
    assert board.condition == before


def test_a_mode_that_is_had_in_name_only_is_an_error(board, session, modes):
    wrong = dataclasses.replace(modes[1], cores=6, gpu_max_hz=300e6)
    with (
        pytest.raises(PowerModeError, match=r"4 cores run, the mode has 6; gpu goes up to 408"),
        session() as changed,
    ):
        changed.set_mode(wrong)


def test_clocks_that_still_move_are_an_error(board, session):
    board.stuck = True
    with (
        pytest.raises(PowerModeError, match="cpu0 may move between 729.6 and 1728 MHz"),
        session() as changed,
    ):
        changed.lock_clocks()


def test_without_rights_nothing_is_changed_and_the_message_says_what_to_type(
    board, session, modes, tmp_path
):
    board.root = False
    with (
        pytest.raises(PowerModeError, match="a password is required") as caught,
        session() as changed,
    ):
        changed.set_mode(modes[1])
    assert "NOPASSWD: /usr/sbin/nvpmodel" in caught.value.hint
    assert not any(step.startswith("mode") for step in board.steps)
    assert list(tmp_path.iterdir()) == []


def test_a_board_without_jetson_clocks_changes_its_mode_but_pins_nothing(board, session, modes):
    board.jetson_clocks = False
    before = board.condition
    with pytest.raises(PowerModeError, match="has no jetson_clocks"), session() as changed:
        assert changed.set_mode(modes[1]).mode.id == 1
        changed.lock_clocks()
    assert board.condition == before


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_that_drops_once_anywhere_leaves_the_board_as_found(
    fakes, modes, tmp_path, after
):
    for number in range(1, 30):
        board = fakes.BoardFake()
        board.lost, board.after = {number}, after
        before = board.condition
        try:
            with BoardSession(
                board, snapshot(), UNKNOWN, device="x", journal_folder=tmp_path, pace=PACE
            ) as changed:
                changed.set_mode(modes[1])
                changed.lock_clocks()
        except ConnectError:
            pass
        assert (board.condition, board.stored) == (before, {}), number
        assert list(tmp_path.iterdir()) == [], number
    assert board.calls < 29  # the last numbers were never reached: every call was tried


@pytest.mark.parametrize("number", range(1, 4))
def test_a_connection_lost_while_the_board_is_taken_does_not_keep_us_from_it(
    board, session, number, tmp_path
):
    board.lost, board.after = {number}, True
    board.do_drop = lambda token: []  # and it is away for the time of the clean-up
    with pytest.raises(ConnectError):
        session().__enter__()
    del board.do_drop
    with session() as changed:
        assert changed.found.mode_id == 2
    assert (board.lock, list(tmp_path.iterdir())) == (None, [])


def test_a_connection_that_stays_away_keeps_the_journal_and_names_the_command(
    board, session, modes, tmp_path
):
    before = board.condition
    with (
        pytest.raises(ConnectError, match="is not put back") as caught,
        session(pace=GONE) as changed,
    ):
        changed.set_mode(modes[1])
        board.gone = True
        raise ValueError("the cause")
    assert "It was found in 2 MODE_30W; the journal is kept" in str(caught.value)
    assert f"elfatt-deploy restore --device {DEVICE}" in caught.value.hint
    assert board.mode == 1

    board.gone = False
    said = []
    report = restore(board, DEVICE, journal_folder=tmp_path, pace=PACE, say=said.append)
    assert (report.restored, report.mode) == (True, "2 MODE_30W")
    assert "going back to power mode 2 MODE_30W" in said
    assert (board.condition, board.lock, list(tmp_path.iterdir())) == (before, None, [])
    # and again: there is nothing left to do
    assert not restore(board, DEVICE, journal_folder=tmp_path, pace=PACE).restored


def test_the_next_session_finishes_what_another_left(board, session, modes, tmp_path):
    before = board.condition
    with pytest.raises(ConnectError), session(pace=GONE) as changed:
        changed.set_mode(modes[1])
        changed.lock_clocks()
        board.gone = True
    board.gone = False
    said = []
    with session(say=said.append) as changed:
        assert board.condition == before
        assert changed.found.mode_id == 2
    assert said[0].startswith(f"{DEVICE} was left changed by a run on ")


def test_a_board_that_does_not_come_back_as_found_keeps_the_journal(
    board, session, modes, tmp_path
):
    with (
        pytest.raises(PowerModeError, match="is not as it was found") as caught,
        session() as changed,
    ):
        changed.set_mode(modes[1])
        board.do_unpin = lambda path: ["status 0"]
        board.stored.clear()
        board.apply = lambda number: setattr(board, "mode", number)  # files stay those of mode 1
    assert "tpc_pg_mask: 248, was 240" in str(caught.value)
    assert journals.read(DEVICE, tmp_path).phase is journals.Phase.RESTORING


def test_a_board_that_somebody_took_meanwhile_is_left_to_them(board, session, modes, tmp_path):
    theirs = pytest.raises(BusyError, match="in use by process 7 on elsewhere")
    with theirs as caught, session() as changed:
        changed.set_mode(modes[1])
        board.start_again()  # which dropped our lock
        board.lock = "token=theirs\nhost=elsewhere\npid=7"
    assert f"; then: elfatt-deploy restore --device {DEVICE}" in caught.value.hint
    assert (board.mode, journals.read(DEVICE, tmp_path).found.mode_id) == (1, 2)


def test_a_reboot_behind_our_back_is_told_and_the_board_put_back(board, session, modes):
    before = board.condition
    with pytest.raises(ConnectError, match="was started again meanwhile"), session() as changed:
        changed.set_mode(modes[1])
        changed.lock_clocks()
        board.pending = 1  # nvpmodel keeps the last mode over a start
        board.start_again()
        changed.read_back()
    assert (board.condition, board.lock) == (before, None)


def test_after_the_reboot_of_this_very_machine_the_same_command_goes_on(
    board, session, modes, tmp_path, monkeypatch
):
    monkeypatch.setattr(journals, "host_boot_id", lambda: board.boot_id)
    board.wants_reboot = {0}
    before = board.condition
    with (
        pytest.raises(PowerModeError, match="reboots now") as caught,
        session(consent=Consent(reboot=True)) as changed,
    ):
        changed.set_mode(modes[0])
    assert "give the same command" in caught.value.hint
    assert shown(changing(board)) == ["take", "store F0", "mode 0", "pending 0", "reboot"]
    left = journals.read(DEVICE, tmp_path)
    assert left.phase is journals.Phase.REBOOTING
    board.down = 0
    board.start_again()

    said = []
    with session(consent=Consent(reboot=True), say=said.append) as changed:
        assert said[0].startswith("going on after the reboot")
        assert changed.set_mode(modes[0]).mode.name == "MAXN"
        assert changed.found.mode_id == 2
        board.wants_reboot = set()
    assert board.condition == before


def test_two_sessions_on_one_board(board, session, modes, tmp_path):
    with session() as changed:
        changed.set_mode(modes[1])
        with pytest.raises(BusyError, match="is in use by process"):
            session().__enter__()
        # another journal folder, say of another user: the lock on the board tells
        with pytest.raises(BusyError, match="in use by process"):
            session(journal_folder=tmp_path / "other").__enter__()
        with pytest.raises(BusyError, match="in use by process"):
            restore(board, DEVICE, journal_folder=tmp_path, pace=PACE)
        assert board.mode == 1
    assert board.mode == 2


def test_a_board_without_a_mode_to_go_back_to_is_not_changed(board, session, tmp_path):
    board.do_state = lambda *paths: ["boot-id boot-1", "said NVPM ERROR: no mode", "status 255"]
    with pytest.raises(PowerModeError, match="none to go back to"):
        session().__enter__()
    assert (board.lock, list(tmp_path.iterdir())) == (None, [])


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit),
                          (signal.SIGINT, KeyboardInterrupt)],
)  # fmt: skip
def test_signals_end_the_block_and_the_board_is_put_back(board, session, modes, number, error):
    before, handlers = board.condition, signal.getsignal(number)
    with pytest.raises(error) as caught, session() as changed:
        changed.set_mode(modes[1])
        os.kill(os.getpid(), number)
    if error is SystemExit:
        assert caught.value.code == 128 + number
    assert board.condition == before
    assert signal.getsignal(number) is handlers


def test_further_interrupts_do_not_break_the_way_back_off(board, session, modes, capfd):
    before = board.condition
    with pytest.raises(KeyboardInterrupt), session() as changed:
        changed.set_mode(modes[1])
        board.on_step = lambda step: os.kill(os.getpid(), signal.SIGINT)
        raise KeyboardInterrupt
    assert board.condition == before
    assert "the board is being put back: please wait" in capfd.readouterr().err


def test_an_interrupt_on_a_normal_way_back_ends_the_program_after_it(board, session, modes):
    before = board.condition
    with pytest.raises(KeyboardInterrupt), session() as changed:
        changed.set_mode(modes[1])
        board.on_step = lambda step: step == "mode 2" and os.kill(os.getpid(), signal.SIGINT)
    assert board.condition == before


def test_an_interrupt_ends_the_wait_for_a_lost_board(board, session, modes, tmp_path):
    with (
        pytest.raises(ConnectError, match="is not put back"),
        session(pace=dataclasses.replace(PACE, patience_s=1e6)) as changed,
    ):
        changed.set_mode(modes[1])
        board.gone = True
        changed._interrupts.waiting.append(signal.SIGINT)
    assert journals.read(DEVICE, tmp_path) is not None


def test_a_session_in_another_thread_leaves_the_signals_alone(board, session, modes):
    former, results = signal.getsignal(signal.SIGINT), []

    def work():
        with session() as changed:
            results.append(changed.set_mode(modes[1]).mode.id)
            results.append(signal.getsignal(signal.SIGINT) is former)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results == [1, True]
    assert board.mode == 2
