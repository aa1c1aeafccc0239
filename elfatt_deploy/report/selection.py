"""Which records a report shows, under which conditions each holds, and what is doubtful about it.

Nothing is ever averaged over records: of several of one cell under like conditions the last counts,
and those that differ in a checked field stay apart.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.errors import UsageError
from elfatt_deploy.report import published
from elfatt_deploy.results import conditions
from elfatt_deploy.results.parts import PowerMode, PowerSummary, Statistics
from elfatt_deploy.results.schema import RunRecord, Source

#: in this order wherever several kinds of number are in one report
SOURCES: tuple[Source, ...] = ("measured", "simulated", "predicted")
#: the mark of a number that nobody measured; it stands over every table and figure that has one
WATERMARKS: dict[Source, str] = {"simulated": "SIMULATED", "predicted": "PREDICTED"}

#: contracts with images a second, the nearest to the paper's first
_CONTRACTS = ("paper", "throughput", "single-stream")
_PROTOCOLS = ("strict", "default", "quick")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facets:
    """What the rows and points of a page are filtered by; empty where it does not apply."""

    board: str = ""
    model: str = ""
    precision: str = ""
    mode: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Conditions that all records of one table, or of one line, have in common.

    Model, input size, precision and power mode are what a table shows, and are not among them;
    neither are the cores, of which a power mode may take some away.

    Args:
        source: measured, simulated or predicted.
        board: name of the board; that of the machine where it is none.
        device: as given to `--device`.
        runner: what ran it.
        provider: on what.
        contract: timing contract.
        batch: images in a run.
        target: target of the bundle.
        threads: of the runner.
        variant: what else tells cells apart.
        jetpack: version of JetPack; empty where there is none.
        tensorrt: version of TensorRT; empty where there is none.
    """

    source: Source
    board: str
    device: str
    runner: str
    provider: str
    contract: str
    batch: int
    target: str
    threads: int
    variant: str
    jetpack: str
    tensorrt: str

    @property
    def framework(self) -> str:
        """What ran the model, for people."""
        named = {"trtexec": "TensorRT (trtexec)", "trt": "TensorRT", "ort": "ONNX Runtime"}
        name = named.get(self.runner, self.runner)
        return " ".join(filter(None, (name, self.tensorrt, self.variant)))

    @property
    def label(self) -> str:
        """The same for people, in one line."""
        parts = [
            self.source,
            f"{self.board} ({self.device})" if self.device != "local" else self.board,
            f"{self.framework} on {self.provider}",
            f"batch {self.batch}",
            self.contract,
            f"JetPack {self.jetpack}" if self.jetpack else "",
            f"target {self.target}" if self.target else "",
            f"{self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else "",
        ]
        return ", ".join(filter(None, parts))


def refuse_simulated(records: Iterable[RunRecord], included: bool) -> None:
    """Raise where there are numbers of an emulated board, and nobody asked for them.

    Raises:
        UsageError: a record is simulated and `included` is false.
    """
    count = sum(record.source == "simulated" for record in records)
    if count and not included:
        raise UsageError(
            f"{count} of the records are simulated: they say nothing about a real board",
            hint="add --include-simulated; every table and figure of them is then marked so",
        )


def latest(records: Sequence[RunRecord]) -> tuple[tuple[RunRecord, ...], tuple[str, ...]]:
    """Return the last record of each cell under like conditions, and what was left out for it."""
    found: dict[tuple[str, ...], RunRecord] = {}
    for record in records:
        found[_identity(record)] = record
    left_out = len(records) - len(found)
    if not left_out:
        return tuple(found.values()), ()
    text = f"{left_out} earlier records of cells that were measured again are left out"
    return tuple(found.values()), (text,)


def _identity(record: RunRecord) -> tuple[str, ...]:
    checked = (text(record) for text in conditions.FOUND.values())
    return (record.source, *conditions.identity(record), *checked, *_software(record))


def _software(record: RunRecord) -> tuple[str, str]:
    return record.versions.get("jetpack", ""), record.versions.get("tensorrt", "")


def setting_of(record: RunRecord) -> Setting:
    """Return the conditions of a record."""
    cell = record.cell
    jetpack, tensorrt = _software(record)
    return Setting(
        source=record.source,
        board=board_of(record),
        device=cell.device,
        runner=cell.runner,
        provider=cell.provider,
        contract=cell.contract,
        batch=cell.batch,
        target=cell.target,
        threads=cell.threads,
        variant=cell.variant,
        jetpack=jetpack,
        tensorrt=tensorrt,
    )


