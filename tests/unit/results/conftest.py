"""What the tests of results share: records of machines that do not exist."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def runs(fake):
    """Return the module that makes run records; see `tests/fakes/run_records.py`."""
    return fake("run_records")
