"""A small board in memory that answers the steps of `control.sh`, and remembers their order.

Faults are attributes: `lost` numbers of calls at which the connection is lost (before or, with
`after=True`, after the step was done), `wants_reboot` modes, and so on.
"""

import contextlib
import dataclasses

from elfatt_deploy.errors import ConnectError
from elfatt_deploy.transport.base import CommandResult

CPU = "/sys/devices/system/cpu/cpu{}/cpufreq/scaling_{}"
GPU = "/sys/class/devfreq/17000000.gpu/{}"
EMC_LOCK = "/sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked"
MASK = "/sys/devices/platform/gpu.0/tpc_pg_mask"


@dataclasses.dataclass
class Mode:
    name: str
    cores: int
    cpu_khz: int
    gpu_hz: int
    mask: int = 0


MODES = {
    0: Mode("MAXN", 8, 2201600, 1300500000, 0),
    1: Mode("MODE_15W", 4, 1113600, 408000000, 248),
    2: Mode("MODE_30W", 8, 1728000, 612000000, 240),
    3: Mode("MODE_50W", 8, 1497600, 816000000, 0),
}


class BoardFake:
    name = "nvidia@orin"

    def __init__(self, mode=2, *, jetson_clocks=True):
        self.mode, self.boots, self.pending = mode, 1, None
        self.files, self.stored, self.lock = {}, {}, None
        self.fan = "active"
        self.jetson_clocks = jetson_clocks
        self.steps, self.calls = [], 0
        self.lost, self.after, self.down, self.gone = set(), False, 0, False
        self.wants_reboot, self.refused, self.ignored = set(), set(), set()
        self.root, self.stuck, self.reboots_at = True, False, None
        self.on_step = lambda step: None
        self.apply(mode)

    # --- the board

    def apply(self, number):
        mode = MODES[number]
        self.mode = number
        self.files = {MASK: str(mode.mask), EMC_LOCK: self.files.get(EMC_LOCK, "0")}
        for core in range(mode.cores):
            self.files[CPU.format(core, "min_freq")] = "729600"
            self.files[CPU.format(core, "max_freq")] = str(mode.cpu_khz)
            self.files[CPU.format(core, "cur_freq")] = str(729600 + self.calls_now())
            self.files[CPU.format(core, "governor")] = "schedutil"
        self.files[GPU.format("min_freq")] = "306000000"
        self.files[GPU.format("max_freq")] = str(mode.gpu_hz)
        self.files[GPU.format("cur_freq")] = "306000000"

    def calls_now(self):
        return getattr(self, "calls", 0)

    def pin(self):
        if self.stuck:
            return
        for core in range(MODES[self.mode].cores):
            self.files[CPU.format(core, "min_freq")] = self.files[CPU.format(core, "max_freq")]
        self.files[GPU.format("min_freq")] = self.files[GPU.format("max_freq")]
        self.files[EMC_LOCK] = "1"

    def start_again(self):
        self.boots += 1
        self.lock = None
        self.files[EMC_LOCK] = "0"
        self.fan = "active"
        self.apply(self.mode if self.pending is None else self.pending)
        self.pending = None

    @property
    def boot_id(self):
        return f"boot-{self.boots}"

    @property
    def condition(self):
        """All that must be as it was found."""
        kept = {path: value for path, value in self.files.items() if "cur_freq" not in path}
        return self.mode, kept, self.fan

    # --- the transport

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def run(self, command, *, timeout_s=None, input=None, on_line=None):
        assert tuple(command[:3]) == ("sh", "-s", "--")
        assert 'main "$@"' in input.splitlines()[-1]
        verb, *arguments = command[3:]
        self.calls += 1
        if self.gone:
            raise ConnectError(f"the connection to {self.name} was lost")
        if self.down:
            self.down -= 1
            if not self.down:
                self.start_again()
            raise ConnectError(f"{self.name} does not answer")
        if self.calls == self.reboots_at:
            self.start_again()
        if self.calls in self.lost and not self.after:
            raise ConnectError(f"the connection to {self.name} was lost")
        step = " ".join([verb, *(a.split("/")[-1] for a in arguments)]) if verb != "state" else verb
        self.steps.append(step.splitlines()[0] if verb != "take" else "take")
        lines = self.answer(verb, arguments)
        self.on_step(self.steps[-1])
        if self.calls in self.lost:
            raise ConnectError(f"the connection to {self.name} was lost")
        text = "\n".join([*lines, "end"]) + "\n"
        return CommandResult(command=tuple(command), status=0, stdout=text, stderr="", seconds=0.0)

    def answer(self, verb, arguments):
        return getattr(self, "do_" + verb.replace("-", "_"))(*arguments)

    # --- the steps

    def do_boot(self):
        return [f"boot-id {self.boot_id}", "uptime 100.00"]

    def do_state(self, *paths):
        mode = MODES[self.mode]
        files = [f"file {path} {value}" for path, value in self.files.items()]
        return [
            *self.do_boot(), f"online 0-{mode.cores - 1}", *files, f"fan {self.fan}",
            "said NVPM WARN: Golden image context is already created",
            f"said NV Power Mode: {mode.name}", f"said {self.mode}",
            "said NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13",
            "status 0",
        ]  # fmt: skip

    def denied(self):
        return ["said sudo: a password is required", "status 1"]

    def do_mode(self, number):
        number = int(number)
        if not self.root:
            return self.denied()
        if number in self.wants_reboot:
            return [
                "said NVPM WARN: Golden image context is already created",
                f"said NVPM WARN: Reboot required for changing to this power mode: {number}",
                "said NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:",
                "said NVPM ERROR: optMask is 1, no request for power mode",
                "status 0",
            ]
        if number in self.refused:
            return [
                f"said NVPM ERROR: Error writing 8 to {MASK}: 19",
                "said NVPM ERROR: failed to set power mode!",
                "status 0",
            ]
        if number not in self.ignored:
            self.apply(number)
        return ["status 0"]

    def do_store(self, path):
        if not self.jetson_clocks:
            return ["said sudo: jetson_clocks: command not found", "status 127"]
        if not self.root:
            return self.denied()
        self.stored[path] = (dict(self.files), self.fan)
        return ["status 0", f"stored {path}"]

    def do_pin(self):
        self.pin()
        return ["status 0"]

    def do_pin_and_fan(self):
        self.fan = "inactive"
        return self.do_pin()

    def do_unpin(self, path):
        if path not in self.stored:
            return [f"said Error: {path} file not found !", "status 1"]
        files, self.fan = self.stored[path]
        for name, value in files.items():
            if name in self.files:
                self.files[name] = value
        return ["status 0"]

    def do_has(self, path):
        return [f"file {path} present"] if path in self.stored else []

    def do_forget(self, *paths):
        for path in paths:
            self.stored.pop(path, None)
        return []

    def do_pending(self, number):
        self.pending = int(number)
        return [f"pending pmode:{self.pending:04d}"]

    def do_reboot(self):
        self.down = 3
        return ["status 0"]

    def do_take(self, token, owner):
        if self.lock is None:
            self.lock = owner
            return ["taken"]
        return ["held", *(f"owner {line}" for line in self.lock.splitlines())]

    def do_drop(self, token):
        if self.lock is not None and f"token={token}" in self.lock.splitlines():
            self.lock = None
            return ["dropped"]
        return []

    @contextlib.contextmanager
    def temporary_folder(self):
        yield "/tmp/nowhere"
