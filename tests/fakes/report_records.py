"""Records of the paper's sweeps as an emulated board would give them, and of a laptop.

The times follow the paper's Figure 4, so that a report of them is recognisable; they are invented.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.report import published
from elfatt_deploy.results import making
from elfatt_deploy.results.schema import PowerMode, Temperature

MODES = {"MODE_15W": 1, "MODE_30W": 2, "MODE_50W": 3, "MAXN": 0, "5W": 1}
PRECISIONS = {"fp32": "fp32", "mixed": "fp16"}


def paper_cells():
    """Yield board, mode, watts, batch, model, input side, precision and images/s of each marker."""
    figure = published.figure4()
    settings = {one.power_w: one for one in figure.settings}
    sides = {row.model: row.resolution for row in published.speed_table(8).rows}
    for series in figure.series:
        if series.quantity != "images_per_s":
            continue
        for point in series.points:
            place = settings[point.power_w]
            yield (
                place.board, place.mode, point.power_w, place.batch, series.model,
                sides[series.model], PRECISIONS[series.precision], point.value,
            )  # fmt: skip


def board_record(
    runs, seed, *, board, mode, watts, batch, model, side, precision, rate,
    contract="paper/1", source="simulated", repetitions=6, jetpack="6.2", **changes,
):  # fmt: skip
    """Return the record of a board that reaches `rate` images a second; `runs` is `run_records`."""
    simulated = source == "simulated"
    given = runs.board(seed, power=Unavailable(reason="no rail was read"))
    cell = dataclasses.replace(
        given.cell,
        model=model,
        height=side,
        width=side,
        batch=batch,
        precision=precision,
        contract=contract,
        target="jp4" if board == "nano" else "jp6",
        device=f"sim:{board}" if simulated else f"ssh://{board}",
        power=mode,
        threads=0,
    )
    times = runs.samples(seed, ms=1000 * batch / rate / 1.016, repetitions=repetitions, runs=4)
    power = runs.board(0).power
    energy = watts * 0.8e3 / rate
    fields = {
        "source": source,
        "cell": cell,
        "key": cell.key,
        "sweep": "paper-table8" if batch == 128 else "paper-table9",
        "proof": precision,
        "device": dataclasses.replace(
            given.device, name=f"{board} (simulated)" if simulated else board, board=board
        ),
        "power_mode": PowerMode(id=MODES[mode], name=mode, locked=True),
        "after": dataclasses.replace(
            given.after, temperatures=(Temperature(zone="gpu-thermal", value_c=48.0),)
        ),
        "repetitions": times,
        "statistics": making.statistics_of(contract, batch, times),
        "versions": {**given.versions, "jetpack": jetpack, "tensorrt": "10.3.0"},
        "power": dataclasses.replace(
            power,
            total_mean_mw=800.0 * watts,
            total_p95_mw=860.0 * watts,
            energy_mj=energy * batch * 24,
            energy_mj_per_image=energy,
        ),
        "warnings": (),
        "validity": (),
        "attachments": {},
    }
    return dataclasses.replace(given, **{**fields, **changes})


def paper_sweeps(runs, **changes):
    """Return a record for every marker of Figure 4: both boards, all modes and precisions."""
    return tuple(
        board_record(
            runs, seed,
            board=board, mode=mode, watts=watts, batch=batch, model=model, side=side,
            precision=precision, rate=rate, **changes,
        )
        for seed, (board, mode, watts, batch, model, side, precision, rate)
        in enumerate(paper_cells())
    )  # fmt: skip


def damaged(records, runs):
    """Return sweeps with a gap, a failure, a doubtful and an unproved record, and a quick one."""
    found = list(records)

    def at(board, mode, model, precision):
        for place, record in enumerate(found):
            cell = record.cell
            if (record.device.board, cell.power, cell.model, cell.precision) == (
                board, mode, model, precision,
            ):  # fmt: skip
                return place
        raise LookupError(model)

    failed = at("agx-orin-64gb", "MODE_30W", "cswin_t_global", "fp32")
    found[failed] = dataclasses.replace(
        found[failed],
        repetitions=(),
        statistics=Unavailable(reason="trtexec was killed: no memory"),
        power=Unavailable(reason="nothing ran"),
    )
    hot = at("agx-orin-64gb", "MAXN", "cswin_t_local", "fp16")
    found[hot] = dataclasses.replace(found[hot], validity=("throttled",))
    unproved = at("nano", "MAXN", "cswin_t_agent", "fp16")
    found[unproved] = dataclasses.replace(found[unproved], proof="fp16-unproven")
    short = at("nano", "5W", "cswin_t_effatt", "fp32")
    found[short] = dataclasses.replace(
        found[short], protocol=dataclasses.replace(runs.PROTOCOL, name="quick")
    )
    del found[at("agx-orin-64gb", "MAXN", "cswin_t_flatten", "fp16")]
    return tuple(found)


def laptop(runs, sides=(224, 448)):
    """Return records of a CPU: six networks in two sizes, interleaved."""
    base = {
        "global": 160.0,
        "local": 100.0,
        "flatten": 98.0,
        "agent": 96.0,
        "effatt": 97.0,
        "elfatt": 95.0,
    }
    found = []
    for number, (attention, ms) in enumerate(base.items()):
        for side in sides:
            growth = 1.35 if attention == "global" else 1.05
            record = runs.record(
                number,
                repetitions=runs.samples(number + side, ms=ms * (side / 224) ** (2 * growth)),
                group=f"one call {side}",
            )
            found.append(
                runs.changed(
                    record, model=f"cswin_t_{attention}", height=side, width=side, target="ort"
                )
            )
    return tuple(found)


def many(runs, count=2000):
    """Return simulated records: both sweeps in three contracts, under one JetPack after another."""
    contracts = ("paper/1", "throughput/1", "single-stream/1")
    base = [record for name in contracts for record in paper_sweeps(runs, contract=name)]
    return tuple(
        dataclasses.replace(
            base[number % len(base)],
            versions={**base[0].versions, "jetpack": f"6.{number // len(base)}"},
        )
        for number in range(count)
    )


def attach_trace(record, folder):
    """Return a record with a trace and a layer profile in files beside the results."""
    trace = {
        "schema": "elfatt-deploy/trace",
        "version": 1,
        "key": record.key,
        "source": "sysfs",
        "period_s": 0.1,
        "samples": [
            {
                "uptime_s": 100 + i / 10,
                "power_mw": {"VDD_GPU_SOC": 5000 + 40 * (i % 7), "VDD_CPU_CV": None},
                "temperature_c": {"gpu-thermal": 40 + i / 20},
                "clock_hz": {"gpu": 1.3e9},
                "counters": {},
            }
            for i in range(120)
        ],
        "notes": [],
    }
    layers = [
        {"count": 100},
        *(
            {
                "name": f"/net/stage{level}.0/attns.0/MatMul",
                "timeMs": 10.0,
                "averageMs": 0.1 * level,
            }
            for level in (1, 2, 3, 4)
        ),
    ]
    names = {}
    for name, document in (("r.traces/one.json", trace), ("one.profile.json", layers)):
        content = json.dumps(document).encode()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        names[name] = hashlib.sha256(content).hexdigest()
    return dataclasses.replace(record, attachments=names)
