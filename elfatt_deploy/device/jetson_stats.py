"""A sampler that asks the service of jetson-stats on this machine.

The package is optional: it is under the AGPL-3.0, and its service must run in the same version.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

from elfatt_deploy import optional
from elfatt_deploy.device.telemetry import as_float
from elfatt_deploy.device.trace import Sample, Trace
from elfatt_deploy.errors import ProbeError


class JtopSampler:
    """Asks the service of jetson-stats on this machine.

    The package is optional: it is under the AGPL-3.0, and its service must run. Its own sum over
    the rails of boards without an input rail is not taken: such a sum counts some power twice.

    Args:
        rate_hz: samples a second; the service is made for 1 to 2.
    """

    def __init__(self, *, rate_hz: float = 2.0) -> None:
        """Nothing is started yet."""
        self._period_s = 1.0 / rate_hz
        self._samples: list[Sample] = []
        self._given = 0
        self._notes: list[str] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> JtopSampler:
        """Begin."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        self.stop()

    def start(self) -> None:
        """Begin; see `Sampler`.

        Raises:
            MissingDependency: the package is not installed.
            ProbeError: its service does not answer.
        """
        jtop: Any = optional.load("jtop").jtop
        client = jtop(interval=self._period_s)
        try:
            client.start()
        except Exception as error:  # the service's own errors are of no common kind
            raise ProbeError(
                f"the service of jetson-stats does not answer: {error}",
                hint="start it with 'sudo systemctl restart jtop', or sample by sysfs",
            ) from error
        self._thread = threading.Thread(target=self._work, args=(client,), daemon=True)
        self._thread.start()

    def read_new(self) -> tuple[Sample, ...]:
        """Return the samples that came since the last call."""
        new = tuple(self._samples[self._given :])
        self._given += len(new)
        return new

    def stop(self) -> Trace:
        """End, and return all samples."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=10 * self._period_s + 5)
        return Trace(
            source="jtop",
            period_s=self._period_s,
            samples=tuple(self._samples),
            notes=tuple(self._notes),
        )

    def _work(self, client: Any) -> None:
        try:
            while not self._ending.is_set() and client.ok():
                self._samples.append(sample_from_jtop(client.power, client.temperature, _uptime()))
            if not self._ending.is_set():
                self._notes.append("the service of jetson-stats ended before it was stopped")
        except Exception as error:  # told with the trace: a thread has nobody to raise it to
            self._notes.append(f"the service of jetson-stats failed: {error}")
        finally:
            client.close()


def sample_from_jtop(power: dict[str, Any], temperature: dict[str, Any], uptime_s: float) -> Sample:
    """Turn what jetson-stats 4 gives into a sample.

    Args:
        power: `rail`: by name, with `power` in mW; `tot`: with a `name` only where it is a rail.
        temperature: by name, with `temp` in degC and `online`.
        uptime_s: of the board.
    """
    rails = dict(power.get("rail", {}))
    total = power.get("tot", {})
    if "name" in total:
        rails[total["name"]] = total
    return Sample(
        uptime_s=uptime_s,
        power_mw={name: as_float(values.get("power")) for name, values in rails.items()},
        temperature_c={
            name: as_float(values.get("temp")) if values.get("online", True) else None
            for name, values in temperature.items()
        },
    )


def _uptime() -> float:
    """Return the time since this machine's start, as /proc/uptime has it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
