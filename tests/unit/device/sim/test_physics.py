"""The rule: monotonic where it must be, cut at the budget, and its values worked out by hand."""

import dataclasses

import pytest

from elfatt_deploy.device.sim import physics, profile
from elfatt_deploy.device.sim.physics import Clocks, Work

WORK = Work(
    macs_fp32=10**9,
    macs_fp16=0,
    moved_bytes=10**8,
    layers=100,
    input_bytes=600_000,
    output_bytes=4000,
)


@pytest.fixture(scope="module")
def facts():
    return profile.facts_of("agx-orin-64gb")


@pytest.fixture
def clocks(facts):
    return Clocks(
        cpu_hz=facts.cpu_khz[-1] * 1000.0,
        gpu_hz=facts.gpu_hz[-1],
        emc_hz=facts.emc_hz[1],
        tpcs=facts.tpcs,
        budget_w=facts.max_w,
    )


def test_the_time_of_a_query_by_hand(facts, clocks):
    rule = facts.rule
    peak = 8 * 2 * 128 * 2 * facts.gpu_hz[-1]
    by_hand = 1e3 * (
        rule.query_us * 1e-6
        + 2e9 / (peak * rule.efficiency)
        + 1e8 / (204.8e9 * rule.bandwidth_share)
        + 100 * rule.launch_us * 1e-6
    )
    assert physics.compute_ms(facts, clocks, WORK, graph=False) == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [{"cpu_hz": 1.1e9}, {"gpu_hz": 408e6}, {"emc_hz": 2.133e9}, {"tpcs": 3}],
    ids=lambda change: next(iter(change)),
)
def test_a_lower_clock_makes_a_query_slower(change, facts, clocks):
    slow = dataclasses.replace(clocks, **change)
    fast_ms = physics.compute_ms(facts, clocks, WORK, graph=False)
    assert physics.compute_ms(facts, slow, WORK, graph=False) > 1.02 * fast_ms


def test_half_precision_and_a_graph_make_it_faster(facts, clocks):
    half = dataclasses.replace(WORK, macs_fp32=0, macs_fp16=WORK.macs_fp32)
    full_ms = physics.compute_ms(facts, clocks, WORK, graph=False)
    assert physics.compute_ms(facts, clocks, half, graph=False) < full_ms
    assert physics.compute_ms(facts, clocks, WORK, graph=True) < full_ms


def test_a_copy_takes_its_latency_and_its_bytes(facts, clocks):
    small, large = (physics.copy_ms(facts, clocks, size) for size in (0, 10**6))
    assert small == pytest.approx(facts.rule.copy_latency_us / 1e3)
    assert large > small


def test_watts_stay_between_rest_and_the_budget(facts, clocks):
    assert physics.busy_w(facts, clocks) == pytest.approx(facts.max_w)
    assert physics.busy_w(facts, dataclasses.replace(clocks, budget_w=15.0)) == 15.0
    assert physics.busy_w(facts, dataclasses.replace(clocks, budget_w=1.0)) == facts.idle_w
    slow = physics.busy_w(facts, dataclasses.replace(clocks, gpu_hz=306e6, tpcs=3))
    assert facts.idle_w < slow < 15


@pytest.mark.parametrize("name", profile.names())
def test_the_rails_of_the_total_add_up_to_the_board(name):
    from elfatt_deploy.device import boards

    facts, total = profile.facts_of(name), boards.board(name).total
    assert total is not None
    for watts in (facts.idle_w, facts.max_w):
        powers = dict(
            zip((r.name for r in facts.rails), physics.rail_mw(facts, watts), strict=True)
        )
        assert sum(powers[rail] for rail in total.rails) == pytest.approx(1e3 * watts, rel=1e-6)


def test_temperature_goes_towards_what_the_watts_lead_to(facts):
    start = physics.steady_c(facts, facts.idle_w)
    goal = physics.steady_c(facts, facts.max_w)
    assert goal == facts.rule.ambient_c + facts.rule.rise_c
    one = physics.next_c(facts, start, facts.max_w, facts.rule.time_constant_s)
    assert (goal - one) / (goal - start) == pytest.approx(0.3679, abs=1e-4)
    assert physics.next_c(facts, start, facts.max_w, 1e6) == pytest.approx(goal)
