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


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1234"), (84.2149, "84.21"), (0.03123456, "0.0312"), (0.0, "0.0000")],
)
def test_a_time_has_four_digits_and_is_no_finer_than_a_tenth_of_a_microsecond(value, shown):
    assert units.milliseconds(value) == shown


def test_rates_ratios_and_changes_have_their_digits():
    assert units.images_per_second(11.8754) == "11.88"
    assert units.images_per_second(0.00123) == "0.001"
    assert units.ratio(1.9249) == "1.92"
    assert units.signed_percent(0.0123) == "+1.2"
    assert units.signed_percent(-0.05) == "-5.0"
