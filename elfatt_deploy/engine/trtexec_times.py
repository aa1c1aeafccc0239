"""The times of every inference that trtexec made: its `--exportTimes` file as a record.

Each row has the start and the end of the copy in, the compute and the copy out, by one clock of the
GPU that begins with the first inference, and the length of each. Numbers have 6 significant digits,
so a length is never taken from a start and an end.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from elfatt_deploy.engine.trtexec_log import Summary
from elfatt_deploy.errors import EngineError

_FIELDS = ("startH2dMs", "startComputeMs", "endD2hMs", "h2dMs", "computeMs", "d2hMs", "latencyMs")
#: C++ writes these where JSON knows no number
_NO_NUMBER = re.compile(r":\s*-?(?:nan|inf)", re.IGNORECASE)
#: relative error of two numbers that were each rounded to 6 significant digits
_ROUNDING = 2e-5
_AGAIN = "run the cell again; report the file with this message where it happens twice"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrtexecTimes:
    """The timed inferences, in their order; all fields but the last have an entry for each.

    Args:
        start_ms: when its copy in began (its compute, without copies), from the run's first one.
        end_ms: when its copy out ended (its compute, without copies).
        h2d_ms: copy to the device; 0 without copies.
        compute_ms: GPU compute.
        d2h_ms: copy from the device; 0 without copies.
        latency_ms: the three together, without waiting for the inference before.
        warm_up_rows: inferences of the warm-up that the file held and that were left out.
    """

    start_ms: tuple[float, ...]
    end_ms: tuple[float, ...]
    h2d_ms: tuple[float, ...]
    compute_ms: tuple[float, ...]
    d2h_ms: tuple[float, ...]
    latency_ms: tuple[float, ...]
    warm_up_rows: int

    @property
    def wall_ms(self) -> float:
        """From the first start to the last end."""
        return max(self.end_ms) - self.start_ms[0]

    def samples_ms(self, contract: str) -> tuple[float, ...]:
        """Return what a contract calls the time of a batch."""
        return self.compute_ms if contract.startswith("compute/") else self.latency_ms

    @property
    def phases_ms(self) -> dict[str, tuple[float, ...]]:
        """The parts of each inference, as a run record keeps them."""
        return {"h2d": self.h2d_ms, "compute": self.compute_ms, "d2h": self.d2h_ms}


def parse_times(text: str, *, warm_up_ms: float, with_warm_up: bool, origin: str) -> TrtexecTimes:
    """Parse an `--exportTimes` file.

    Args:
        text: of the file.
        warm_up_ms: how long the warm-up was.
        with_warm_up: whether this version writes the warm-up, too; see `Dialect`. It is left out
            as trtexec does it: all before the first compute that began after it.
        origin: the file's name, for messages.

    Raises:
        EngineError: it is torn, empty or no such file, a time is no number or negative, or nothing
            but warm-up is in it.
    """
    rows = _rows(text, origin)
    first = 0
    if with_warm_up:
        began = (n for n, row in enumerate(rows) if row["startComputeMs"] >= warm_up_ms)
        first = next(began, len(rows))
    timed = rows[first:]
    if not timed:
        raise EngineError(
            f"{origin}: all {len(rows)} inferences are of the warm-up of {warm_up_ms:g} ms",
            hint="run longer, or warm up for a shorter time",
        )
    columns = {field: tuple(row[field] for row in timed) for field in _FIELDS}
    return TrtexecTimes(
        start_ms=columns["startH2dMs"],
        end_ms=columns["endD2hMs"],
        h2d_ms=columns["h2dMs"],
        compute_ms=columns["computeMs"],
        d2h_ms=columns["d2hMs"],
        latency_ms=columns["latencyMs"],
        warm_up_rows=first,
    )


def _rows(text: str, origin: str) -> list[dict[str, float]]:
    try:
        document = json.loads(text)
    except ValueError as error:
        if _NO_NUMBER.search(text):
            raise EngineError(f"{origin} holds a time that is no number", hint=_AGAIN) from error
        raise EngineError(
            f"{origin} is torn or no JSON: {error}",
            hint="the disk may be full, or trtexec was ended before its end: run the cell again",
        ) from error
    if not isinstance(document, list):
        raise EngineError(f"{origin} holds no list of inferences", hint=_AGAIN)
    if not document:
        raise EngineError(f"{origin} holds no inference", hint=_AGAIN)
    return [_row(row, f"inference {n} of {origin}") for n, row in enumerate(document, start=1)]


def _row(row: Any, origin: str) -> dict[str, float]:
    lacking = [f for f in _FIELDS if f not in row] if isinstance(row, dict) else list(_FIELDS)
    if lacking:
        raise EngineError(f"{origin} lacks {', '.join(lacking)}", hint=_AGAIN)
    for field in _FIELDS:
        value = row[field]
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise EngineError(f"{origin}: {field} is {value!r}, no time", hint=_AGAIN)
    return {field: float(row[field]) for field in _FIELDS}


def check_summary(times: TrtexecTimes, summary: Summary, origin: str) -> None:
    """Hold the medians of the times against those that trtexec printed of the same run.

    They are of other samples where the file is of another run, or the warm-up was cut in another
    place. One inference at the very end of the warm-up may be counted here and not there, for its
    start is rounded in the file.

    Raises:
        EngineError: they differ.
    """
    for name, values, printed in (
        ("GPU compute", times.compute_ms, summary.gpu_compute_median_ms),
        ("latency", times.latency_ms, summary.latency_median_ms),
    ):
        low, high = _around_median(values)
        if not low * (1 - _ROUNDING) <= printed <= high * (1 + _ROUNDING):
            raise EngineError(
                f"{origin} does not belong to what trtexec printed: its median of {name} lies "
                f"within {low:g} and {high:g} ms, printed is {printed:g} ms",
                hint=_AGAIN,
            )


def _around_median(values: Sequence[float]) -> tuple[float, float]:
    """Return the samples around the middle, between which one sample more or less moves it."""
    ordered, last = sorted(values), len(values) - 1
    return ordered[max((last - 1) // 2, 0)], ordered[min(last // 2 + 1, last)]
