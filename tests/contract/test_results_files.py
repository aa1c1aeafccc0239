"""Results files of every version that was ever written are still read.

The files in `tests/data/results` are never written again: a new version gets a file of its own.
Their records are those of machines that do not exist.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.results import schema, store

FILES = Path(__file__).parents[1] / "data" / "results"


@pytest.mark.parametrize("version", range(1, schema.RUN_VERSION + 1))
def test_records_of_every_version_are_read(version):
    found = store.read(FILES / f"synthetic_v{version}.jsonl")
    assert found.warnings == ()
    host, board, predicted, refused = found.records
    assert {record.version for record in found.records} == {schema.RUN_VERSION}
    sources = [record.source for record in found.records]
    assert sources == ["measured", "simulated", "predicted", "measured"]
    assert host.key == ("cswin_t_elfatt,,224x224,b1,fp32,jp6,ort,cpu,single-stream/1,local,,t1,")
    assert host.statistics.p50_ms == pytest.approx(10.185, abs=0.2)
    assert len(host.repetitions) == 5
    assert host.before.governor == "performance"
    assert board.power_mode.name == "MODE_15W"
    assert board.power.energy_mj_per_image == 91.0
    assert board.validity == ("off-clock",)
    assert predicted.prediction.limits == {"level 1": "bandwidth"}
    assert refused.statistics == Unavailable(reason="parity failed: max error 3.0")
