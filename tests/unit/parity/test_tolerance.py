from __future__ import annotations

import pytest

from elfatt_deploy.errors import UnknownNameError
from elfatt_deploy.parity.tolerance import tolerance


def test_fp32_allows_less_than_the_smallest_known_mistake_of_algebra():
    assert tolerance("fp32").max_abs < 4e-4  # GELU in its tanh form


def test_an_unknown_precision_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown precision 'fp8'.*fp32"):
        tolerance("fp8")
