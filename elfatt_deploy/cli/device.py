"""`device`: what a board is, how it stands, and its power modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable, to_document
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import DeviceError

if TYPE_CHECKING:
    from elfatt_deploy.device.boards import BoardFile, BoardMode
    from elfatt_deploy.device.records import Snapshot

app = typer.Typer(
    help="Show a board, its power modes and its rails.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="local, ssh://user@board or sim:BOARD; local by default."
    ),
]
_SIMULATED = " - SIMULATED"
_LOOKED_FOR = (
    "looked for /etc/nv_tegra_release, a Tegra in /proc/device-tree/compatible, and the module's "
    "number there and in /etc/nv_boot_control.conf"
)


@app.command("info")
@output.guarded
def info(device: Device = "local", json: options.Json = False) -> int:
    """Show what a board is and how it stands, read in one round trip; nothing is changed."""
    snapshot, board = _read(device)
    if json:
        document = {"device": device, "jetson": snapshot.jetson, "board": _board_document(board)}
        output.show_json("device", {**document, "snapshot": to_document(snapshot)})
        return 0
    output.show_table(
        f"{device}{_SIMULATED if snapshot.simulated else ''}",
        ("what", "value"),
        _facts(snapshot, board),
        "" if snapshot.jetson else f"no Jetson found: {_LOOKED_FOR}",
    )
    if snapshot.clocks:
        output.show_table(
            "clocks",
            ("clock", "now (MHz)", "min (MHz)", "max (MHz)", "governor"),
            [
                (c.name, _mhz(c.now_hz), _mhz(c.min_hz), _mhz(c.max_hz), _word(c.governor))
                for c in snapshot.clocks
            ],
        )
    if snapshot.readings:
        output.show_table(
            "rails",
            ("rail", "W", "V", "A", "in the total"),
            [
                (
                    rail.name,
                    *(_milli(v) for v in (rail.power_mw, rail.voltage_mv, rail.current_ma)),
                    _in_total(rail.name, board),
                )
                for rail in snapshot.readings
            ],
            _total_note(board),
        )
    sensors = [(zone.name, _degrees(zone.value_c), "degC") for zone in snapshot.zones]
    sensors += [(counter.name, _text(counter.value), "events") for counter in snapshot.counters]
    if sensors:
        output.show_table("temperatures and counters", ("name", "value", "unit"), sensors)
    for line in snapshot.malformed:
        output.say(f"warning: not understood: {line}")
    return 0


@app.command("modes")
@output.guarded
def modes(device: Device = "local", json: options.Json = False) -> int:
    """List the power modes of a board, with what each caps, and the one it is in."""
    from elfatt_deploy.device import boards

    snapshot, board = _read(device)
    found = boards.modes_of(snapshot, board)
    if not found:
        why = board.reason if isinstance(board, Unavailable) else "its file names none"
        raise DeviceError(
            f"{device} has no power modes: there is no /etc/nvpmodel.conf, and {why}",
            hint=f"'elfatt-deploy device info --device {device}' shows what it tells",
        )
    here = None if isinstance(snapshot.mode, Unavailable) else snapshot.mode.id
    own = not isinstance(snapshot.nvpmodel, Unavailable)
    if json:
        document = {
            "device": device,
            "simulated": snapshot.simulated,
            "board": _board_document(board),
            "source": "the board" if own else "the board file",
            "current": to_document(snapshot.mode),
            "modes": [to_document(mode) for mode in found],
        }
        output.show_json("device-modes", document)
        return 0
    name = "an unknown board" if isinstance(board, Unavailable) else board.title
    output.show_table(
        f"{device}: {name}{_SIMULATED if snapshot.simulated else ''}",
        ("id", "name", "cores", "CPU max (MHz)", "GPU max (MHz)", "EMC max (MHz)", "TPCs",
         "needs reboot", "default", "current"),
        [_mode_row(mode, here) for mode in found],
        ("from the board's /etc/nvpmodel.conf" if own else "from the board file: the board tells "
         "none") + "; - is no cap, ? is not told; EMC is the memory controller. A mode can need a "
        "reboot where it switches other TPCs than the one before.",
    )  # fmt: skip
    return 0


def _read(device: str) -> tuple[Snapshot, BoardFile | Unavailable]:
    """Read a device, and find out which board it is."""
    from elfatt_deploy.device import boards, probes
    from elfatt_deploy.pipeline.devices import open_device

    with open_device(device) as transport:
        snapshot = probes.snapshot(transport)
    return snapshot, boards.identify(snapshot)


def _board_document(board: BoardFile | Unavailable) -> dict[str, Any]:
    if isinstance(board, Unavailable):
        return to_document(board)
    return {
        "name": board.name,
        "title": board.title,
        "sm": board.sm,
        "target": board.target,
        "total": None if board.total is None else to_document(board.total),
        "unverified": list(board.unverified),
    }


def _facts(snapshot: Snapshot, board: BoardFile | Unavailable) -> list[tuple[str, str]]:
    mode = snapshot.mode
    users = snapshot.gpu_users
    rows = [
        ("board", _text(board if isinstance(board, Unavailable) else board.title)),
        ("model", _text(snapshot.model)),
        ("module", _text(snapshot.module)),
        ("SoC", _text(snapshot.soc)),
        ("Jetson Linux (L4T)", _text(snapshot.l4t)),
        ("JetPack", _text(snapshot.jetpack)),
        ("kernel", f"{snapshot.kernel} {snapshot.machine}"),
        ("CUDA", _text(snapshot.cuda)),
        ("TensorRT", _text(snapshot.tensorrt)),
        ("trtexec", _text(snapshot.trtexec)),
        ("Python", _text(snapshot.python)),
        ("memory (MiB)", f"{_mib(snapshot.memory_free_bytes)} free of "
                         f"{_mib(snapshot.memory_total_bytes)}"),
        ("swap (MiB)", f"{_mib(snapshot.swap_used_bytes)} used of "
                       f"{_mib(snapshot.swap_total_bytes)}"),
        (f"disk at {snapshot.work_folder} (MiB)", f"{_mib(snapshot.disk_free_bytes)} free"),
        ("cores", f"{_text(snapshot.cores_online)} of {_text(snapshot.cores_present)} run"),
        ("load", _text(snapshot.load)),
        ("power mode", _text(mode) if isinstance(mode, Unavailable) else f"{mode.name} "
                       f"(id {mode.id})"),
        ("clocks locked", _text(snapshot.clocks_locked)),
        ("fan", _text(snapshot.fan)),
        ("display server", _text(snapshot.display_server)),
        ("GPU users", _text(users) if isinstance(users, Unavailable)
                      else ", ".join(users) or "none"),
        ("runs as root", "yes" if snapshot.root else "no: it needs to be root, or sudo without a "
                         "password, to change anything"),
    ]  # fmt: skip
    if not isinstance(board, Unavailable) and board.unverified:
        rows.append(("not verified in its file", ", ".join(board.unverified)))
    return rows


def _text(value: object) -> str:
    """Return a value as text; for one that is not there, the reason."""
    if isinstance(value, Unavailable):
        return f"not known: {value.reason}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _word(value: str | Unavailable) -> str:
    return "-" if isinstance(value, Unavailable) else value


def _mib(value: int | Unavailable) -> str:
    return "?" if isinstance(value, Unavailable) else units.mebibytes(value)


def _mhz(value: float | Unavailable) -> str:
    return "?" if isinstance(value, Unavailable) else units.megahertz(value)


def _milli(value: float | Unavailable) -> str:
    return "?" if isinstance(value, Unavailable) else units.watts(value / 1e3)


def _degrees(value: float | Unavailable) -> str:
    return "?" if isinstance(value, Unavailable) else units.degrees(value)


def _in_total(rail: str, board: BoardFile | Unavailable) -> str:
    if isinstance(board, Unavailable) or board.total is None:
        return "?"
    return "yes" if rail in board.total.rails else "no"


def _total_note(board: BoardFile | Unavailable) -> str:
    if isinstance(board, Unavailable) or board.total is None:
        return "sensors of the module; an unknown board has no total"
    return f"sensors of the board; the total is {board.total.note}"


def _mode_row(mode: BoardMode, here: int | None) -> tuple[str, ...]:
    def cap(value: float | None | Unavailable) -> str:
        return "-" if value is None else _mhz(value)

    def mark(value: bool) -> str:
        return "yes" if value else ""

    return (
        str(mode.id),
        mode.name,
        "?" if isinstance(mode.cores, Unavailable) else str(mode.cores),
        cap(mode.cpu_max_hz),
        cap(mode.gpu_max_hz),
        cap(mode.emc_max_hz),
        "?" if isinstance(mode.tpcs_on, Unavailable) else str(mode.tpcs_on),
        mark(mode.reboot),
        mark(mode.default),
        mark(mode.id == here),
    )
