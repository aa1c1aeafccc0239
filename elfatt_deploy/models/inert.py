"""Stand-ins for what training scripts leave beside the weights of a checkpoint.

The official repositories save the options of a run and its accuracy with the weights: Swin,
FLatten, Agent and VMamba a `yacs.config.CfgNode`, CSWin and ConvNeXt an `argparse.Namespace`, in
which paths and numpy numbers occur. Nothing here needs their values. torch's reader of weights
(`weights_only=True`) refuses them as it refuses any class; given this table it builds a stand-in of
ours for each of these names and for no other. Their packages are not imported, no code of theirs
runs, and a stand-in does nothing with what the file says.

What torch does with a class of the table (its `_weights_only_unpickler.py`, 2.6 and 2.13 read):
NEWOBJ calls `__new__` and REDUCE the class, with the arguments in the file; BUILD calls
`__setstate__`. SETITEMS fills any object in 2.6, but in 2.13 only a dict, OrderedDict or Counter
and no subclass of them: so the stand-in of CfgNode, which is a dict, is OrderedDict itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

_DROPPED = (
    "argparse.Namespace",
    *(
        f"{module}.{flavour}{kind}Path"
        for module in ("pathlib", "pathlib._local")  # the second is the name in Python 3.13
        for flavour in ("", "Pure")
        for kind in ("Posix", "Windows")
    ),
    "numpy.dtype",
    "numpy.core.multiarray.scalar",  # numpy 1
    "numpy._core.multiarray.scalar",  # numpy 2
)


class Inert:
    """Takes whatever a pickle gives it and keeps nothing."""

    def __init__(self, *arguments: object) -> None:
        """Drop the arguments."""

    def __setstate__(self, state: object) -> None:
        """Drop the state."""


# A class each, named as in the file: "holds a Namespace, not a state_dict" is then a clear message.
#: (stand-in, full name in the file), as `torch.serialization.safe_globals` takes them
STAND_INS: tuple[tuple[Callable[..., Any], str], ...] = (
    (OrderedDict, "yacs.config.CfgNode"),
    *((type(name.rpartition(".")[2], (Inert,), {}), name) for name in _DROPPED),
)
