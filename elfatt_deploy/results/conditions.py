"""Under which conditions a number holds, and in which of them two records differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.results.parts import PowerMode, Protocol
from elfatt_deploy.results.schema import RunRecord

_Text = Callable[[RunRecord], str]

#: the slowdown that a comparison passes where none is asked for, as a share
DEFAULT_LIMIT = 0.03


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A field in which two records differ, with the text of each."""

    field: str
    a: str
    b: str

    def __str__(self) -> str:
        """Return `field: one in A, other in B`."""
        return f"{self.field}: {self.a} in A, {self.b} in B"


#: what was asked for: two records are of one cell where all of these agree
CELL: dict[str, _Text] = {
    "model": lambda record: record.cell.model,
    "settings": lambda record: " ".join(record.cell.settings) or "none",
    "resolution": lambda record: f"{record.cell.height}x{record.cell.width}",
    "batch": lambda record: str(record.cell.batch),
    "precision": lambda record: record.cell.precision,
    "target": lambda record: record.cell.target or "none",
    "runner": lambda record: record.cell.runner,
    "provider": lambda record: record.cell.provider,
    "contract": lambda record: record.cell.contract,
    "device": lambda record: record.cell.device,
    "power": lambda record: record.cell.power or "as found",
    "threads": lambda record: str(record.cell.threads),
    "variant": lambda record: record.cell.variant or "none",
}

#: what was found: where one of these differs, two times say nothing about the model
FOUND: dict[str, _Text] = {
    "machine": lambda record: record.device.name,
    "board": lambda record: _text(record.device.board),
    "cpu": lambda record: record.device.cpu,
    "cores": lambda record: str(record.device.cores),
    "gpu": lambda record: _text(record.device.gpu),
    "power-mode": lambda record: _power_mode(record.power_mode),
    "governor": lambda record: _text(record.before.governor),
    "huge-pages": lambda record: _text(record.before.huge_pages),
    "protocol": lambda record: _protocol(record.protocol),
    "proof": lambda record: record.proof,
    "quantity": lambda record: record.quantity,
}

#: the words of validity with which a time is no base for a verdict
DOUBTFUL = ("throttled", "off-clock", "disturbed", "not-steady")

#: what may differ where that is asked for; measured and simulated never mix
ALLOWED = (*CELL, *FOUND, "validity")

#: what is named where it differs, and does not matter to the rule: it may be what is tested
_NOTED: dict[str, _Text] = {
    "git commit": lambda record: _git(record),
    "ONNX file": lambda record: _digest(record.model_sha256),
    "plan": lambda record: _digest(record.plan_sha256),
    "system": lambda record: record.device.system,
}


def identity(record: RunRecord, allowed: Collection[str] = ()) -> tuple[str, ...]:
    """Return what two records must have in common to be of one cell."""
    return tuple(text(record) for name, text in CELL.items() if name not in allowed)


def differing_cells(a: RunRecord, b: RunRecord) -> tuple[Difference, ...]:
    """Return in what two cells differ."""
    return _differences(CELL, a, b, ())


def unlike(a: RunRecord, b: RunRecord, allowed: Collection[str] = ()) -> tuple[Difference, ...]:
    """Return the conditions in which two records of one cell differ and may not.

    `source` is one of them whatever is allowed.
    """
    found = _differences(FOUND, a, b, allowed)
    if a.source == b.source:
        return found
    return (Difference(field="source", a=a.source, b=b.source), *found)


def noted(a: RunRecord, b: RunRecord, allowed: Collection[str] = ()) -> tuple[Difference, ...]:
    """Return what else differs, such as versions, and what was allowed to."""
    versions: dict[str, _Text] = {
        name: lambda record, name=name: record.versions.get(name, "none")  # type: ignore[misc]
        for name in sorted({*a.versions, *b.versions})
    }
    permitted = {name: text for name, text in (CELL | FOUND).items() if name in allowed}
    return _differences({**permitted, **_NOTED, **versions}, a, b, ())


def _differences(
    fields: dict[str, _Text], a: RunRecord, b: RunRecord, allowed: Collection[str]
) -> tuple[Difference, ...]:
    return tuple(
        Difference(field=name, a=text(a), b=text(b))
        for name, text in fields.items()
        if name not in allowed and text(a) != text(b)
    )


def _text(value: str | Unavailable) -> str:
    return "unknown" if isinstance(value, Unavailable) else value


def _digest(value: str | Unavailable) -> str:
    return _text(value)[:12]


def _git(record: RunRecord) -> str:
    state = record.git
    if isinstance(state, Unavailable):
        return "unknown"
    return state.commit[:12] + (" with changes" if state.dirty else "")


def _power_mode(mode: PowerMode | Unavailable) -> str:
    if isinstance(mode, Unavailable):
        return "unknown"
    return f"{mode.name} (id {mode.id}), clocks {'locked' if mode.locked else 'not locked'}"


def _protocol(protocol: Protocol | Unavailable) -> str:
    if isinstance(protocol, Unavailable):
        return "unknown"
    processes = "fresh processes" if protocol.fresh_processes else "one process"
    return f"{protocol.name}, {processes}"
