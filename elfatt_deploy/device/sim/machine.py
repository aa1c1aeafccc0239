"""A simulated board as its programs see it: its files, its state, its faults."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from elfatt_deploy.device.sim import faults, physics
from elfatt_deploy.device.sim.conf import CPU_FOLDER, Conf, ConfMode, cluster_of, parse_conf
from elfatt_deploy.device.sim.facts import Facts, read_facts
from elfatt_deploy.device.sim.host import end_processes, is_running, remove, write_whole
from elfatt_deploy.errors import UsageError

STATE_FILE, FAULTS_FILE, DOWN_FILE = "state.json", "faults.json", "down_until"
STATUS_PATH, CONF_PATH = "/var/lib/nvpmodel/status", "/etc/nvpmodel.conf"
BOOT_ID_PATH = "/proc/sys/kernel/random/boot_id"
#: set by the emulated sudo
ROOT_VARIABLE = "ELFATT_DEPLOY_SIM_ROOT"
#: in the environment of every process that a transport starts on the board
FOLDER_VARIABLE = "ELFATT_DEPLOY_SIM"
#: makes the simulated board so many times as fast, for long sweeps
SPEED_VARIABLE = "ELFATT_DEPLOY_SIM_SPEED"
_UNLIMITED = 2**31 - 1


@dataclasses.dataclass(slots=True, kw_only=True)
class State:
    """What changes about a board, in `state.json`.

    Args:
        seed: of all that is random.
        mode: id of the power mode.
        boots: how often it has started.
        runs: how many programs have drawn random numbers.
        speed: how many times as fast the board computes as the rule says.
        locked: whether jetson_clocks pinned the clocks.
        busy_pid: the trtexec that writes busy values now; 0 for none.
        used: how often each fault happened.
    """

    seed: int = 0
    mode: int = 0
    boots: int = 1
    runs: int = 0
    speed: float = 1.0
    locked: bool = False
    busy_pid: int = 0
    used: dict[str, int] = dataclasses.field(default_factory=dict)


class Machine:
    """One simulated board, in its folder."""

    def __init__(self, folder: Path) -> None:
        """Read what the board is; its state is read whenever it is asked for."""
        self.folder = folder
        self.root = folder / "root"
        self.facts: Facts = read_facts(folder)

    # --- files ---------------------------------------------------------------------------------

    def path(self, board_path: str) -> Path:
        """Return where a file of the board lies here."""
        return self.root / board_path.lstrip("/")

    def read(self, board_path: str, default: str = "") -> str:
        """Return the text of a file of the board without its line break; a default without one."""
        try:
            return self.path(board_path).read_text(encoding="utf-8").rstrip("\n")
        except OSError:
            return default

    def write(self, board_path: str, value: object) -> None:
        """Write a file of the board so that no reader finds half of it."""
        write_whole(self.path(board_path), f"{value}\n")

    def number(self, board_path: str, default: int = 0) -> int:
        """Return the number in a file of the board."""
        text = self.read(board_path)
        return int(text) if text.lstrip("-").isdecimal() else default

    # --- state ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self) -> Iterator[State]:
        """Give the state, to be changed by one process at a time, and keep what it becomes."""
        with (self.folder / f"{STATE_FILE}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self.state()
            yield state
            text = json.dumps(dataclasses.asdict(state), indent=1)
            write_whole(self.folder / STATE_FILE, f"{text}\n")

    def state(self) -> State:
        """Return the state as it is now."""
        try:
            return State(**json.loads((self.folder / STATE_FILE).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return State()

    def chance(self, word: str) -> random.Random:
        """Return random numbers of the next run; the same ones for the same seed and run."""
        with self.changing() as state:
            state.runs += 1
            return random.Random(f"{state.seed}:{state.runs}:{word}")

    def speed(self) -> float:
        """Return how many times as fast the board computes as the rule says.

        Raises:
            UsageError: the environment asks for a speed that is none.
        """
        text = os.environ.get(SPEED_VARIABLE, "")
        return parse_speed(text) if text else self.state().speed

    @property
    def as_root(self) -> bool:
        """Whether this program was started through sudo."""
        return os.environ.get(ROOT_VARIABLE) == "1"

    # --- faults --------------------------------------------------------------------------------

    def fault(self, name: str) -> faults.Fault | None:
        """Return a fault that was asked for; None where it was not."""
        try:
            texts = json.loads((self.folder / FAULTS_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            texts = []
        texts += os.environ.get(faults.ENVIRONMENT, "").split(",")
        found = [fault for fault in faults.parse_faults(texts) if fault.name == name]
        return found[-1] if found else None

    def happens(self, name: str) -> bool:
        """Return whether a fault happens now, and count it."""
        fault = self.fault(name)
        if fault is None:
            return False
        with self.changing() as state:
            used = state.used.get(name, 0)
            if fault.count is not None and used >= fault.count:
                return False
            state.used[name] = used + 1
        return True

    def room_bytes(self) -> int | None:
        """Return how large a file may be under the fault `disk-full`; None without that fault."""
        fault = self.fault("disk-full")
        return None if fault is None else (fault.count or 0) * 2**20

    # --- power mode and clocks -----------------------------------------------------------------

    def conf(self) -> Conf:
        """Return the configuration of nvpmodel as it stands on the board."""
        return parse_conf(self.read(CONF_PATH))

    def apply(self, mode: ConfMode) -> None:
        """Write a power mode into the files of the board; clocks that were pinned stay pinned."""
        facts = self.facts
        files = {
            (name, argument): path
            for name, _, paths in self.conf().params
            for argument, path in paths
        }
        for param, argument, value in mode.lines:
            path = files.get((param, argument))
            if path is None:
                continue
            cluster = cluster_of(facts, param)
            if cluster is not None:
                self._limit_cores(cluster.cores, argument, int(value))
            elif param == "GPU":
                self._limit_gpu(argument, int(value))
            else:
                self.write(path, value)
        online = [core for core in range(facts.cores) if self.core_runs(core)]
        self.write(f"{CPU_FOLDER}/online", ranges(online))
        self.write(STATUS_PATH, f"pmode:{mode.id:04d}")
        self.write_at_rest()

    def core_runs(self, core: int) -> bool:
        """Return whether a core is online; core 0 of some boards has no such file."""
        return self.read(f"{CPU_FOLDER}/cpu{core}/online", "1") == "1"

    def _limit_cores(self, cores: tuple[int, ...], argument: str, khz: int) -> None:
        word = {"MAX_FREQ": "max", "MIN_FREQ": "min"}.get(argument)
        if word:
            value = nearest(self.facts.cpu_khz, khz)
            for core in cores:
                self.write(f"{CPU_FOLDER}/cpu{core}/cpufreq/scaling_{word}_freq", value)

    def _limit_gpu(self, argument: str, hz: int) -> None:
        word = {"MAX_FREQ": "max", "MIN_FREQ": "min"}.get(argument)
        if word:
            self.write(f"{self.facts.gpu_folder}/{word}_freq", nearest(self.facts.gpu_hz, hz))

    def clocks(self) -> physics.Clocks:
        """Return what the board runs at under load: the highest clocks of its power mode."""
        facts = self.facts
        cpu = max(
            self.number(f"{CPU_FOLDER}/cpu{core}/cpufreq/scaling_max_freq", facts.cpu_khz[0])
            for core in range(facts.cores)
            if self.core_runs(core)
        )
        cap = self.number(facts.emc_cap)
        mask = self.number(facts.tpc_mask_file) if facts.tpc_mask_file else 0
        mode = self.state().mode
        left = facts.tpc_bits - bin(mask).count("1")
        return physics.Clocks(
            cpu_hz=cpu * 1000.0,
            gpu_hz=float(self.number(f"{facts.gpu_folder}/max_freq", facts.gpu_hz[0])),
            emc_hz=float(min(cap, facts.emc_hz[1]) if cap > 0 else facts.emc_hz[1]),
            tpcs=min(facts.tpcs, left) if facts.tpc_mask_file else facts.tpcs,
            budget_w=facts.budgets_w.get(str(mode), facts.max_w),
        )

    # --- sensors -------------------------------------------------------------------------------

    def write_at_rest(self) -> None:
        """Write power, temperature and clocks of a board that does nothing."""
        facts, locked = self.facts, self.state().locked
        for core in range(facts.cores):
            folder = f"{CPU_FOLDER}/cpu{core}/cpufreq"
            word = "max" if locked else "min"
            value = self.read(f"{folder}/scaling_{word}_freq")
            self.write(f"{folder}/scaling_cur_freq", value)
        word = "max" if locked else "min"
        self.write(f"{facts.gpu_folder}/cur_freq", self.read(f"{facts.gpu_folder}/{word}_freq"))
        self.write(f"{facts.gpu_power}/load", 0)
        clocks = self.clocks()
        self.write_emc(clocks.emc_hz if locked else facts.emc_hz[0])
        self.write_power(physics.rail_mw(facts, facts.idle_w))
        self.write_temperature(physics.steady_c(facts, facts.idle_w))

    def write_emc(self, hz: float) -> None:
        """Write the memory controller's clock."""
        path = EMC_RATE[self.facts.emc_layout]
        self.write(path, round(hz))

    def write_power(self, rails_mw: tuple[float, ...]) -> None:
        """Write the readings of all rails, in mW; a rail whose files are gone stays so."""
        volts = self.facts.voltage_mv
        for rail, milliwatts in zip(self.facts.rails, rails_mw, strict=True):
            current = round(milliwatts / volts * 1000.0)
            if rail.layout == "hwmon":
                files = {f"curr{rail.index}_input": current, f"in{rail.index}_input": round(volts)}
            else:
                files = {
                    f"in_power{rail.index}_input": round(milliwatts),
                    f"in_current{rail.index}_input": current,
                    f"in_voltage{rail.index}_input": round(volts),
                }
            for name, value in files.items():
                if self.path(f"{rail.folder}/{name}").exists():
                    self.write(f"{rail.folder}/{name}", value)

    def write_temperature(self, celsius: float) -> None:
        """Write all thermal zones that can be read; each is a fraction of a degree off."""
        for n, word in enumerate(self.facts.zone_words):
            if word:
                value = round(1000 * celsius) - 250 * (n % 4)
                self.write(f"/sys/class/thermal/thermal_zone{n}/temp", value)

    def settle(self) -> None:
        """Put sensors to rest that a trtexec left busy because it was killed."""
        pid = self.state().busy_pid
        if pid and not is_running(pid):
            with self.changing() as state:
                state.busy_pid = 0
            self.write_at_rest()

    # --- reboot --------------------------------------------------------------------------------

    def is_down(self) -> bool:
        """Return whether the board is rebooting now."""
        return time.time() < self.down_until()

    def down_until(self) -> float:
        """Return the end of its last reboot, on this machine's wall clock."""
        try:
            return float((self.folder / DOWN_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return 0.0

    def reboot(self, *, abrupt: bool = False) -> None:
        """Take the board away for a while; when it is back it is in the mode of the status file.

        All processes that a transport started on it end.

        Args:
            abrupt: whether those that led to this call end, too; else their session may tell
                that it asked for the reboot.
        """
        seconds = float(os.environ.get("ELFATT_DEPLOY_SIM_REBOOT_S", self.facts.rule.reboot_s))
        # whole seconds, which `date +%s` of the login counts in: both must agree on the end
        until = math.ceil(time.time() + seconds) if seconds else 0
        write_whole(self.folder / DOWN_FILE, f"{until}\n")
        for entry in self.path("/tmp").iterdir():
            remove(entry)
        with self.changing() as state:
            state.boots += 1
            state.locked = False
            state.busy_pid = 0
            boot_id = random.Random(f"{state.seed}:boot:{state.boots}")
        self.write(BOOT_ID_PATH, uuid_of(boot_id))
        self.unpin_governed()
        self.start_in(self.pending_mode())
        end_processes(f"{FOLDER_VARIABLE}={self.folder}", ancestors=abrupt)

    def pending_mode(self) -> int:
        """Return the mode that the status file asks for; the default without one that exists."""
        conf = self.conf()
        word = next((w for w in self.read(STATUS_PATH).split() if w.startswith("pmode:")), "")
        digits = word.removeprefix("pmode:")
        number = int(digits) if digits.isdecimal() else conf.default
        return number if conf.mode(number) else conf.default

    def start_in(self, number: int) -> None:
        """Apply a mode as the start of the board does."""
        mode = self.conf().mode(number)
        with self.changing() as state:
            state.mode = number
        if mode is not None:
            self.apply(mode)

    def unpin_governed(self) -> None:
        """Put the limits of all clocks to the hardware's own, as a fresh start finds them."""
        facts = self.facts
        everything = tuple(range(facts.cores))
        self._limit_cores(everything, "MIN_FREQ", 0)
        self._limit_cores(everything, "MAX_FREQ", -1)
        self._limit_gpu("MIN_FREQ", 0)
        self._limit_gpu("MAX_FREQ", -1)
        self.write(EMC_LOCK[facts.emc_layout], 0)


#: file of the memory controller's clock, and of its pin, by layout
EMC_RATE = {
    "bwmgr": "/sys/kernel/debug/clk/override.emc/clk_rate",
    "bpmp": "/sys/kernel/debug/bpmp/debug/clk/emc/rate",
}
EMC_LOCK = {
    "bwmgr": "/sys/kernel/debug/clk/override.emc/clk_state",
    "bpmp": "/sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked",
}


def parse_speed(text: str) -> float:
    """Read a speed.

    Raises:
        UsageError: it is no number from 1 to 10,000.
    """
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1.0 <= speed <= 1e4:
        raise UsageError(
            f"'{text}' is no speed of a simulated board",
            hint=f"give {SPEED_VARIABLE} a number from 1 to 10000",
        )
    return speed


def nearest(steps: tuple[int, ...], value: int) -> int:
    """Return the clock step that a written value leads to: the nearest; -1 is the highest."""
    if value < 0 or value >= _UNLIMITED:
        return steps[-1]
    return min(steps, key=lambda step: abs(step - value))


def ranges(numbers: list[int]) -> str:
    """Return numbers as the kernel lists cores: `0,3-5`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def uuid_of(chance: random.Random) -> str:
    """Return 32 random hexadecimal digits as the kernel writes a boot's identity."""
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
