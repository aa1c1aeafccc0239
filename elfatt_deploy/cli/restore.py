"""`restore`: put a board back that a killed or cut-off run left changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from elfatt_deploy.artifacts import Unavailable, to_document
from elfatt_deploy.cli import options, output
from elfatt_deploy.errors import DeviceError, ElfattDeployError

if TYPE_CHECKING:
    from elfatt_deploy.device.control import Consent
    from elfatt_deploy.device.journal import Journal
    from elfatt_deploy.device.restoring import RestoreReport


@output.guarded
def command(
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="local, ssh://user@board or sim:BOARD; all that were left changed by default.",
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Show what was left changed; change nothing.")
    ] = False,
    allow_reboot: Annotated[
        bool,
        typer.Option("--allow-reboot", help="Start the board anew where its mode demands it."),
    ] = False,
    break_lock: Annotated[
        bool,
        typer.Option("--break-lock", help="Take a board whose last user cannot be asked."),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Put a board back from the journal of the run that changed it, and read it back.

    Power mode, cores, clocks and fan are those that were found before. Safe to repeat.
    """
    from elfatt_deploy.device import journal as journals
    from elfatt_deploy.device.control import Consent

    if listing:
        return _list(journals.entries(), device, json)
    consent = Consent(reboot=allow_reboot, break_lock=break_lock)
    unreadable: list[str] = []
    devices = [device] if device is not None else []
    if device is None:
        for entry in journals.entries():
            if isinstance(entry, Unavailable):
                unreadable.append(entry.reason)
            else:
                devices.append(entry.device)
    rows: list[tuple[str, RestoreReport | ElfattDeployError]] = []
    for name in devices:
        try:
            rows.append((name, _restore(name, consent, quiet)))
        except DeviceError as error:
            if len(devices) == 1 and not json:
                raise
            rows.append((name, error))
    _show(rows, unreadable, json)
    if device is not None and not quiet and not any(_done(result) for _, result in rows):
        others = [e.device for e in journals.entries() if not isinstance(e, Unavailable)]
        if others and device not in others:
            output.say(f"left changed under another name: {', '.join(others)}")
    failed = any(isinstance(result, ElfattDeployError) for _, result in rows)
    return DeviceError.exit_code if failed or unreadable else 0


def _done(result: RestoreReport | ElfattDeployError) -> bool:
    return not isinstance(result, ElfattDeployError) and result.restored


def _restore(device: str, consent: Consent, quiet: bool) -> RestoreReport:
    from elfatt_deploy.device import journal as journals
    from elfatt_deploy.device.restoring import RestoreReport, restore
    from elfatt_deploy.pipeline.devices import open_device

    transport = open_device(device)  # not connected yet: a board that is off need not be asked
    if journals.read(device) is None:
        return RestoreReport(device=device, restored=False)
    with transport:
        return restore(
            transport, device, consent=consent, say=(lambda text: None) if quiet else output.say
        )


def _show(
    rows: list[tuple[str, RestoreReport | ElfattDeployError]], unreadable: list[str], json: bool
) -> None:
    if json:
        documents = []
        for device, result in rows:
            if isinstance(result, ElfattDeployError):
                error = {"error": result.message, "next": result.hint}
                documents.append({"device": device, "restored": False, **error})
            else:
                documents.append(to_document(result))
        output.show_json("restore", {"devices": documents, "unreadable": unreadable})
        return
    for device, result in rows:
        if isinstance(result, ElfattDeployError):
            output.say(f"error: {device}: {result}")
        elif result.restored:
            output.show(f"{device}: back in power mode {result.mode} and read back")
            output.show(f"  done: {'; '.join(result.steps)}")
        else:
            output.show(f"{device}: nothing to restore, there is no journal")
    for reason in unreadable:
        output.say(f"error: {reason}")
    if not rows and not unreadable:
        output.show("nothing to restore, there is no journal")


def _list(entries: tuple[Journal | Unavailable, ...], device: str | None, json: bool) -> int:
    journals = [e for e in entries if not isinstance(e, Unavailable) and device in (None, e.device)]
    unreadable = [e.reason for e in entries if isinstance(e, Unavailable)]
    if json:
        documents: list[dict[str, Any]] = [
            {**to_document(journal), "running": journal.owner.alive is True} for journal in journals
        ]
        output.show_json("journals", {"journals": documents, "unreadable": unreadable})
        return 0
    if journals:
        output.show_table(
            "boards that are changed, or were left changed",
            ("device", "goes back to", "how far", "asked for last", "since", "by"),
            [
                (
                    journal.device,
                    f"{journal.found.mode_id} {journal.found.mode_name}",
                    journal.phase.value,
                    journal.intended or "-",
                    journal.created,
                    f"{journal.owner}{_running(journal)}",
                )
                for journal in journals
            ],
        )
    elif not unreadable:
        output.show("nothing to restore, there is no journal")
    for reason in unreadable:
        output.say(f"error: {reason}")
    return 0


def _running(journal: Journal) -> str:
    alive = journal.owner.alive
    if isinstance(alive, Unavailable):
        return ", unknown whether it runs"
    return ", runs" if alive else ", ended"
