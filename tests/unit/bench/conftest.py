"""Reports and repetitions made of invented times."""

from __future__ import annotations

import pytest

from elfatt_deploy.artifacts import ParityReport, Tolerance, Unavailable
from elfatt_deploy.bench import attention_report, timing
from elfatt_deploy.bench.attention import AttentionRequest, Prepared
from elfatt_deploy.bench.cells import Measured
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.protocol import Timed, WarmUp

SIZES = ((14, 14), (28, 28), (56, 56))


def _report(
    attentions=("elfatt", "global"),
    sizes=SIZES,
    *,
    exponents=None,
    refused=(),
    rounds=6,
    interrupted=False,
    plot=None,
):
    request = AttentionRequest(attentions=attentions, sizes=sizes, plot=plot)
    exponents = exponents or {"global": 2}
    prepared, samples = [], []
    for cell in request.cells:
        if cell.name in refused:
            prepared.append(Prepared(cell=cell, refused=Unavailable(reason="too large")))
            continue
        prepared.append(Prepared(cell=cell, run=lambda: None))
        time_ms = 1e-3 * cell.tokens ** exponents.get(cell.attention, 1)
        times = [time_ms * (1 + 0.01 * (number % 3)) for number in range(rounds)]
        samples.append(timing.Samples(times_ms=tuple(times), rounds=tuple(range(rounds))))
    return attention_report.report(
        request,
        prepared,
        timing.Timing(
            cells=tuple(samples),
            rounds=rounds,
            warm_up_runs=(3,) * len(samples),
            interrupted=interrupted,
        ),
        machine=Machine(cpu="Test CPU", cores=8, virtual=False, system="Linux", load=0.1),
        versions={"onnxruntime": "1.2.3"},
        started="2030-01-02T03:04:05+00:00",
    )


@pytest.fixture(scope="session")
def made_report():
    """Return a function that makes a report; times are a power of the tokens."""
    return _report


def _measured(times_ms, *, steady=True, foreign=0.0, wall_ms=None):
    tolerance = Tolerance(max_abs=1, relative_l2=1, cosine=0)
    return Measured(
        runner="fake",
        version="fake 1",
        parity=ParityReport(reference="a", candidate="b", tolerance=tolerance, rows=()),
        warm_up=WarmUp(runs=7, windows_ms=(1.0,), steady=steady),
        timed=Timed(times_ms=tuple(times_ms), wall_ms=wall_ms or sum(times_ms)),
        host_peak_bytes=2**20,
        device_peak_bytes=Unavailable(reason="no device was used"),
        foreign_cores=foreign,
    )


@pytest.fixture(scope="session")
def made_measured():
    """Return a function that makes what one process measured, of invented times."""
    return _measured
