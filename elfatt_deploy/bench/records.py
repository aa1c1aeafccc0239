"""The small records that all measurements share."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Stands where a measurement is absent, and says why it is."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval, in the unit of the quantity that it belongs to."""

    low: float
    high: float
    level: float = 0.95
