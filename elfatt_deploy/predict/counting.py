"""Counts the kernels of a model on the model itself, on the meta device: no memory, no arithmetic.

    python -m elfatt_deploy.predict.counting [MODEL ...]

writes `profiles/kernels/MODEL.json` of the named models, or of all.

Eager: every op of PyTorch that is no view is a kernel. Mixed precision: the casts of PyTorch's
automatic mixed precision for CUDA are applied by its published lists of ops: products and
convolutions in FP16, softmax, norms and powers in FP32, the rest in the widest type of its inputs
(https://docs.pytorch.org/docs/stable/amp.html, "CUDA Op-Specific Behavior").
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry

from elfatt_deploy import recipes
from elfatt_deploy.export import plugin
from elfatt_deploy.export.plugin import PluginAttention
from elfatt_deploy.models import registry
from elfatt_deploy.models.attention.layers import DepthwiseConv
from elfatt_deploy.models.backbones.layers import Block
from elfatt_deploy.predict.grouping import Op, Role, Use, eager_kernels, fused_kernels
from elfatt_deploy.predict.kernels import Kernel, KernelTable, Kind, kernel_document
from elfatt_deploy.predict.plugin import node_kernels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from elfatt_deploy.models.spec import ModelSpec

#: two images: with one, some transpositions move nothing and would not be counted
_BATCH = 2

_HALF_OPS = {
    "linear", "conv2d", "matmul", "__matmul__", "bmm", "scaled_dot_product_attention",
}  # fmt: skip
_FLOAT_OPS = {
    "layer_norm", "softmax", "softplus", "exp", "log", "pow", "__pow__", "norm", "sum",
    "reciprocal", "rsqrt", "cumsum", "prod",
}  # fmt: skip
#: ops without a kernel that do not say that they are views
_FREE = {"_unsafe_view", "empty", "empty_like", "new_empty", "detach", "lift_fresh"}
_REDUCTIONS = {
    "native_layer_norm", "_softmax", "mean", "sum", "linalg_vector_norm", "norm", "avg_pool2d",
    "_adaptive_avg_pool2d", "amax",
}  # fmt: skip

#: names of modules -> part of the network, of all backbones
_LEVELS = (
    (
        re.compile(r"^(?:stage1_conv_embed|patch_embed|downsample_layers\.0|backbone\.input_stem)"),
        0,
    ),
    (re.compile(r"^(?:stage|merge|downsample_layers\.)(\d)"), 0),
    (re.compile(r"^(?:layers|stages|backbone\.stages)\.(\d)"), 1),
)


def count(spec: ModelSpec, height: int, width: int) -> KernelTable:
    """Count the kernels of one image of height x width pixels.

    Raises:
        ModelError: the configuration or the size is not possible.
    """
    with torch.device("meta"):
        module = spec.build(height, width).requires_grad_(False)
    full = record(module, height, width)
    mixed = record(module, height, width, mixed=True)
    blocks = plugin_blocks(module)
    fused: tuple[Kernel, ...] = ()
    if blocks:
        fused = fused_kernels(record(plugin.with_nodes(module), height, width), _BATCH)
    return KernelTable(
        model=spec.name,
        height=height,
        width=width,
        eager_fp32=eager_kernels(full, _BATCH),
        eager_fp16=eager_kernels(mixed, _BATCH),
        fused=fused_kernels(full, _BATCH),
        plugin=fused,
        plugin_blocks=blocks,
    )


def plugin_blocks(module: nn.Module) -> dict[str, int]:
    """Return how many blocks of each level the plugin covers."""
    found: dict[str, int] = {}
    for name, child in module.named_modules():
        if isinstance(child, Block) and plugin.node_of(child) is not None:
            level = level_of(name)
            found[level] = found.get(level, 0) + 1
    return found


def record(module: nn.Module, height: int, width: int, *, mixed: bool = False) -> list[Op]:
    """Return every op that is no view, in order, of two images through a module on `meta`."""
    recorder = _Recorder(module)
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_following(module, recorder))
        images = torch.empty(_BATCH, 3, height, width, device="meta")
        stack.enter_context(recorder)
        stack.enter_context(_Functions(recorder, mixed=mixed))
        module(images)
    return recorder.ops


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps every op, with the tensors that it reads and writes."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: list[Op] = []
        self.levels = ["head"]
        self.local = 0  # how deep we are in depthwise convolutions of tokens
        self.node = 0  # how deep we are in what the plugin's node computes
        self._alive: list[Any] = []  # or another tensor could take the place of one that is gone
        self._constant: set[int] = set()
        for tensor in (*module.parameters(), *module.buffers()):
            self._constant.add(self._storage(tensor))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if not self.node and name not in _FREE and not _is_view(func):
            counter: Callable[..., int] | None = flop_registry.get(func.overloadpacket)
            flops = counter(*args, **kwargs, out_val=out) if counter else 0
            kind, role = self._kind(name, args, bool(counter))
            self.keep(kind, role, flops, tree_leaves((args, kwargs)), tree_leaves(out))
        return out

    def _kind(self, name: str, args: tuple[Any, ...], counted: bool) -> tuple[Kind, Role]:
        if name == "convolution" and args[8] > 1 and args[1].shape[1] == 1:
            # targets from JetPack 6 on have it as shifted multiply-adds (docs/kernels.md)
            return "depthwise", "elementwise" if self.local else "anchor"
        if name == "convolution":
            return "convolution", "anchor"
        if counted:
            return "product", "anchor"
        return "memory", "reduction" if name in _REDUCTIONS else "elementwise"

    def keep(
        self,
        kind: Kind,
        role: Role,
        flops: int,
        read: list[Any],
        written: list[Any],
        score_bytes: int = 0,
    ) -> None:
        """Keep an op; what it writes is constant where all that it reads is."""
        reads = tuple(self._use(tensor) for tensor in read if isinstance(tensor, torch.Tensor))
        outputs = [tensor for tensor in written if isinstance(tensor, torch.Tensor)]
        if reads and all(use.constant for use in reads):
            self._constant.update(map(self._storage, outputs))
        self.ops.append(
            Op(
                level=self.levels[-1],
                kind=kind,
                role=role,
                flops=flops,
                reads=reads,
                writes=tuple(map(self._use, outputs)),
                score_bytes=score_bytes,
            )
        )

    def keep_node(self, attention: PluginAttention, read: Tensor, made: Tensor) -> None:
        """Keep a node of the plugin as one op, whose kernels are known."""
        self.ops.append(
            Op(
                level=self.levels[-1],
                kind="plugin",
                role="anchor",
                flops=0,
                reads=(self._use(read),),
                writes=(self._use(made),),
                kernels=node_kernels(attention.node, attention.channels, self.levels[-1]),
            )
        )

    def _use(self, tensor: Tensor) -> Use:
        storage = self._storage(tensor)
        size = tensor.element_size()
        for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
            size *= length if stride else 1  # an expanded axis is read once
        return Use(storage=storage, size_bytes=size, constant=storage in self._constant)

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self._alive.append(storage)
        return int(storage._cdata)


def _is_view(func: Any) -> bool:
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


class _Functions(TorchFunctionMode):
    """Makes softmax attention one op, and casts as automatic mixed precision does."""

    def __init__(self, recorder: _Recorder, *, mixed: bool) -> None:
        super().__init__()
        self.recorder, self.mixed = recorder, mixed

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.mixed and name in _HALF_OPS:
            args, kwargs = _cast((args, kwargs), torch.float16)
        elif self.mixed and name in _FLOAT_OPS:
            args, kwargs = _cast((args, kwargs), torch.float32)
        if name == "scaled_dot_product_attention" and not self.recorder.node:
            return self._attention(*args[:3])
        return func(*args, **kwargs)

    def _attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        scores = q.numel() // q.shape[-1] * k.shape[-2]
        self.recorder.keep(
            "attention",
            "anchor",
            2 * scores * (q.shape[-1] + v.shape[-1]),
            [q, k, v],
            [out],
            score_bytes=scores * q.element_size(),
        )
        return out


def _cast(values: Any, dtype: torch.dtype) -> Any:
    def one(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != dtype:
            return value.to(dtype)
        return value

    return tree_map(one, values)


@contextmanager
def _following(module: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Tell the recorder which part of the network runs."""
    hooks = []
    for name, child in module.named_modules():
        level = level_of(name)
        local = isinstance(child, DepthwiseConv)

        def enter(module: nn.Module, _: Any, level: str = level, local: bool = local) -> None:
            recorder.levels.append(level)
            recorder.local += local
            recorder.node += isinstance(module, PluginAttention)

        def leave(module: nn.Module, read: Any, made: Any, local: bool = local) -> None:
            recorder.local -= local
            if isinstance(module, PluginAttention):
                recorder.node -= 1
                recorder.keep_node(module, read[0], made)
            recorder.levels.pop()

        hooks += [child.register_forward_pre_hook(enter), child.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def level_of(module: str) -> str:
    """Return the part of the network that a module of that name belongs to."""
    for pattern, first in _LEVELS:
        found = pattern.match(module)
        if found:
            return str(int(found[1]) + first) if found.groups() else "stem"
    return "head"


def counted_models() -> dict[str, ModelSpec]:
    """Return the models whose kernels are shipped: the paper's, without ablations.

    Models that differ in the names of their weights alone are counted once.
    """
    return {
        name: spec
        for name, spec in registry.models().items()
        if not spec.ablation and not name.endswith("timm") and not spec.own_weights
    }


def write(names: list[str], folder: Path) -> None:
    """Count models and write their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        spec = registry.get(name)
        table = count(spec, *spec.size(None, None))
        (folder / f"{name}.json").write_text(kernel_document(table), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or list(counted_models()), recipes.profiles_folder() / "kernels")
