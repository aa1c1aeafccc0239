from __future__ import annotations

import pytest

from elfatt_deploy import units


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (units.millions(20393320), "20.393"),
        (units.giga(4.43927), "4.4393"),
        (units.mebibytes(3 * 2**19), "1.5"),
        (units.error(1.84e-6), "1.8e-06"),
        (units.error(float("nan")), "nan"),
        (units.share(0.995), "100"),
        (units.share(0.25), "25"),
        (units.as_printed(20.393, "20"), "20"),
        (units.as_printed(4.4393, "4.44"), "4.44"),
        (units.as_printed(7.6, "7.60"), "7.60"),
        (units.size(224, 224), "224"),
        (units.size(224, 320), "224x320"),
    ],
)
def test_quantities_print_as_documented(shown, text):
    assert shown == text
