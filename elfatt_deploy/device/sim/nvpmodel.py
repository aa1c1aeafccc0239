"""The emulated nvpmodel. Its texts are those of the captures of JetPack 4 to 6.

As on a real board its exit status says little: a refused change and a query without rights end
with 0. Warnings and errors go to standard error, which is a choice: the captures do not tell.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from elfatt_deploy.device.sim.conf import Conf, ConfMode, parse_conf
from elfatt_deploy.device.sim.machine import CONF_PATH, Machine

_UNLIMITED = 2**31 - 1
_DENIED = 13


def main(machine: Machine, arguments: Sequence[str]) -> int:
    """Run it.

    Args:
        machine: the board.
        arguments: without the program's name.
    """
    asked = _Asked(arguments)
    if asked.wrong:
        _say(f"NVPM ERROR: unknown option {asked.wrong}", error=True)
        return 255
    path = asked.conf or CONF_PATH
    text = machine.read(CONF_PATH) if not asked.conf else _read(asked.conf)
    if text is None:
        _say(f"NVPM ERROR: Error opening {path}: 2", error=True)
        return 255
    conf = parse_conf(text)
    if asked.verbose and not asked.show:
        _say(f"NVPM VERB: Config file: {path}")
        _say(f"NVPM VERB: parsing done for {path}")
    if asked.mode is not None:
        return _set(machine, conf, asked.mode)
    if asked.show:
        _show(conf)
        return 0
    return _query(machine, conf, verbose=asked.verbose)


class _Asked:
    """The options: -q, -p, -m ID, -f FILE, --verbose."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.mode: int | None = None
        self.conf, self.wrong = "", ""
        self.verbose = self.show = False
        rest = list(arguments)
        while rest:
            word = rest.pop(0)
            if word in ("-m", "--mode") and rest and rest[0].lstrip("-").isdecimal():
                self.mode = int(rest.pop(0))
            elif word in ("-f", "--conf") and rest:
                self.conf = rest.pop(0)
            elif word in ("-d", "--verbose"):
                self.verbose = True
            elif word in ("-p", "--parse"):
                self.show = True
            elif word not in ("-q", "--query"):
                self.wrong = word


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def _say(line: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(line + "\n")
    stream.flush()


def _query(machine: Machine, conf: Conf, *, verbose: bool) -> int:
    facts = machine.facts
    mode = conf.mode(machine.state().mode)
    if mode is None:
        _say("NVPM ERROR: no power mode is set", error=True)
        return 255
    if facts.soc == "tegra210":
        _say("NVPM WARN: fan mode is not set!", error=True)
    _say(f"{'NVPM VERB: Current mode: ' if verbose else ''}NV Power Mode: {mode.name}")
    _say(str(mode.id))
    if not machine.as_root:
        _say(f"NVPM ERROR: Error opening {facts.emc_cap}: {_DENIED}", error=True)
        _say(
            f"NVPM ERROR: failed to read PARAM EMC: ARG MAX_FREQ: PATH {facts.emc_cap}", error=True
        )
    if verbose:
        _compare(machine, conf, mode)
    return 0


def _compare(machine: Machine, conf: Conf, mode: ConfMode) -> None:
    """Say for each file of the mode what it holds and what the configuration wants."""
    paths = {(name, a): path for name, _, files in conf.params for a, path in files}
    for param, argument, value in mode.lines:
        path = paths.get((param, argument))
        if path is None or (path == machine.facts.emc_cap and not machine.as_root):
            continue
        _say(
            f"NVPM VERB: PARAM {param}: ARG {argument}: PATH {path}: "
            f"REAL_VAL: {machine.read(path)} CONF_VAL: {_shown(value)}"
        )


def _shown(value: str) -> str:
    return str(_UNLIMITED) if value == "-1" else value


def _show(conf: Conf) -> None:
    """Say the whole configuration, as `-p --verbose` does."""
    default = conf.mode(conf.default)
    _say(f"NVPM VERB: PM_CONFIG: DEFAULT={default.name if default else '?'}({conf.default})")
    for name, kind, paths in conf.params:
        _say(f"NVPM VERB: PARAM TYPE={kind} NAME={name}")
        for argument, path in paths:
            if not argument.endswith("_KNEXT"):
                _say(f"NVPM VERB: {argument} {path}")
    for mode in conf.modes:
        _say("NVPM VERB:")
        _say(f"NVPM VERB: POWER_MODEL: ID={mode.id} NAME={mode.name}")
        for param, argument, value in mode.lines:
            _say(f"NVPM VERB: {param} {argument} {_shown(value)}")
    _say("NVPM VERB:")


def _set(machine: Machine, conf: Conf, number: int) -> int:
    mode = conf.mode(number)
    if mode is None:
        _say(f"NVPM ERROR: power mode {number} is not in the configuration", error=True)
        return 255
    if not machine.as_root:
        return _refuse("/sys/devices/system/cpu/cpu1/online", "CPU_ONLINE", "CORE_1", _DENIED)
    if machine.happens("mode-refused"):
        path = machine.facts.tpc_mask_file or machine.facts.emc_cap
        param = ("TPC_POWER_GATING", "TPC_PG_MASK") if machine.facts.tpc_mask_file else (
            "EMC", "MAX_FREQ",
        )  # fmt: skip
        return _refuse(path, *param, 19)
    if _needs_reboot(machine, mode):
        return _prompt(machine, mode)
    if machine.happens("mode-readback-differs"):
        return 0
    with machine.changing() as state:
        state.mode = number
    machine.apply(mode)
    return 0


def _refuse(path: str, param: str, argument: str, number: int) -> int:
    """Say that a file could not be written; the status is 0 all the same."""
    _say(f"NVPM ERROR: Error opening {path}: {number}", error=True)
    _say(f"NVPM ERROR: failed to write PARAM {param}: ARG {argument}: PATH {path}", error=True)
    _say("NVPM ERROR: failed to set power mode!", error=True)
    return 0


def _needs_reboot(machine: Machine, mode: ConfMode) -> bool:
    """Return whether a mode cannot be had without a reboot: Orin cannot regate TPCs in use."""
    if mode.id == machine.state().mode:
        return False
    facts = machine.facts
    if machine.happens("reboot-prompt"):
        return True
    mask = mode.value("TPC_POWER_GATING", "TPC_PG_MASK")
    now = machine.read(facts.tpc_mask_file) if facts.tpc_mask_file else mask
    return facts.mask_needs_reboot and mask is not None and mask != now


def _prompt(machine: Machine, mode: ConfMode) -> int:
    """Ask for consent on standard input; without any the mode stays."""
    _say("NVPM WARN: Golden image context is already created", error=True)
    _say(f"NVPM WARN: Reboot required for changing to this power mode: {mode.id}", error=True)
    _say("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:", error=True)
    if sys.stdin.readline().strip() not in ("YES", "yes"):
        _say("NVPM ERROR: optMask is 1, no request for power mode", error=True)
        return 0
    _say("NVPM WARN: rebooting", error=True)
    machine.write("/var/lib/nvpmodel/status", f"pmode:{mode.id:04d}")
    machine.reboot()
    return 0
