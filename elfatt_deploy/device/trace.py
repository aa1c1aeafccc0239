"""What a sampler has recorded: readings of a board over time, on the board's own clock."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping
from typing import Literal

#: what the file of a trace says that it is
TRACE_SCHEMA = "elfatt-deploy/trace"
#: In every capture of Jetson Nano, TX1, TX2 and Xavier (JetPack 4) this zone says 100 or 50 degrees
#: and nothing else, whatever the other sensors say: it is no temperature.
_NO_SENSOR = "PMIC"


def hottest_c(temperature_c: Mapping[str, float | None]) -> float | None:
    """Return the highest of a board's temperatures; None where none was read.

    Args:
        temperature_c: thermal zone -> degrees; a zone that only repeats a constant is left out.
    """
    values = (
        value
        for zone, value in temperature_c.items()
        if value is not None and not zone.upper().startswith(_NO_SENSOR)
    )
    return max(values, default=None)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The readings of one moment; None where a reading failed.

    Args:
        uptime_s: time since the board's start, when the first value was read.
        power_mw: of each rail.
        temperature_c: of each thermal zone.
        clock_hz: what each clock ran at.
        counters: events since the start; for those named `thermal-...` how far they throttle now.
    """

    uptime_s: float
    power_mw: Mapping[str, float | None]
    temperature_c: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    clock_hz: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    counters: Mapping[str, int | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """All samples of one sampler.

    Args:
        source: where they come from.
        period_s: time that was asked for between two of them.
        samples: in the order of time.
        notes: what must be known about them, a text each: a lower rate, an early end.
    """

    source: Literal["sysfs", "tegrastats", "jtop"]
    period_s: float
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def rails(self) -> tuple[str, ...]:
        """Names of all rails, in the order in which they were first seen."""
        return tuple(dict.fromkeys(name for sample in self.samples for name in sample.power_mw))

    @property
    def typical_period_s(self) -> float:
        """The median time between two samples, and no less than what was asked for."""
        stamps = [sample.uptime_s for sample in self.samples]
        steps = [later - earlier for earlier, later in zip(stamps, stamps[1:], strict=False)]
        return max(self.period_s, statistics.median(steps)) if steps else self.period_s
