"""How long the rest of a sweep takes."""

from types import SimpleNamespace

from elfatt_deploy.pipeline.sweeping import time_left


def _done(*seconds):
    return [SimpleNamespace(duration_s=value) for value in seconds]


def test_the_rest_takes_as_long_as_the_mean_of_what_is_done():
    assert time_left(_done(30.0, 90.0), 12) == " (about 10 min left)"
    assert time_left(_done(5.0), 2) == " (about 1 min left)"


def test_nothing_is_said_before_the_first_cell():
    assert time_left([], 12) == ""