def by_setting(records: Sequence[RunRecord]) -> dict[Setting, tuple[RunRecord, ...]]:
    """Return the records of each setting, those nearest to the paper's conditions first."""
    found: dict[Setting, list[RunRecord]] = {}
    for record in records:
        found.setdefault(setting_of(record), []).append(record)
    return {setting: tuple(found[setting]) for setting in sorted(found, key=_rank)}


def _rank(setting: Setting) -> tuple[int, int, int]:
    kind = setting.contract.partition("/")[0]
    nearness = _CONTRACTS.index(kind) if kind in _CONTRACTS else len(_CONTRACTS)
    return SOURCES.index(setting.source), nearness, -setting.batch


def board_of(record: RunRecord) -> str:
    """Return the name of a record's board, or that of the machine where it is none."""
    board = record.device.board
    return record.device.name if isinstance(board, Unavailable) else board


def mode_of(record: RunRecord) -> str:
    """Return the power mode that was read back, else the one asked for, else nothing."""
    mode = record.power_mode
    return mode.name if isinstance(mode, PowerMode) else record.cell.power


def facets_of(record: RunRecord) -> Facets:
    """Return what a record is filtered by."""
    return Facets(
        board=board_of(record),
        model=model_label(record),
        precision=record.cell.precision,
        mode=mode_of(record),
    )


def model_label(record: RunRecord) -> str:
    """Return a model's name with the settings that change it."""
    return " ".join((record.cell.model, *record.cell.settings))


def size_label(record: RunRecord) -> str:
    """Return a record's input size."""
    return units.size(record.cell.height, record.cell.width)


def nominal_w(board: str, mode: str) -> float | None:
    """Return the power that a mode is called by, in watts; None where it has none.

    It is the paper's where the mode is one of Figure 4, else the number in its name.
    """
    if (board, mode) in _paper_modes():
        return _paper_modes()[board, mode]
    found = re.search(r"(\d+(?:\.\d+)?)\s*W\b", mode.replace("_", " "), re.IGNORECASE)
    return float(found[1]) if found else None


@functools.cache
def _paper_modes() -> dict[tuple[str, str], float]:
    return {(one.board, one.mode): one.power_w for one in published.figure4().settings}


def marks(record: RunRecord) -> tuple[str, ...]:
    """Return what must be known of a record before its number is used, a word each."""
    found = []
    if not isinstance(record.statistics, Statistics):
        found.append("not timed")
    if record.quick:
        found.append("quick")
    if record.source != "predicted" and record.proof != record.cell.precision:
        found.append(record.proof)
    return (*found, *record.validity)


def images_per_s(record: RunRecord) -> float | Unavailable:
    """Return the images a second of a record."""
    found = record.statistics
    return found if isinstance(found, Unavailable) else found.images_per_s


def mean_power_w(record: RunRecord) -> float | Unavailable:
    """Return the mean power over the timed windows, in watts."""
    power = record.power
    if not isinstance(power, PowerSummary):
        return power
    mean = power.total_mean_mw
    return mean if isinstance(mean, Unavailable) else mean / 1e3


def energy_mj(record: RunRecord) -> float | Unavailable:
    """Return the energy of one image, in millijoules."""
    power = record.power
    return power.energy_mj_per_image if isinstance(power, PowerSummary) else power


def best(records: Sequence[RunRecord]) -> RunRecord | None:
    """Return the record that a place with room for one shows; None where there is none.

    A timed one before one that is not, one without doubts, a longer protocol, then the last.
    """

    def rank(numbered: tuple[int, RunRecord]) -> tuple[bool, int, int, int]:
        number, record = numbered
        protocol = record.protocol
        length = -1 if isinstance(protocol, Unavailable) else -_PROTOCOLS.index(protocol.name)
        timed = isinstance(record.statistics, Statistics)
        return timed, -len(record.validity), length, number

    return max(enumerate(records), key=rank)[1] if records else None


def sources_of(records: Iterable[RunRecord]) -> tuple[Source, ...]:
    """Return the kinds of number among records, in the order of `SOURCES`."""
    found = {record.source for record in records}
    return tuple(source for source in SOURCES if source in found)
