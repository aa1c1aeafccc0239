"""The roofline on kernels whose time is known."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.errors import UnknownNameError
from elfatt_deploy.predict.roofline import estimate


@pytest.fixture
def guess(machine, ideal, table_of):
    """Return a function that predicts kernels on the round machine."""

    def run(*kernels, regime="eager", precision="fp32", batch=1, on=machine, constants=ideal):
        return estimate(
            table_of(*kernels), on, constants, regime=regime, precision=precision, batch=batch
        )

    return run


@pytest.mark.parametrize(
    ("flops", "activation", "limit", "ms"),
    [(1e9, 1e6, "compute", 1.0), (1e6, 1e8, "bandwidth", 1.0), (0.0, 2e8, "bandwidth", 2.0)],
)
def test_a_kernel_takes_the_longer_of_arithmetic_and_memory(
    flops, activation, limit, ms, guess, kernel
):
    found = guess(kernel(flops=flops, activation=activation))
    assert found.levels[0].by_limit_ms[limit] == pytest.approx(ms)
    assert found.levels[0].limit == limit
    assert found.total_ms == pytest.approx(ms + 0.001)  # a launch of 1 us


def test_weights_are_read_once_a_batch_and_activations_once_an_image(guess, kernel):
    one = guess(kernel("memory", activation=1e8, weights=3e8))
    four = guess(kernel("memory", activation=1e8, weights=3e8), batch=4)
    assert one.total_ms == pytest.approx(4.001)
    assert four.total_ms == pytest.approx(7.001)
    assert four.images_per_s == pytest.approx(4000 / 7.001)


def test_each_of_equal_kernels_is_launched(guess, kernel):
    found = guess(kernel(flops=1e9, count=500))
    assert found.kernels == 500
    assert found.levels[0].by_limit_ms["launch"] == pytest.approx(0.5)
    assert found.launch_ms == pytest.approx(0.5)
    assert guess(kernel(flops=1e6, count=5)).levels[0].limit == "compute"
    assert guess(kernel(flops=1e5, count=5)).levels[0].limit == "launch"


def test_tensor_cores_speed_up_products_and_not_depthwise_convolutions(guess, kernel):
    product = guess(kernel(flops=8e9), precision="fp16")
    depthwise = guess(kernel("depthwise", flops=8e9), precision="fp16")
    assert product.levels[0].by_limit_ms["compute"] == pytest.approx(1.0)
    assert depthwise.levels[0].by_limit_ms["compute"] == pytest.approx(8.0)


@pytest.mark.parametrize(("regime", "ms"), [("eager", 1.0), ("fused", 0.5)])
def test_without_tensor_cores_fp16_gains_in_a_compiled_engine_alone(
    regime, ms, guess, kernel, machine
):
    old = dataclasses.replace(machine, sm=53)
    found = guess(kernel(flops=1e9), regime=regime, precision="fp16", on=old)
    assert found.levels[0].by_limit_ms["compute"] == pytest.approx(ms)


@pytest.mark.parametrize(
    ("sm", "regime", "ms"), [(87, "eager", 1.0), (87, "fused", 4.0), (53, "eager", 4.0)]
)
def test_pytorch_alone_uses_tf32_for_convolutions_in_fp32(sm, regime, ms, guess, kernel, machine):
    on = dataclasses.replace(machine, sm=sm)
    found = guess(kernel("convolution", flops=4e9), regime=regime, on=on)
    assert found.levels[0].by_limit_ms["compute"] == pytest.approx(ms)
    product = guess(kernel("product", flops=4e9), regime=regime, on=on)
    assert product.levels[0].by_limit_ms["compute"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("kind", "precision", "share"),
    [
        ("product", "fp32", "dense"),
        ("product", "fp16", "tensor"),
        ("convolution", "fp32", "tensor"),
        ("attention", "fp32", "dense"),
        ("attention", "fp16", "attention"),
        ("depthwise", "fp16", "depthwise"),
    ],
)
def test_each_kind_of_kernel_reaches_its_share_of_the_peak(
    kind, precision, share, guess, kernel, ideal
):
    half = dataclasses.replace(ideal, fitted=dataclasses.replace(ideal.fitted, **{share: 0.5}))
    whole, slower = (
        guess(kernel(kind, flops=1e10), precision=precision, constants=constants)
        for constants in (ideal, half)
    )
    computed = [found.levels[0].by_limit_ms["compute"] for found in (whole, slower)]
    assert computed[1] == pytest.approx(2 * computed[0])


def test_the_memory_gives_its_share_at_any_clock_of_the_gpu(guess, kernel, machine, ideal):
    half = dataclasses.replace(ideal, fitted=dataclasses.replace(ideal.fitted, memory=0.5))
    slow = dataclasses.replace(machine, gpu_hz=machine.gpu_hz / 2)
    for on in (machine, slow):
        found = guess(kernel("memory", activation=1e8), constants=half, on=on)
        assert found.levels[0].by_limit_ms["bandwidth"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("target", "regime", "precision", "kernels", "ms"),
    [
        ("jp6", "eager", "fp32", 1, 1.0),
        ("jp4", "eager", "fp32", 3, 5.0),
        ("jp6", "fused", "fp32", 3, 5.0),
        ("jp6", "fused", "fp16", 1, 0.5),
    ],
)
def test_attention_in_parts_moves_its_scores_four_times(
    target, regime, precision, kernels, ms, guess, kernel, machine
):
    on = dataclasses.replace(machine, target=target)
    found = guess(
        kernel("attention", activation=1e8, scores=1e8), regime=regime, precision=precision, on=on
    )
    assert found.kernels == kernels
    assert found.levels[0].by_limit_ms["bandwidth"] == pytest.approx(ms)


def test_levels_stay_apart_and_add_up(guess, kernel):
    found = guess(kernel(flops=1e9, level="1"), kernel("memory", activation=1e8, level="head"))
    assert [level.level for level in found.levels] == ["1", "head"]
    assert [level.limit for level in found.levels] == ["compute", "bandwidth"]
    assert found.total_ms == pytest.approx(sum(level.total_ms for level in found.levels))


def test_a_gpu_of_which_nothing_is_stated_is_refused(guess, kernel, machine):
    with pytest.raises(UnknownNameError, match="unknown compute capability '99': known: 53, 87"):
        guess(kernel(flops=1e9), on=dataclasses.replace(machine, sm=99))
