import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import energy
from elfatt_deploy.device.boards import TotalRule
from elfatt_deploy.device.trace import Sample, Trace


def trace(times, powers, *, period_s=0.1, counters=None):
    """Return a trace; `powers` is a list of readings, or one list a rail."""
    rails = powers if isinstance(powers, dict) else {"VDD_IN": powers}
    return Trace(
        source="sysfs",
        period_s=period_s,
        samples=tuple(
            Sample(
                uptime_s=time,
                power_mw={name: values[index] for name, values in rails.items()},
                counters={name: values[index] for name, values in (counters or {}).items()},
            )
            for index, time in enumerate(times)
        ),
    )


def every(period_s, count, start_s=100.0):
    return [start_s + period_s * index for index in range(count)]


@given(
    power=st.floats(1.0, 60_000.0),
    steps=st.lists(st.floats(0.03, 0.25), min_size=5, max_size=60),
    edges=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
)
def test_constant_power_gives_power_times_time_wherever_the_window_lies(power, steps, edges):
    times = [7.0]
    for step in steps:
        times.append(times[-1] + step)
    span = times[-1] - times[0]
    start, end = (times[0] + share * span for share in sorted(edges))
    end = min(end, times[-1])
    result = energy.power_of(trace(times, [power] * len(times)), [(start, end)], ("VDD_IN",))
    if end <= start:
        assert isinstance(result, Unavailable)
        return
    assert result.energy_mj == pytest.approx(power * (end - start), rel=1e-9)
    assert result.mean_mw == pytest.approx(power, rel=1e-9)
    assert (result.p95_mw, result.max_mw) == pytest.approx((power, power))


@given(slope=st.floats(-500.0, 500.0), start=st.floats(100.0, 103.0), length=st.floats(0.05, 1.9))
def test_power_that_rises_evenly_is_integrated_exactly_between_samples(slope, start, length):
    times = every(0.1, 51)
    powers = [10_000 + slope * (time - 100.0) for time in times]
    result = energy.power_of(trace(times, powers), [(start, start + length)], ("VDD_IN",))
    middle = 10_000 + slope * (start + length / 2 - 100.0)
    assert result.energy_mj == pytest.approx(middle * length, rel=1e-9)


@given(cut=st.floats(100.2, 103.8))
def test_a_window_cut_in_two_has_the_same_energy(cut):
    times = every(0.1, 41)
    powers = [5000 + 3000 * math.sin(time * 3) for time in times]
    whole = energy.power_of(trace(times, powers), [(100.1, 103.9)], ("VDD_IN",))
    parts = energy.power_of(trace(times, powers), [(100.1, cut), (cut, 103.9)], ("VDD_IN",))
    # the cut adds a point on a straight line between two samples
    assert parts.energy_mj == pytest.approx(whole.energy_mj, rel=1e-9)
    assert parts.window_s == pytest.approx(3.8)


def test_samples_outside_the_window_do_not_count():
    times = every(0.1, 31)
    powers = [50_000 if time < 101.0 or time > 102.05 else 4000 for time in times]
    result = energy.power_of(trace(times, powers), [(101.0, 102.0)], ("VDD_IN",))
    assert (result.energy_mj, result.max_mw) == pytest.approx((4000.0, 4000.0))
    assert result.count == 11
    assert len(energy.window(trace(times, powers), 101.0, 102.0)) == 11


@given(start=st.floats(99.0, 104.0), end=st.floats(99.0, 104.0))
def test_nothing_is_estimated_beyond_the_samples(start, end):
    times = every(0.1, 31)  # to 103.0
    result = energy.power_of(trace(times, [1000.0] * 31), [(start, end)], ("VDD_IN",))
    covered = times[0] <= start < end <= times[-1]
    assert isinstance(result, Unavailable) is not covered


@pytest.mark.parametrize(("missing", "whole"), [(1, True), (2, True), (3, False), (9, False)])
def test_gaps_of_more_than_three_periods_are_not_bridged(missing, whole):
    powers = [1000.0] * 31
    powers[10 : 10 + missing] = [None] * missing
    times = every(0.1, 31)
    result = energy.power_of(trace(times, powers), [(100.5, 102.5)], ("VDD_IN",))
    assert isinstance(result, energy.Power) is whole
    if not whole:
        assert result.reason.startswith(f"VDD_IN: {0.1 * (missing + 1):.2f} s without a sample")


