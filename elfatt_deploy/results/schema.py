"""The run record: everything needed to argue about one number.

One record is one cell, measured, simulated or predicted. A document is of one version; those of all
older versions are read as well.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from elfatt_deploy.artifacts import Interval, ParityReport, Unavailable, Weights, from_document
from elfatt_deploy.errors import SchemaError
from elfatt_deploy.results.parts import (
    Cell,
    Clock,
    Device,
    GitState,
    MachineState,
    Memory,
    PowerMode,
    PowerSummary,
    Prediction,
    Protocol,
    Rail,
    Repetition,
    RunWarning,
    Statistics,
    Temperature,
    Validity,
)

__all__ = [
    "RUN_SCHEMA", "RUN_VERSION", "UPGRADES", "Cell", "Clock", "Device", "GitState", "Interval",
    "MachineState", "Memory", "PowerMode", "PowerSummary", "Prediction", "Protocol", "Rail",
    "Repetition", "RunRecord", "RunWarning", "Source", "Statistics", "Temperature", "Unavailable",
    "Upgrade", "Validity", "is_run", "records_from_documents",
]  # fmt: skip

RUN_SCHEMA = "elfatt-deploy/run"
RUN_VERSION = 1

Source = Literal["measured", "simulated", "predicted"]
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

#: version -> what turns a document of that version into one of the next
UPGRADES: dict[int, Upgrade] = {}

_ANEW = "measure the cell anew; the other records can be read from a copy without that line"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One cell.

    Args:
        schema: `RUN_SCHEMA`.
        version: `RUN_VERSION` of the program that wrote it.
        source: whether the numbers were measured, simulated or predicted.
        key: of the cell.
        cell: what was asked for.
        group: the same for all cells that were measured interleaved, in one call.
        sweep: the recipe; empty where there is none.
        started: when, UTC.
        duration_s: wall-clock time of the whole cell.
        command: the command line.
        device_commands: what was run on the device, a command each.
        git: the checkout of this program.
        versions: of this program, its packages, and L4T, CUDA and TensorRT where they are.
        weights: where they came from.
        bundle_sha256: digest of the bundle's manifest.
        model_sha256: digest of the ONNX file.
        plan_sha256: digest of the plan.
        proof: the precision that is proved, such as `fp32` or `fp16-unproven`.
        evidence: what that rests on.
        parity: the comparison at this batch, before it was timed.
        device: the machine.
        power_mode: the power mode read back, before.
        before: how the machine was before.
        after: how it was after.
        protocol: how it was measured.
        quantity: what a sample is, such as `end-to-end latency of a batch`.
        repetitions: all samples.
        statistics: what they come to; where the cell could not be run, the reason.
        power: power and energy over the timed windows.
        memory: the largest memory in use.
        prediction: how a predicted time came about.
        warnings: what is doubtful.
        validity: what is wrong, a word each; none where the number holds.
        attachments: file beside the results -> its SHA-256: raw times, power trace, layer profile.
    """

    schema: str = RUN_SCHEMA
    version: int = RUN_VERSION
    source: Source
    key: str
    cell: Cell
    group: str = ""
    sweep: str = ""
    started: str
    duration_s: float
    command: tuple[str, ...]
    device_commands: tuple[str, ...] = ()
    git: GitState | Unavailable
    versions: dict[str, str]
    weights: Weights | Unavailable
    bundle_sha256: str | Unavailable
    model_sha256: str | Unavailable
    plan_sha256: str | Unavailable
    proof: str
    evidence: str
    parity: ParityReport | Unavailable
    device: Device
    power_mode: PowerMode | Unavailable
    before: MachineState
    after: MachineState
    protocol: Protocol | Unavailable
    quantity: str
    repetitions: tuple[Repetition, ...]
    statistics: Statistics | Unavailable
    power: PowerSummary | Unavailable
    memory: Memory
    prediction: Prediction | Unavailable
    warnings: tuple[RunWarning, ...] = ()
    validity: tuple[Validity, ...] = ()
    attachments: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject a record that contradicts itself.

        Raises:
            SchemaError: the key is not the cell's; an emulated board measured; or there are samples
                without statistics, a prediction with samples, or a measurement without.
        """
        if self.key != self.cell.key:
            raise _contradiction(f"key {self.key} is not that of its cell, {self.cell.key}")
        if self.source == "measured" and self.cell.device.startswith("sim:"):
            raise _contradiction(f"{self.cell.device} is emulated, its times are not measured")
        sampled = any(repetition.samples_ms for repetition in self.repetitions)
        if isinstance(self.statistics, Statistics):
            if sampled == (self.source == "predicted"):
                raise _contradiction(
                    f"{self.source} numbers {'with' if sampled else 'without'} a sample"
                )
        elif sampled:
            raise _contradiction(f"samples, and no statistics: {self.statistics.reason}")

    @property
    def parity_failed(self) -> bool:
        """Whether wrong logits were found, so that it was not timed."""
        return not isinstance(self.parity, Unavailable) and not self.parity.passed

    @property
    def quick(self) -> bool:
        """Whether the run was too short to be quoted."""
        return isinstance(self.protocol, Protocol) and self.protocol.name == "quick"


def _contradiction(text: str) -> SchemaError:
    return SchemaError(f"a run record contradicts itself: {text}", hint=_ANEW)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Documents:
    records: tuple[RunRecord, ...]


def is_run(document: Any) -> bool:
    """Whether a JSON document says that it is a run record."""
    return isinstance(document, dict) and document.get("schema") == RUN_SCHEMA


def records_from_documents(
    documents: Sequence[tuple[str, Mapping[str, Any]]],
) -> tuple[RunRecord, ...]:
    """Turn documents of any version into records.

    Args:
        documents: where each comes from, for the message, and the document.

    Raises:
        SchemaError: one is of a newer version, of a version nobody wrote, or does not match its
            schema.
    """
    upgraded = [(origin, _upgraded(document, origin)) for origin, document in documents]
    try:
        # All at once: to prepare the validation takes longer than to validate a record.
        return from_document(_Documents, {"records": [d for _, d in upgraded]}, "").records
    except SchemaError:
        return tuple(_record(document, origin) for origin, document in upgraded)


def _record(document: dict[str, Any], origin: str) -> RunRecord:
    try:
        return from_document(RunRecord, document, origin)
    except SchemaError as error:
        named = error.message if origin in error.message else f"{origin}: {error.message}"
        raise SchemaError(named, hint=_ANEW) from error


def _upgraded(document: Mapping[str, Any], origin: str) -> dict[str, Any]:
    current = dict(document)
    version = current.get("version")
    if type(version) is not int or not min((*UPGRADES, RUN_VERSION)) <= version <= RUN_VERSION:
        newer = type(version) is int and version > RUN_VERSION
        raise SchemaError(
            f"{origin} has schema version {version}; this program reads up to {RUN_VERSION}",
            hint="update elfatt-deploy: a newer one wrote it" if newer else _ANEW,
        )
    while version < RUN_VERSION:
        current = UPGRADES[version](current)
        version += 1
        current["version"] = version
    return current
