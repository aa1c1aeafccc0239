"""Prints quantities, and the time of day; the only place that rounds."""

from __future__ import annotations

import datetime
import math


def now() -> str:
    """Return the date and time in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def millions(value: int) -> str:
    """Return a count in millions: 20393320 is `20.393`."""
    return f"{value / 1e6:.3f}"


def giga(value: float) -> str:
    """Return a value already in 1e9: `4.4393`."""
    return f"{value:.4f}"


def mebibytes(size_bytes: int) -> str:
    """Return a size in MiB."""
    return f"{size_bytes / 2**20:.1f}"


def error(value: float) -> str:
    """Return an error or a distance: `1.8e-06`."""
    return f"{value:.1e}"


def share(value: float) -> str:
    """Return a share of 0 to 1 in per cent."""
    return f"{100 * value:.0f}"


def percent(value: float) -> str:
    """Return a share of 0 to 1 in per cent, as accuracies are printed: `81.34`."""
    return f"{100 * value:.2f}"


def seconds(value_s: float) -> str:
    """Return a duration in seconds: `12.3`."""
    return f"{value_s:.1f}"


def minutes(value_s: float) -> str:
    """Return a duration in seconds as whole minutes, at least 1: 95 is `2`."""
    return str(max(1, round(value_s / 60)))


def milliseconds(value_ms: float) -> str:
    """Return a time to four significant digits, no finer than 0.1 us: `84.21`, `0.0312`."""
    return _four_digits(value_ms, 4)


def images_per_second(value_per_s: float) -> str:
    """Return a throughput to four significant digits, no finer than a thousandth: `11.87`."""
    return _four_digits(value_per_s, 3)


def ratio(value: float) -> str:
    """Return how many times: `1.84`."""
    return f"{value:.2f}"


def signed_percent(value: float) -> str:
    """Return a change given as a share, in per cent: `+1.2`."""
    return f"{100 * value:+.1f}"


def _four_digits(value: float, most: int) -> str:
    digits = 3 - math.floor(math.log10(value)) if value > 0 else most
    return f"{value:.{min(max(digits, 0), most)}f}"


def rate(value_per_s: float) -> str:
    """Return how many a second: `29.4`."""
    return f"{value_per_s:.1f}"


def as_printed(value: float, printed: str) -> str:
    """Return a value with as many decimals as a printed number has."""
    return f"{value:.{len(printed.partition('.')[2])}f}"


def size(height: int, width: int) -> str:
    """Return an input size: `224`, or `224x320` (rows x columns)."""
    return str(height) if height == width else f"{height}x{width}"


def watts(value_w: float) -> str:
    """Return a power to a hundredth of a watt: `14.87`."""
    return f"{value_w:.2f}"


def millijoules(value_mj: float) -> str:
    """Return an energy to four significant digits, no finer than a hundredth: `41.30`."""
    return _four_digits(value_mj, 2)


def degrees(value_c: float) -> str:
    """Return a temperature in degrees Celsius: `48.5`."""
    return f"{value_c:.1f}"


def megahertz(value_hz: float) -> str:
    """Return a clock in MHz: `1300.5`."""
    return f"{value_hz / 1e6:g}"
