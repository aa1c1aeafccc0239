"""A machine with round numbers, and constants that change nothing."""

from __future__ import annotations

import dataclasses

import pytest

from elfatt_deploy.predict.constants import Band, Constants, Fitted, HalfRate, Launch
from elfatt_deploy.predict.kernels import Kernel, KernelTable
from elfatt_deploy.predict.machine import Machine


@pytest.fixture
def machine():
    """1 TFLOP/s in FP32, 8 TFLOP/s in FP16, 100 GB/s, 1 GHz."""
    return Machine(
        board="round",
        mode="MAXN",
        target="jp6",
        sm=87,
        sms=5,
        cores_per_sm=100,
        gpu_hz=1e9,
        cpu_hz=1e9,
        bandwidth_bytes_per_s=100e9,
    )


@pytest.fixture
def ideal():
    """Constants of a machine that reaches all it could, with launches of 1 us."""
    return Constants(
        method="roofline/1",
        fitted=Fitted(dense=1.0, tensor=1.0, attention=1.0, depthwise=1.0, memory=1.0),
        launch=Launch(
            eager_cycles=1000.0, fused_cycles=100.0, least=0.5, most=3.0, source="a test"
        ),
        attention_in_parts=("jp4",),
        half_rates=(
            HalfRate(
                sm=53,
                fused=200,
                eager=100,
                tensor_cores=False,
                tf32_convolutions=0,
                source="a test",
            ),
            HalfRate(
                sm=87,
                fused=800,
                eager=800,
                tensor_cores=True,
                tf32_convolutions=400,
                source="a test",
            ),
        ),
        bands=(
            Band(boards="A", sms=(87,), low=0.8, high=1.1, level=0.9, points=9),
            Band(boards="B", sms=(), low=0.5, high=1.2, level=0.9, points=9),
        ),
    )


@pytest.fixture
def kernel():
    """Return a function that makes a kernel of level 1."""

    def make(kind="product", *, flops=0.0, activation=0.0, weights=0.0, scores=0.0, **fields):
        values = {"level": "1", "count": 1, **fields}
        return Kernel(
            kind=kind,
            flops=flops,
            activation_bytes=activation,
            weight_bytes=weights,
            score_bytes=scores,
            **values,
        )

    return make


@pytest.fixture
def table_of():
    """Return a function that makes a model of these kernels, the same in both regimes."""

    def make(*kernels):
        return KernelTable(
            model="m",
            height=8,
            width=8,
            eager_fp32=kernels,
            eager_fp16=tuple(
                dataclasses.replace(k, activation_bytes=k.activation_bytes / 2) for k in kernels
            ),
            fused=kernels,
        )

    return make
