"""Warnings come where they should, and nowhere else."""

from __future__ import annotations

import pytest

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import stability
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.stability import Kind


def _kinds(warnings):
    return [warning.kind for warning in warnings]


def _machine(load, cores=4):
    return Machine(cpu="test", cores=cores, virtual=False, system="test", load=load)


def test_quiet_samples_give_no_warning():
    times = [10.0, 10.1, 9.9, 10.0] * 5
    assert stability.warnings_of("a 7x7", times, range(20)) == ()


def test_one_outlier_is_no_instability():
    assert stability.warnings_of("a 7x7", [10.0] * 19 + [500.0], range(20)) == ()


def test_a_wide_spread_is_unstable():
    found = stability.warnings_of("a 7x7", [10.0, 12.0] * 10, range(20))
    assert _kinds(found) == [Kind.UNSTABLE]
    assert found[0].cell == "a 7x7"
    assert found[0].message.startswith("a 7x7: the samples spread by 9 %")


@pytest.mark.parametrize(("later", "told"), [(11.0, "+10 %"), (9.0, "-10 %")])
def test_a_change_in_the_second_half_is_not_steady(later, told):
    times = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0] + [later] * 5
    found = stability.warnings_of("a 7x7", times, range(11))
    assert _kinds(found) == [Kind.NOT_STEADY]
    assert told in found[0].message


def test_halves_of_four_rounds_are_not_compared():
    found = stability.warnings_of("a 7x7", [10.0] * 5 + [10.9] * 4, range(9))
    assert found == ()


@pytest.mark.parametrize(
    ("load", "rounds", "expected"),
    [
        (0.1, 5, []),
        (2.0, 5, []),
        (2.1, 5, [Kind.DISTURBED]),
        (0.1, 4, [Kind.FEW_ROUNDS]),
        (9.0, 1, [Kind.FEW_ROUNDS, Kind.DISTURBED]),
        (Unavailable(reason="none"), 5, []),
    ],
)
def test_a_run_is_judged_by_its_rounds_and_the_load(load, rounds, expected):
    assert _kinds(stability.run_warnings(_machine(load), rounds)) == expected
