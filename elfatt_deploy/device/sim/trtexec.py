"""The emulated trtexec: it speaks the dialect of its board's TensorRT version."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy.device.sim import trtexec_build, trtexec_run, trtexec_text
from elfatt_deploy.device.sim.busy import watch_parent
from elfatt_deploy.device.sim.machine import Machine
from elfatt_deploy.device.sim.trtexec_build import Built, Failed
from elfatt_deploy.device.sim.trtexec_options import Options
from elfatt_deploy.device.sim.trtexec_plan import NotAPlan, read_plan, refusal
from elfatt_deploy.device.sim.trtexec_text import Log
from elfatt_deploy.graph import plugin_nodes
from elfatt_deploy.models import plugin_node

#: from this version on the help comes before the errors about options
_HELP_FIRST = (10,)
#: these versions say PASSED after a plan that they could not read, where nothing is run
_FALSE_PASS = (10,)
_HELP = (
    "=== Model Options ===",
    "  --onnx=<file>               ONNX model",
    "=== Build Options ===",
    "  --saveEngine=<file>         Save the serialized engine",
    "  --loadEngine=<file>         Load a serialized engine",
    "(this is the trtexec of a simulated board of elfatt-deploy; the real one has a longer help)",
)


def main(machine: Machine, command: Sequence[str]) -> int:
    """Run it.

    Args:
        machine: the board.
        command: the program and its arguments.
    """
    options = Options(command[1:], machine.facts.version)
    log = Log(machine.facts, command, verbose=options.has("--verbose"))
    watch_parent(machine)
    log.banner("RUNNING")
    if options.has("--help", "-h"):
        _help(log)
        return 0
    try:
        passed = _known(options, log) and _go(machine, options, log)
    except Failed:
        passed = False
    except ValueError as error:  # a number or shape among the options
        log.error(f"Invalid value of an option: {error}")
        passed = False
    log.banner("PASSED" if passed else "FAILED")
    return 0 if passed else 1


def _help(log: Log) -> None:
    for line in _HELP:
        log.bare(line)


def _known(options: Options, log: Log) -> bool:
    """Refuse options that this version does not know, and those that are not emulated."""
    unknown = options.unknown()
    if unknown and options.version >= _HELP_FIRST:
        _help(log)
    for option in unknown:
        if option.real:
            log.error(f"The simulated trtexec does not emulate the option {option.key}")
        else:
            log.error(f"Unknown option: {option.key} {option.value}")
    if unknown and options.version < _HELP_FIRST:
        _help(log)
    return not unknown


def _go(machine: Machine, options: Options, log: Log) -> bool:
    """Build or load, then run; whether all went well.

    Raises:
        Failed: it did not.
    """
    if not options.has("--onnx", "--loadEngine"):
        log.error("Model missing or format not recognized")
        return False
    _say_options(options, log)
    for line in trtexec_text.device_lines(machine.facts, machine.clocks()):
        log.info(line)
    only_build = options.has("--buildOnly", "--skipInference")
    if options.has("--loadEngine"):
        built = _load(machine, options, log)
        if built is None:
            return only_build and options.version >= _FALSE_PASS
    else:
        if only_build and machine.happens("trtexec-hangs"):
            log.info("Start parsing network model")
            while True:
                signal.pause()
        built = trtexec_build.build(machine, options, log)
        trtexec_build.save(machine, options, log, built)
    trtexec_build.export_layers(options, log, built.plan)
    if only_build:
        word = "--skipInference" if options.has("--skipInference") else "--buildOnly"
        log.info(f"Skipped inference phase since {word} is added.")
        return True
    trtexec_run.run(machine, options, log, built)
    return True


def _say_options(options: Options, log: Log) -> None:
    """Write the head of the echo of all options; the real one is longer."""
    log.info("=== Model Options ===")
    log.info(f"Format: {'ONNX' if options.has('--onnx') else '*'}")
    log.info(f"Model: {options.text('--onnx')}")
    log.info("=== Build Options ===")
    log.info(f"Precision: {'FP32+FP16' if options.has('--fp16') else 'FP32'}")
    log.info(f"Save engine: {options.text('--saveEngine')}")
    log.info(f"Load engine: {options.text('--loadEngine')}")
    log.info("=== Inference Options ===")
    log.info(f"Iterations: {options.number('--iterations', 10):g}")
    warm_up, duration = options.number("--warmUp", 200), options.number("--duration", 3)
    log.info(f"Duration: {duration:g}s (+ {warm_up:g}ms warm up)")
    log.info("")


def _load(machine: Machine, options: Options, log: Log) -> Built | None:
    """Return the plan of `--loadEngine`; None, after the errors, where it is refused."""
    name, facts = options.text("--loadEngine"), machine.facts
    try:
        plan, model = read_plan(Path(name))
        wrong = refusal(plan, facts)
        if wrong is None and machine.happens("plan-rejected"):
            wrong = "Error Code 1: Serialization (Serialization assertion safeVersionRead failed.)"
        known = trtexec_build.holds_plugin(options, log)
        if wrong is None and plugin_nodes.holds_nodes(model) and not known:
            wrong = (
                "IPluginV2DynamicExt: getPluginCreator could not find plugin: "
                f"{plugin_node.OP} version: {plugin_node.PLUGIN_VERSION}"
            )
    except OSError:
        log.error(f"Error opening engine file: {name}")
        wrong = ""
    except NotAPlan as error:
        wrong = f"Error Code 1: Serialization (Serialization assertion failed. {error})"
    if wrong is not None:
        if wrong:
            log.error(f"[TRT] Error[1]: [stdArchiveReader.cpp::StdArchiveReader::40] {wrong}")
        log.error("Engine deserialization failed")
        if not (options.has("--skipInference") and options.version >= _FALSE_PASS):
            log.error("Got invalid engine!")
            log.error("Inference set up failed")
        return None
    if plan.board != facts.board:
        log.warning(
            "[TRT] Using an engine plan file across different models of devices is not recommended "
            "and is likely to affect performance or even cause errors."
        )
    log.info(f"[TRT] Loaded engine size: {Path(name).stat().st_size // 2**20} MiB")
    log.info("Engine deserialized in 0.01 sec.")
    return Built(plan=plan, model=model)
