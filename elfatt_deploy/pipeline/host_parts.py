"""This machine and its state, as the parts of a run record."""

from __future__ import annotations

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.bench import machine
from elfatt_deploy.bench.cells import Measured
from elfatt_deploy.bench.machine import Machine
from elfatt_deploy.bench.machine_state import State
from elfatt_deploy.results.parts import Clock, Device, MachineState, Temperature


def device_of(found: Machine, measured: tuple[Measured, ...]) -> Device:
    """Return this machine, with the GPU that was measured on."""
    return Device(
        name=found.cpu,
        board=Unavailable(reason="no board that we know"),
        cpu=found.cpu,
        cores=found.cores,
        memory_bytes=machine.total_bytes(),
        gpu=measured[0].gpu if measured else Unavailable(reason="nothing was measured"),
        system=found.system,
        virtual=found.virtual,
    )


def state_of(state: State) -> MachineState:
    """Return how this machine was at one moment."""
    degrees = state.temperatures_c
    return MachineState(
        load=state.load,
        governor=state.governor,
        free_bytes=state.free_bytes,
        swap_used_bytes=state.swap_used_bytes,
        gpu_processes=state.gpu_processes,
        clocks=(
            Clock(
                name="cpu",
                now_hz=state.clock_hz,
                min_hz=state.clock_min_hz,
                max_hz=state.clock_max_hz,
            ),
        )
        if isinstance(state.clock_hz, float)
        else state.clock_hz,
        temperatures=degrees
        if isinstance(degrees, Unavailable)
        else tuple(Temperature(zone=zone, value_c=value) for zone, value in degrees.items()),
        throttle_events=state.throttle_events,
        huge_pages=state.huge_pages,
    )
