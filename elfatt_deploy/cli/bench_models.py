"""What `bench` shows of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elfatt_deploy import units
from elfatt_deploy.artifacts import to_document
from elfatt_deploy.cli import output
from elfatt_deploy.cli.bench_attention import threads

if TYPE_CHECKING:
    from elfatt_deploy.artifacts import Interval, Unavailable
    from elfatt_deploy.pipeline.run_records import BenchReport, CellRatio
    from elfatt_deploy.results.schema import RunRecord

#: a difference below so many per cent is not called one
_MARGIN = 2
_PACKAGES = {"ort": "onnxruntime", "torch": "torch", "trt": "tensorrt", "trtexec": "tensorrt"}
_COLUMNS = (
    "model", "contract", "images/s", "95 %", "p50 (ms)", "95 % (ms)", "p90 (ms)", "p99 (ms)",
    "runs", "peak (MiB)", "validity",
)  # fmt: skip


def show(report: BenchReport, *, json: bool, quiet: bool) -> int:
    """Show the report; returns the exit code."""
    if json:
        output.show_json("bench", _document(report))
    else:
        _show_tables(report)
    if not quiet:
        for warning in report.warnings:
            output.say(f"warning: {warning.kind.value}: {warning.message}")
        if report.interrupted:
            output.say("interrupted: only whole repetitions count")
            if report.partial is not None:
                output.say("note: the same command again goes on where this one stopped")
    for failure in report.failures:
        output.say(f"error: {failure}")
    return output.code_of(report)


def _show_tables(report: BenchReport) -> None:
    quick = ", QUICK: not to be quoted" if report.request.plan.name == "quick" else ""
    cells = [record.cell for record in report.records]
    sizes = ", ".join(sorted({units.size(cell.height, cell.width) for cell in cells}))
    precisions = ", ".join(sorted({cell.precision for cell in cells}))
    output.show_table(
        f"batch {cells[0].batch}, {precisions}, input {sizes}, one run is one batch{quick}",
        _COLUMNS,
        [_row(n, r) for n, r in zip(report.names, report.records, strict=True)],
        _conditions(report),
    )
    if report.ratios:
        output.show_table(
            f"against {report.ratios[0].baseline}, paired by "
            f"{'turn' if report.in_turns else 'repetition'}",
            ("model", "time ratio", "95 %", "speed ratio", "95 %", f"differs by {_MARGIN} %"),
            [_ratio_row(ratio) for ratio in report.ratios],
            "time ratio: time of the model / time of the baseline; speed ratio: its inverse; it "
            f"differs where the whole interval is more than {_MARGIN} % from 1",
        )


def _row(name: str, record: RunRecord) -> tuple[str, ...]:
    from elfatt_deploy.results.schema import Statistics

    found, peak = record.statistics, record.memory.host_peak_bytes
    words = " ".join(record.validity) or "valid"
    if not isinstance(found, Statistics):
        return (name, record.cell.contract, *["-"] * 8, "not measured")
    return (
        name,
        record.cell.contract,
        _rate(found.images_per_s),
        _rate_span(found.images_per_s_interval),
        units.milliseconds(found.p50_ms),
        _ms_span(found.p50_interval_ms),
        _ms(found.p90_ms),
        _ms(found.p99_ms),
        str(found.count),
        units.mebibytes(peak) if isinstance(peak, int) else "-",
        words,
    )


def _ratio_row(ratio: CellRatio) -> tuple[str, ...]:
    from elfatt_deploy.artifacts import Interval
    from elfatt_deploy.bench.stats import Ratio

    if not isinstance(ratio.time, Ratio):
        return (ratio.cell, *["-"] * 5)
    spread, time, speed, differs = ratio.time.interval, "-", "-", "-"
    if isinstance(spread, Interval):
        time = f"{units.ratio(spread.low)}..{units.ratio(spread.high)}"
        speed = f"{units.ratio(1 / spread.high)}..{units.ratio(1 / spread.low)}"
        differs = "yes" if ratio.time.differs(_MARGIN / 100) else "no"
    value = ratio.time.value
    return (ratio.cell, units.ratio(value), time, units.ratio(1 / value), speed, differs)


def _ms(value: float | Unavailable) -> str:
    return units.milliseconds(value) if isinstance(value, float) else "-"


def _rate(value: float | Unavailable) -> str:
    return units.images_per_second(value) if isinstance(value, float) else "-"


def _ms_span(interval: Interval | Unavailable) -> str:
    from elfatt_deploy.artifacts import Interval

    if not isinstance(interval, Interval):
        return "-"
    return f"{units.milliseconds(interval.low)}..{units.milliseconds(interval.high)}"


def _rate_span(interval: Interval | Unavailable) -> str:
    from elfatt_deploy.artifacts import Interval

    if not isinstance(interval, Interval):
        return "-"
    return f"{units.images_per_second(interval.low)}..{units.images_per_second(interval.high)}"


def _conditions(report: BenchReport) -> str:
    """Return how the table was measured."""
    from elfatt_deploy.bench import protocol, stats
    from elfatt_deploy.bench.cells import Sentinel

    request, record = report.request, report.records[0]
    plan, contract, machine = request.plan, request.contract, record.device
    virtual = ", virtual machine" if machine.virtual is True else ""
    version = record.versions.get(_PACKAGES[request.runner], "")
    governor, pages = record.before.governor, record.before.huge_pages
    if contract.runs is None:
        enough = plan.limits.enough
        least = f"{enough.rounds} runs and {enough.seconds:g} s or more"
    else:
        least = f"{contract.runs} runs"
    turns = f", in turns of {protocol.TURN_SECONDS:g} s or more" if report.in_turns else ""
    lines = [
        f"measured {record.started} on {machine.name}, {machine.cores} cores{virtual}, "
        f"{machine.system}; governor {governor if isinstance(governor, str) else 'not shown'}; "
        f"huge pages {pages if isinstance(pages, str) else 'not shown'}; "
        f"{' '.join(filter(None, (request.runner, request.variant, version)))} on "
        f"{_where(report)}{_threads(request.runner, request.threads)}",
        f"contract {contract.name}: {contract.in_flight} in flight; "
        + "; ".join(report.differences),
        f"{contract.reports}",
        *_notes(report),
        f"{plan.name}: {plan.repetitions} repetitions of {least}, each in a fresh process, cells "
        f"interleaved in an order shuffled with seed {request.seed}{turns}; p50 is the median of "
        "the repetitions' medians, 95 % its bootstrap interval; percentiles by trtexec's formula, "
        f"p90 needs {stats.samples_for(90)} runs, p99 {stats.samples_for(99)}",
    ]
    if isinstance(report.sentinel, Sentinel):
        change = units.signed_percent(report.sentinel.drift)
        lines.append(f"sentinel {report.sentinel.name}: {change} % from first to last")
    return "\n".join((*lines, *report.notes))


def _where(report: BenchReport) -> str:
    """Return what ran it: `cpu`, or the provider and the GPU's name."""
    provider, gpu = report.request.provider, report.records[0].device.gpu
    return f"{provider} ({gpu})" if isinstance(gpu, str) else provider


def _threads(runner: str, count: int) -> str:
    """Return how many threads the runner has; a plan has none."""
    return f", {threads(count)}" if runner in ("ort", "torch") else ""


def _notes(report: BenchReport) -> list[str]:
    """Return what is proved of plans, and what was said of single cells beside the contract."""
    from elfatt_deploy.results.schema import Protocol

    common = "; ".join(report.differences)
    found = []
    for name, record in zip(report.names, report.records, strict=True):
        if isinstance(record.plan_sha256, str):
            found.append(f"plan of {name}: {record.proof}, SHA-256 {record.plan_sha256[:12]}...")
        if isinstance(record.protocol, Protocol) and record.protocol.note != common:
            found.append(f"{name}: {record.protocol.note.removeprefix(common).lstrip('; ')}")
    return found


def _document(report: BenchReport) -> dict[str, Any]:
    """Return the JSON document: the records as they are stored, the ratios and the sentinel."""
    document = to_document(report)
    passed = not report.failures and not report.interrupted
    for name in ("request", "names", "partial"):
        del document[name]
    return {"passed": passed, "names": report.names, **document}
