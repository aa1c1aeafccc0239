"""Run records of machines that do not exist."""

from __future__ import annotations

import dataclasses

import numpy as np

from elfatt_deploy.artifacts import Weights
from elfatt_deploy.results import making
from elfatt_deploy.results.schema import (
    Cell,
    Clock,
    Device,
    GitState,
    Interval,
    MachineState,
    Memory,
    PowerMode,
    PowerSummary,
    Prediction,
    Protocol,
    Rail,
    Repetition,
    RunWarning,
    Statistics,
    Temperature,
    Unavailable,
)

NOT_READ = Unavailable(reason="not read")
CELL = Cell(
    model="cswin_t_elfatt",
    height=224,
    width=224,
    batch=1,
    precision="fp32",
    target="jp6",
    runner="ort",
    provider="cpu",
    contract="single-stream/1",
    threads=1,
)
STATE = MachineState(
    load=0.25,
    governor="performance",
    free_bytes=8 * 2**30,
    swap_used_bytes=0,
    gpu_processes=NOT_READ,
    clocks=NOT_READ,
    temperatures=NOT_READ,
    throttle_events=NOT_READ,
)
DEVICE = Device(
    name="Synthetic CPU",
    board=Unavailable(reason="no board"),
    cpu="Synthetic CPU",
    cores=4,
    memory_bytes=16 * 2**30,
    gpu=Unavailable(reason="no GPU"),
    system="Linux 6.0 x86_64",
    virtual=False,
)
PROTOCOL = Protocol(
    name="default",
    min_seconds=1.0,
    min_runs=20,
    repetitions=10,
    fresh_processes=True,
    seed=0,
    order="shuffled in each round",
    warm_up="5 windows within 1 %",
)


def samples(seed, *, ms=10.0, repetitions=10, runs=20, within=0.02, between=0.005):
    """Return repetitions: samples that scatter by `within`, around middles by `between`."""
    generator = np.random.default_rng(seed)
    found = []
    for position in range(repetitions):
        middle = ms * (1 + between * generator.standard_normal())
        # latencies have a tail on one side
        times = middle * (1 + within * np.abs(generator.standard_normal(runs)))
        found.append(
            Repetition(
                samples_ms=tuple(round(float(time), 6) for time in times),
                wall_ms=round(float(times.sum()) * 1.01, 6),
                warm_up_runs=12,
                steady=True,
                position=position,
            )
        )
    return tuple(found)


def record(seed=0, *, cell=CELL, repetitions=None, **changes):
    """Return a record of a CPU; `changes` are fields of `RunRecord`."""
    found = making.host_record(
        cell=cell,
        started="2025-01-02T03:04:05+00:00",
        duration_s=12.5,
        command=("elfatt-deploy", "bench", "--model", cell.model),
        git=GitState(commit="0123456789abcdef0123456789abcdef01234567", dirty=False),
        versions={"elfatt-deploy": "0.1.0", "onnxruntime": "1.20.0"},
        weights=Weights(source="random(0)"),
        bundle_sha256="ab" * 32,
        model_sha256="cd" * 32,
        proof=cell.precision,
        evidence="ONNX Runtime on a CPU computes a float32 file in float32",
        parity=Unavailable(reason="not asked for"),
        device=DEVICE,
        before=STATE,
        after=STATE,
        protocol=PROTOCOL,
        quantity="end-to-end latency of a batch",
        repetitions=samples(seed) if repetitions is None else repetitions,
        memory=Memory(host_peak_bytes=300 * 2**20, device_peak_bytes=NOT_READ),
    )
    return dataclasses.replace(found, **changes)


def small(seed=0, **changes):
    """Return a record of ten samples."""
    return record(seed, repetitions=samples(seed, repetitions=5, runs=2), **changes)


def changed(given, **fields):
    """Return a record with fields of its cell changed."""
    cell = dataclasses.replace(given.cell, **fields)
    return dataclasses.replace(given, cell=cell, key=cell.key)


def refused(reason="parity failed: max error 3.0"):
    """Return the record of a cell that was not timed."""
    return record(repetitions=(), statistics=Unavailable(reason=reason))


def board(seed=0, **changes):
    """Return the record of an emulated board, with power."""
    cell = dataclasses.replace(
        CELL, precision="fp16", runner="trtexec", provider="tensorrt", contract="throughput/1",
        device="sim:agx-orin-64gb", power="15W",
    )  # fmt: skip
    state = dataclasses.replace(
        STATE,
        gpu_processes=(),
        clocks=(Clock(name="gpu", now_hz=4.2e8, min_hz=4.2e8, max_hz=4.2e8),),
        temperatures=(Temperature(zone="gpu-thermal", value_c=41.5),),
        throttle_events={"oc1_event_cnt": 0},
    )
    given = small(seed)
    statistics = making.statistics_of(cell.contract, cell.batch, given.repetitions)
    fields = {
        "source": "simulated",
        "cell": cell,
        "key": cell.key,
        "sweep": "paper-table8",
        "plan_sha256": "ef" * 32,
        "proof": "fp16-unproven",
        "device": dataclasses.replace(DEVICE, board="agx-orin-64gb", gpu="Orin", virtual=NOT_READ),
        "power_mode": PowerMode(id=1, name="MODE_15W", locked=True),
        "before": state,
        "after": state,
        "statistics": statistics,
        "power": PowerSummary(
            sampler="sysfs",
            rate_hz=20.0,
            count=200,
            window_ms=10000.0,
            rails=(Rail(name="VDD_GPU_SOC", mean_mw=5200.0, p95_mw=6000.0, max_mw=6400.0),),
            total_rule="VDD_GPU_SOC + VDD_CPU_CV",
            total_mean_mw=9100.0,
            total_p95_mw=9800.0,
            idle_mw=4100.0,
            energy_mj=91000.0,
            energy_mj_per_image=91.0,
            sampler_overhead=0.002,
        ),
        "warnings": (RunWarning(kind="off-clock", message="the GPU's clock was not the mode's"),),
        "validity": ("off-clock",),
        "attachments": {"times.json": "01" * 32},
    }
    return dataclasses.replace(given, **{**fields, **changes})


def predicted(**changes):
    """Return a predicted record."""
    band = Interval(low=8.0, high=12.0, level=0.8)
    absent = Unavailable(reason="a prediction has no samples")
    statistics = Statistics(
        count=0, repetitions=0, p50_ms=10.0, p50_interval_ms=band, mean_ms=absent, mad_ms=absent,
        p90_ms=absent, p95_ms=absent, p99_ms=absent, min_ms=absent, max_ms=absent,
        images_per_s=100.0, images_per_s_interval=absent, images_per_s_rule="1000 x batch / p50",
    )  # fmt: skip
    fields = {
        "source": "predicted",
        "repetitions": (),
        "protocol": absent,
        "statistics": statistics,
        "prediction": Prediction(
            method="roofline/1", regime="fused", levels_ms={"level 1": 4.0},
            limits={"level 1": "bandwidth"}, band="80 % of the points of the study",
        ),
    }  # fmt: skip
    return dataclasses.replace(small(), **{**fields, **changes})
