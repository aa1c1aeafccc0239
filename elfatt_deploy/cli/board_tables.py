"""What `sweep`, and `bench` on a board, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import Unavailable, to_document
from elfatt_deploy.cli import output

if TYPE_CHECKING:
    from elfatt_deploy.artifacts import Interval
    from elfatt_deploy.pipeline.sweeping import SweepReport
    from elfatt_deploy.results.schema import RunRecord

SIMULATED = "SIMULATED: these numbers say nothing about a real board"
_COLUMNS = (
    "power mode", "model", "precision", "proved", "contract", "images/s", "95 %", "p50 (ms)",
    "p99 (ms)", "W", "mJ/image", "degC", "validity",
)  # fmt: skip


def show(report: SweepReport, *, json: bool, quiet: bool) -> int:
    """Show the report; returns the exit code."""
    if json:
        document = to_document(report)
        passed = not report.failures and not report.interrupted
        output.show_json("sweep", {"passed": passed, **document})
    else:
        _show_table(report)
    if not quiet:
        for record in report.records:
            for warning in record.warnings:
                output.say(f"warning: {warning.kind}: {warning.message}")
        output.say(f"{report.device}: {report.restored}")
        if report.interrupted:
            output.say("interrupted: finished cells are kept; the same command goes on")
    for failure in report.failures:
        output.say(f"error: {failure}")
    return output.code_of(report)


def _show_table(report: SweepReport) -> None:
    name = report.board if isinstance(report.board, str) else report.device
    mark = f" - {SIMULATED}" if report.simulated else ""
    done = f"{len(report.records)} of {report.cells} cells"
    if report.skipped:
        done += f", {report.skipped} were there already"
    output.show_table(
        f"{name}, {done}{mark}",
        _COLUMNS,
        [_row(record) for record in report.records],
        _below(report),
    )


def _row(record: RunRecord) -> tuple[str, ...]:
    from elfatt_deploy.results.schema import PowerMode, PowerSummary, Statistics

    cell, found, power = record.cell, record.statistics, record.power
    mode = record.power_mode
    name = f"{mode.id} {mode.name}" if isinstance(mode, PowerMode) else "as found"
    head = (name, cell.model, cell.precision, record.proof, cell.contract)
    if not isinstance(found, Statistics):
        return (*head, *["-"] * 7, "not measured")
    watts = power.total_mean_mw if isinstance(power, PowerSummary) else power
    energy = power.energy_mj_per_image if isinstance(power, PowerSummary) else power
    return (
        *head,
        _number(found.images_per_s, units.images_per_second),
        _span(found.images_per_s_interval),
        units.milliseconds(found.p50_ms),
        _number(found.p99_ms, units.milliseconds),
        _number(watts, lambda value: units.watts(value / 1e3)),
        _number(energy, units.millijoules),
        _number(power.hottest_c if isinstance(power, PowerSummary) else power, units.degrees),
        " ".join(record.validity) or "valid",
    )


def _number(value: float | Unavailable, text: Any) -> str:
    return text(value) if isinstance(value, float) else "-"


def _span(interval: Interval | Unavailable) -> str:
    if isinstance(interval, Unavailable):
        return "-"
    return f"{units.images_per_second(interval.low)}..{units.images_per_second(interval.high)}"


def _below(report: SweepReport) -> str:
    """Return how the table was measured."""
    if not report.records:
        return ""
    from elfatt_deploy.results.schema import PowerSummary, Protocol

    record = report.records[0]
    device = record.device
    lines = [f"{record.source} from {record.started} on {device.name}, {device.system}"]
    protocol, power = record.protocol, record.power
    if isinstance(protocol, Protocol):
        quick = " (QUICK: not to be quoted)" if protocol.name == "quick" else ""
        lines.append(
            f"{protocol.name}{quick}: {protocol.repetitions} runs of trtexec a cell, each of "
            f"{protocol.min_runs} inferences and {protocol.min_seconds:g} s or more; "
            f"{protocol.warm_up}"
        )
    if isinstance(power, PowerSummary):
        rule = power.total_rule if isinstance(power.total_rule, str) else power.total_rule.reason
        lines.append(
            f"W: mean of the board's own sensors over the timed inferences alone ({rule}), "
            f"{power.sampler} at {power.rate_hz:g} Hz"
        )
    lines.append("degC: the hottest sensor during them")
    return "\n".join(lines)
