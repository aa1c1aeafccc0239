"""What a board can do in one power mode: the numbers that a roofline needs."""

from __future__ import annotations

import dataclasses

from elfatt_deploy.artifacts import Unavailable
from elfatt_deploy.device.boards import BoardFile, BoardMode


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A board in a power mode.

    Args:
        board: a name of `profiles/boards`.
        mode: name of the power mode.
        target: deployment target of its JetPack, such as `jp6`.
        sm: compute capability, 87 for 8.7.
        sms: streaming multiprocessors that the mode leaves on.
        cores_per_sm: FP32 multiply-adds of one of them in a clock.
        gpu_hz: highest clock of the GPU.
        cpu_hz: highest clock of a CPU core.
        bandwidth_bytes_per_s: of the memory, at the mode's memory clock.
    """

    board: str
    mode: str
    target: str
    sm: int
    sms: int
    cores_per_sm: int
    gpu_hz: float
    cpu_hz: float
    bandwidth_bytes_per_s: float

    @property
    def fp32_flops(self) -> float:
        """Floating-point operations a second in FP32, two a multiply-add."""
        return 2 * self.sms * self.cores_per_sm * self.gpu_hz


def machine_of(board: BoardFile, mode: BoardMode) -> Machine | Unavailable:
    """Return what a board can do in a power mode, from its file; a cap of None is no cap.

    The memory's bandwidth follows its clock.
    """
    cpu = _capped(mode.cpu_max_hz, board.cpu_max_hz)
    gpu = _capped(mode.gpu_max_hz, board.gpu_peak.gpu_max_hz)
    memory = _capped(mode.emc_max_hz, board.emc_max_hz)
    if isinstance(cpu, Unavailable):
        return cpu
    if isinstance(gpu, Unavailable):
        return gpu
    if isinstance(memory, Unavailable):
        return memory
    if isinstance(mode.tpcs_on, Unavailable):
        return mode.tpcs_on
    peak = board.gpu_peak
    return Machine(
        board=board.name,
        mode=mode.name,
        target=board.target,
        sm=board.sm,
        sms=mode.tpcs_on * peak.sms_per_tpc,
        cores_per_sm=peak.cores_per_sm,
        gpu_hz=gpu,
        cpu_hz=cpu,
        bandwidth_bytes_per_s=peak.bandwidth_bytes_per_s * memory / board.emc_max_hz,
    )


def _capped(cap: float | None | Unavailable, most: float) -> float | Unavailable:
    if isinstance(cap, Unavailable):
        return cap
    return most if cap is None else min(cap, most)