def test_a_gap_at_the_edge_counts_and_one_outside_does_not():
    times, powers = every(0.1, 31), [1000.0] * 31
    powers[10:16] = [None] * 6  # none from 101.0 to 101.5
    assert isinstance(
        energy.power_of(trace(times, powers), [(101.3, 102.0)], ("VDD_IN",)), Unavailable
    )
    assert isinstance(
        energy.power_of(trace(times, powers), [(101.7, 102.0)], ("VDD_IN",)), energy.Power
    )


def test_a_sampler_far_below_its_rate_bridges_no_more_for_that():
    slow = every(0.7, 11)  # asked for: 0.1
    result = energy.power_of(trace(slow, [1000.0] * 11), [(101.0, 104.0)], ("VDD_IN",))
    assert "more than 0.61 s are not bridged" in result.reason


def test_a_sum_needs_all_its_rails_in_a_sample():
    times = every(0.1, 31)
    rails = {"VDD_GPU_SOC": [3000.0] * 31, "VDD_CPU_CV": [500.0] * 31, "VIN_SYS_5V0": [4000.0] * 31}
    rule = TotalRule(rails=("VDD_GPU_SOC", "VDD_CPU_CV"), sum=True, note="without I/O")
    total = energy.total_power(trace(times, rails), [(100.5, 102.5)], rule)
    assert (total.name, total.mean_mw) == ("VDD_GPU_SOC + VDD_CPU_CV", pytest.approx(3500.0))
    rails["VDD_CPU_CV"] = [500.0] * 15 + [None] * 16
    broken = trace(times, rails)
    assert isinstance(energy.total_power(broken, [(100.5, 102.5)], rule), Unavailable)
    each = energy.rail_power(broken, [(100.5, 102.5)])
    assert isinstance(each["VDD_CPU_CV"], Unavailable)
    assert each["VDD_GPU_SOC"].mean_mw == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (None, "no rule says"),
        (TotalRule(rails=("VDD_IN", "A"), note=""), "does not say to add"),
        (TotalRule(rails=("VDD_5V",), note=""), "the rail VDD_5V was not sampled"),
    ],
)
def test_no_total_without_a_rule_that_fits(rule, reason):
    total = energy.total_power(trace(every(0.1, 31), [1.0] * 31), [(100.5, 101.0)], rule)
    assert reason in total.reason


def test_a_clock_that_went_back_leaves_no_number():
    times = [*every(0.1, 20), *every(0.1, 20, 5.0)]
    result = energy.power_of(trace(times, [1000.0] * 40), [(100.5, 101.0)], ("VDD_IN",))
    assert "started again" in result.reason


def test_a_window_between_two_samples_takes_its_edges_for_samples():
    result = energy.power_of(
        trace(every(0.1, 11), [1000.0 + 100 * i for i in range(11)]),
        [(100.52, 100.58)],
        ("VDD_IN",),
    )
    assert (result.count, result.mean_mw) == (0, pytest.approx(1550.0))
    assert result.max_mw == pytest.approx(1580.0)


def test_rises_of_counters():
    times = every(0.1, 31)
    counters = {
        "oc1": [7] * 31,
        "oc3": [100] * 10 + [102] * 10 + [105] * 11,
        "oc2": [0] * 15 + [None] + [0] * 15,
        "thermal-cpu-throttle-alert": [0] * 12 + [2] * 4 + [1] * 15,
    }
    made = trace(times, [1.0] * 31, counters=counters)
    found = {rise.name: rise.events for rise in energy.rises(made, [(100.5, 101.45)])}
    assert found["oc1"] == 0
    assert found["oc3"] == 2  # the second rise came after the window
    assert found["oc2"] == Unavailable(reason="oc2: 1 readings are missing")
    assert found["thermal-cpu-throttle-alert"] == 2
    # one that began before the window still throttles in it
    later = {rise.name: rise.events for rise in energy.rises(made, [(102.0, 102.5)])}
    assert (later["oc3"], later["thermal-cpu-throttle-alert"]) == (0, 1)
    late = energy.rises(made, [(102.0, 104.0)])
    assert all(isinstance(rise.events, Unavailable) for rise in late)


def test_an_event_between_the_last_sample_and_the_window_is_not_lost():
    made = trace(every(0.1, 11), [1.0] * 11, counters={"oc1": [0] * 5 + [1] * 6})
    # the rise lies between 100.4 and 100.5: it may have been in either window
    assert energy.rises(made, [(100.45, 100.8)])[0].events == 1
    assert energy.rises(made, [(100.1, 100.45)])[0].events == 1
