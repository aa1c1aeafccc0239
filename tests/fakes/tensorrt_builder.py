"""What a TensorRT that builds does, as behaviours for `tensorrt_surface`.

`World` holds what the fake is given (layers, shapes, parser errors, how a build ends) and what it
was told (flags, workspaces, profiles, constraints). `behaviours(world)` serves every version; set
`world.trt` to the module that was made of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass
class Layer:
    """A layer of the parsed network; `types` are the data types of its outputs."""

    name: str
    types: tuple[str, ...] = ("FLOAT",)
    kind: str = "ELEMENTWISE"
    metadata: str = ""


@dataclasses.dataclass
class World:
    """One TensorRT; `build(world, attempt)` returns the plan's bytes, or None after logging."""

    layers: tuple[Layer, ...] = (Layer("/norm/Pow"), Layer("/head/MatMul"))
    shape: tuple[int, ...] = (1, 3, 64, 64)
    parser_errors: tuple[dict[str, Any], ...] = ()
    build: Any = None
    loads: bool = True
    information: str = '{"Layers": []}'
    trt: Any = None
    logger: Any = None
    made: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    phases: int = 0

    @property
    def trt_version(self):
        return self.trt.__version__.encode()

    def log(self, severity, text):
        self.logger.log(getattr(self.trt.ILogger.Severity, severity), text)

    def new(self, kind, **state):
        """Make an object of the fake's and remember it."""
        made = getattr(self.trt, kind)()
        for name, value in state.items():
            setattr(made, f"_{name}", value)
        self.made.setdefault(kind, []).append(made)
        return made

    def last(self, kind):
        return self.made[kind][-1]


def _members(found):
    """Return the functions of a scope."""
    return {name: value for name, value in found.items() if callable(value)}


def _builder(world):
    def __init__(self, logger):
        world.logger = logger

    def create_network(self, flags=0):
        return world.new("INetworkDefinition", flags=flags, parsed=False)

    def create_builder_config(self):
        return world.new("IBuilderConfig", flags={"TF32"}, pools={}, profiles=[], cache=None)

    def create_optimization_profile(self):
        return world.new("IOptimizationProfile", shapes={})

    def build_serialized_network(self, network, config):
        assert network._parsed
        attempt = len(world.made.setdefault("attempts", []))
        world.made["attempts"].append(config)
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            monitor.phase_start("Tactics", None, 2)
            for step in range(2):
                world.phases += 1
                if not monitor.step_complete("Tactics", step):
                    return None
            monitor.phase_finish("Tactics")
        plan = world.build(world, attempt) if world.build else b"plan of a fake"
        return None if plan is None else _memory(world, plan)

    return _members(locals())


def _memory(world, data):
    return world.new("IHostMemory", data=data)


def _config(world):
    def set_flag(self, flag):
        self._flags.add(flag.name)

    def clear_flag(self, flag):
        self._flags.discard(flag.name)

    def set_memory_pool_limit(self, pool, size):
        self._pools[pool.name] = size

    def add_optimization_profile(self, profile):
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, data):
        return None if data.startswith(b"torn") else world.new("ITimingCache", data=data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache._data and not cache._data.startswith(b"timings of " + world.trt_version):
            world.log("ERROR", "the timing cache will not be used")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache

    return {
        **_members(locals()),
        "max_workspace_size": 0,
        "profiling_verbosity": None,
        "progress_monitor": None,
    }


def _network(world):
    return {
        "num_layers": property(lambda self: len(self._layers)),
        "get_layer": lambda self, index: self._layers[index],
        "num_inputs": 1,
        "get_input": lambda self, index: self._input,
    }


def _parser(world):
    def __init__(self, network, logger):
        self._network = network

    def parse_from_file(self, path):
        network, trt = self._network, world.trt
        network._parsed = not world.parser_errors
        network._input = world.new("ITensor")
        network._input.name, network._input.shape = "images", world.shape
        network._layers = []
        for given in world.layers:
            layer = world.new("ILayer", types=given.types, outputs={})
            layer.name, layer.type = given.name, getattr(trt.LayerType, given.kind)
            if hasattr(trt.ILayer, "metadata"):
                layer.metadata = given.metadata
            network._layers.append(layer)
        return network._parsed

    def get_error(self, index):
        return world.new("ParserError", told=world.parser_errors[index])

    return {
        **_members(locals()),
        "num_errors": property(lambda self: len(world.parser_errors)),
    }


def _layer(world):
    def get_output(self, index):
        tensor = world.new("ITensor")
        tensor.dtype = getattr(world.trt.DataType, self._types[index])
        return tensor

    def set_output_type(self, index, dtype):
        assert self._types[index] in ("FLOAT", "HALF")
        self._outputs[index] = dtype.name

    return {
        **_members(locals()),
        "num_outputs": property(lambda self: len(self._types)),
        "name": "",
        "type": None,
        "metadata": "",
        "precision": None,
    }


def _runtime(world):
    def __init__(self, logger):
        self._logger = logger

    def deserialize_cuda_engine(self, data):
        assert isinstance(data, bytes)
        return world.new("ICudaEngine") if world.loads else None

    return _members(locals())


def behaviours(world):
    """Return the behaviours of all classes that a build touches."""

    def told(name, default=""):
        return lambda self: self._told.get(name, default)

    return {
        "": {"init_libnvinfer_plugins": lambda logger, namespace: True},
        "Builder": _builder(world),
        "IBuilderConfig": _config(world),
        "IOptimizationProfile": {
            "set_shape": lambda self, name, *shapes: self._shapes.update({name: shapes})
        },
        "INetworkDefinition": _network(world),
        "ITensor": {"name": "", "shape": (), "dtype": None},
        "OnnxParser": _parser(world),
        "ParserError": {
            "desc": told("desc"),
            "node": told("node", -1),
            "node_name": told("node_name"),
            "node_operator": told("node_operator"),
        },
        "ILayer": _layer(world),
        "ITimingCache": {
            "serialize": lambda self: _memory(world, b"timings of " + world.trt_version)
        },
        "Runtime": _runtime(world),
        "ICudaEngine": {"create_engine_inspector": lambda self: world.new("EngineInspector")},
        "EngineInspector": {"get_engine_information": lambda self, form: world.information},
    }
