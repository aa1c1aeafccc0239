"""Run records as comma-separated values, and a comparison as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from elfatt_deploy import units
from elfatt_deploy.artifacts import Interval, Unavailable
from elfatt_deploy.results.compare import CellComparison, ComparisonReport
from elfatt_deploy.results.parts import PowerSummary, Statistics
from elfatt_deploy.results.schema import RunRecord

_Value: TypeAlias = str | int | float | Unavailable | None
_TIMES = ("p50_ms", "mean_ms", "mad_ms", "p90_ms", "p95_ms", "p99_ms", "min_ms", "max_ms")
_POWER = ("total_mean_mw", "total_p95_mw", "idle_mw", "energy_mj_per_image")


def csv_text(records: Sequence[RunRecord]) -> str:
    """Return one line a record and a header; what was not measured is an empty field."""
    rows = [_csv_row(number, record) for number, record in enumerate(records, start=1)]
    header = list(rows[0]) if rows else ["number", "source"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: "" if isinstance(value, Unavailable) else value for name, value in row.items()}
        for row in rows
    )
    return text.getvalue()


def _csv_row(number: int, record: RunRecord) -> dict[str, _Value]:
    cell = record.cell
    return {
        "number": number,
        "source": record.source,
        "started": record.started,
        "model": cell.model,
        "settings": " ".join(cell.settings),
        "height": cell.height,
        "width": cell.width,
        "batch": cell.batch,
        "precision": cell.precision,
        "proof": record.proof,
        "target": cell.target,
        "runner": cell.runner,
        "provider": cell.provider,
        "contract": cell.contract,
        "device": cell.device,
        "power": cell.power,
        "threads": cell.threads,
        "variant": cell.variant,
        "machine": record.device.name,
        "protocol": "" if isinstance(record.protocol, Unavailable) else record.protocol.name,
        "quantity": record.quantity,
        **_csv_statistics(record.statistics),
        **_csv_power(record.power),
        "host_peak_bytes": record.memory.host_peak_bytes,
        "device_peak_bytes": record.memory.device_peak_bytes,
        "validity": " ".join(record.validity),
        "warnings": " ".join(warning.kind for warning in record.warnings),
        "elfatt_deploy": record.versions.get("elfatt-deploy", ""),
        "git_commit": "" if isinstance(record.git, Unavailable) else record.git.commit,
        "model_sha256": record.model_sha256,
        "plan_sha256": record.plan_sha256,
        "key": record.key,
    }


def _csv_statistics(found: Statistics | Unavailable) -> dict[str, _Value]:
    return {
        "not_timed_because": getattr(found, "reason", ""),
        "samples": getattr(found, "count", 0),
        "repetitions": getattr(found, "repetitions", 0),
        **{name: getattr(found, name, None) for name in _TIMES},
        **_csv_bounds("p50_{}_ms", getattr(found, "p50_interval_ms", None)),
        "images_per_s": getattr(found, "images_per_s", None),
        **_csv_bounds("images_per_s_{}", getattr(found, "images_per_s_interval", None)),
    }


def _csv_bounds(name: str, found: Interval | Unavailable | None) -> dict[str, _Value]:
    low, high = (found.low, found.high) if isinstance(found, Interval) else (None, None)
    return {name.format("low"): low, name.format("high"): high}


def _csv_power(found: PowerSummary | Unavailable) -> dict[str, _Value]:
    return {name: getattr(found, name, None) for name in _POWER}


def markdown(report: ComparisonReport, a: str, b: str) -> str:
    """Return a summary for a page of continuous integration.

    Args:
        report: the comparison.
        a: name of what was compared with.
        b: name of what was judged.
    """
    lines = [
        f"### {report.verdict}: {b} against {a}",
        "",
        "| verdict | source | cell | A (ms) | B (ms) | B / A | 95 % | reason |",
        "| --- | --- | --- | ---: | ---: | ---: | --- | --- |",
        *(_markdown_row(cell) for cell in report.cells),
        "",
        rule(report),
    ]
    for name, keys in (("A", report.only_a), ("B", report.only_b)):
        lines += [f"- only in {name}: `{key}`" for key in keys]
    lines += [f"- {warning}" for warning in report.warnings]
    return "\n".join(lines) + "\n"


def _markdown_row(cell: CellComparison) -> str:
    cells = (
        f"**{cell.verdict}**",
        cell.source,
        cell.label,
        time_ms(cell.a_ms),
        time_ms(cell.b_ms),
        ratio(cell.ratio),
        span(cell.interval, ratio),
        cell.reason,
    )
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in cells) + " |"


def rule(report: ComparisonReport) -> str:
    """Return how the verdicts are made, in one sentence or two."""
    allowed = f" Allowed to differ: {', '.join(report.allowed)}." if report.allowed else ""
    return (
        f"Time of a batch, B / A; the interval is a bootstrap over repetitions (seed "
        f"{report.seed}). PASS: all of it at or below {1 + report.limit:.4g}; FAIL: all of it "
        f"above; else INCONCLUSIVE.{allowed}"
    )


def time_ms(value_ms: float | Unavailable) -> str:
    """Return a time, `-` where there is none."""
    return "-" if isinstance(value_ms, Unavailable) else units.milliseconds(value_ms)


def rate(value_per_s: float | Unavailable) -> str:
    """Return images a second, `-` where they were not timed."""
    return "-" if isinstance(value_per_s, Unavailable) else units.images_per_second(value_per_s)


def ratio(value: float | Unavailable) -> str:
    """Return a ratio as finely as a limit of 3 % needs: `1.032`."""
    return "-" if isinstance(value, Unavailable) else f"{value:.3f}"


def span(interval: Interval | Unavailable, render: Callable[[float], str]) -> str:
    """Return both ends of an interval, `-` where there is none."""
    if isinstance(interval, Unavailable):
        return "-"
    return f"{render(interval.low)}..{render(interval.high)}"


def lines(document: dict[str, Any], indent: str = "  ") -> list[str]:
    """Return a document of JSON values as indented lines, `name: value`."""
    found = []
    for name, value in document.items():
        if isinstance(value, dict) and set(value) == {"reason"}:
            found.append(f"{indent}{name}: - ({value['reason']})")
        elif isinstance(value, dict) and value:
            found += [f"{indent}{name}:", *lines(value, indent + "  ")]
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            for entry in value:
                found += [f"{indent}{name}:", *lines(entry, indent + "  ")]
        elif isinstance(value, list):
            found.append(f"{indent}{name}: {', '.join(map(str, value)) or 'none'}")
        else:
            found.append(f"{indent}{name}: {'none' if value in ('', None, {}) else value}")
    return found
