"""The command line of a build by trtexec, for each version of it. Nothing here runs anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from elfatt_deploy.engine import memory
from elfatt_deploy.engine.config import BuildConfig
from elfatt_deploy.engine.dialects import Dialect
from elfatt_deploy.errors import EngineError, UsageError

#: the input of every bundle
_INPUT = "images"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Program and files of one build, as the machine that runs it names them.

    Args:
        program: trtexec.
        model: the ONNX file.
        plan: where the plan goes.
        layers: where the layer information goes.
        timing_cache: file of tactic timings, read and written; empty for none.
        plugins: plugin libraries.
    """

    program: str
    model: str
    plan: str
    layers: str
    timing_cache: str = ""
    plugins: tuple[str, ...] = ()


def plugin_places(folder: str, libraries: Sequence[Path]) -> tuple[str, ...]:
    """Return where plugin libraries go: numbered, for two may have one name.

    Args:
        folder: ours, on the machine that runs trtexec.
        libraries: here.
    """
    return tuple(f"{folder}/{number}-{path.name}" for number, path in enumerate(libraries))


def build_command(
    dialect: Dialect,
    config: BuildConfig,
    places: Places,
    workspace_bytes: int,
    image: tuple[int, int, int] | None = None,
) -> tuple[str, ...]:
    """Return the command that builds a plan.

    Args:
        dialect: of the version that will run it.
        config: how to build.
        places: program and files.
        workspace_bytes: limit of the workspace; a full MiB at least.
        image: channels, height and width of the input, for a dynamic batch.

    Raises:
        EngineError: this version cannot build what is asked.
        UsageError: a dynamic batch without the size of the images.
    """
    command = [places.program, f"--onnx={places.model}", f"--saveEngine={places.plan}"]
    command += [dialect.build_only, f"{dialect.workspace}{workspace_bytes // memory.MIB}"]
    command += _precision_options(dialect, config)
    command += _shape_options(config, image)
    command += [f"{dialect.plugins}{path}" for path in places.plugins]
    if places.timing_cache:
        command.append(f"--timingCacheFile={places.timing_cache}")
    # Without `detailed` the layer information is a list of names, which proves no precision.
    command += ["--profilingVerbosity=detailed", f"--exportLayerInfo={places.layers}"]
    return tuple(command)


def _precision_options(dialect: Dialect, config: BuildConfig) -> list[str]:
    options = [] if config.precision == "tf32" else ["--noTF32"]  # it is on by default
    if config.typed:
        if not dialect.typed and not dialect.always_typed:
            raise EngineError(
                f"trtexec of TensorRT {dialect.name} has no strongly typed networks",
                hint="export the bundle for this board (--target jp4 or jp5): its builder takes "
                "FP16 by a flag",
            )
        return [*options, dialect.typed] if dialect.typed else options
    if config.precision != "fp16":
        return options
    if not dialect.fp16:
        raise EngineError(
            f"trtexec of TensorRT {dialect.name} has no FP16 flag: the types of the file decide",
            hint="export the bundle with --precision fp16 for a target such as jp7.2 or desktop",
        )
    return [*options, dialect.fp16, *_island_options(dialect, config.islands)]


def _island_options(dialect: Dialect, islands: tuple[str, ...]) -> list[str]:
    """Return the options that keep layers in FP32, what they give included.

    trtexec splits the list at commas, each part at its last colon; a star is a wildcard and single
    quotes are taken off. A layer has the name of its ONNX node.
    """
    if not islands:
        return []
    if not dialect.layer_precisions:
        raise EngineError(
            f"trtexec of TensorRT {dialect.name} has no option that keeps a layer in FP32, and "
            f"{len(islands)} of this bundle must stay so",
            hint="build in process, with the tensorrt package of JetPack: --builder tensorrt",
        )
    odd = [name for name in islands if not name or set(name) & set(",'*")]
    if odd:
        raise EngineError(
            f"trtexec cannot name the layer {odd[0]!r}: comma, quote and star mean something to it",
            hint="export the bundle again, or build in process: --builder tensorrt",
        )
    listed = ",".join(f"{name}:fp32" for name in islands)
    return [
        dialect.constraints,
        f"{dialect.layer_precisions}{listed}",
        f"{dialect.layer_output_types}{listed}",
    ]


def _shape_options(config: BuildConfig, image: tuple[int, int, int] | None) -> list[str]:
    if config.profile is None:  # a fixed graph "does not take explicit shapes"
        return []
    if image is None:
        raise UsageError(
            "a dynamic batch was asked for, and the size of the images is not known",
            hint="give the channels, height and width of the bundle's input",
        )
    sides = "x".join(str(side) for side in image)
    batches = (config.profile.smallest, config.profile.best, config.profile.largest)
    return [
        f"--{name}Shapes={_INPUT}:{batch}x{sides}"
        for name, batch in zip(("min", "opt", "max"), batches, strict=True)
    ]
